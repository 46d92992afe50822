"""What a run will cost, against what is known of a small method."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import engine
from jaxdd.data import uniform_sampler
from jaxdd.errors import JaxddError
from jaxdd.types import Distilled, Execution, Labels, Method, RealData


class State(NamedTuple):
    params: dict
    momentum: dict
    count: jax.Array


@functools.cache  # equal methods share compiled programs
def followed(explode_at=99, scratch=1) -> Method:
    """Images that follow the mean of the batch, through a scratch space of `scratch` copies of an image's pixels."""

    def init(key, data):
        params = {"images": data.images[:5]}
        return State(params, jax.tree.map(jnp.zeros_like, params), jnp.int32(0))

    def update(key, state, batch):
        noise = jnp.sort(jax.random.normal(key, (scratch, *batch.images.shape[1:])), axis=0)
        images = 0.9 * state.params["images"] + 0.1 * (batch.images.mean(0) + noise.mean(0))[None]
        images = jnp.where(state.count + 1 >= explode_at, jnp.nan, images)
        return State({"images": images}, state.momentum, state.count + 1), {"loss": jnp.mean(images)}

    def distilled(state):
        images = state.params["images"]
        return Distilled(images, jnp.arange(5), params=state.params, num_bits=32 * images.size)

    return Method(init, uniform_sampler(8), update, distilled)


@pytest.fixture(scope="module")
def data():
    images = np.random.default_rng(0).normal(size=(60, 4, 4, 1)).astype(np.float32)
    return RealData.of(jnp.array(images), Labels.index(np.arange(60) % 3))


def test_counts_and_bytes(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cost = engine.plan(followed(), data, devices=jax.devices()[:1])
    assert (cost.parameters, cost.num_bits) == (5 * 16, 32 * 5 * 16)
    assert cost.state_parameters == 2 * 5 * 16  # without the count
    state = 4 * (2 * 5 * 16 + 1)
    assert data.images.nbytes + state <= cost.argument_bytes < 1.2 * (data.images.nbytes + state)
    assert cost.aliased_bytes == state  # the next state takes the place of the last
    assert state < cost.output_bytes < 1.5 * state
    assert cost.peak_bytes == cost.temp_bytes + cost.argument_bytes + cost.output_bytes - state
    assert (cost.devices, cost.device) == (1, "cpu")
    assert cost.compile_seconds > 0 and cost.seconds_per_step > 0
    assert not list(tmp_path.iterdir())


def test_temporary_bytes_are_those_of_the_step(data):
    options = {"devices": jax.devices()[:1], "budget": 0}
    small, large = (engine.plan(followed(scratch=n), data, **options) for n in (1000, 3000))
    assert large.temp_bytes - small.temp_bytes >= 2000 * 16 * 4
    assert large.argument_bytes == small.argument_bytes


def test_steps_are_run_only_within_the_budget(data):
    peak = engine.plan(followed(), data, budget=0).peak_bytes
    assert engine.plan(followed(), data, budget=peak - 1).seconds_per_step is None
    assert engine.plan(followed(), data, budget=peak).seconds_per_step > 0
    assert engine.plan(followed(explode_at=1), data, budget=0).seconds_per_step is None


def test_all_devices_by_default_as_in_a_run(data):
    assert engine.plan(followed(), data, budget=0).devices == len(jax.devices()) > 1


def test_operations_are_those_of_the_steps_that_were_timed(data):
    precisions, asked = [], []

    def of_step(state, step, source):
        precisions.append(jax.config.jax_default_matmul_precision)
        assert state.count == step
        return float(10**step)

    def count(step, state, number, source):
        after, metrics = jax.eval_shape(step, state, number, source)
        asked.append((after.params["images"].shape, set(metrics)))
        return of_step

    cost = engine.plan(followed(), data, count=count, execution=Execution(precision="float32"))
    assert cost.measured_steps == 2 and cost.cpu_seconds_per_step > 0
    assert cost.flops == (10 + 100) / 2  # the first step is not timed
    assert asked == [((5, 4, 4, 1), {"loss"})] and precisions == ["float32"] * 2
    assert engine.plan(followed(), data, count=count, budget=0).flops is None and len(asked) == 1
    assert engine.plan(followed(), data).flops is None


def test_steps_are_timed_for_as_long_as_is_wanted(data):
    cost = engine.plan(followed(explode_at=10**9), data, seconds=0.2, count=lambda step, *arguments: 7)
    assert cost.measured_steps > 2 and cost.measured_steps * cost.seconds_per_step >= 0.2
    assert cost.flops == 7


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_method_that_explodes_at_once_is_found_out(data, step):
    with pytest.raises(JaxddError, match=f"step {step} gave values that are not finite"):
        engine.plan(followed(explode_at=step), data, devices=jax.devices()[:1])
