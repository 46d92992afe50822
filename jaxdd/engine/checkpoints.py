"""A run's directory: whose it is, and the states saved in it (orbax).

Beside its state every checkpoint holds a record: the format's version, the score, shape, dtype and SHA-256 of each
leaf, and a seal over all that. What is restored is compared with it: a run goes on from what was saved or not at all.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import pathlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd._files import digest, digest_of_facts, disk_errors, set_aside, write_atomically
from jaxdd.engine import processes
from jaxdd.errors import JaxddError
from jaxdd.types import RETIRED, State

FORMAT_VERSION = 1  # of a run's directory and of each checkpoint in it
_IDENTITY = "run.json"
_EXECUTION = "execution.json"
# What a run writes into its directory.
OUTPUTS = ("checkpoints", "best", "metrics.jsonl")
# What a machine says of itself, not of a file.
_PASSING = ("Permission denied", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "Too many open files", "ut of memory")
_LAST_WORDS = 0.1  # seconds until reads that were given up have ended
_SAVING = threading.Lock()  # orbax numbers the saves of a process, and takes the newest number for that of each
_HUSHING = threading.Lock()  # what is hushed is the process's, whichever thread reads
_OVERHEAD = 256 * 2**10  # bytes of orbax's own files in a checkpoint, generously


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    return {
        name: leaf for key, sub in tree.items() for name, leaf in _flatten(sub, f"{prefix}.{key}".lstrip(".")).items()
    }


def _differences(there: Mapping, here: Mapping) -> list[str]:
    there, here = _flatten(there), _flatten(here)
    return [
        f"{name} is {there.get(name, 'absent')!r} there and {here.get(name, 'absent')!r} here"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)  # a field that a config lacks is one that is None
    ]


def check(directory: pathlib.Path, identity: Mapping[str, Any], *, resume: bool) -> None:
    """Make sure that `directory` is this run's or free. Writes nothing.

    Raises:
      JaxddError: if it holds a run and `resume` is False, a run of another identity (the difference is named), a run
        of a newer jaxdd, or files that a run would overwrite.
    """
    path = directory / _IDENTITY
    with disk_errors(path):
        held = path.read_bytes() if path.exists() else None
    if held is None:
        if foreign := [name for name in OUTPUTS if (directory / name).exists()]:
            raise JaxddError(f"{directory} holds {foreign[0]} but no run of jaxdd; choose an empty directory.")
        return
    there = _parse(held)
    version = there.pop("format_version", 1) if there is not None else None  # absent in the first directories
    if there is None or not isinstance(version, int):
        raise JaxddError(f"{path} is damaged; put back a copy of it, or choose another directory.")
    if version > FORMAT_VERSION:
        raise _newer(directory, version)
    here = json.loads(json.dumps(identity))
    if difference := _differences(_without_retired(there, here), here):
        raise JaxddError(f"{directory} belongs to another run: {'; '.join(difference)}; choose another directory.")
    if not resume:
        raise JaxddError(
            f"{directory} already holds this run; add --resume to go on with it, or choose another directory."
        )


def _without_retired(there: Mapping, here: Mapping) -> dict[str, Any]:
    """An identity without what was one's part once and now is its execution, unless the other one has that too."""
    flat, known = _flatten(there), _flatten(here)
    retired = {"precision", *(f"config.method.{name}" for name in RETIRED)}
    return {name: value for name, value in flat.items() if name not in retired or name in known}


def held(directory: pathlib.Path, field: str) -> dict[str, Any]:
    """What a run's directory says of one field of its identity, `{field: value}`, or nothing."""
    there = held_identity(directory)
    return {field: there[field]} if there and field in there else {}


def held_identity(directory: pathlib.Path) -> dict[str, Any] | None:
    """Whose run a directory is; None where none has begun, or it does not say."""
    path = directory / _IDENTITY
    with disk_errors(path):
        return _parse(path.read_bytes()) if path.exists() else None


def held_execution(directory: pathlib.Path) -> dict[str, Any]:
    """How the run in a directory is carried out; nothing where it does not say, or has not begun."""
    path = directory / _EXECUTION
    with disk_errors(path):
        return (_parse(path.read_bytes()) if path.exists() else None) or {}


def _parse(content: bytes) -> dict[str, Any] | None:
    """A JSON object, or None."""
    try:
        held = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return held if isinstance(held, dict) else None


def _newer(what: pathlib.Path, version: int) -> JaxddError:
    found = f"format {version}, this one reads up to {FORMAT_VERSION}"
    return JaxddError(f"{what} was written by a newer jaxdd ({found}): update jaxdd.")


@contextlib.contextmanager
def claim(
    directory: pathlib.Path, identity: Mapping[str, Any], execution: Mapping[str, Any], *, resume: bool
) -> Iterator[None]:
    """Make `directory` this run's, and keep every other process out of it meanwhile.

    Args:
      execution: how the run is carried out, which may change from resume to resume, see `held_execution`.

    Raises:
      JaxddError: as `check`, or if another process is at work in it.
    """
    check(directory, identity, resume=resume)
    path = directory / _IDENTITY
    if not path.exists():
        held = {"format_version": FORMAT_VERSION, **identity}
        write_atomically(path, json.dumps(held, indent=2, sort_keys=True) + "\n")
    with disk_errors(path):
        file = path.open()
    with file:  # what the run raises is not about this path
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JaxddError(f"another process is at work in {directory}; wait for it or stop it.") from None
        except (ImportError, OSError):
            pass  # a system or a disk without locks
        if execution != held_execution(directory):
            write_atomically(directory / _EXECUTION, json.dumps(execution, indent=2, sort_keys=True) + "\n")
        yield


class _Damaged(Exception):
    """Why a saved state is not what was saved."""


class Checkpoints:
    """Saved states by step, in a directory of its own: the newest few, each whole or absent."""

    def __init__(self, directory: pathlib.Path, keep: int):
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._directory = directory.absolute()
        with disk_errors(directory):
            self._directory.mkdir(parents=True, exist_ok=True)
        # All processes save and forget together; the first one reads, and decides what is whole.
        self._manager = self._reader = ocp.CheckpointManager(
            self._directory, options=ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        )
        if jax.process_count() > 1 and processes.is_first():
            alone = ocp.options.MultiprocessingOptions(
                primary_host=0, active_processes={0}, barrier_sync_key_prefix=f"read-{self._directory.name}"
            )
            options = ocp.CheckpointManagerOptions(read_only=True, multiprocessing_options=alone)
            self._reader = ocp.CheckpointManager(self._directory, options=options)

    def save(self, step: int, state: State, score: float | None = None, measure: str = "") -> None:
        """Begin to save; the state may be donated afterwards. A score is by some measure, which may have a name.

        The copy matters: on CPU orbax writes from a view of the very buffer that the next donated step overwrites.
        """
        args = self._ocp.args
        needed = int(1.1 * sum(leaf.nbytes for leaf in jax.tree.leaves(state))) + _OVERHEAD
        processes.on_first(lambda: self._require_free(needed))
        if jax.process_count() == 1:  # of what every device holds orbax would cut a share for each of them
            state = jax.tree.map(lambda leaf: leaf.addressable_data(0) if leaf.is_fully_replicated else leaf, state)
        state = jax.block_until_ready(jax.tree.map(jnp.copy, state))
        with self._failures(), _SAVING:
            saved = self._manager.save(
                step,
                args=args.Composite(
                    state=args.StandardSave(_tree(state)), meta=args.JsonSave(_record(state, score, measure))
                ),
            )
        if not saved:  # what orbax answers instead of saving a step older than one that is there
            raise JaxddError(self._not_saved(f"step {step} is older than what is there"))

    def _require_free(self, needed: int) -> None:
        """A full disk is said before a half-written step has to be cleaned up."""
        with disk_errors(self._directory):
            free = shutil.disk_usage(self._directory).free
        if free < needed:
            raise JaxddError(self._not_saved("the disk is full"))

    def drop_after(self, step: int) -> None:
        """Forget states newer than `step`."""
        later = processes.on_first(lambda: [s for s in self._steps() if s > step])
        with self._failures():
            for newer in later:
                self._manager.delete(newer)

    def wait(self) -> None:
        """Until what was begun is on disk."""
        with self._failures():
            self._manager.wait_until_finished()

    def latest(self) -> int | None:
        """The newest step, whole or not."""
        return processes.on_first(lambda: max(self._steps(), default=None))

    def score(self, step: int) -> float:
        """The score that a state was saved with."""
        return float(self._said_of(step)["score"])

    def measure(self, step: int) -> str:
        """What that score is, as `save` was told."""
        return self._said_of(step).get("measure", "")

    def _said_of(self, step: int) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            with self._named(step):
                return {name: told for name, told in self._read_record(step).items() if name != "leaves"}

        return processes.on_first(read)

    def restore(self, step: int, like: State, sharding: jax.sharding.Sharding) -> State:
        """The state of `step`, in the structure of `like` (shapes suffice) and placed by `sharding`.

        Raises:
          JaxddError: if it is not, to the bit, what was saved, is of another structure, or of a newer jaxdd.
        """
        found: list[State] = []

        def look() -> None:
            with self._named(step):
                found.append(self._read(step, like, sharding))

        processes.on_first(look)
        return processes.spread(found, like, sharding)

    def restore_newest(
        self, like: State, sharding: jax.sharding.Sharding, *, needed: bool = True
    ) -> tuple[State, int] | None:
        """The newest state that is whole, and its step; None if none was saved.

        Newer ones that are damaged are renamed to `damaged-STEP` and named in a warning of the logger "jaxdd".

        Args:
          like, sharding: as of `restore`.
          needed: raise where states were saved and none is whole; else all are set aside, and it is None.

        Raises:
          JaxddError: see `needed`; or for a state of another structure or of a newer jaxdd. Nothing is touched then.
        """
        found: list[State] = []

        def look() -> int | None:
            damaged: dict[int, str] = {}
            for step in sorted(self._steps(), reverse=True):
                try:
                    found.append(self._read(step, like, sharding))
                except _Damaged as reason:
                    damaged[step] = str(reason)
                else:
                    self._set_aside(damaged, f"going on from step {step}")
                    return step
            if damaged and needed:
                reasons = "; ".join(f"step {step}: {reason}" for step, reason in damaged.items())
                raise JaxddError(
                    f"{self._directory}: no checkpoint in it is whole ({reasons}); nothing was changed: put back a "
                    "copy of one, or start again in another directory."
                )
            self._set_aside(damaged, "going on without it")
            return None

        step = processes.on_first(look)
        self._manager.reload()
        return None if step is None else (processes.spread(found, like, sharding), step)

    def _steps(self) -> list[int]:
        self._reader.reload()
        return list(self._reader.all_steps())

    def _set_aside(self, damaged: Mapping[int, str], then: str) -> None:
        """Rename, never delete: orbax does not see such names."""
        for step, reason in damaged.items():
            aside = set_aside(self._directory / str(step)).name
            logging.getLogger("jaxdd").warning(
                "%s: this checkpoint is damaged (%s) and now called %s; %s.",
                self._directory / str(step),
                reason,
                aside,
                then,
            )

    def _read(self, step: int, like: State, sharding: jax.sharding.Sharding) -> State:
        """As `restore`, in this process; raises _Damaged."""
        record = self._read_record(step)
        saved = record.get("leaves")  # absent before there were checksums
        there = {path: kind for path, (kind, _) in saved.items()} if saved else {}
        here = {path: _kind(leaf) for path, leaf in _leaves(like).items()} if saved else {}
        if difference := _differences(there, here):
            more = f" and {len(difference) - 3} more" if len(difference) > 3 else ""
            raise JaxddError(
                f"{self._directory / str(step)} holds a state of another structure: {'; '.join(difference[:3])}{more}; "
                "nothing was changed: go on with the method that saved it, or choose another directory."
            )
        if self._reader is not self._manager:  # where only this process reads
            sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), like)
        state = self._attempt(step, state=self._ocp.args.StandardRestore(_tree(abstract)))["state"]
        state = state["state"] if _is_leaf(abstract) else state
        if saved:
            for path, leaf in _leaves(state).items():
                if _checksum(leaf) != saved[path][1]:
                    raise _Damaged(f"{path} is not what was saved")
        return state

    def _read_record(self, step: int) -> dict[str, Any]:
        record = self._attempt(step, meta=self._ocp.args.JsonRestore())["meta"]
        if isinstance(record, dict) and set(record) == {"score"}:
            return record  # of a jaxdd without checksums
        if not isinstance(record, dict) or record.pop("seal", None) != _seal(record):
            raise _Damaged("its record does not match its checksum")
        if record["format_version"] > FORMAT_VERSION:
            raise _newer(self._directory / str(step), record["format_version"])
        return record

    def close(self) -> None:
        with self._failures():
            self._manager.close()
            if self._reader is not self._manager:
                self._reader.close()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        # A failed background save surfaces here in whatever class tensorstore chose.
        try:
            yield
        except Exception as error:
            said = str(error)
            reason = f"{type(error).__name__}: {said.splitlines()[0]}"
            if any(word in said for word in ("No space left", "ENOSPC", "RESOURCE_EXHAUSTED", "quota")):
                reason = "the disk is full"
            elif jax.process_count() > 1 and isinstance(error, jax.errors.JaxRuntimeError):
                reason = f"another process of this run is gone ({reason})"
            raise JaxddError(self._not_saved(reason)) from error

    def _not_saved(self, reason: str) -> str:
        whole = self._manager.all_steps()
        kept = f"the last whole one is of step {max(whole)}" if whole else "there is none before it"
        return f"{self._directory}: a checkpoint could not be saved, {reason}; {kept}."

    @contextlib.contextmanager
    def _named(self, step: int) -> Iterator[None]:
        try:
            yield
        except _Damaged as reason:
            raise JaxddError(f"{self._directory / str(step)}: this checkpoint is damaged ({reason}).") from reason

    def _attempt(self, step: int, **items: Any) -> Any:
        """Items of a checkpoint. Whatever cannot be read is damaged, unless it is the machine that cannot now."""
        with _hushed():
            try:
                return self._reader.restore(step, args=self._ocp.args.Composite(**items))
            except Exception as error:
                cause = error.__cause__ or error
                said = f"{type(cause).__name__}: {cause}".partition(" [tensorstore")[0]
                reason = " ".join(said.replace(f"{self._directory}/", "").split())
                passing = isinstance(cause, MemoryError | PermissionError) or any(word in reason for word in _PASSING)
            time.sleep(_LAST_WORDS)
            gc.collect()
        if passing:
            raise JaxddError(f"{self._directory / str(step)}: this checkpoint cannot be read now ({reason}).")
        raise _Damaged(reason if len(reason) < 160 else f"{reason[:30]} … {reason[-120:]}")


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """orbax gives up at the first array it cannot read; what its reads beside it then cry helps nobody."""
    log = logging.getLogger("asyncio")
    with _HUSHING:
        before = log.disabled, sys.unraisablehook
        log.disabled, sys.unraisablehook = True, lambda unraisable: None
        try:
            yield
        finally:
            log.disabled, sys.unraisablehook = before


def _is_leaf(state: State) -> bool:
    return jax.tree_util.all_leaves([state])


def _tree(state: State) -> State:
    """What orbax takes: a state that is a single array, in a dict."""
    return {"state": state} if _is_leaf(state) else state


def _leaves(state: State) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _checksum(leaf: Any) -> str:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return digest([jax.random.key_data(leaf) if is_key else leaf])


def _record(state: State, score: float | None, measure: str) -> dict[str, Any]:
    """What is saved beside a state."""
    leaves = {path: [_kind(leaf), _checksum(leaf)] for path, leaf in _leaves(state).items()}
    record = {"format_version": FORMAT_VERSION, "score": score, "leaves": leaves}
    record |= {"measure": measure} if measure else {}
    return {**record, "seal": _seal(record)}


def _seal(record: Mapping[str, Any]) -> str:
    return digest_of_facts(record)
