"""`run`: a method, real data and a number of steps in; a synthetic set out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.engine.checkpoints import check
from jaxdd.engine.chunk import CHUNK_SECONDS, compile_program
from jaxdd.engine.feed import fingerprint
from jaxdd.engine.log import MetricsLog, progress_bar, require_tensorboard
from jaxdd.engine.placement import replicated
from jaxdd.engine.processes import gather, is_first, local, on_first, together
from jaxdd.engine.store import Best, Validate, opened
from jaxdd.errors import JaxddError, RunInterrupted
from jaxdd.types import Distilled, Method, Metrics, RealData, Recipe, State

Callback = Callable[[int, Mapping[str, float], State], None]


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What `run` returns.

    Attributes:
      distilled: the synthetic set of the last state.
      state: the method's last state.
      step: how many steps have been done in all.
      history: rows of metrics, `{"step", "split", ..}`, of this run and of what it resumed.
      resumed_from: the step of the checkpoint it went on from, 0 if none.
      seconds: wall-clock of the steps done now, without compilation.
      compile_seconds: of compilation.
      devices: how many devices shared the work.
      best: the synthetic set that was best on validation, its step and score; None without `validate`.
    """

    distilled: Distilled
    state: State
    step: int
    history: list[dict[str, Any]]
    resumed_from: int
    seconds: float
    compile_seconds: float
    devices: int
    best: tuple[Distilled, int, float] | None = None


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
      steps: how many updates in all; a resumed run may ask for more than before.
      seed: of everything random.
      workdir: where checkpoints and `metrics.jsonl` go, which all processes of a run share; None keeps everything in
        memory.
      resume: go on from the newest checkpoint in `workdir`, bit for bit; starts fresh where there is none.
      config: JSON-able description of the method and the data; a `workdir` of another config is refused.
      validate: scores a synthetic set on held-out data, in the first process; the first entry decides which iterate is
        kept as the best.
      callback: called as `callback(step, metrics, state)` at every logged step, in every process; its state outlives
        the run.
      log_every, validate_every: steps between; by default a hundredth and a tenth of `steps`.
      checkpoint_seconds: at most so much work is lost by a kill.
      precision: of products and convolutions, see `models.matmul_precision`.
      devices: that share real batches, networks and classes; by default all, of all processes.
      progress: show a progress bar where there is somebody to see it.
      tensorboard: also write TensorBoard files (needs the extra `tensorboard`).

    Raises:
      JaxddError: for bad arguments, a directory of another run, a full disk, data that cannot be read any more, or a
        non-finite step: the message names the leaf. The last good state has been saved, if there is a place.
      RunInterrupted: after SIGINT or SIGTERM; the state has been saved.
    """
    log_every = max(1, steps // 100) if log_every is None else log_every
    validate_every = max(1, steps // 10) if validate_every is None else validate_every
    for name, count in (("steps", steps), ("log_every", log_every), ("validate_every", validate_every)):
        if not isinstance(count, int) or count < 1:
            raise JaxddError(f"{name} must be an integer of at least 1, got {count!r}.")
    if not checkpoint_seconds >= 0:
        raise JaxddError(f"checkpoint_seconds must be at least 0, got {checkpoint_seconds}.")
    if tensorboard:
        require_tensorboard()
    directory = None if workdir is None else pathlib.Path(workdir)
    identity = {}
    if directory is not None:
        identity = {"config": dict(config or {}), "seed": int(seed), "data": fingerprint(data)}
        if precision != "default":
            identity["precision"] = precision
        on_first(lambda: check(directory, identity, resume=resume))
    # Whatever cannot be traced fails before a file is made.
    method, mesh, keys, supply, chunk, compile_seconds = compile_program(
        method, data, seed=seed, precision=precision, devices=devices
    )
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(_signals())
        stack.enter_context(one_blas_thread())
        stack.callback(supply.close)
        store = stack.enter_context(
            opened(directory, identity, resume=resume, every=checkpoint_seconds, keep_best=validate is not None)
        )
        everywhere = replicated(mesh)
        state, resumed_from = store.restore(supply.state, everywhere) or (None, 0)
        if resumed_from > steps:
            raise JaxddError(f"{directory} is already at step {resumed_from}; ask for at least so many, not {steps}.")
        if state is None:
            state = supply.init(keys.init)
        log = MetricsLog(directory, resumed_from=resumed_from, tensorboard=tensorboard)
        stack.callback(log.close)
        watch = _Watch(
            steps=steps,
            log_every=log_every,
            validate_every=validate_every,
            log=log,
            bar=stack.enter_context(progress_bar(steps, resumed_from, progress and is_first())),
            callback=callback,
            best=Best(method, store.best, validate) if validate else None,
        )
        began = time.perf_counter()
        step, length = resumed_from, 1
        failure = None
        while True:
            supplied = None
            if step < steps and failure is None:
                try:
                    supplied = supply.source(step, steps, timeout=CHUNK_SECONDS)
                except TimeoutError:
                    pass  # so that signals are answered
                except Exception as error:
                    failure = error
            ready = supplied is not None or step == steps
            notice = _consult(_Notice(length, store.due(), stop[0] if stop else 0, failure is not None, ready))
            if step == steps or notice.due or notice.stop or notice.failed:
                store.save(step, state)
            if notice.stop:
                raise RunInterrupted(f"stopped at step {step} of {steps}; {store.settle()}.", notice.stop)
            if notice.failed:
                reason = "another process cannot go on" if failure is None else _sentence(failure)
                raise JaxddError(f"{reason}; stopped at step {step} of {steps}, {store.settle()}.") from failure
            if step == steps:
                break
            if supplied is None or not notice.ready:
                continue
            source, until = supplied
            last = min(step + notice.length, watch.next_event(step), until)
            tick = time.perf_counter()
            with together():
                state, reached, metrics, finite = chunk(state, np.int32(step), np.int32(last), keys, source)
                done = int(reached) - step  # waits for the chunk
            length = max(1, int(CHUNK_SECONDS * done / (time.perf_counter() - tick)))
            watch.bar.update(done)
            step += done
            if step < last:
                store.save(step, state)
                raise JaxddError(
                    f"step {step + 1} gave values that are not finite in {_bad(finite)}; {store.settle()}. "
                    "A smaller learning rate or a larger ridge usually helps."
                )
            try:
                watch(step, state, metrics)
            except JaxddError as error:
                failure = error
        seconds = time.perf_counter() - began
        store.settle()
        return RunResult(
            distilled=jax.jit(method.product)(local(state)),
            state=local(state),
            step=step,
            history=log.rows,
            resumed_from=resumed_from,
            seconds=seconds,
            compile_seconds=compile_seconds,
            devices=mesh.size,
            best=watch.best.result(supply.state, everywhere) if watch.best else None,
        )


class _Notice(NamedTuple):
    """What the processes of a run tell each other between chunks."""

    length: int
    """Steps of the next chunk; the first process says."""
    due: bool
    """Whether a checkpoint is due; the first process says."""
    stop: int
    """A signal that any of them was sent, or 0."""
    failed: bool
    """Whether any of them cannot go on."""
    ready: bool
    """Whether all of them have the next examples."""


def _consult(mine: _Notice) -> _Notice:
    said = gather(mine)
    return _Notice(
        int(said[0, 0]), bool(said[0, 1]), int(said[:, 2].max()), bool(said[:, 3].any()), bool(said[:, 4].all())
    )


@dataclasses.dataclass(frozen=True)
class _Watch:
    """What happens between chunks: the log, the bar, the callback, validation."""

    steps: int
    log_every: int
    validate_every: int
    log: MetricsLog
    bar: Any
    callback: Callback | None
    best: Best | None

    def next_event(self, step: int) -> int:
        """The next step after `step` at which something has to be seen."""
        looked_at = (self.log_every, self.steps, *(() if self.best is None else (self.validate_every,)))
        return min((step // every + 1) * every for every in looked_at)

    def __call__(self, step: int, state: State, metrics: Metrics) -> None:
        if step % self.log_every == 0 or step == self.steps:
            values = {name: float(value) for name, value in metrics.items()}
            self.log.write(step, "train", values)
            self.bar.set_postfix({"loss": f"{values['loss']:.4g}"} if "loss" in values else {})
            if self.callback is not None:
                self.callback(step, values, jax.tree.map(jnp.copy, local(state)))
        if self.best is not None and (step % self.validate_every == 0 or step == self.steps):
            self.log.write(step, "validation", self.best(step, state))


def _sentence(error: Exception) -> str:
    said = " ".join(str(error).split()).rstrip(".")
    return said if isinstance(error, JaxddError) else f"{type(error).__name__}: {said}"


def _bad(finite: Mapping[str, Any]) -> str:
    """The leaves that are not finite, those that a person knows first."""
    bad = sorted(
        (name for name, good in finite.items() if not bool(good)), key=lambda name: ("opt_state" in name, name)
    )
    return ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")


def one_blas_thread() -> contextlib.AbstractContextManager:
    """On CPU, XLA hands factorisations to SciPy's OpenBLAS, whose waiting threads spin on the cores XLA's need.

    Measured on two busy cores, n = 500: Cholesky 268 ms with two threads, 5 ms with one.
    """
    if jax.default_backend() != "cpu":
        return contextlib.nullcontext()
    import scipy.linalg  # noqa: F401  (only libraries that are loaded can be limited)
    import threadpoolctl

    return threadpoolctl.threadpool_limits(1, user_api="blas")


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that SIGINT or SIGTERM appends to; a second SIGINT interrupts at once. Only the main thread can listen."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(signum, frame):
        if signum == signal.SIGINT and caught:
            raise KeyboardInterrupt
        caught.append(signum)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
