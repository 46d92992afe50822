"""How a run is carried out: what "auto" comes to, what a resumed run takes again, what fits."""

import dataclasses
import json
import logging
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import assert_same, run

from jaxdd import engine, methods
from jaxdd.engine import execution
from jaxdd.engine.execution import Job, fastest, ladder, memory, peak_bytes, settled, what_fits
from jaxdd.errors import JaxddError
from jaxdd.types import (
    AT_ONCE,
    Distilled,
    Execution,
    Labels,
    Method,
    Parts,
    RealData,
    Recipe,
    Spec,
    bound,
    parts_of,
)

LEAN = Execution(block=8, side_by_side=1, remat="step")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return RealData.of(jnp.asarray(rng.normal(size=(64, 4, 4, 1)), jnp.float32), Labels.index(np.arange(64) % 4))


def recipe(seen=None, parts=1):
    """Its memory is that of a block of 64 examples, each of which becomes 4,096 numbers that its gradient needs."""

    def bind(spec):
        how = spec.execution
        if seen is not None:
            seen.append(how)

        def of_block(images, rows):
            wide = jnp.sin(rows.reshape(len(rows), -1) @ jnp.ones((16, 4096)) * images.sum())
            return (wide**2).sum(1)

        def update(key, state, batch):
            def loss(images):
                block = how.block or 64
                rows = batch.images.reshape(-1, block, *batch.images.shape[1:])
                of_one = jax.checkpoint(lambda rows: of_block(images, rows).sum())
                return jax.lax.map(of_one, rows).sum() / 64

            value, slope = jax.value_and_grad(loss)(state["images"])
            return {"images": state["images"] - 1e-6 * slope}, {"loss": value}

        return Method(
            lambda key, data: {"images": data.images[:4]},
            lambda key, labels: jax.random.permutation(key, 64),
            update,
            lambda state: Distilled(state["images"], jnp.arange(4)),
        )

    return Recipe(
        bind,
        identity=None if seen is not None else ("execution", parts),
        parts=lambda spec: Parts(parts),
        lean=LEAN,
        most=lambda spec: Execution(block=64, side_by_side=6),
    )


def job(method, data, parts=1, directory=None):
    return Job(method, data, Parts(parts), 10, 0, jax.devices()[:1], directory)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"block": 0}, "block of Execution must be at least 1, None or auto, got 0."),
        ({"block": True}, "block of Execution must be at least 1, None or auto, got True."),
        ({"side_by_side": 1.5}, "side_by_side of Execution must be at least 1, None or auto, got 1.5."),
        ({"remat": None}, "remat of Execution must be one of auto, step, sqrt, none, got None."),
        ({"remat": "all"}, "remat of Execution must be one of auto, step, sqrt, none, got 'all'."),
        ({"precision": "half"}, "precision of Execution must be one of auto, default, float32, bfloat16, got 'half'."),
        ({"target_precision": 16}, "target_precision of Execution must be one of auto, default, float32, bfloat16"),
        ({"blok": 1}, "unknown field of the execution 'blok'; did you mean 'block'?"),
    ],
)
def test_what_a_field_can_be(fields, sentence):
    with pytest.raises(JaxddError, match=sentence):
        Execution.of(fields)


def test_a_method_sees_numbers_only_and_its_own_lean_setting_where_nothing_is_named(data):
    seen = []
    method = recipe(seen)
    bound(method, data)
    bound(method, data, Execution(block=None, precision="float32"))
    method.bind(dataclasses.replace(Spec.of(data), execution=Execution(side_by_side=3)))
    engine.decoding(method, lambda images: images).bind(Spec.of(data))
    dataclasses.replace(method, asked=Execution(remat="none")).bind(Spec.of(data))
    lean = dataclasses.replace(AT_ONCE, block=8, side_by_side=1)
    assert seen == [
        lean,
        dataclasses.replace(lean, block=None, precision="float32"),
        dataclasses.replace(lean, side_by_side=3),
        lean,
        dataclasses.replace(lean, remat="none"),
    ]
    assert hash(Spec.of(data)) != hash(dataclasses.replace(Spec.of(data), execution=LEAN))


def test_on_a_cpu_it_is_lean_and_on_an_accelerator_as_wide_as_fits(data):
    method = job(recipe(), data)
    lean = dataclasses.replace(AT_ONCE, block=8, side_by_side=1)
    assert settled(method, Execution()) == lean == settled(method, Execution(), accelerated=False)
    wide = settled(method, Execution(), accelerated=True)  # a limit that nobody knows
    assert wide == AT_ONCE == settled(method, Execution(), accelerated=True, limit=2**40)
    rungs = ladder(wide, method.most, method.known)
    assert [(each.side_by_side, each.block, each.remat) for each in rungs] == [
        (None, None, "step"),
        (1, None, "step"),  # a sixth, since no number between one and a quarter divides six
        (1, 16, "step"),
        (1, 4, "step"),
        (1, 1, "step"),
        (1, 1, "sqrt"),
    ]
    peaks = [peak_bytes(method, each) for each in rungs]
    assert peaks[1] > peaks[2] > peaks[3]
    for place in (2, 3):
        assert settled(method, Execution(), accelerated=True, limit=peaks[place]) == rungs[place]
    assert settled(method, Execution(), accelerated=True, limit=1) == rungs[-1]
    named = settled(method, Execution(block=64), accelerated=True, limit=peaks[3])
    assert named.block == 64  # what is named stays


def test_parts_are_what_is_side_by_side(data):
    method = job(recipe(parts=6), data, parts=6)
    wide = fastest(method, Execution(), accelerated=True)
    program = method.compile(wide)
    assert (program.groups.size, program.groups.at_once) == (6, None) and method.most.side_by_side == 6
    assert method.compile(dataclasses.replace(wide, side_by_side=4)).groups[:2] == (6, 4)
    assert method.compile(settled(method, Execution())).groups[:2] == (6, 1)


def test_a_bare_method_runs_unchanged(data):
    method = bound(recipe(), data)
    result = run(method, data, steps=5, execution=Execution(block=3))
    assert_same(result.state, run(method, data, steps=5).state)


def test_what_it_came_to_is_written_down_and_taken_again(data, tmp_path, caplog):
    method = recipe()
    first = run(method, data, steps=3, workdir=tmp_path, execution=Execution(block=16))
    held = json.loads((tmp_path / "execution.json").read_text())
    assert held == dataclasses.asdict(first.execution) and held["block"] == 16 and held["side_by_side"] == 1
    assert "block" not in (tmp_path / "run.json").read_text()
    with caplog.at_level(logging.WARNING, "jaxdd"):
        again = run(method, data, steps=5, workdir=tmp_path, resume=True)
        assert again.execution == first.execution and not caplog.records
        other = run(method, data, steps=7, workdir=tmp_path, resume=True, execution=Execution(block=4, remat="sqrt"))
    (record,) = caplog.records
    assert "goes on with block=4 instead of 16, remat=sqrt instead of step; the last bits may differ" in record.message
    assert other.resumed_from == 5
    assert run(method, data, steps=8, workdir=tmp_path, resume=True).execution == other.execution


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", True),
        ("--xla_gpu_deterministic_ops=false", True),
        ("--xla_dump_to=x --xla_gpu_deterministic_ops=true", False),
    ],
)
def test_going_on_with_a_gpu_names_the_flag_that_repeats_bits(data, tmp_path, caplog, monkeypatch, flags, said):
    method = recipe()
    run(method, data, steps=1, workdir=tmp_path)
    gpu = types.SimpleNamespace(devices=np.array([types.SimpleNamespace(platform="gpu")]))
    monkeypatch.setattr(execution, "make_mesh", lambda devices: gpu)
    monkeypatch.setenv("XLA_FLAGS", flags)
    with caplog.at_level(logging.WARNING, "jaxdd"):
        execution.taken(job(method, data, directory=tmp_path), Execution())
    assert ("--xla_gpu_deterministic_ops=true" in caplog.text) == said


def test_a_run_from_before_goes_on_as_it_was(data, tmp_path):
    """Its identity has what is now its execution: the values count, and are no difference."""
    config = {"method": {"name": "own", "ipc": 1}}
    whole = run(recipe(), data, steps=6, execution=Execution(block=16, precision="bfloat16"))
    run(recipe(), data, steps=3, workdir=tmp_path, config=config, execution=whole.execution)
    (tmp_path / "execution.json").unlink()
    identity = json.loads((tmp_path / "run.json").read_text())
    identity["precision"] = "bfloat16"
    identity["config"]["method"] |= {"target_block": 16, "classes_per_batch": 1, "kernel_block": None}
    (tmp_path / "run.json").write_text(json.dumps(identity))
    resumed = run(recipe(), data, steps=6, workdir=tmp_path, resume=True, config=config)
    assert resumed.resumed_from == 3 and resumed.execution == whole.execution
    assert_same(resumed.state, whole.state)
    with pytest.raises(JaxddError, match=r"method\.ipc is 1 there and 2 here;"):
        run(recipe(), data, steps=6, workdir=tmp_path, resume=True, config={"method": {"name": "own", "ipc": 2}})
    own = {"method": {**config["method"], "target_block": 8}}  # of a method that has such a hyper-parameter itself
    with pytest.raises(JaxddError, match=r"method\.target_block is 16 there and 8 here"):
        run(recipe(), data, steps=6, workdir=tmp_path, resume=True, config=own)


def test_the_setting_that_fits_is_said_where_memory_is_full(data):
    method = job(recipe(), data)
    wide = fastest(method, Execution(), accelerated=True)
    fits = dataclasses.replace(AT_ONCE, block=16, side_by_side=1)
    peak = peak_bytes(method, fits)
    assert what_fits(method, wide, peak) == (
        f"--config.execution.block=16 --config.execution.side_by_side=1 needs {peak / 2**20:.1f} MiB"
    )
    nothing = what_fits(method, wide, 2**10)
    assert nothing.startswith("no setting of --config.execution fits the 0.0 MiB there are: the least, --config")


@pytest.mark.parametrize(
    "error", [MemoryError("no memory"), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no memory\nmore")]
)
def test_a_run_that_is_out_of_memory_says_what_fits(data, error):
    def full(step, metrics, state):
        raise error

    with pytest.raises(JaxddError, match=r"no memory; --config.execution.block=\d+ .*needs .* MiB\.$"):
        run(recipe(), data, steps=3, execution=AT_ONCE, callback=full)


def test_the_fastest_that_fits_a_budget(data):
    options = {"devices": jax.devices()[:1]}
    widest = engine.fit_to(recipe(), data, 2**40, accelerated=True, **options)
    assert widest.execution == AT_ONCE and widest.plan.seconds_per_step > 0
    lean = engine.fit_to(recipe(), data, 2**40, **options)
    assert lean.execution.block == 8
    less = engine.fit_to(recipe(), data, lean.plan.peak_bytes - 1, **options)
    assert less.execution.block == 2 and [plan.execution.block for plan in less.tried] == [8, 2]
    assert less.tried[0].seconds_per_step is None
    none = engine.fit_to(recipe(), data, 1, **options)
    assert none.plan is none.execution is None and none.least.peak_bytes == min(p.peak_bytes for p in none.tried)
    assert memory() > 0


def test_old_keywords_are_fields_of_the_execution_for_a_release(data):
    with pytest.warns(DeprecationWarning, match=r"execution=types.Execution\(block=4, side_by_side=None\)"):
        method = methods.dm(target_block=4, classes_per_batch=None)
    assert method.asked == Execution(block=4, side_by_side=None) and method != methods.dm()
    assert settled(job(method, data), Execution()).block == 4
    assert settled(job(method, data), Execution(block=2)).block == 2
    with pytest.raises(JaxddError, match="unknown option of DM 'remat'"):
        methods.dm(remat="sqrt")


@pytest.mark.parametrize("name", methods.available())
def test_every_method_says_how_lean_it_is_and_from_where_to_step_down(name, data):
    """And none has a number of the machine among its own."""
    method = methods.build(name)
    known = method.lean.named()
    by_parts = parts_of(method, Spec.of(data)).count > 1  # then these are what can be side by side
    assert by_parts or {"block", "side_by_side"} & set(known)
    most = method.most(Spec.of(data)).named()
    assert set(most) == {"block", "side_by_side"} & set(known) and all(isinstance(size, int) for size in most.values())
    assert not {"block", "side_by_side", "target_block", "remat", "precision"} & set(methods.fields(name))
