"""`run`: a method, real data and a number of steps in; a synthetic set out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxdd import _numbers, _progress
from jaxdd._files import expanded
from jaxdd._jax import told_to_jax
from jaxdd._numbers import jsonable, whole
from jaxdd.engine.checkpoints import check, held
from jaxdd.engine.contract import check_given
from jaxdd.engine.execute import Callback, Executed, execute
from jaxdd.engine.execution import Job, begun_with, memory, taken, what_fits
from jaxdd.engine.feed import fingerprint
from jaxdd.engine.joined import execution_of, groups_of, product_of, products
from jaxdd.engine.log import require_tensorboard
from jaxdd.engine.processes import OutOfMemory, on_first
from jaxdd.engine.snapshots import Snapshots
from jaxdd.engine.stages import How, provided
from jaxdd.engine.store import Validate
from jaxdd.errors import JaxddError
from jaxdd.types import AUTO, UNNAMED, Execution, Method, RealData, Recipe, Spec, State, parts_of


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What `run` returns.

    Attributes:
      product: what the method makes of the last state: of a distillation the synthetic set.
      state: the method's last state; of a run that is made of parts those of the last ones, stacked.
      step: how many steps have been done in all.
      history: rows of metrics, `{"step", "split", ..}`, of this run and of what it resumed.
      resumed_from: the step of the checkpoint it went on from, 0 if none.
      seconds: wall-clock of the steps done now, without compilation.
      compile_seconds: of compilation.
      devices: how many devices shared the work.
      best: the synthetic set that was best on validation, its step and score; None without `validate`.
      execution: what that of the run came to.
      snapshots: what `run(snapshots=)` took, by step; in the first process.
    """

    product: Any
    state: State
    step: int
    history: list[dict[str, Any]]
    resumed_from: int
    seconds: float
    compile_seconds: float
    devices: int
    best: tuple[Any, int, float] | None = None
    execution: Execution = UNNAMED
    snapshots: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def distilled(self) -> Any:
        """`product`, of a distillation."""
        return self.product


def run(
    method: Method | Recipe,
    data: RealData,
    *,
    steps: int,
    seed: int = 0,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
    config: Mapping[str, Any] | None = None,
    validate: Validate | None = None,
    callback: Callback | None = None,
    on_begin: Callable[[], None] | None = None,
    seconds: float | None = None,
    snapshots: Callable[[Any], ArrayLike] | None = None,
    log_every: int | None = None,
    validate_every: int | None = None,
    checkpoint_seconds: float = 30.0,
    execution: Execution = UNNAMED,
    precision: str | None = None,
    devices: Sequence[Any] | None = None,
    progress: bool = True,
    tensorboard: bool = False,
) -> RunResult:
    """Run a method: a function of (method, data, seed), whatever its interruptions.

    Args:
      method: any `Method`, or a `Recipe` for one.
      data: transformed real training data; its images may stay on the host (`types.HostArray`), which are then read
        as steps need them.
      steps: how many updates in all, or in each part of a run that is made of parts (`types.Parts`); a resumed run may
        ask for more than before, one that has parts may not.
      seed: of everything random.
      workdir: where checkpoints and `metrics.jsonl` go, which all processes of a run share; None keeps everything in
        memory.
      resume: go on from the newest checkpoint in `workdir`, bit for bit; starts fresh where there is none.
      config: JSON-able description of the method and the data; a `workdir` of another config is refused.
      validate: scores a synthetic set on held-out data, in the first process; the first entry decides which iterate is
        kept as the best. What it measures may differ from that of the run that is resumed if it says so, as a string
        `validate.measure`: the best is looked for anew from there.
      callback: called as `callback(step, metrics, state)` at every logged or validated step, in every process; names of
        validation begin with `validation_`. Its state outlives the run.
      on_begin: called in the first process when `workdir` is this run's, before its first step.
      seconds: a budget beside the steps: when so many have passed since the first step of this call, without
        compilation, the run ends within about a second, whole, as if it had been asked for the steps that are done.
      snapshots: an array from the product, taken at a few steps, see `snapshot_steps`, in the first process; of the
        first part where the run has parts. They are in `workdir/snapshots.safetensors`, and cost no copy of the state.
      log_every, validate_every: steps between; by default a hundredth and a tenth of all.
      checkpoint_seconds: at most so much work is lost by a kill.
      execution: how the machine goes about it; no part of what the run is. What is "auto" is, where a run is gone on
        with, as it was there; else lean on a CPU, and on an accelerator as much at once as fits. `execution.json` in
        `workdir` says what it came to.
      precision: the older name of that field of `execution`.
      devices: that share real batches, networks and classes; by default all, of all processes.
      progress: show a progress bar where there is somebody to see it.
      tensorboard: also write TensorBoard files (needs the extra `tensorboard`).

    Raises:
      JaxddError: for bad arguments, a directory of another run, a full disk, data that cannot be read any more, or a
        non-finite step: the message names the leaf. The last good state has been saved, if there is a place.
      RunInterrupted: after SIGINT or SIGTERM; the state has been saved.

    Stages that the method needs (`types.Stage`) are taken from the cache, or run first.
    """
    check_given(method, data)
    steps, seed = whole(steps, "steps"), _numbers.seed(seed)
    log_every = None if log_every is None else whole(log_every, "log_every")
    validate_every = None if validate_every is None else whole(validate_every, "validate_every")
    settings = jsonable(config or {})
    if not checkpoint_seconds >= 0:
        raise JaxddError(f"checkpoint_seconds must be at least 0, got {checkpoint_seconds}.")
    if seconds is not None:
        seconds = _numbers.positive(seconds, "seconds")
    if tensorboard:
        require_tensorboard()
    execution = with_precision(execution, precision)
    directory = None if workdir is None else expanded(workdir)
    identity: dict[str, Any] = {}
    if directory is not None:
        identity = {"config": settings, "seed": seed, "data": fingerprint(data), **told_to_jax()}
        # Of stages it is not known yet what they will have made; what they are to make is part of the config.
        later = {**held(directory, "stages"), **held(directory, "parts")}
        on_first(lambda: check(directory, {**later, **identity}, resume=resume))
    begun = {} if directory is None else on_first(lambda: begun_with(directory) or {})
    keyed = {} if directory is None else held(directory, "precision")
    policy = execution.over(Execution(precision=begun.get("precision", AUTO))).precision
    how = How(seed, policy, devices, checkpoint_seconds, progress, keyed.get("precision", "default"))
    data, contents = provided(method, data, settings, how)
    parts = parts_of(method, Spec.of(data))
    if parts.join is not None and validate is not None:
        raise JaxddError("a run whose parts are joined at its end has nothing to validate before; leave validate out.")
    if contents:
        identity["stages"] = contents
    if groups_of(parts, steps, devices, directory) is not None:
        if seconds is not None:
            raise JaxddError("a run that is made of parts is whole when all are done: leave seconds out.")
        identity["parts"] = {"count": parts.count, "steps": steps}
    if directory is not None:
        on_first(lambda: check(directory, identity, resume=resume))
    job = Job(method, data, parts, steps, seed, devices, directory)
    execution = taken(job, execution)
    with _sparing(job, execution):
        # Whatever cannot be traced fails before a file is made.
        with _progress.phase("compiling"):
            program = job.compile(execution)
        kept = products(program, parts, None if directory is None else directory / "parts")
        total = steps if program.groups is None else program.groups.total
        seen = None if snapshots is None else Snapshots(directory, snapshots, program.method, steps, program.groups)
        done: Executed = execute(
            program,
            steps=steps,
            directory=directory,
            identity=identity,
            execution=execution_of(program.groups, execution),
            resume=resume,
            log_every=log_every or max(1, total // 100),
            validate_every=validate_every or max(1, total // 10),
            checkpoint_seconds=checkpoint_seconds,
            progress=progress,
            validate=validate,
            callback=callback,
            on_begin=on_begin,
            seconds=seconds,
            tensorboard=tensorboard,
            recorders=[recorder for recorder in (kept, seen) if recorder is not None],
        )
    return RunResult(
        product=product_of(program, parts, done, kept, data),
        state=done.state,
        step=done.step if program.groups is None else steps,
        history=done.history,
        resumed_from=done.resumed_from,
        seconds=done.seconds,
        compile_seconds=program.compile_seconds,
        devices=program.mesh.size,
        best=done.best,
        execution=execution,
        snapshots={} if seen is None else seen.all(),
    )


def with_precision(execution: Execution, precision: str | None) -> Execution:
    """An execution with a precision that was given by its older name."""
    if precision is None:
        return execution
    warnings.warn(
        f"precision is now a field of the execution: execution=types.Execution(precision={precision!r}).",
        DeprecationWarning,
        stacklevel=3,
    )
    return execution.over(Execution(precision=precision))


@contextlib.contextmanager
def _sparing(job: Job, execution: Execution) -> Iterator[None]:
    """What cannot be held in memory is said with what would fit."""
    try:
        yield
    except (OutOfMemory, MemoryError, jax.errors.JaxRuntimeError) as error:
        reason = error.reason if isinstance(error, OutOfMemory) else (str(error).splitlines() or ["out of memory"])[0]
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in reason:
            raise
        try:
            remedy = what_fits(job, execution, memory())
        except (JaxddError, MemoryError, jax.errors.JaxRuntimeError):  # so full that nothing can be found out
            remedy = "jaxdd plan says what a run needs, and what would fit"
        raise JaxddError(f"{reason.rstrip('.')}; {remedy}.") from error
