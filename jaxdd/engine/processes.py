"""One run in many processes, on one host or several: who writes, and how they agree.

Every process runs the same program on the same mesh; the first one writes, the others wait for what it says.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.errors import JaxddError
from jaxdd.types import PyTree

T = TypeVar("T")

_BLOCK = 4096  # bytes: what is said is padded to a multiple, so that few programs are compiled for it


def connect(address: str | None = None) -> None:
    """Join the processes of this job, before anything else is computed (`jax.distributed`).

    Args:
      address: "HOST:PORT,COUNT,INDEX" of the first process, of all, and of this one; None where JAX finds out by itself
        (SLURM, Open MPI, Cloud TPU, Kubernetes).

    Raises:
      JaxddError: if the address is malformed, or the processes do not find each other.
    """
    options = {}
    if address is not None:
        try:
            host, count, index = address.split(",")
            options = {"coordinator_address": host, "num_processes": int(count), "process_id": int(index)}
            if not host.rpartition(":")[2].isdigit() or not 0 <= int(index) < int(count):
                raise ValueError
        except ValueError:
            raise JaxddError(
                f"processes are joined by HOST:PORT,COUNT,INDEX with an index from 0 to COUNT - 1, got {address!r}."
            ) from None
    try:
        jax.distributed.initialize(**options)
    except Exception as error:  # whatever its runtime raises
        reason = " ".join(str(error).split()) or type(error).__name__
        hint = "" if address else "; where JAX does not know the cluster, give HOST:PORT,COUNT,INDEX"
        raise JaxddError(f"the processes of this job did not find each other ({reason}){hint}.") from error


def is_first() -> bool:
    """Whether this process writes, logs and reports."""
    return jax.process_index() == 0


class OutOfMemory(JaxddError):
    """A device's memory is full. Its first sentence, `reason`, says of what; who knows what would fit adds that."""

    def __init__(self, reason: str):
        super().__init__(f"{reason}: jaxdd plan says what a run needs, and what would fit.")
        self.reason = reason


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What needs all devices and processes, said in a sentence if their memory is full or one of them is gone."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        if "RESOURCE_EXHAUSTED" in reason:
            raise OutOfMemory(reason.rstrip(".")) from error
        if jax.process_count() == 1:
            raise
        raise JaxddError(
            f"another process of this run is gone ({reason}); the same command with --resume goes on from the last "
            "checkpoint."
        ) from error


def gather(values: Any) -> np.ndarray:
    """Integers of every process, `(processes, n)`, from the n of this one."""
    values = np.asarray(values, np.int32)
    if jax.process_count() == 1:
        return values[None]
    from jax.experimental.multihost_utils import process_allgather

    with together():
        return np.asarray(process_allgather(values))


def on_first(function: Callable[[], T]) -> T:
    """What `function` returns in the first process, JSON-able; only there it is called.

    Raises:
      JaxddError: in every process, if it raises in the first.
    """
    if jax.process_count() == 1:
        return function()
    failure, answer = None, b""
    if is_first():
        try:
            answer = json.dumps({"value": function()}).encode()
        except Exception as error:
            failure, answer = error, json.dumps({"error": str(error)}).encode()
    said = json.loads(_broadcast(answer))
    if failure is not None:
        raise failure
    if "error" in said:
        raise JaxddError(said["error"])
    return said["value"]


def _broadcast(content: bytes) -> bytes:
    """The bytes of the first process."""
    from jax.experimental.multihost_utils import broadcast_one_to_all

    with together():
        (length,) = broadcast_one_to_all(np.array([len(content)], np.int32))
        padded = np.zeros(-(-int(length) // _BLOCK) * _BLOCK, np.uint8)
        padded[: len(content)] = np.frombuffer(content, np.uint8)
        return np.asarray(broadcast_one_to_all(padded)).tobytes()[: int(length)]


def place(tree: PyTree, sharding: jax.sharding.Sharding) -> PyTree:
    """Arrays that every process has, on the devices of all of them."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def of(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(of(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(of, tree)


def spread(found: Sequence[PyTree], like: PyTree, sharding: jax.sharding.Sharding) -> PyTree:
    """The one tree that the first process has found, placed on the devices of all.

    Args:
      found: that tree, in a single process already placed; the others have none.
      like: its structure; shapes and dtypes suffice.
    """
    if jax.process_count() == 1:
        return found[0]

    def of(leaf, *mine):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            impl = _broadcast(str(jax.random.key_impl(mine[0])).encode() if mine else b"").decode()
            data = of(jax.eval_shape(jax.random.key_data, leaf), *map(jax.random.key_data, mine))
            return jax.random.wrap_key_data(data, impl=impl)
        content = np.asarray(mine[0]).tobytes() if mine else b""
        return np.frombuffer(_broadcast(content), leaf.dtype).reshape(leaf.shape)

    return place(jax.tree.map(of, like, *found), sharding)


def local(tree: PyTree) -> PyTree:
    """Replicated arrays as this process has them, free of the other processes' devices."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
