"""The engine with a small method of its own: it knows the contract and no method."""

import os
import shutil
import signal
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import MeanState, assert_same, class_means, run

from jaxdd import engine
from jaxdd.data import Split, balanced_sampler, fit_transform, real_data
from jaxdd.data.dataset import compact_data
from jaxdd.engine.chunk import compile_program
from jaxdd.engine.log import progress_bar, read_metrics
from jaxdd.errors import JaxddError, RunInterrupted
from jaxdd.types import Distilled, Execution, Labels, RealData


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.normal(size=(60, 4, 4, 1)).astype(np.float32) + labels[:, None, None, None]
    return RealData.of(jnp.array(images), Labels.index(labels))


def test_is_a_function_of_method_data_and_seed(data):
    first, again, other = (run(class_means(), data, seed=seed) for seed in (1, 1, 2))
    assert_same(first.state, again.state)
    assert not np.array_equal(first.distilled.images, other.distilled.images)
    means = np.stack([np.asarray(data.images)[c::3].mean(0) for c in range(3)])
    seen = []
    run(class_means(), data, steps=2000, log_every=50, callback=lambda step, metrics, state: seen.append(state))
    followed = np.mean([state.params["images"] for state in seen[5:]], axis=0)
    assert np.abs(followed - means).mean() < 0.15  # it does follow the real data


def test_resumed_run_gives_the_bits_of_an_uninterrupted_one(data, tmp_path):
    whole = run(class_means(), data, workdir=tmp_path / "whole", validate=score)
    for steps in (7, 8, 21, 25):
        part = run(class_means(), data, workdir=tmp_path / "part", resume=True, steps=steps, validate=score)
    assert part.resumed_from == 21
    assert_same(whole.state, part.state)
    assert part.step == 25


def score(distilled):
    return {"score": -np.abs(np.asarray(distilled.images)).mean()}


def test_checkpoints_at_every_chunk_change_nothing_and_survive_donation(data, tmp_path):
    """Asynchronous saves must hold the state of their step although the next steps overwrite its buffers."""
    whole = run(class_means(), data)
    run(class_means(), data, workdir=tmp_path, checkpoint_seconds=0.0, steps=8, log_every=1)
    resumed = run(class_means(), data, workdir=tmp_path, resume=True)
    assert resumed.resumed_from == 8
    assert_same(whole.state, resumed.state)


LARGE = balanced_sampler(1024)  # batches whose work is worth sharing


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.endurance), 4])
def test_number_of_devices_does_not_matter(data, count):
    reference = run(class_means(sampler=LARGE), data, devices=jax.devices()[:1])
    result = run(class_means(sampler=LARGE), data, devices=jax.devices()[:count])
    assert result.devices == count
    np.testing.assert_allclose(result.distilled.images, reference.distilled.images, rtol=2e-6, atol=1e-6)


def test_work_of_each_device_falls_with_their_number(data):
    """The batch is gathered and computed in shards: flops per device, as compiled."""
    method = class_means(sampler=LARGE)

    def flops(count):
        devices = jax.devices()[:count]
        program = compile_program(method, data, seed=0, devices=devices)
        return program.chunk.cost_analysis()["flops"]

    assert flops(4) < 0.5 * flops(1)


def test_state_moves_to_another_number_of_devices(data, tmp_path):
    method = class_means(sampler=LARGE)
    run(method, data, workdir=tmp_path, steps=10, devices=jax.devices()[:1])
    resumed = run(method, data, workdir=tmp_path, resume=True, steps=20, devices=jax.devices()[:4])
    assert (resumed.resumed_from, resumed.devices) == (10, 4)
    resumed = run(method, data, workdir=tmp_path, resume=True, devices=jax.devices()[:1])
    assert (resumed.resumed_from, resumed.devices) == (20, 1)
    whole = run(method, data, devices=jax.devices()[:1])
    np.testing.assert_allclose(resumed.distilled.images, whole.distilled.images, rtol=2e-6, atol=1e-6)


def starting_from_real(key, data):
    return MeanState({"images": data.images[:3], "size": jnp.zeros(())}, key)


@pytest.mark.parametrize("spec", ["none", "standardize"])
def test_images_decoded_when_they_are_drawn_are_those_decoded_before(spec, rng, tmp_path):
    split = Split(rng.integers(0, 256, (60, 4, 4, 3), np.uint8), np.arange(60, dtype=np.int32) % 3)
    transform = fit_transform(spec, split.pixels())
    before = real_data(split, transform, 3)
    stored, decode = compact_data(split, transform, 3)
    assert stored.images.dtype == np.uint8
    method = class_means()._replace(init=starting_from_real)
    expected, decoded = run(method, before, steps=5), engine.decoding(method, decode)
    found = run(decoded, stored, steps=5)
    np.testing.assert_allclose(found.distilled.images, expected.distilled.images, rtol=1e-6, atol=1e-6)
    if spec == "standardize":
        shared = run(decoded, stored, steps=5, devices=jax.devices()[:4])
        np.testing.assert_allclose(shared.distilled.images, expected.distilled.images, rtol=2e-6, atol=1e-6)
    run(decoded, stored, steps=3, workdir=tmp_path)
    assert_same(run(decoded, stored, steps=5, workdir=tmp_path, resume=True).state, found.state)
    other = stored.with_images(stored.images.at[0, 0, 0, 0].add(1))
    with pytest.raises(JaxddError, match="data is"):
        run(decoded, other, workdir=tmp_path, resume=True)
    options = {"devices": jax.devices()[:1], "budget": 0}
    costs = [engine.plan(*what, **options).argument_bytes for what in ((method, before), (decoded, stored))]
    assert costs[0] - costs[1] == 3 * stored.images.nbytes


def test_callback_sees_states_that_outlive_the_run(data):
    seen = []
    result = run(class_means(), data, callback=lambda step, metrics, state: seen.append((step, metrics, state)))
    assert [step for step, *_ in seen] == [5, 10, 15, 20, 25]
    for step, metrics, state in seen:
        assert float(state.params["size"]) == step and np.isfinite(metrics["loss"])
    assert_same(seen[-1][2], result.state)


def test_callback_sees_validation_too(data):
    seen = []
    options = {"validate": score, "validate_every": 10, "log_every": 25}
    run(class_means(), data, callback=lambda step, metrics, state: seen.append((step, metrics)), **options)
    assert [(step, sorted(metrics)) for step, metrics in seen] == [
        (10, ["validation_score"]),
        (20, ["validation_score"]),
        (25, ["loss", "validation_score"]),
    ]


def test_a_budget_of_seconds_ends_a_run_whole(data, tmp_path):
    begun = []
    options = {"workdir": tmp_path / "part", "resume": True, "validate": score, "log_every": 5}
    part = run(class_means(), data, seconds=1e-9, on_begin=lambda: begun.append(True), **options)
    assert 0 < part.step < 25 and begun == [True]
    assert [row["step"] for row in part.history] == [part.step] * 2  # logged and validated, as a last step is
    assert_same(part.state, run(class_means(), data, steps=part.step).state)
    assert run(class_means(), data, seconds=1e-9, **options).step > part.step
    assert_same(run(class_means(), data, seconds=600, **options).state, run(class_means(), data).state)


def test_metrics_of_a_resumed_run_are_those_of_a_whole_one(data, tmp_path):
    run(class_means(), data, workdir=tmp_path / "whole", validate=score, validate_every=10)
    run(class_means(), data, workdir=tmp_path / "part", validate=score, validate_every=10, steps=12)
    with (tmp_path / "part" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "split": "train", "loss": 0}\n{"step": 20, "sp')  # logged, then killed before the save
    result = run(class_means(), data, workdir=tmp_path / "part", validate=score, validate_every=10, resume=True)
    rows = [r for r in read_metrics(tmp_path / "part" / "metrics.jsonl") if r["step"] != 12]  # the first run's end
    assert rows == read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert [r for r in result.history if r["step"] != 12] == rows


def test_best_on_validation_is_kept_beside_the_last(data, tmp_path):
    for workdir in (None, tmp_path):
        scores = iter([1.0, 3.0, 2.0])
        seen = []

        def validate(distilled, scores=scores, seen=seen):
            seen.append(np.asarray(distilled.images))
            return {"score": next(scores)}

        result = run(class_means(), data, steps=6, validate=validate, validate_every=2, workdir=workdir)
        distilled, step, best = result.best
        assert (step, best) == (4, 3.0)
        np.testing.assert_array_equal(distilled.images, seen[1])
        np.testing.assert_array_equal(result.distilled.images, seen[2])


def test_of_two_best_iterates_that_are_kept_the_newer_is_gone_on_with(data, tmp_path):
    scores = iter([1.0, 3.0, 2.0])
    options = {"validate": lambda distilled: {"score": next(scores)}, "validate_every": 2, "workdir": tmp_path}
    assert run(class_means(), data, steps=4, **options).best[1:] == (4, 3.0)
    assert {each.name for each in (tmp_path / "best").iterdir()} == {"2", "4"}
    resumed = run(class_means(), data, steps=6, resume=True, **options)
    assert resumed.best[1:] == (4, 3.0)


def test_non_finite_step_keeps_the_last_good_state_and_names_the_leaf(data, tmp_path):
    with pytest.raises(
        JaxddError, match=r"step 9 gave values that are not finite in .*state\.params\.images"
    ) as caught:
        run(class_means(explode_at=9), data, workdir=tmp_path)
    assert "step 8 is saved in" in str(caught.value) and "--resume goes on and ends there again" in str(caught.value)
    good = run(class_means(), data, workdir=tmp_path, resume=True, steps=8)
    assert good.resumed_from == 8 and np.all(np.isfinite(good.distilled.images))
    assert_same(good.state, run(class_means(), data, steps=8).state)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_says_how_to_go_on(data, tmp_path, number):
    def at_ten(step, metrics, state):
        if step == 10:
            os.kill(os.getpid(), number)

    with pytest.raises(RunInterrupted, match=r"step 1\d of 25.*--resume") as caught:
        run(class_means(), data, workdir=tmp_path, callback=at_ten)
    assert caught.value.signum == number
    resumed = run(class_means(), data, workdir=tmp_path, resume=True)
    assert resumed.resumed_from >= 10
    assert_same(resumed.state, run(class_means(), data).state)


def test_runs_outside_the_main_thread(data):
    results = []
    thread = threading.Thread(target=lambda: results.append(run(class_means(), data)))
    thread.start()
    thread.join()
    assert results[0].step == 25


def test_one_compilation_whatever_the_lengths(data):
    traces = 0
    method = class_means()

    def update(*arguments):
        nonlocal traces
        traces += 1
        return method.update(*arguments)

    run(method._replace(update=update), data, steps=13, log_every=3, validate=score, validate_every=4)
    assert traces <= 2  # once for the shapes of the metrics, once for the program


def test_bad_directories_are_refused_with_the_difference(data, tmp_path):
    config = {"method": {"rate": 0.1}}
    run(class_means(), data, workdir=tmp_path, config=config, steps=5)
    before = sorted(tmp_path.rglob("*"))
    for options, message in [
        ({"config": config}, "already holds this run; add --resume"),
        ({"config": {"method": {"rate": 0.2}}, "resume": True}, r"method\.rate is 0\.1 there and 0\.2 here"),
        ({"config": config, "seed": 3, "resume": True}, "seed is 0 there and 3 here"),
        ({"config": config, "resume": True, "steps": 4}, "already at step 5"),
    ]:
        with pytest.raises(JaxddError, match=message):
            run(class_means(), data, workdir=tmp_path, **options)
    other = data.with_images(data.images + 1)
    with pytest.raises(JaxddError, match="data is"):
        run(class_means(), other, workdir=tmp_path, config=config, resume=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_best_iterate_ahead_of_the_checkpoint_is_found_again(data, tmp_path):
    """Killed after a best was saved and before its checkpoint: as if the newer checkpoints were not there."""
    options = {"validate": score, "validate_every": 2, "steps": 10}
    whole = run(class_means(), data, workdir=tmp_path / "whole", **options)
    run(class_means(), data, workdir=tmp_path / "part", **{**options, "steps": 4})
    shutil.copytree(tmp_path / "part" / "checkpoints", tmp_path / "kept")
    run(class_means(), data, workdir=tmp_path / "part", resume=True, **options)
    shutil.rmtree(tmp_path / "part" / "checkpoints")
    shutil.copytree(tmp_path / "kept", tmp_path / "part" / "checkpoints")
    part = run(class_means(), data, workdir=tmp_path / "part", resume=True, **options)
    assert part.resumed_from == 4
    assert part.best[1:] == whole.best[1:]
    np.testing.assert_array_equal(part.best[0].images, whole.best[0].images)


def test_one_process_at_a_time(data, tmp_path):
    def second(step, metrics, state):
        with pytest.raises(JaxddError, match="another process"):
            run(class_means(), data, workdir=tmp_path, resume=True)

    run(class_means(), data, workdir=tmp_path, steps=5, callback=second)


def test_what_cannot_be_traced_leaves_no_directory(data, tmp_path):
    def update(key, state, batch):
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        run(class_means()._replace(update=update), data, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def counting(loss):
    """A method that counts its steps, and does nothing else."""
    return class_means()._replace(
        init=lambda key, data: jnp.int32(0),
        update=lambda key, state, batch: (state + 1, {"loss": loss(state)}),
        distilled=lambda state: Distilled(jnp.zeros((1, 1, 1, 1)), jnp.zeros(1, int)),
    )


def test_a_state_without_floats_runs(data):
    assert int(run(counting(lambda state: state), data).state) == 25


def test_steps_must_be_positive_and_a_file_is_no_directory(data, tmp_path):
    with pytest.raises(JaxddError, match="at least 1"):
        run(class_means(), data, steps=0)
    with pytest.raises(JaxddError, match="checkpoint_seconds"):
        run(class_means(), data, checkpoint_seconds=float("nan"))
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxddError, match="not a directory"):
        run(class_means(), data, workdir=tmp_path / "file" / "run")


def test_damaged_checkpoint_is_named(data, tmp_path):
    run(class_means(), data, workdir=tmp_path, steps=5)
    for path in (tmp_path / "checkpoints" / "5").rglob("*"):
        if path.is_file() and path.name != "commit_success.txt":
            path.write_bytes(b"")
    with pytest.raises(JaxddError, match=r"no checkpoint in it is whole \(step 5"):
        run(class_means(), data, workdir=tmp_path, resume=True)


def test_precision_is_that_of_the_trace_and_stays_that_of_the_run(data, tmp_path):
    method = counting(lambda state: jnp.float32(jax.config.jax_default_matmul_precision == "bfloat16"))
    assert run(method, data, steps=5).history[-1]["loss"] == 0
    reduced = run(method, data, steps=5, execution=Execution(precision="bfloat16"), workdir=tmp_path)
    assert reduced.history[-1]["loss"] == 1
    assert jax.config.jax_default_matmul_precision is None
    again = run(method, data, steps=10, workdir=tmp_path, resume=True)
    assert again.history[-1]["loss"] == 1 and again.execution.precision == "bfloat16"
    with pytest.warns(DeprecationWarning, match=r"execution=types.Execution\(precision='bfloat16'\)"):
        assert run(method, data, steps=5, precision="bfloat16").history[-1]["loss"] == 1


@pytest.mark.parametrize("somebody", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_bar_is_shown_where_it_is_wanted_and_there_is_somebody_to_see_it(monkeypatch, capsys, wanted, somebody):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: somebody, raising=False)
    with progress_bar(3, 1, wanted) as bar:
        assert bar.disable is not (wanted and somebody)


def test_a_gradient_that_stays_zero_is_warned_of_once(digits, caplog):
    method = class_means()

    def update(key, state, batch):
        state, metrics = method.update(key, state, batch)
        return state, {**metrics, "gradient_norm": jnp.where(state.params["size"] > 3, 0.0, 1.0)}

    run(method._replace(update=update), digits, steps=7, log_every=1)
    assert not caplog.messages
    run(method._replace(update=update), digits, steps=12, log_every=1)
    (message,) = caplog.messages
    assert message.startswith("the gradient is exactly zero, at step 8 and the 4 logged before: nothing is learned.")
