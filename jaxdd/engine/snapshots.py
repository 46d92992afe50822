"""What a run's product looked like on the way: a few snapshots, at fixed steps, in one small file."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from numpy.typing import ArrayLike

from jaxdd._files import disk_errors, write_atomically
from jaxdd.engine.parts import Groups
from jaxdd.engine.processes import local, on_first
from jaxdd.types import Method, State

FILE = "snapshots.safetensors"
_LOG = logging.getLogger("jaxdd")


def snapshot_steps(steps: int) -> tuple[int, ...]:
    """0, 10, 100, 1000 and so on, and the last: most changes early, and a run that is asked for more steps goes on with
    what it has."""
    return (0, *(10**k for k in range(1, len(str(steps))) if 10**k < steps), steps)


class Snapshots:
    """`of(product)` at `snapshot_steps`, of the first part where a run is made of parts.

    A snapshot is written whole before the run goes on, so none that is behind a checkpoint is missing; a resumed run
    takes those ahead of it again, the same ones. The first process alone takes them, by the program that renders the
    result.

    Args:
      folder: of the file, which has an array for each step, named by it; None for memory.
      of: an array from the product; called on the host.
      steps: of the run, or of each part.
      groups: the parts, if there are any.
    """

    def __init__(
        self,
        folder: pathlib.Path | None,
        of: Callable[[Any], ArrayLike],
        method: Method,
        steps: int,
        groups: Groups | None,
    ):
        self._path = None if folder is None else folder / FILE
        self._of, self._stacked = of, groups is not None
        self._product = jax.jit(method.product)
        self._steps = snapshot_steps(steps)
        self._taken: dict[int, np.ndarray] | None = None

    def after(self, step: int) -> int:
        """The next step of a part at which there is something to take; the last, where that is behind."""
        return min((each for each in self._steps if each > step), default=self._steps[-1])

    def __call__(self, group: int, step: int, state: State) -> None:
        """Take a snapshot of a group's state after so many steps, if there is one of this step."""
        if group or step not in self._steps:
            return

        def take() -> None:
            mine = local(state)
            of_first = jax.tree.map(lambda leaf: leaf[0], mine) if self._stacked else mine
            # A copy: what is rendered may be a view of the state, which the next step overwrites.
            self._taken = {**self.all(), step: np.array(self._of(self._product(of_first)))}
            if self._path is not None:
                named = {str(step): np.ascontiguousarray(taken) for step, taken in self._taken.items()}
                write_atomically(self._path, safetensors.numpy.save(named))

        on_first(take)

    def flush(self) -> None:
        """Nothing is held back."""

    def all(self) -> dict[int, np.ndarray]:
        """What was taken, by step, in order; of the first process."""
        if self._taken is None:
            self._taken = {} if self._path is None else _read(self._path)
        return {step: self._taken[step] for step in self._steps if step in self._taken}


def held_snapshots(directory: pathlib.Path) -> dict[int, np.ndarray]:
    """What a run has taken, by step, in order."""
    return dict(sorted(_read(directory / FILE).items()))


def _read(path: pathlib.Path) -> dict[int, np.ndarray]:
    """Snapshots of a run that goes on; none of a file that cannot be read, for which no run should fail."""
    with disk_errors(path):
        if not path.exists():
            return {}
        content = path.read_bytes()
    try:
        return {int(name): taken for name, taken in safetensors.numpy.load(content).items()}
    except Exception as error:  # whatever a damaged file gives
        _LOG.warning("%s cannot be read (%s): snapshots of steps before this are lost.", path, error)
        return {}
