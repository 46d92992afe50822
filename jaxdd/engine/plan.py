"""`plan`: what a run will cost, before it."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd.engine.chunk import compile_chunk, keys_of
from jaxdd.engine.placement import make_mesh, replicated
from jaxdd.engine.run import one_blas_thread
from jaxdd.errors import JaxddError
from jaxdd.models import matmul_precision
from jaxdd.types import Method, PyTree, RealData

_MEASURED_STEPS = 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cost of a method on some data; bytes are those of each device.

    Attributes:
      parameters: numbers that the synthetic set stores.
      num_bits: what storing them costs.
      state_parameters: floating-point numbers in the method's state: the set, optimisers, networks.
      temp_bytes: what the compiled steps use beside their arguments and results.
      argument_bytes: the state and all real data.
      output_bytes: the next state and the metrics.
      aliased_bytes: of the output that takes the place of the state.
      compile_seconds: of compilation.
      seconds_per_step: mean of two steps after a first one; None if no step was run.
      device: kind of device.
      devices: how many.
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

    @property
    def peak_bytes(self) -> int:
        """Estimate of the memory that a run's steps need on each device, as compiled."""
        return self.temp_bytes + self.argument_bytes + self.output_bytes - self.aliased_bytes


def plan(
    method: Method,
    data: RealData,
    *,
    seed: int = 0,
    precision: str = "default",
    devices: Sequence[Any] | None = None,
    budget: float = math.inf,
) -> Plan:
    """Compile what `run` would run, ask what it needs, and time a few steps. Writes nothing.

    Args:
      method, data, seed, precision, devices: as for `run`.
      budget: bytes on each device; steps are run only if they fit. 0 only compiles.

    Raises:
      JaxddError: if the steps that are timed give values that are not finite, or the device cannot tell its memory.
    """
    mesh = make_mesh(devices)
    place, keys = replicated(mesh), keys_of(seed)
    data = jax.device_put(data, place)
    init = jax.jit(method.init, out_shardings=place)
    state = jax.eval_shape(init, keys.init, data)
    distilled = jax.eval_shape(method.distilled, state)
    began = time.perf_counter()
    with matmul_precision(precision):
        chunk = compile_chunk(method, mesh, state, keys, data)
    compile_seconds = time.perf_counter() - began
    memory, device = chunk.memory_analysis(), mesh.devices.flat[0].device_kind
    if memory is None:
        raise JaxddError(f"devices of the kind {device!r} do not say what a compiled program needs.")
    compiled = Plan(
        parameters=_count(distilled.params),
        num_bits=distilled.num_bits,
        state_parameters=_count([leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]),
        temp_bytes=memory.temp_size_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        aliased_bytes=memory.alias_size_in_bytes,
        compile_seconds=compile_seconds,
        seconds_per_step=None,
        device=device,
        devices=mesh.size,
    )
    if compiled.peak_bytes > budget:
        return compiled
    with one_blas_thread():
        state, step, _, _ = chunk(init(keys.init, data), jnp.int32(0), jnp.int32(1), keys, data)
        jax.block_until_ready(state)
        began = time.perf_counter()
        last = 1 + _MEASURED_STEPS
        state, step, _, _ = chunk(state, step, jnp.int32(last), keys, data)
        jax.block_until_ready(state)
        seconds = time.perf_counter() - began
    if step < last:
        raise JaxddError(f"step {int(step) + 1} gave values that are not finite; a run would stop there.")
    return dataclasses.replace(compiled, seconds_per_step=seconds / _MEASURED_STEPS)


def _count(tree: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
