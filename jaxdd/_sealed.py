"""Safe files of tensors under a JSON header, with a checksum over both. They are never unpickled."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxdd._files import digest
from jaxdd.errors import JaxddError

_KEY = "jaxdd"
_SEAL = "sha256"


def sealed(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> bytes:
    """A `.safetensors` file; equal content gives equal bytes."""
    tensors = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    header = {**header, _SEAL: _seal(header, tensors)}
    return safetensors.numpy.save(tensors, {_KEY: json.dumps(header, sort_keys=True, allow_nan=False)})


def opened(content: bytes, name: str, what: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header, with its checksum, and tensors of a file that jaxdd wrote.

    Args:
      name: what errors call the file.
      what: it should be, "distilled set".

    Raises:
      JaxddError: for any other file.
    """
    foreign = JaxddError(f"{name} is not a {what}: expected a whole .safetensors file written by jaxdd.")
    # The library's own checks come first; what remains is that the header is JSON of ours.
    try:
        tensors = safetensors.numpy.load(content)
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_KEY])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise foreign from error
    if not isinstance(header, dict):
        raise foreign
    return header, tensors


def check(
    header: dict[str, Any],
    tensors: dict[str, np.ndarray],
    name: str,
    what: str,
    *,
    newest: int,
    entries: Sequence[str],
    needed: Sequence[str],
) -> dict[str, Any]:
    """The header of a whole file without its checksum.

    Args:
      newest: format version that is read.
      entries: that the header must have.
      needed: tensors that there must be.

    Raises:
      JaxddError: for a newer version, what is missing, or content that is not what was sealed.
    """
    version = header.get("format_version")
    if not isinstance(version, int) or version > newest:
        raise JaxddError(f"{name} has format version {version}, this jaxdd reads up to {newest}: update jaxdd.")
    missing = [entry for entry in (*entries, _SEAL) if entry not in header]
    missing += [tensor for tensor in needed if tensor not in tensors]
    if missing:
        raise JaxddError(f"{name} is not a whole {what}: {', '.join(missing)} missing.")
    bare = {entry: value for entry, value in header.items() if entry != _SEAL}
    if header[_SEAL] != _seal(bare, tensors):
        raise JaxddError(f"{name} is damaged: its content does not match its checksum; fetch it again.")
    return bare


def _seal(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    """A checksum over the header and every tensor."""
    text = json.dumps(header, sort_keys=True)
    named = hashlib.sha256(json.dumps(sorted(tensors)).encode()).hexdigest()
    return hashlib.sha256(f"{text}{named}{digest(tensors[name] for name in sorted(tensors))}".encode()).hexdigest()
