"""`plan`: what a run will cost, before it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.engine.chunk import CHUNK_SECONDS, Program
from jaxdd.engine.execute import one_blas_thread
from jaxdd.engine.execution import Job, fastest, ladder, on_accelerator, settled
from jaxdd.engine.joined import product_shape
from jaxdd.engine.run import with_precision
from jaxdd.engine.stages import How, expected, foretold
from jaxdd.errors import JaxddError
from jaxdd.models import matmul_precision
from jaxdd.types import (
    UNNAMED,
    Array,
    Distilled,
    Execution,
    Method,
    Metrics,
    PyTree,
    RealData,
    Recipe,
    Spec,
    State,
    as_recipe,
    parts_of,
)

_Told = float | Callable[..., float]  # of every step, or from the arguments of one

_MEASURED_STEPS = 2
_ENDLESS = 2**31 - 1  # steps
_STEPS_OF_PART = 2**20  # so many that those which are timed are of one


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cost of a method on some data; bytes are those of each device.

    Attributes:
      parameters: numbers that the synthetic set stores; 0 of a run that leaves none.
      num_bits: what storing them costs.
      state_parameters: floating-point numbers in the method's state: the set, optimisers, networks.
      temp_bytes: what the compiled steps use beside their arguments and results.
      argument_bytes: the state and all real data.
      output_bytes: the next state and the metrics.
      aliased_bytes: of the output that takes the place of the state.
      compile_seconds: of compilation.
      seconds_per_step: mean of the steps that were timed, after a first one; None if no step was run.
      device: kind of device.
      devices: how many.
      custom_calls: what the compiled steps leave to other libraries, by the names of the calls.
      measured_steps: that were timed.
      cpu_seconds_per_step: of all threads; None if no step was run.
      flops: operations of a step by the caller's own count, mean of those that were timed; None without one.
      execution: how the steps were carried out.
      groups: of parts, one after the other, in each of which there are as many steps; 1 of a run that is whole.
    """

    parameters: int
    num_bits: int
    state_parameters: int
    temp_bytes: int
    argument_bytes: int
    output_bytes: int
    aliased_bytes: int
    compile_seconds: float
    seconds_per_step: float | None
    device: str
    devices: int
    custom_calls: tuple[str, ...] = ()
    measured_steps: int = 0
    cpu_seconds_per_step: float | None = None
    flops: float | None = None
    execution: Execution = UNNAMED
    groups: int = 1

    @property
    def peak_bytes(self) -> int:
        """Estimate of the memory that a run's steps need on each device, as compiled."""
        return self.temp_bytes + self.argument_bytes + self.output_bytes - self.aliased_bytes


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """What a stage will cost.

    Attributes:
      name: of the stage.
      steps: of all groups of its parts, one after the other.
      num_bytes: of its rows, on disk.
      made: whether it lies in the cache, and costs nothing.
      plan: None if it does.
    """

    name: str
    steps: int
    num_bytes: int
    made: bool
    plan: Plan | None


def plan_stages(
    method: Method | Recipe,
    data: RealData,
    *,
    seed: int = 0,
    execution: Execution = UNNAMED,
    precision: str | None = None,
    devices: Sequence[Any] | None = None,
    config: Mapping[str, Any] | None = None,
    budget: float = math.inf,
) -> tuple[StagePlan, ...]:
    """What the stages of a method will cost, each as `plan` tells it. Writes nothing.

    Args:
      method, data, seed, execution, precision, devices, config: as for `run`.
      budget: as for `plan`.
    """
    found, policy = [], with_precision(execution, precision).precision
    for stage, parts, seen, made, num_bytes in expected(method, data, config or {}, How(seed, policy, devices)):
        own = Execution(precision=policy)
        recipe = dataclasses.replace(as_recipe(stage.recipe), parts=lambda spec, parts=parts: parts)
        cost = None if made else plan(recipe, seen, seed=seed, execution=own, devices=devices, budget=budget)
        groups = parts.count if cost is None else cost.groups
        found.append(StagePlan(stage.name, groups * stage.steps, num_bytes, made, cost))
    return tuple(found)


def plan(
    method: Method | Recipe,
    data: RealData,
    *,
    seed: int = 0,
    execution: Execution = UNNAMED,
    precision: str | None = None,
    devices: Sequence[Any] | None = None,
    budget: float = math.inf,
    seconds: float = 0.0,
    count: Callable[..., _Told] | None = None,
) -> Plan:
    """Compile what `run` would run, ask what it needs, and time a few steps. Writes nothing.

    Args:
      method, data, seed, execution, precision, devices: as for `run`.
      budget: bytes on each device; steps are run only if they fit. 0 only compiles.
      seconds: for how long steps are timed; two are at least.
      count: `count(step, *arguments)`, called once, with shapes: the operations that `step(*arguments)` takes. Where
        they differ from step to step, a function instead that tells them from the arguments of a step; it is asked
        before each, and chunks of one step are timed.

    Raises:
      JaxddError: if the steps that are timed give values that are not finite, or the device cannot tell its memory.
    """
    data = foretold(method, data)  # what stages will leave is some other numbers as yet
    parts = parts_of(method, Spec.of(data))
    job = Job(method, data, parts, _STEPS_OF_PART, seed, devices)
    execution = settled(job, with_precision(execution, precision))
    program = job.compile(execution)
    method, mesh, supply = program.method, program.mesh, program.feed
    state, product = supply.state, product_shape(method, data, parts)
    parameters, num_bits = (_count(product.params), product.num_bits) if isinstance(product, Distilled) else (0, 0)
    memory, device = program.chunk.memory_analysis(), mesh.devices.flat[0].device_kind
    if memory is None:
        raise JaxddError(f"devices of the kind {device!r} do not say what a compiled program needs.")
    compiled = Plan(
        parameters=parameters,
        num_bits=num_bits,
        state_parameters=_count([leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]),
        temp_bytes=memory.temp_size_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        aliased_bytes=memory.alias_size_in_bytes,
        compile_seconds=program.compile_seconds,
        seconds_per_step=None,
        device=device,
        devices=mesh.size,
        custom_calls=tuple(sorted(set(re.findall(r'custom_call_target="([^"]+)"', program.chunk.as_text() or "")))),
        execution=execution,
        groups=1 if program.groups is None else program.groups.number,
    )
    if compiled.peak_bytes > budget:
        return compiled
    with one_blas_thread(), contextlib.ExitStack() as stack:
        stack.callback(supply.close)
        flops = None if count is None else _told(program, count, execution.precision)
        return dataclasses.replace(compiled, **_measure(program, seconds, flops))


@dataclasses.dataclass(frozen=True)
class Fit:
    """What `fit_to` returns.

    Attributes:
      tried: plans, from what should be fastest to the leanest; the last is the first that fits, if any does. Each says
        its execution.
      plan: of the one that fits, with seconds a step; None if none does.
    """

    tried: tuple[Plan, ...]
    plan: Plan | None

    @property
    def execution(self) -> Execution | None:
        """The one that fits; None if none does."""
        return None if self.plan is None else self.plan.execution

    @property
    def least(self) -> Plan:
        """Of those that were tried, the one that needs least."""
        return min(self.tried, key=lambda plan: plan.peak_bytes)


def fit_to(
    method: Method | Recipe,
    data: RealData,
    budget: float,
    *,
    execution: Execution = UNNAMED,
    seed: int = 0,
    devices: Sequence[Any] | None = None,
    accelerated: bool | None = None,
) -> Fit:
    """The fastest execution of a method that fits a budget of memory, and its cost. Writes nothing.

        engine.fit_to(methods.dm(ipc=10), data, 2**30).execution

    It goes down from what a run would begin with, or from what is named: fewer networks side by side, smaller blocks,
    more computed twice; each is compiled, and steps of the first that fits are timed.

    Args:
      method, data, seed, devices: as for `run`.
      budget: bytes on each device.
      execution: where to begin; also what it names may become less.
      accelerated: whether to begin as on an accelerator, with everything at once; by default as the devices are.
    """
    seen = foretold(method, data)
    job = Job(method, seen, parts_of(method, Spec.of(seen)), _STEPS_OF_PART, seed, devices)
    first = fastest(job, execution, on_accelerator(job) if accelerated is None else accelerated)
    tried: list[Plan] = []
    for rung in ladder(first, job.most, job.known):
        tried.append(plan(method, data, seed=seed, execution=rung, devices=devices, budget=budget))
        if tried[-1].peak_bytes <= budget:
            return Fit(tuple(tried), tried[-1])
    return Fit(tuple(tried), None)


def _measure(program: Program, seconds: float, flops: _Told | None) -> dict[str, Any]:
    """The fields of a plan that steps are run for, means of a step."""
    chunk, keys, supply = program.chunk, program.keys, program.feed
    state, step, length = supply.init(keys.init), 0, 1
    wall = cpu = counted = 0.0
    while step < 1 + _MEASURED_STEPS or wall < seconds:
        source, until = supply.source(step, _ENDLESS)
        last = min(step + length, until)
        if step > 0 and flops is not None:
            counted += (last - step) * (flops(state, np.int32(step), source) if callable(flops) else flops)
        began = time.perf_counter(), time.process_time()
        state, reached, _, _ = chunk(state, np.int32(step), np.int32(last), keys, source)
        reached = int(reached)  # waits for the chunk
        took = time.perf_counter() - began[0], time.process_time() - began[1]
        if reached < last:
            raise JaxddError(f"step {reached + 1} gave values that are not finite; a run would stop there.")
        if step > 0:
            wall, cpu = wall + took[0], cpu + took[1]
            if not callable(flops):  # as many as in a chunk of a run, but no more than are wanted
                length = max(1, int(min(CHUNK_SECONDS, seconds - wall) * (last - step) / took[0]))
        step = last
    measured = step - 1
    return {
        "seconds_per_step": wall / measured,
        "measured_steps": measured,
        "cpu_seconds_per_step": cpu / measured,
        "flops": None if flops is None else counted / measured,
    }


def _told(program: Program, count: Callable[..., _Told], precision: str) -> _Told:
    """What `count` tells of the steps of a program; their arguments are the state, the step's number and the source."""
    keys, supply = program.keys, program.feed

    def one(state: State, step: Array, source: PyTree) -> tuple[State, Metrics]:
        batch = supply.batch(source, step, keys.sample)
        return program.inner.update(keys.update, step, state, batch)

    told = count(one, supply.state, np.int32(0), supply.abstract)
    if not callable(told):
        return told

    def flops(*arguments: Any) -> float:
        with matmul_precision(precision):
            return told(*arguments)

    return flops


def _count(tree: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
