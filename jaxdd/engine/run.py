"""`run`: a method, real data and a number of steps in; a synthetic set out."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdd.engine.checkpoints import check, held
from jaxdd.engine.chunk import compile_program
from jaxdd.engine.execute import Callback, execute
from jaxdd.engine.feed import fingerprint
from jaxdd.engine.joined import execution_of, groups_of, product_of, products
from jaxdd.engine.log import require_tensorboard
from jaxdd.engine.processes import on_first
from jaxdd.engine.stages import How, provided
from jaxdd.engine.store import Validate
from jaxdd.errors import JaxddError
from jaxdd.types import Method, RealData, Recipe, Spec, State, parts_of


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
    log_every: int | None = None,
    validate_every: int | None = None,
    checkpoint_seconds: float = 30.0,
    precision: str = "default",
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
      callback: called as `callback(step, metrics, state)` at every logged step, in every process; its state outlives
        the run.
      log_every, validate_every: steps between; by default a hundredth and a tenth of all.
      checkpoint_seconds: at most so much work is lost by a kill.
      precision: of products and convolutions, see `models.matmul_precision`.
      devices: that share real batches, networks and classes; by default all, of all processes.
      progress: show a progress bar where there is somebody to see it.
      tensorboard: also write TensorBoard files (needs the extra `tensorboard`).

    Raises:
      JaxddError: for bad arguments, a directory of another run, a full disk, data that cannot be read any more, or a
        non-finite step: the message names the leaf. The last good state has been saved, if there is a place.
      RunInterrupted: after SIGINT or SIGTERM; the state has been saved.

    Stages that the method needs (`types.Stage`) are taken from the cache, or run first.
    """
    for name, count in (("steps", steps), ("log_every", log_every), ("validate_every", validate_every)):
        if not (isinstance(count, int) and count >= 1) and (name == "steps" or count is not None):
            raise JaxddError(f"{name} must be an integer of at least 1, got {count!r}.")
    if not checkpoint_seconds >= 0:
        raise JaxddError(f"checkpoint_seconds must be at least 0, got {checkpoint_seconds}.")
    if tensorboard:
        require_tensorboard()
    directory = None if workdir is None else pathlib.Path(workdir)
    identity: dict[str, Any] = {}
    if directory is not None:
        identity = {"config": dict(config or {}), "seed": int(seed), "data": fingerprint(data)}
        if precision != "default":
            identity["precision"] = precision
        # Of stages it is not known yet what they will have made; what they are to make is part of the config.
        later = {**held(directory, "stages"), **held(directory, "parts")}
        on_first(lambda: check(directory, {**later, **identity}, resume=resume))
    how = How(seed, precision, devices, checkpoint_seconds, progress)
    data, contents = provided(method, data, dict(config or {}), how)
    parts = parts_of(method, Spec.of(data))
    if parts.join is not None and validate is not None:
        raise JaxddError("a run whose parts are joined at its end has nothing to validate before; leave validate out.")
    groups = groups_of(method, data, parts, steps, devices, directory)
    if contents:
        identity["stages"] = contents
    if groups is not None:
        identity["parts"] = {"count": groups.count, "steps": groups.steps}
    if directory is not None:
        on_first(lambda: check(directory, identity, resume=resume))
    # Whatever cannot be traced fails before a file is made.
    program = compile_program(method, data, seed=seed, precision=precision, devices=devices, groups=groups)
    kept = products(program, parts, None if directory is None else directory / "parts")
    total = steps if groups is None else groups.total
    done = execute(
        program,
        steps=steps,
        directory=directory,
        identity=identity,
        execution=execution_of(groups),
        resume=resume,
        log_every=log_every or max(1, total // 100),
        validate_every=validate_every or max(1, total // 10),
        checkpoint_seconds=checkpoint_seconds,
        progress=progress,
        validate=validate,
        callback=callback,
        tensorboard=tensorboard,
        recorders=[] if kept is None else [kept],
    )
    return RunResult(
        product=product_of(program, parts, done, kept, data),
        state=done.state,
        step=steps,
        history=done.history,
        resumed_from=done.resumed_from,
        seconds=done.seconds,
        compile_seconds=program.compile_seconds,
        devices=program.mesh.size,
        best=done.best,
    )
