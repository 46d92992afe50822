"""A run's directory: whose it is, and the states saved in it (orbax)."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd._files import disk_errors, write_atomically
from jaxdd.errors import JaxddError
from jaxdd.types import State

_IDENTITY = "run.json"
# What a run writes into its directory.
OUTPUTS = ("checkpoints", "best", "metrics.jsonl")
_OVERHEAD = 256 * 2**10  # bytes of orbax's own files in a checkpoint, generously


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    return {
        name: leaf for key, sub in tree.items() for name, leaf in _flatten(sub, f"{prefix}.{key}".lstrip(".")).items()
    }


def _differences(there: Mapping, here: Mapping) -> str:
    there, here = _flatten(there), _flatten(here)
    return "; ".join(
        f"{name} is {there.get(name, 'absent')!r} there and {here.get(name, 'absent')!r} here"
        for name in sorted({*there, *here})
        if there.get(name, ...) != here.get(name, ...)
    )


def check(directory: pathlib.Path, identity: Mapping[str, Any], *, resume: bool) -> None:
    """Make sure that `directory` is this run's or free. Writes nothing.

    Raises:
      JaxddError: if it holds a run and `resume` is False, a run of another identity (the difference is named), or
        files that a run would overwrite.
    """
    path = directory / _IDENTITY
    with disk_errors(path):
        held = path.read_text() if path.exists() else None
    if held is None:
        if foreign := [name for name in OUTPUTS if (directory / name).exists()]:
            raise JaxddError(f"{directory} holds {foreign[0]} but no run of jaxdd; choose an empty directory.")
        return
    try:
        there = json.loads(held)
    except ValueError as error:
        raise JaxddError(f"{path} is damaged (not JSON); choose another directory.") from error
    if difference := _differences(there, json.loads(json.dumps(identity))):
        raise JaxddError(f"{directory} belongs to another run: {difference}; choose another directory.")
    if not resume:
        raise JaxddError(
            f"{directory} already holds this run; add --resume to go on with it, or choose another directory."
        )


@contextlib.contextmanager
def claim(directory: pathlib.Path, identity: Mapping[str, Any], *, resume: bool) -> Iterator[None]:
    """Make `directory` this run's, and keep every other process out of it meanwhile.

    Raises:
      JaxddError: as `check`, or if another process is at work in it.
    """
    check(directory, identity, resume=resume)
    path = directory / _IDENTITY
    if not path.exists():
        write_atomically(path, json.dumps(identity, indent=2, sort_keys=True) + "\n")
    with disk_errors(path), path.open() as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JaxddError(f"another process is at work in {directory}; wait for it or stop it.") from None
        except (ImportError, OSError):
            pass  # a system or a disk without locks
        yield


class Checkpoints:
    """Saved states by step, in a directory of its own: the newest few, each whole or absent."""

    def __init__(self, directory: pathlib.Path, keep: int):
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._directory = directory.absolute()
        with disk_errors(directory):
            self._directory.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self._directory, options=ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        )

    def save(self, step: int, state: State, score: float | None = None) -> None:
        """Begin to save; the state may be donated afterwards.

        The copy matters: on CPU orbax writes from a view of the very buffer that the next donated step overwrites.
        """
        args = self._ocp.args
        needed = int(1.1 * sum(leaf.nbytes for leaf in jax.tree.leaves(state))) + _OVERHEAD
        if shutil.disk_usage(self._directory).free < needed:  # said before a half-written step has to be cleaned up
            raise JaxddError(self._not_saved("the disk is full"))
        state = jax.block_until_ready(jax.tree.map(jnp.copy, state))
        with self._failures():
            saved = self._manager.save(
                step, args=args.Composite(state=args.StandardSave(state), meta=args.JsonSave({"score": score}))
            )
        if not saved:  # what orbax answers instead of saving a step older than one that is there
            raise JaxddError(self._not_saved(f"step {step} is older than what is there"))

    def drop_after(self, step: int) -> None:
        """Forget states newer than `step`."""
        with self._failures():
            for newer in [s for s in self._manager.all_steps() if s > step]:
                self._manager.delete(newer)

    def wait(self) -> None:
        """Until what was begun is on disk."""
        with self._failures():
            self._manager.wait_until_finished()

    @property
    def latest(self) -> int | None:
        return self._manager.latest_step()

    def score(self, step: int) -> float:
        """The score that a state was saved with."""
        args = self._ocp.args
        with self._unreadable(step):
            return float(self._manager.restore(step, args=args.Composite(meta=args.JsonRestore()))["meta"]["score"])

    def restore(self, step: int, like: State, sharding: jax.sharding.Sharding) -> State:
        """The state of `step`, in the structure of `like` (shapes suffice) and placed by `sharding`."""
        args = self._ocp.args
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), like)
        with self._unreadable(step):
            return self._manager.restore(step, args=args.Composite(state=args.StandardRestore(abstract)))["state"]

    def close(self) -> None:
        with self._failures():
            self._manager.close()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        # A failed background save surfaces here in whatever class tensorstore chose.
        try:
            yield
        except Exception as error:
            full = any(word in str(error) for word in ("No space left", "ENOSPC", "RESOURCE_EXHAUSTED", "quota"))
            reason = "the disk is full" if full else f"{type(error).__name__}: {str(error).splitlines()[0]}"
            raise JaxddError(self._not_saved(reason)) from error

    def _not_saved(self, reason: str) -> str:
        whole = self._manager.all_steps()
        kept = f"the last whole one is of step {max(whole)}" if whole else "there is none before it"
        return f"{self._directory}: a checkpoint could not be saved, {reason}; {kept}."

    @contextlib.contextmanager
    def _unreadable(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise JaxddError(
                f"{self._directory / str(step)}: this checkpoint cannot be read "
                f"({type(error).__name__}: {str(error).splitlines()[0]}); remove it to go on from the one before."
            ) from error
