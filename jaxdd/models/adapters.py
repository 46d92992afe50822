"""From any framework's network to `jaxdd.types.Network`, pure functions over plain dicts of arrays."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdd.types import Array, Key, Network, PyTree, missing

if TYPE_CHECKING:
    from flax import nnx


@functools.lru_cache(maxsize=256)
def from_linen(module: nn.Module, image_shape: tuple[int, int, int]) -> Network:
    """A flax.linen module as a Network.

    Collections other than "params" (BatchNorm's "batch_stats") become `stats`; in training mode they are updated.
    `train=` is passed on to methods that have such an argument, `key` becomes the "dropout" stream. Equal modules give
    the same Network, so that compiled programs are reused.

    Args:
      module: called with images `(n, h, w, c)`, returns logits; methods `features` and `layers` are the Network's, if
        it has them.
      image_shape: `(h, w, c)`.
    """

    def init(key: Key) -> tuple[PyTree, PyTree]:
        example = jnp.zeros((1, *image_shape))  # here: a cached Network must not hold what one trace has made
        key_params, key_dropout = jax.random.split(key)
        variables = dict(module.init({"params": key_params, "dropout": key_dropout}, example))
        return variables.pop("params", {}), variables

    def call(method: str) -> Callable[..., tuple[Array, PyTree]]:
        has_train = "train" in inspect.signature(getattr(module, method)).parameters

        def apply(theta, images, stats, *, train: bool = False, key: Key | None = None):
            out, updated = module.apply(
                {"params": theta, **stats},
                images,
                method=method,
                rngs=None if key is None else {"dropout": key},
                mutable=list(stats) if train else [],
                **({"train": train} if has_train else {}),
            )
            return out, {**stats, **updated}

        return apply

    return Network(init, call("__call__"), *_optional(call, type(module)))


def from_nnx(constructor: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """A flax.nnx module as a Network.

    Parameters become `theta`, everything else (BatchNorm's statistics, random streams) `stats`, both plain dicts.
    `train` switches between the module's `train()` and `eval()` modes; `key` reseeds its random streams.

    Args:
      constructor: `constructor(rngs)` builds the module, which maps images `(n, h, w, c)` to logits; methods
        `features` and `layers` are the Network's, if it has them.
    """
    from flax import nnx

    def leaves(module: nnx.Module) -> tuple[PyTree, PyTree]:
        theta, stats = nnx.state(module, nnx.Param), nnx.state(module, nnx.Not(nnx.Param))
        return nnx.to_pure_dict(theta), nnx.to_pure_dict(stats)

    abstract = nnx.eval_shape(lambda: constructor(nnx.Rngs(0)))
    graph = nnx.graphdef(abstract)

    def init(key: Key) -> tuple[PyTree, PyTree]:
        return leaves(constructor(nnx.Rngs(key)))

    def call(method: str) -> Callable[..., tuple[Array, PyTree]]:
        def apply(theta, images, stats, *, train: bool = False, key: Key | None = None):
            module = nnx.merge(graph, nnx.State(theta), nnx.State(stats))
            module.train() if train else module.eval()
            if key is not None:
                key_default, key_dropout = jax.random.split(key)
                nnx.reseed(module, default=key_default, dropout=key_dropout)
            out = getattr(module, method)(images)
            return out, leaves(module)[1] if train else stats

        return apply

    return Network(init, call("__call__"), *_optional(call, abstract))


def from_functions(
    init: Callable[[Key], PyTree],
    apply: Callable[[PyTree, Array], Array],
    features: Callable[[PyTree, Array], Array] | None = None,
    layers: Callable[[PyTree, Array], tuple[Array, ...]] | None = None,
) -> Network:
    """Any `(init, apply)` pair from outside as a Network: haiku, equinox, or plain functions.

    Args:
      init: `init(key) -> theta`.
      apply: `apply(theta, images) -> logits (n, classes)`.
      features, layers: `features(theta, images) -> (n, d)` and `layers(theta, images)`, see `Network`, if some method
        needs them.
    """

    def stateless(function):
        def call(theta, images, stats, *, train: bool = False, key: Key | None = None):
            return function(theta, images), stats

        return call

    return Network(
        lambda key: (init(key), {}),
        stateless(apply),
        missing("features") if features is None else stateless(features),
        missing("layers") if layers is None else stateless(layers),
    )


def _optional(call: Callable[[str], Callable], module: Any) -> list[Callable]:
    """The methods of a module that only some networks have."""
    return [call(method) if hasattr(module, method) else missing(method) for method in ("features", "layers")]


def as_network(candidate: Any, image_shape: tuple[int, int, int]) -> Network | None:
    """A Network from what a factory may return (a Network, a linen module, an `(init, apply)` pair), else None."""
    if isinstance(candidate, Network):
        return candidate
    if isinstance(candidate, nn.Module):
        return from_linen(candidate, image_shape)
    if isinstance(candidate, tuple) and len(candidate) in (2, 3, 4) and all(map(callable, candidate)):
        return from_functions(*candidate)
    return None
