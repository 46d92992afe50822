"""What states of a run leave on its way, row after row: in memory-mapped files, or in memory."""

from __future__ import annotations

import bisect
import errno
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from jaxdd._files import disk_errors
from jaxdd.engine.parts import Groups
from jaxdd.engine.placement import replicated
from jaxdd.engine.processes import local, on_first
from jaxdd.errors import JaxddError
from jaxdd.types import PyTree, State, leaves_by_path


class Rows:
    """Rows of the parts of a run, each leaf `(parts * rows of a part, ..)`.

    Which row a state is written to follows from its part and step, so that a resumed run writes the same again.

    Args:
      folder: of a file for each leaf, which the first process writes; None for memory, each process its own.
      of: a row, from the state of a part; pure.
      row: what `of` gives, by shapes.
      groups: the parts. If `stacked`, states are those of a group at once.
      every: steps between two rows.
      multiples: those of it that have one, rising, 0 for a part's first state; all but that by default.
      block: what `of` gives is so many rows, leaves `(block, ..)`, which are written one after the other.
    """

    def __init__(
        self,
        folder: pathlib.Path | None,
        of: Callable[[State], PyTree],
        row: PyTree,
        groups: Groups,
        *,
        stacked: bool,
        every: int,
        multiples: Sequence[int] | None = None,
        mesh: jax.sharding.Mesh,
        block: int | None = None,
    ):
        numbers = range(1, groups.steps // every + 1) if multiples is None else multiples
        self._steps = [number * every for number in numbers]
        self._groups, self._of_part = groups, len(self._steps)
        self._write = (lambda function: function()) if folder is None else on_first
        together = jax.vmap(of) if stacked else lambda state: jax.tree.map(lambda leaf: leaf[None], of(state))
        self._rows = jax.jit(together, out_shardings=replicated(mesh))
        self._structure = jax.tree.structure(row)
        self._block = block or 1
        count = groups.count * self._of_part * self._block
        self._shapes = {
            name: ((count, *leaf.shape[block is not None :]), np.dtype(leaf.dtype))
            for name, leaf in leaves_by_path(row).items()
        }
        self.num_bytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in self._shapes.values())
        self._folder = folder
        self._arrays: Sequence[np.ndarray] | None = None

    def after(self, step: int) -> int:
        """The next step of a part that has a row; one behind its last, where there is none."""
        place = bisect.bisect_right(self._steps, step)
        return self._steps[place] if place < self._of_part else self._groups.steps + 1

    def __call__(self, group: int, step: int, state: State) -> None:
        """Write down the rows of a group's state after so many steps, if there is one of this step."""
        index = bisect.bisect_left(self._steps, step)
        if step not in self._steps[index : index + 1]:
            return
        rows = list(leaves_by_path(local(self._rows(state))).values())

        def write() -> None:
            for array, leaf in zip(self._opened(), rows, strict=True):
                for part, of_part in enumerate(np.asarray(leaf), group * self._groups.size):
                    if part < self._groups.count:
                        at = (part * self._of_part + index) * self._block
                        array[at : at + self._block] = of_part

        self._write(write)

    def flush(self) -> None:
        """Until what was written is on disk."""

        def sync() -> None:
            for array in self._arrays or []:
                if isinstance(array, np.memmap):
                    with disk_errors(self._folder or pathlib.Path()):
                        array.flush()

        self._write(sync)

    def all(self) -> PyTree:
        """What was written, leaves `(parts * rows of a part, ..)`."""
        self.flush()
        if self._folder is None:
            return jax.tree.unflatten(self._structure, self._opened())
        found = []
        for path in (self._folder / file_of(name) for name in self._shapes):
            with disk_errors(path):
                found.append(np.load(path, mmap_mode="r", allow_pickle=False))
        return jax.tree.unflatten(self._structure, found)

    def _opened(self) -> Sequence[np.ndarray]:
        if self._arrays is None:
            if self._folder is None:
                self._arrays = [np.zeros(shape, dtype) for shape, dtype in self._shapes.values()]
            else:
                folder = self._folder
                self._arrays = _mapped_files({folder / file_of(name): kind for name, kind in self._shapes.items()})
        return self._arrays


def file_of(leaf: str) -> str:
    """The name of a leaf's file, from its path."""
    return f"{(leaf or 'rows').replace('/', '.')}.npy"


def _mapped_files(shapes: Mapping[pathlib.Path, tuple[tuple[int, ...], np.dtype]]) -> list[np.memmap]:
    """Files of these shapes to write rows in, those that are there as they are.

    The disk's space is taken for all of them now, since a process that writes a mapped file on a full disk is killed.
    """
    found, new = [], []
    try:
        for path, (shape, dtype) in shapes.items():
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                whole = path.exists() and path.stat().st_size >= math.prod(shape) * dtype.itemsize
                if not whole:
                    new.append(path)
                found.append(np.lib.format.open_memmap(path, "r+" if whole else "w+", dtype, shape))
                _allocate(path)
    except JaxddError:
        for path in new:
            path.unlink(missing_ok=True)
        raise
    return found


def _allocate(path: pathlib.Path) -> None:
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                    raise  # any other says that this file system cannot
