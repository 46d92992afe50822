"""The loop of a run: compiled chunks of steps, and between them the log, checkpoints, signals, rows."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import _progress, _stopping
from jaxdd.engine.chunk import CHUNK_SECONDS, Program
from jaxdd.engine.log import MetricsLog, progress_bar
from jaxdd.engine.placement import replicated
from jaxdd.engine.processes import gather, is_first, local, on_first, together
from jaxdd.engine.store import Best, Validate, opened
from jaxdd.errors import JaxddError, RunInterrupted
from jaxdd.types import Metrics, State

_LOG = logging.getLogger("jaxdd")
_STILL = 5  # logged steps in a row

Callback = Callable[[int, Mapping[str, float], State], None]


class Recorder(Protocol):
    """Where rows of a stage, or snapshots of a run, go."""

    def after(self, step: int) -> int:
        """The next step of a part, after `step`, of which there is something to write down."""
        ...

    def __call__(self, group: int, step: int, state: State) -> None:
        """Write down what there is of a step of a group of parts, if there is anything."""

    def flush(self) -> None:
        """Until what was written is on disk."""


class Executed(NamedTuple):
    """What a run ends in."""

    state: State
    """The last one, as this process has it."""
    history: list[dict[str, Any]]
    resumed_from: int
    seconds: float
    best: tuple[Any, int, float] | None
    step: int
    """The last one."""


def execute(
    program: Program,
    *,
    steps: int,
    name: str = "",
    directory: pathlib.Path | None,
    identity: Mapping[str, Any],
    execution: Mapping[str, Any],
    resume: bool,
    log_every: int,
    validate_every: int,
    checkpoint_seconds: float,
    progress: bool,
    validate: Validate | None = None,
    callback: Callback | None = None,
    on_begin: Callable[[], None] | None = None,
    seconds: float | None = None,
    tensorboard: bool = False,
    recorders: Sequence[Recorder] = (),
) -> Executed:
    """All steps of a compiled program that are not done yet.

    Args:
      steps: updates, of each part if the program has parts; they are counted through all groups of these.
      name: of a stage, which always goes on with what was saved; "" of a run, which does so where that is asked for.
      execution: how it is carried out, for the run's directory to remember.
      on_begin: called in the first process once the directory is this run's.
      seconds: after so many the next chunk is the last.
      recorders: where the states of some steps go.

    Raises:
      JaxddError, RunInterrupted: as `run`.
    """
    method, mesh, keys, supply, chunk = program[:5]
    total = steps if program.groups is None else program.groups.total
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(_stopping.signals())
        stack.enter_context(one_blas_thread())
        stack.callback(supply.close)
        store = stack.enter_context(
            opened(
                directory, identity, execution, resume=resume, every=checkpoint_seconds, keep_best=validate is not None
            )
        )
        if on_begin is not None:
            on_first(on_begin)
        everywhere = replicated(mesh)
        state, resumed_from = store.restore(supply.state, everywhere) or (None, 0)
        if resumed_from > total:
            raise JaxddError(f"{directory} is already at step {resumed_from}; ask for at least so many, not {total}.")
        if resumed_from:
            _progress.say(f"{name}{': ' if name else ''}resuming from step {resumed_from:,} of {total:,}")
        log = MetricsLog(directory, resumed_from=resumed_from, tensorboard=tensorboard)
        stack.callback(log.close)
        watch = _Watch(
            steps=steps,
            total=total,
            log_every=log_every,
            validate_every=validate_every,
            log=log,
            bar=stack.enter_context(progress_bar(total, resumed_from, progress and is_first(), name)),
            callback=callback,
            best=Best(method, store.best, validate) if validate else None,
            recorders=recorders,
        )
        stack.enter_context(_progress.listening(None))  # the bar has the line
        started = time.perf_counter()
        step, length = resumed_from, 1
        failure, begun = None, -1

        def save() -> None:
            for recorder in recorders:
                recorder.flush()  # no checkpoint is ahead of the rows on the way to it
            if state is not None:
                store.save(step, state)

        while True:
            if step % steps == 0 and step < total and begun < (group := step // steps):
                begun = group
                state = supply.init(keys.init, group)
                for recorder in recorders:
                    recorder(group, 0, state)
            supplied = None
            if step < total and failure is None:
                try:
                    supplied = supply.source(step, total, timeout=CHUNK_SECONDS)
                except TimeoutError:
                    pass  # so that signals are answered
                except Exception as error:
                    failure = error
            ready = supplied is not None or step == total
            over = seconds is not None and time.perf_counter() - started > seconds
            notice = _consult(_Notice(length, store.due(), stop[0] if stop else 0, failure is not None, ready, over))
            if step == total or notice.due or notice.stop or notice.failed:
                save()
            what = f"{name}: " if name else ""
            if notice.stop:
                raise RunInterrupted(
                    f"{what}stopped at step {step} of {total}; {store.settle(asked=not name)}.", notice.stop
                )
            if notice.failed:
                reason = "another process cannot go on" if failure is None else _sentence(failure)
                raise JaxddError(
                    f"{what}{reason}; stopped at step {step} of {total}, {store.settle(asked=not name)}."
                ) from failure
            if step == total:
                break
            if supplied is None or not notice.ready:
                continue
            source, until = supplied
            last = min(step + notice.length, watch.next_event(step), until)
            if notice.over:
                total = last
                watch = dataclasses.replace(watch, total=total)
            tick = time.perf_counter()
            with together():
                state, reached, metrics, finite = chunk(state, np.int32(step), np.int32(last), keys, source)
                done = int(reached) - step  # waits for the chunk
            length = max(1, int(CHUNK_SECONDS * done / (time.perf_counter() - tick)))
            watch.bar.update(done)
            step += done
            if step < last:
                save()
                held = store.settle(again=True, asked=not name)
                raise JaxddError(
                    f"{what}step {step + 1} gave values that are not finite in {_bad(finite)}; {held}. "
                    "A smaller learning rate or a larger ridge usually helps: that is another run, in another workdir."
                )
            try:
                watch(step, state, metrics)
            except JaxddError as error:
                failure = error
        spent = time.perf_counter() - started
        store.settle()
        best = watch.best.result(supply.state, everywhere) if watch.best else None
        if state is None:
            raise JaxddError(f"{directory} has no state of its last step.")  # not reached: it was restored
        return Executed(local(state), log.rows, resumed_from, spent, best, step)


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
    over: bool
    """Whether the time is; the first process says."""


def _consult(mine: _Notice) -> _Notice:
    said = gather(mine)
    return _Notice(
        int(said[0, 0]),
        bool(said[0, 1]),
        int(said[:, 2].max()),
        bool(said[:, 3].any()),
        bool(said[:, 4].all()),
        bool(said[0, 5]),
    )


@dataclasses.dataclass(frozen=True)
class _Watch:
    """What happens between chunks: the log, the bar, the callback, validation, rows."""

    steps: int
    total: int
    log_every: int
    validate_every: int
    log: MetricsLog
    bar: Any
    callback: Callback | None
    best: Best | None
    recorders: Sequence[Recorder]

    def next_event(self, step: int) -> int:
        """The next step after `step` at which something has to be seen."""
        looked_at = (self.log_every, self.steps, *(() if self.best is None else (self.validate_every,)))
        events = [(step // every + 1) * every for every in looked_at]
        group, within = divmod(step, self.steps)
        events += [group * self.steps + recorder.after(within) for recorder in self.recorders]
        return min(events)

    def __call__(self, step: int, state: State, metrics: Metrics) -> None:
        told: dict[str, float] = {}
        if step % self.log_every == 0 or step == self.total:
            told = values = {name: float(value) for name, value in metrics.items()}
            self.log.write(step, "train", values)
            if "gradient_norm" in values:
                self._warn_where_nothing_is_learned(step)
            self.bar.set_postfix({"loss": f"{values['loss']:.4g}"} if "loss" in values else {})
        if self.best is not None and (step % self.validate_every == 0 or step == self.total):
            scores = self.best(step, state)
            self.log.write(step, "validation", scores)
            told = {**told, **{f"validation_{name}": value for name, value in scores.items()}}
        if self.callback is not None and told:
            self.callback(step, told, jax.tree.map(jnp.copy, local(state)))
        group, within = divmod(step - 1, self.steps)
        for recorder in self.recorders:
            recorder(group, within + 1, state)

    def _warn_where_nothing_is_learned(self, step: int) -> None:
        """Once, where a gradient begins to be exactly zero whenever it is looked at."""
        seen = (row["gradient_norm"] for row in reversed(self.log.rows) if "gradient_norm" in row)
        norms = list(itertools.islice(seen, _STILL + 1))
        if len(norms) >= _STILL and not any(norms[:_STILL]) and all(norms[_STILL:]) and is_first():
            _LOG.warning(
                "the gradient is exactly zero, at step %d and the %d logged before: nothing is learned. Networks that "
                "are dead do that, by too large a rate or images of another scale.",
                step,
                _STILL - 1,
            )


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
