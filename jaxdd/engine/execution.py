"""How a run is carried out: what "auto" comes to, the ladder down to what fits a device, what a resumed run takes."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxdd._system import free_memory, in_words
from jaxdd.engine.checkpoints import held_execution, held_identity
from jaxdd.engine.chunk import Program, compile_program
from jaxdd.engine.joined import groups_of
from jaxdd.engine.placement import make_mesh
from jaxdd.engine.processes import is_first, on_first
from jaxdd.errors import JaxddError
from jaxdd.types import (
    AT_ONCE,
    AUTO,
    Execution,
    Method,
    Parts,
    RealData,
    Recipe,
    Spec,
    as_recipe,
    renamed,
)

_LOG = logging.getLogger("jaxdd")
_STEP = 4  # a rung has so many times less at once than the one above it
_DETERMINISTIC = "--xla_gpu_deterministic_ops"
_REMATS = ("none", "step", "sqrt")  # from what stores most
_UNKNOWN = 1024  # examples, networks: where a ladder begins whose method does not say how many there are


class Job(NamedTuple):
    """What is to be run, however it is carried out."""

    method: Method | Recipe
    data: RealData
    parts: Parts
    steps: int
    seed: int
    devices: Sequence[Any] | None
    directory: pathlib.Path | None = None

    def compile(self, execution: Execution) -> Program:
        """The program of an execution."""
        groups = groups_of(self.parts, self.steps, self.devices, self.directory, execution.side_by_side)
        return compile_program(
            self.method, self.data, seed=self.seed, execution=execution, devices=self.devices, groups=groups
        )

    @property
    def recipe(self) -> Recipe:
        return as_recipe(self.method)

    @property
    def lean(self) -> Execution:
        """The method's; parts follow each other."""
        lean = self.recipe.lean
        return lean if self.parts.count == 1 else dataclasses.replace(lean, side_by_side=1)

    @property
    def most(self) -> Execution:
        """As of `Recipe`; of the parts as many as each device has."""
        most = self.recipe.most(Spec.of(self.data))
        if self.parts.count == 1:
            return most
        return dataclasses.replace(most, side_by_side=-(-self.parts.count // make_mesh(self.devices).size))

    @property
    def known(self) -> set[str]:
        """The fields that the method has a use for."""
        return set(self.lean.named())


def settled(
    job: Job, execution: Execution, *, accelerated: bool | None = None, limit: float | None = None
) -> Execution:
    """An execution without "auto": what nobody named is the method's lean setting on a CPU, and wide elsewhere.

    On an accelerator everything is at once, unless that does not fit: then the first rung of the ladder that does.

    Args:
      accelerated: whether it is for an accelerator; by default as the devices are.
      limit: bytes of each device; by default as it says of itself. Where it says nothing all is at once.
    """
    accelerated = on_accelerator(job) if accelerated is None else accelerated
    first = fastest(job, execution, accelerated)
    if not accelerated:
        return first
    if limit is None:
        limit = on_first(device_limit)
    rungs = ladder(first, job.most, job.known - set(execution.over(job.recipe.asked).named()))
    if limit is None or len(rungs) == 1:
        return first
    # Where none fits the run itself will say so.
    return next((rung for rung in rungs if peak_bytes(job, rung) <= limit), rungs[-1])


def on_accelerator(job: Job) -> bool:
    """Whether it is for other devices than CPUs."""
    return make_mesh(job.devices).devices.flat[0].platform != "cpu"


def fastest(job: Job, execution: Execution, accelerated: bool) -> Execution:
    """An execution without "auto", whatever memory it needs: what nobody named is lean on a CPU, else all at once."""
    wide = Execution()
    if accelerated:
        at_once: dict[str, Any] = {name: None for name in ("block", "side_by_side") if getattr(job.lean, name) != AUTO}
        wide = Execution(**at_once)
    return execution.over(job.recipe.asked, wide, job.lean, AT_ONCE)


def ladder(first: Execution, most: Execution, free: set[str]) -> list[Execution]:
    """Executions from this one to the leanest: fewer networks side by side, then smaller blocks, then more computed
    twice on the way back.

    Args:
      first: the widest, in which nothing is "auto".
      most: what all at once are, see `Recipe.most`; blocks are divisors of it.
      free: the fields that may change.
    """
    found = [first]
    for name in ("side_by_side", "block"):
        for size in _sizes(getattr(first, name), getattr(most, name)) if name in free else ():
            found.append(dataclasses.replace(found[-1], **{name: size}))
    for name in _REMATS[_REMATS.index(first.remat) + 1 :] if "remat" in free else ():
        found.append(dataclasses.replace(found[-1], remat=name))
    return found


def _sizes(first: int | None, most: Any) -> list[int]:
    """Smaller and smaller numbers down to 1, each about a quarter of the one before and a divisor of the most."""
    whole = most if isinstance(most, int) else first or _UNKNOWN
    size, found = whole if first is None else min(first, whole), []
    while size > 1:
        size = next(each for each in range(max(1, size // _STEP), 0, -1) if whole % each == 0)
        found.append(size)
    return found


def peak_bytes(job: Job, execution: Execution) -> float:
    """What a program needs on each device, as compiled; infinite if the compiler refuses, 0 if it cannot tell."""
    try:
        program = job.compile(execution)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return math.inf
    program.feed.close()
    return of_program(program) or 0


def of_program(program: Program) -> int | None:
    """The bytes of a compiled program on each device; None if its devices do not say."""
    memory = program.chunk.memory_analysis()
    if memory is None:
        return None
    used = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    return used - memory.alias_size_in_bytes


def device_limit() -> int | None:
    """Bytes that this process's first device may use, if it says so; CPUs do not."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def memory() -> float:
    """Bytes that each device may use, or its share of what the machine has free.

    Raises:
      JaxddError: if neither the device nor the system says.
    """
    return device_limit() or _free() / jax.local_device_count()  # devices on CPU have one memory


def _free() -> int:
    free = free_memory()
    if free is None:
        raise JaxddError("this system does not say how much memory it has: give --budget=4GiB.")
    return free


def what_fits(job: Job, execution: Execution, limit: float) -> str:
    """After a run was out of memory: the flags of the next rung of the ladder that fits, and what it needs.

    Args:
      execution: of that run.
      limit: bytes of each device.
    """
    before = peak_bytes(job, execution)
    tried: list[tuple[float, str]] = []
    for rung in ladder(execution, job.most, job.known)[1:]:
        flags = as_flags(rung, execution)
        peak = peak_bytes(job, rung)
        if peak < before and peak <= limit:
            return f"{flags} needs {_gib(peak)}"
        tried.append((peak, flags))
    least, flags = min(tried, default=(before, ""))
    most = f"the least, {flags}, needs" if flags else "it needs"
    return f"no setting of --config.execution fits the {_gib(limit)} there are: {most} {_gib(least)}"


def as_flags(execution: Execution, other: Execution) -> str:
    """The flags of the command line that make one execution of another."""
    changed = {name: value for name, value in vars(execution).items() if getattr(other, name) != value}
    return " ".join(f"--config.execution.{name}={value}" for name, value in changed.items())


def _gib(size: float) -> str:
    if size == math.inf:
        return "more than the compiler allows"
    return in_words(size)


def taken(job: Job, execution: Execution) -> Execution:
    """The execution of a run: that with which its directory began, except what is named now; else `settled`.

    What is named now and differs is said in a warning of the logger "jaxdd". A run from before there was any is gone
    on with by the hyper-parameters that it had, see `types.RETIRED`.
    """
    directory = job.directory
    before = None if directory is None else on_first(lambda: begun_with(directory))
    if before is None:
        return settled(job, execution)
    begun = Execution(**before).over(job.lean, AT_ONCE)
    named = execution.over(job.recipe.asked)
    if job.parts.count > 1:  # their groups are what steps are counted by
        named = dataclasses.replace(named, side_by_side=begun.side_by_side)
    chosen = named.over(begun)
    changed = [
        f"{name}={getattr(chosen, name)} instead of {getattr(begun, name)}"
        for name in sorted(vars(begun))
        if getattr(chosen, name) != getattr(begun, name)
    ]
    if changed and is_first():
        _LOG.warning(
            "%s goes on with %s; the last bits may differ from those of a run that never changed.",
            directory,
            ", ".join(changed),
        )
    if make_mesh(job.devices).devices.flat[0].platform == "gpu" and not _repeats() and is_first():
        _LOG.warning(
            "%s goes on; on a GPU its last bits may differ from those of a run that never stopped, unless XLA_FLAGS "
            "had %s=true when it began and has it now.",
            directory,
            _DETERMINISTIC,
        )
    return chosen


def _repeats() -> bool:
    """Whether XLA was told to compile for a GPU what gives the same bits each time."""
    given = re.findall(rf"{_DETERMINISTIC}(?:=(\w+))?", os.environ.get("XLA_FLAGS", ""))
    return bool(given) and given[-1].lower() in ("", "true", "1")


def begun_with(directory: pathlib.Path) -> dict[str, Any] | None:
    """What a run's directory says of its execution; None where no run has begun."""
    there = held_execution(directory)
    if found := {name: there[name] for name in vars(AT_ONCE) if name in there}:
        return found
    identity = held_identity(directory)
    if identity is None:
        return None
    hyper = (identity.get("config") or {}).get("method") or {}
    return renamed(hyper) | ({"precision": identity["precision"]} if "precision" in identity else {})
