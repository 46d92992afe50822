"""Runs that are made of parts."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import assert_same, blocks, part_by_hand, run

from jaxdd import engine
from jaxdd.engine.stages import How, provided
from jaxdd.errors import JaxddError, RunInterrupted
from jaxdd.types import Execution, Labels, Parts, RealData, Stage, bound

STEPS, PARTS, SIZE = 6, 3, 4


@pytest.fixture
def data(rng):
    labels = np.arange(60) % 3
    images = (rng.normal(size=(60, 4, 4, 1)) + labels[:, None, None, None]).astype(np.float32)
    return RealData.of(jnp.asarray(images), Labels.index(labels))


def by_hand(data):
    """Each part by itself, in a plain loop."""
    begin, step = part_by_hand(bound(blocks(), data), data)
    for part in range(PARTS):
        keys, state = begin(np.int32(part))
        for count in range(part * STEPS, (part + 1) * STEPS):
            state = step(keys, state, np.int32(count))
        yield np.asarray(state.images)


def test_every_part_is_the_run_that_it_would_be_by_itself_and_the_last_block_is_padded(data):
    done = run(blocks(), data, steps=STEPS)
    expected = np.concatenate(list(by_hand(data)))
    assert done.distilled.images.shape == (10, 4, 4, 1)
    np.testing.assert_allclose(done.distilled.images, expected[:10], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(done.distilled.labels, np.arange(10) % 3)


@pytest.mark.parametrize("devices", [2, 4])
def test_devices_take_parts_side_by_side(data, devices):
    """Also more devices than parts, and parts that do not divide."""
    one = run(blocks(), data, steps=STEPS)
    several = run(blocks(), data, steps=STEPS, devices=jax.devices()[:devices])
    assert several.devices == devices and jax.tree.leaves(several.state)[0].shape[0] == devices
    np.testing.assert_allclose(several.distilled.images, one.distilled.images, rtol=1e-5, atol=1e-6)
    losses = [row["loss"] for row in one.history]
    assert np.isfinite(losses).all() and len(several.history) < len(losses)


def test_parts_side_by_side_are_those_that_follow_each_other(data):
    one = run(blocks(), data, steps=STEPS)
    together = run(blocks(), data, steps=STEPS, execution=Execution(side_by_side=2))
    np.testing.assert_allclose(one.product.images, together.product.images, rtol=1e-5, atol=1e-6)
    assert len(together.history) < len(one.history)  # their steps are counted together


def test_one_program_serves_all_parts(data):
    traces = []
    for total in (4, 40):
        traced = []
        run(blocks(total, traced=traced), data, steps=STEPS)
        traces.append(len(traced))
    assert len(set(traces)) == 1


@pytest.mark.parametrize("memory", [False, True])
def test_a_run_that_is_stopped_within_and_between_parts_ends_in_the_same_bytes(data, tmp_path, memory):
    whole = run(blocks(), data, steps=STEPS, workdir=None if memory else tmp_path / "whole")
    stops = [2, 6, 7, 12, 17]

    def callback(step, metrics, state):
        if stops and step == stops[0]:
            del stops[0]
            os.kill(os.getpid(), signal.SIGTERM)

    for _ in range(len(stops)):
        with pytest.raises(RunInterrupted, match=r"stopped at step \d+ of 18; step \d+ is saved"):
            run(blocks(), data, steps=STEPS, workdir=tmp_path / "run", resume=True, log_every=1, callback=callback)
    done = run(blocks(), data, steps=STEPS, workdir=tmp_path / "run", resume=True, log_every=1)
    assert done.resumed_from >= 12 and not stops
    assert_same(done.distilled, whole.distilled)


def test_a_run_goes_on_in_its_groups_on_another_number_of_devices(data, tmp_path):
    def stop(step, metrics, state):
        os.kill(os.getpid(), signal.SIGTERM)

    options = {"steps": STEPS, "workdir": tmp_path, "resume": True, "log_every": 4}
    with pytest.raises(RunInterrupted):
        run(blocks(), data, **options, devices=jax.devices()[:2], callback=stop)
    done = run(blocks(), data, **options)
    assert done.resumed_from and jax.tree.leaves(done.state)[0].shape[0] == 2
    whole = run(blocks(), data, steps=STEPS)
    np.testing.assert_allclose(done.distilled.images, whole.distilled.images, rtol=1e-5, atol=1e-6)


def test_other_steps_or_a_score_on_the_way_are_refused(data, tmp_path):
    run(blocks(), data, steps=STEPS, workdir=tmp_path)
    with pytest.raises(JaxddError, match=r"belongs to another run: parts.steps is 6 there and 8 here"):
        run(blocks(), data, steps=8, workdir=tmp_path, resume=True)
    with pytest.raises(JaxddError, match="nothing to validate before"):
        run(blocks(), data, steps=STEPS, validate=lambda distilled: {"score": 0.0})
    with pytest.raises(JaxddError, match="the parts of a run must be an integer of at least 1, got 0"):
        Parts(0)


def test_a_stage_may_be_made_of_parts_that_are_joined(data, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path))
    stage = Stage("blocks", blocks(), steps=STEPS, config={})
    made, _ = provided(stage, data, {}, How(0, "default", jax.devices()[:1], progress=False))
    assert_same(made.assets["blocks"], run(blocks(), data, steps=STEPS).distilled)
    (directory,) = (tmp_path / "stages").iterdir()
    assert not (directory / "parts").exists()
    again, _ = provided(stage, data, {}, How(0, "default", jax.devices()[:1], progress=False))
    assert_same(again.assets["blocks"], made.assets["blocks"])


def test_a_plan_is_of_a_group(data):
    cost = engine.plan(blocks(), data, devices=jax.devices()[:1])
    assert cost.state_parameters == SIZE * 16 and cost.measured_steps == 2 and cost.groups == PARTS
    stage = Stage("blocks", blocks(), steps=STEPS, config={})
    (planned,) = engine.plan_stages(stage, data, devices=jax.devices()[:1])
    assert planned.steps == PARTS * STEPS
