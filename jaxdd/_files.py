"""Files that are whole or absent, and digests of arrays."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import tempfile
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxdd.errors import JaxddError

_UMASK = threading.Lock()


@contextlib.contextmanager
def disk_errors(path: os.PathLike | str):
    """Turn what the operating system says about `path` into one sentence."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EFBIG: "the file is larger than this system allows",
            errno.EROFS: "the disk is read-only",
            errno.EACCES: "permission is denied",
            errno.EEXIST: "a file stands where a directory should be",
            errno.ENOTDIR: "a part of this path is a file, not a directory",
            errno.EISDIR: "this is a directory, not a file",
            errno.ENOENT: "there is no such file or directory",
        }
        raise JaxddError(f"{path}: {reasons.get(error.errno or 0, error.strerror or str(error))}.") from error


def expanded(path: os.PathLike | str) -> pathlib.Path:
    """A path as people write it: `~` is their home. Everything that is given a path takes it through here.

    Raises:
      JaxddError: for `~` where nobody has a home, as in a container with a user of its own.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise JaxddError(
            f"{path}: this system knows no such home folder: write the path in full, or set HOME."
        ) from None


def folder_of(variable: str, default: str) -> pathlib.Path:
    """The folder that an environment variable names; by default one at home, or, without a home, a temporary one."""
    if named := os.environ.get(variable):
        return expanded(named)
    try:
        return expanded(default)
    except JaxddError:
        return pathlib.Path(tempfile.gettempdir()) / f"jaxdd-{os.getuid()}" / pathlib.Path(default).name


def cache_folder() -> pathlib.Path:
    """What can be computed again lies below it: `JAXDD_CACHE_DIR`, by default `~/.cache/jaxdd`."""
    return folder_of("JAXDD_CACHE_DIR", "~/.cache/jaxdd")


def read_object(path: pathlib.Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is none, or something else."""
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return held if isinstance(held, dict) else None


def write_atomically(path: os.PathLike | str, content: bytes | str) -> None:
    """Write `path` so that a reader sees the old file or the new one, whole, whatever happens in between.

    Raises:
      JaxddError: if the disk is full or the path cannot be written; nothing is left behind.
    """
    path = expanded(path)
    content = content.encode() if isinstance(content, str) else content
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, staged = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(staged, 0o666 & ~_umask())
            os.replace(staged, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(staged)
            raise
        _sync_directory(path.parent)


def write_lines(path: os.PathLike | str, rows: Iterable[Any]) -> None:
    """Write JSON-able rows, a line each, as `write_atomically` does."""
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def _sync_directory(directory: pathlib.Path) -> None:
    """Only when the directory is on disk too does a rename survive a power cut; not every system can."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    with _UMASK:  # another thread would take the 0 for it
        mask = os.umask(0)
        os.umask(mask)
    return mask


class Digest:
    """A `digest` of arrays that come in pieces: `begin` one, then `add` its rows."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()

    def begin(self, dtype: np.dtype, shape: tuple[int, ...]) -> Digest:
        self._state.update(f"{dtype.str}{shape}".encode())
        return self

    def add(self, piece: np.ndarray) -> None:
        piece = np.ascontiguousarray(piece)
        self._state.update(piece.reshape(-1).view(np.uint8).data if piece.size else b"")  # some dtypes have no buffer

    def hexdigest(self) -> str:
        return self._state.hexdigest()


def digest(arrays: Iterable[Any]) -> str:
    """SHA-256 (hex) over the dtype, shape and bytes of arrays, in order."""
    state = Digest()
    for array in map(np.asarray, arrays):
        state.begin(array.dtype, array.shape).add(array)
    return state.hexdigest()


def digest_of_facts(facts: Any) -> str:
    """SHA-256 (hex) of something JSON-able, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def set_aside(path: pathlib.Path) -> pathlib.Path:
    """Rename what is damaged to `damaged-NAME`, never delete it; with a number where that is taken. Its new path."""
    taken = len(list(path.parent.glob(f"damaged-{path.name}*")))
    aside = path.with_name(f"damaged-{path.name}" + (f"-{taken}" if taken else ""))
    with disk_errors(aside):
        os.replace(path, aside)
    return aside
