"""Stages: runs that another one needs, made once and kept."""

import dataclasses
import errno
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import assert_same, class_means, part_by_hand, run

from jaxdd import _cache as cache_of
from jaxdd import engine
from jaxdd.data import epoch_sampler
from jaxdd.engine import rows as rows_module
from jaxdd.engine import stages
from jaxdd.errors import JaxddError, RunInterrupted
from jaxdd.types import Distilled, Labels, Method, RealData, Recipe, Record, Spec, Stage, bound

STEPS, PARTS, EVERY = 6, 3, 2
ROWS = STEPS // EVERY + 1


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "stages"


@pytest.fixture
def data(rng):
    labels = np.arange(60) % 3
    images = (rng.normal(size=(60, 4, 4, 1)) + labels[:, None, None, None]).astype(np.float32)
    return RealData.of(jnp.asarray(images), Labels.index(labels))


def product_of(state):
    return state.params["images"]


def row_of(state):
    return {"images": state.params["images"]}


def means(rate=0.3, seen=None):
    """A stage that follows class means; the list hears of every trace of its first state. Equal ones compile once."""
    follow = class_means(rate)

    def init(key, data):
        if seen is not None:
            seen.append(1)
        state = follow.init(key, data)
        return state._replace(params={**state.params, "images": jax.random.normal(key, state.params["images"].shape)})

    method = follow._replace(init=init, product=product_of)
    return Stage(
        "means",
        Recipe(lambda spec: method, identity=("means", rate) if seen is None else None),
        steps=STEPS,
        parts=PARTS,
        config={"rate": rate},
        record=Record(EVERY, row_of),
    )


def after(stage):
    """A method that learns the mean of the stage's rows that it draws, and carries the stage's product."""

    def bind(spec):
        assert spec.length("means") == PARTS * ROWS and spec.num_classes == 3

        def init(key, data):
            return {"images": jnp.zeros(spec.tables["means"]["images"].shape[1:]), "seen": jnp.zeros(())}

        def sample(key, labels):
            return {"means": jax.random.randint(key, (4, 2), 0, spec.length("means")), "examples": jnp.arange(3)}

        def update(key, state, batch):
            rows = batch.tables["means"]["images"]
            assert rows.shape[:2] == (4, 2) and batch.images.shape[0] == 3
            images = 0.5 * state["images"] + 0.5 * rows.mean((0, 1))
            seen = state["seen"] + batch.rows["means"].sum()
            return {"images": images, "seen": seen}, {"loss": jnp.mean((images - batch.assets["means"]) ** 2)}

        return Method(init, sample, update, lambda state: Distilled(state["images"], jnp.arange(3)))

    return Recipe(bind, identity=("after",), stages=lambda spec: (stage,))


def rows_of(cache):
    (directory,) = cache.glob("means-*")
    return np.load(directory / "rows" / "images.npy")


def test_rows_are_the_states_of_every_part_and_the_product_is_the_last(cache, data):
    stage = means()
    result = run(after(stage), data, steps=5)
    rows = rows_of(cache)
    assert rows.shape == (PARTS * ROWS, 3, 4, 4, 1)
    begin, next_of = part_by_hand(bound(stage.recipe, data), data)
    for part in range(PARTS):
        keys, state = begin(np.int32(part))
        for step in range(STEPS + 1):
            if step % EVERY == 0:
                np.testing.assert_allclose(
                    rows[part * ROWS + step // EVERY], state.params["images"], rtol=1e-5, atol=1e-6
                )
            state = next_of(keys, state, np.int32(part * STEPS + step))
    made, contents = stages.provided(after(stage), data, {}, stages.How(0, "default", None, 30.0, progress=False))
    np.testing.assert_array_equal(made.assets["means"], rows[-1])
    assert result.step == 5 and len(contents["means"]) == 64


def test_what_is_made_serves_every_run_that_needs_the_same(cache, data):
    seen = []
    first = run(after(means(seen=seen)), data)
    traced = len(seen)
    again = run(after(means(seen=seen)), data, steps=30)
    assert len(seen) <= traced + 2  # by shapes only
    assert len(list(cache.iterdir())) == 1
    np.testing.assert_array_equal(again.history[0]["loss"], first.history[0]["loss"])
    run(after(means(rate=0.2)), data, steps=5)
    run(after(means()), data, steps=5, seed=1)
    run(after(dataclasses.replace(means(), revision=2)), data, steps=5)
    run(after(means()), data.with_images(data.images + 1), steps=5)
    assert len(list(cache.iterdir())) == 5


def test_a_stage_that_is_stopped_goes_on_where_it_was_with_the_same_bytes(cache, data, monkeypatch, tmp_path):
    whole = run(after(means()), data, workdir=tmp_path / "whole")
    rows, (directory,) = rows_of(cache), cache.iterdir()
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path / "other"))
    cache = tmp_path / "other" / "stages"
    write, places = rows_module.Rows.__call__, {(0, 4), (1, 0), (2, 6)}

    def stop(self, part, step, state):
        write(self, part, step, state)
        if (part, step) in places:
            places.remove((part, step))
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(rows_module.Rows, "__call__", stop)
    for _ in range(3):
        with pytest.raises(
            RunInterrupted, match=r"means: stopped at step \d+ of 18; step \d+ is saved in .*: the same command goes on"
        ):
            run(after(means()), data, workdir=tmp_path / "run", resume=True)
    result = run(after(means()), data, workdir=tmp_path / "run", resume=True)
    assert_same(result.state, whole.state)
    np.testing.assert_array_equal(rows_of(cache), rows)
    (other,) = cache.iterdir()
    assert other.name == directory.name
    summaries = [json.loads((each / "artefact.json").read_text()) for each in (directory, other)]
    assert summaries[0]["content"] == summaries[1]["content"]


@pytest.mark.parametrize("damage", ["rows", "product", "summary", "missing", "empty"])
def test_what_was_altered_is_set_aside_by_name_and_made_again(cache, data, caplog, damage):
    """Only by a run: a plan takes it for what is not made, and touches nothing."""
    first = run(after(means()), data)
    (directory,) = cache.iterdir()
    how = stages.How(0, "default", None)
    assert [stage.made for stage in stages.expected(after(means()), data, {}, how)] == [True]
    file = {
        "rows": "rows/images.npy",
        "product": "product.npz",
        "summary": "artefact.json",
        "missing": "rows/images.npy",
        "empty": "artefact.json",
    }
    path = directory / file[damage]
    if damage == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes({"summary": b"{", "empty": b'{"files": {}}'}.get(damage, bytes(content)))
    assert [stage.made for stage in stages.expected(after(means()), data, {}, how)] == [False]
    assert list(cache.iterdir()) == [directory]
    again = run(after(means()), data)
    assert_same(again.state, first.state)
    assert f"the stage is now called damaged-{directory.name}, and made again" in caplog.text
    assert {each.name for each in cache.iterdir()} == {directory.name, f"damaged-{directory.name}"}


def test_a_run_of_other_rows_is_not_gone_on_with(cache, data, tmp_path):
    run(after(means()), data, workdir=tmp_path, steps=5)
    with pytest.raises(JaxddError, match="belongs to another run: stages"):
        run(after(means(rate=0.2)), data, workdir=tmp_path, resume=True, steps=10)
    assert run(after(means()), data, workdir=tmp_path, resume=True, steps=10).resumed_from == 5


def test_long_tables_stay_on_the_disk_and_give_the_same(cache, data, monkeypatch):
    resident = run(after(means()), data, steps=9)
    monkeypatch.setattr(engine.cache, "_SMALL", 0)
    streamed = run(after(means()), data, steps=9)
    assert_same(streamed.state, resident.state)
    made = stages.provided(after(means()), data, {}, stages.How(0, "default", None, 30.0, progress=False))[0]
    assert type(made.tables["means"]["images"]).__name__ == "HostArray"


def test_four_devices_make_the_same_rows(cache, data, monkeypatch, tmp_path):
    run(after(means()), data, steps=4)
    alone = rows_of(cache)
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path / "four"))
    shared = run(after(means()), data, steps=4, devices=jax.devices()[:4])
    np.testing.assert_allclose(rows_of(tmp_path / "four" / "stages"), alone, rtol=1e-5, atol=1e-6)
    assert shared.devices == 4


def test_images_that_are_decoded_on_the_way_are_decoded_for_stages_too(cache, data):
    def decode(images):
        return images / 2 - 1

    plain = run(after(means()), data.with_images(decode(data.images)), steps=3)
    decoded = run(engine.decoding(after(means()), decode), data, steps=3)
    np.testing.assert_allclose(decoded.distilled.images, plain.distilled.images, rtol=1e-5, atol=1e-6)


def test_rows_that_a_disk_cannot_hold_are_said_before_any_is_written(cache, data, monkeypatch):
    allowed = []

    def full(*arguments):
        allowed.append(1)
        if len(allowed) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    two = dataclasses.replace(means(), record=Record(EVERY, lambda state: {**row_of(state), "more": jnp.zeros(3)}))
    with monkeypatch.context() as patched, pytest.raises(JaxddError, match=r"more\.npy: the disk is full"):
        patched.setattr(os, "posix_fallocate", full, raising=False)
        run(after(two), data, steps=5)
    assert not list(cache.rglob("*.npy"))
    assert run(after(means()), data, steps=5).step == 5


def test_a_stage_that_sees_what_another_left_is_made_again_with_it(cache, data, monkeypatch):
    """By the product alone, and neither makes room for the other."""
    monkeypatch.setenv("JAXDD_CACHE_GB", "0")

    def both(steps):
        teacher = dataclasses.replace(means(), name="teacher", steps=steps, record=None)
        student = Stage("means", Recipe(taught, identity=("taught",)), STEPS, {}, record=Record(EVERY, row_of))
        return Recipe(bind, identity=("taught twice",), stages=lambda spec: (teacher, student))

    def taught(spec):
        follow = class_means(0.3)

        def init(key, data):
            state = follow.init(key, data)
            return state._replace(params={**state.params, "images": data.assets["teacher"]})

        return follow._replace(init=init, product=product_of)

    def bind(spec):
        return Method(
            lambda key, data: data.assets["means"],
            lambda key, labels: jnp.arange(3),
            lambda key, state, batch: (state, {}),
            lambda state: state,
        )

    found = []
    for steps in (6, 2, 6):
        found.append(run(both(steps), data, steps=1).state)
        assert len(list(cache.glob("teacher-*"))) == len(list(cache.glob("means-*"))) == 1
    assert_same(found[0], found[2])
    assert np.abs(found[0] - found[1]).max() > 1e-3
    monkeypatch.setenv("JAXDD_CACHE_GB", "1")  # now what the first teacher left is still there
    assert_same(run(both(2), data, steps=1).state, found[1])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Record(0, row_of), "a record's every must be an integer of at least 1, got 0"),
        (
            lambda: dataclasses.replace(means(), steps=0),
            "the steps of the stage 'means' must be an integer of",
        ),
        (lambda: dataclasses.replace(means(), parts=1.5), "the parts of the stage 'means' must be an integer of at"),
    ],
)
def test_stages_of_nothing_are_refused(make, sentence):
    with pytest.raises(JaxddError, match=sentence):
        make()


def test_the_cache_has_a_bound_and_the_oldest_go_first(cache, data, monkeypatch):
    for seed in range(3):
        run(after(means()), data, steps=2, seed=seed)
    sizes = {entry.directory.name: entry.num_bytes for entry in cache_of.entries()}
    assert len(sizes) == 3 and all(entry.whole and entry.name == "means" for entry in cache_of.entries())
    newest = cache_of.entries()[0].directory
    monkeypatch.setenv("JAXDD_CACHE_GB", str(1.5 * max(sizes.values()) / 2**30))
    gone = cache_of.make_room(0)
    assert [entry.directory for entry in cache_of.entries()] == [newest] and len(gone) == 2
    monkeypatch.setenv("JAXDD_CACHE_GB", "much")
    with pytest.raises(JaxddError, match="JAXDD_CACHE_GB must be a number of GiB, got 'much'"):
        cache_of.make_room(0)


def test_what_stages_will_leave_is_known_by_shapes(cache, data):
    foretold = stages.foretold(after(means()), data)
    assert foretold.tables["means"]["images"].shape == (PARTS * ROWS, 3, 4, 4, 1)
    assert foretold.assets["means"].shape == (3, 4, 4, 1) and not cache.exists()
    assert Spec.of(foretold).length("means") == PARTS * ROWS
    assert engine.plan(after(means()), data, budget=0).argument_bytes > 0 and not cache.exists()


def test_an_epoch_sees_every_example_once_in_another_order_each_time(data):
    sample = jax.jit(epoch_sampler(16))
    rows = [np.asarray(sample(jax.random.key(0), data.labels, step)) for step in range(6)]
    first, second = np.concatenate(rows[:3]), np.concatenate(rows[3:])
    assert len(set(first)) == len(set(second)) == 48 and not np.array_equal(first, second)
    with pytest.raises(JaxddError, match="an epoch of 60 examples has no batch of 61"):
        epoch_sampler(61)(jax.random.key(0), data.labels, 0)
