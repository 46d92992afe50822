"""What a run keeps while it is at work: its newest states, and the one that is best on validation."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd.engine.checkpoints import Checkpoints, claim
from jaxdd.engine.processes import local, on_first
from jaxdd.types import Distilled, Method, State

Validate = Callable[[Distilled], Mapping[str, float]]


class Store:
    """The states of a run in its directory, see `opened`; without a directory nothing is kept.

    Attributes:
      best: where the best iterate goes, if one is looked for.
    """

    def __init__(
        self, directory: pathlib.Path | None, newest: Checkpoints | None, best: Checkpoints | None, every: float
    ):
        self.best = best
        self._directory, self._newest, self._every = directory, newest, every
        self._step, self._time = 0, time.perf_counter()

    def restore(self, like: State, place: jax.sharding.Sharding) -> tuple[State, int] | None:
        """The newest whole state and its step, placed; None if there is none. Later best iterates are forgotten."""
        found = self._newest.restore_newest(like, place) if self._newest else None
        self._step = found[1] if found else 0
        if self.best is not None:
            self.best.drop_after(self._step)  # steps that will be done again; the same best will be found again
            self.best.restore_newest(like, place, needed=False)  # one that is damaged is not the best
        return found

    def due(self) -> bool:
        """Whether the last state was saved too long ago."""
        return time.perf_counter() - self._time > self._every

    def save(self, step: int, state: State) -> None:
        """Begin to save the state of a step, unless that is done already."""
        if self._newest is None or step <= self._step:
            return
        if self.best is not None:
            self.best.wait()  # a checkpoint must not be ahead of the best iterate that was found on the way to it
        self._newest.save(step, state)
        self._step, self._time = step, time.perf_counter()

    def settle(self, *, again: bool = False, asked: bool = True) -> str:
        """Wait until what was saved is on disk, and say how to go on from it.

        Args:
          again: whether what stopped the run would stop it there again.
          asked: whether it only goes on where that is asked for; a stage always does.
        """
        if self._newest is None:
            return "nothing is saved"
        self._newest.wait()
        if not self._step:
            return "no step was done"
        then = "goes on" + " and ends there again" * again
        command = "the same command with --resume" if asked else "the same command"
        return f"step {self._step} is saved in {self._directory}: {command} {then}"


@contextlib.contextmanager
def opened(
    directory: pathlib.Path | None,
    identity: Mapping[str, Any],
    execution: Mapping[str, Any],
    *,
    resume: bool,
    every: float,
    keep_best: bool,
) -> Iterator[Store]:
    """A run's directory as its own, until the run ends.

    Args:
      identity, execution, resume: as of `checkpoints.claim`.
      every: seconds between checkpoints.
      keep_best: whether a best iterate is looked for.
    """
    with contextlib.ExitStack() as stack:
        newest = best = None
        if directory is not None:
            on_first(lambda: stack.enter_context(claim(directory, identity, execution, resume=resume)))
            newest = stack.enter_context(contextlib.closing(Checkpoints(directory / "checkpoints", keep=2)))
            if keep_best:
                best = stack.enter_context(contextlib.closing(Checkpoints(directory / "best", keep=2)))
        yield Store(directory, newest, best, every)


class Best:
    """Keeps the iterate that is best on validation, on disk if there is a place, else in memory.

    Scores of one measure are compared (`validate.measure`, "" if it has none): what another chose is forgotten.
    """

    def __init__(self, method: Method, checkpoints: Checkpoints | None, validate: Validate):
        self.checkpoints = checkpoints
        self._render = jax.jit(method.product)
        self._validate = validate
        self._measure: str = getattr(validate, "measure", "")
        self._score, self._step, self._state = float("-inf"), 0, None
        latest = None if checkpoints is None else checkpoints.latest()
        if checkpoints is not None and latest is not None:
            if checkpoints.measure(latest) == self._measure:
                self._step, self._score = latest, checkpoints.score(latest)
            else:
                checkpoints.drop_after(-1)

    def __call__(self, step: int, state: State) -> dict[str, float]:
        def measured() -> dict[str, float]:
            return {name: float(value) for name, value in self._validate(self._render(local(state))).items()}

        metrics = on_first(measured)
        score = next(iter(metrics.values()))
        if score > self._score:
            self._score, self._step = score, step
            if self.checkpoints is None:
                self._state = jax.tree.map(jnp.copy, state)
            else:
                self.checkpoints.save(step, state, score=score, measure=self._measure)
        return metrics

    def result(self, like: State, place: jax.sharding.Sharding) -> tuple[Distilled, int, float] | None:
        if not self._step:
            return None
        state = self._state
        if self.checkpoints is not None:
            self.checkpoints.wait()
            state = self.checkpoints.restore(self._step, like, place)
        return self._render(local(state)), self._step, self._score
