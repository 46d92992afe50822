"""PyTorch's weights for networks of flax.linen."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxdd._jax import key_of
from jaxdd.errors import JaxddError
from jaxdd.models.registry import build
from jaxdd.types import Network, NetworkState, leaves_by_path

_KINDS = {nn.Conv: "convolution", nn.Dense: "linear layer", nn.BatchNorm: "normalisation"}
_LAYER = {"weight": "params/kernel", "bias": "params/bias"}
_NORM = {
    "weight": "params/scale",
    "bias": "params/bias",
    "running_mean": "batch_stats/mean",
    "running_var": "batch_stats/var",
}
_UNUSED = "num_batches_tracked"


def from_torch(
    arrays: Mapping[str, Any],
    model: str | Network,
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    names: Mapping[str, str] | None = None,
) -> NetworkState:
    """The numbers of a network, from the arrays of a PyTorch module of the same architecture.

    Kernels are turned from (out, in, h, w) to (h, w, in, out), linear layers from (out, in); a normalisation takes its
    weight, bias and running moments. A linear layer of a *flattened map* is not: PyTorch flattens channels first.

        state = models.from_torch(dict(np.load("cifar10_resnet20.npz")), "resnet20", (32, 32, 3), 10)
        logits, _ = network.apply(state.theta, images, state.stats)

    Args:
      arrays: by PyTorch's names, "layer1.0.conv1.weight"; "num_batches_tracked" is not used.
      model: see `build`; of layers of flax.linen.
      image_shape: `(h, w, c)`.
      num_classes: at least 2.
      names: PyTorch's module of each of the network's, {"conv_0_0_0": "layer1.0.conv1", ..}; what is not there is
        paired in order: the convolutions, linear layers and normalisations as the network applies them, and as they
        come in `arrays`.

    Raises:
      JaxddError: for a module that has no counterpart, on either side, and arrays of another shape than the network's.
    """
    network = build(model, image_shape, num_classes)
    wanted = _applied(network)
    theta, stats = jax.eval_shape(network.init, key_of(0))
    shapes = {
        **{f"params/{name}": leaf for name, leaf in leaves_by_path(theta).items()},
        **leaves_by_path(stats),
    }
    found: dict[str, np.ndarray] = {}
    for own, theirs in _pairs(arrays, wanted, names or {}):
        for field, value in _fields(arrays, theirs):
            fields = _NORM if wanted[own] == _KINDS[nn.BatchNorm] else _LAYER
            part, _, leaf = fields.get(field, f"params/{field}").partition("/")
            place = f"{part}/{own}/{leaf}"
            value = _turned(value) if leaf == "kernel" else value
            if place not in shapes or shapes[place].shape != value.shape:
                expected = f"of the shape {shapes[place].shape}" if place in shapes else "of no such field"
                raise JaxddError(f"{theirs}.{field} becomes {value.shape}, but the network's {own} is {expected}.")
            found[place] = np.asarray(value, shapes[place].dtype)
    missing = sorted(set(shapes) - set(found))
    if missing:
        raise JaxddError(f"there is nothing for {len(missing)} arrays of the network, {missing[0]} for one.")
    return NetworkState(
        jax.tree.unflatten(jax.tree.structure(theta), [found[f"params/{name}"] for name in leaves_by_path(theta)]),
        jax.tree.unflatten(jax.tree.structure(stats), [found[name] for name in leaves_by_path(stats)]),
    )


def _applied(network: Network) -> dict[str, str]:
    """Its layers by path, of what kind, in the order in which they are applied."""
    applied: dict[str, str] = {}

    def note(function, args, kwargs, context):
        kind = next((name for layer, name in _KINDS.items() if isinstance(context.module, layer)), None)
        if kind and context.method_name == "__call__":
            applied.setdefault("/".join(context.module.path), kind)
        return function(*args, **kwargs)

    with nn.intercept_methods(note):  # of a function of its own, since what was traced once is not traced again
        jax.eval_shape(lambda key: network.init(key), key_of(0))
    return applied


def _pairs(arrays: Mapping[str, Any], wanted: Mapping[str, str], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The network's modules and PyTorch's."""
    theirs: dict[str, str] = {}
    for name, value in arrays.items():
        module, _, field = name.rpartition(".")
        if field == _UNUSED:
            continue
        kind = {4: "convolution", 2: "linear layer"}.get(np.ndim(value), "normalisation")
        if field == "weight" or module not in theirs:
            theirs[module] = kind
    for own, module in names.items():
        if own not in wanted or module not in theirs:
            raise JaxddError(f"names pair {own!r} with {module!r}, of which one is not there.")
        yield own, module
    taken = set(names.values())
    rest = collections.defaultdict(list)
    for module, kind in theirs.items():
        if module not in taken:
            rest[kind].append(module)
    for kind in _KINDS.values():
        own = [name for name, of in wanted.items() if of == kind and name not in names]
        if len(own) != len(rest[kind]):
            raise JaxddError(
                f"the network has {len(own)} {kind}s and the arrays are of {len(rest[kind])}: another architecture?"
            )
        yield from zip(own, rest[kind], strict=True)


def _fields(arrays: Mapping[str, Any], module: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in arrays.items():
        of, _, field = name.rpartition(".")
        if of == module and field != _UNUSED:
            yield field, np.asarray(value)


def _turned(value: np.ndarray) -> np.ndarray:
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
