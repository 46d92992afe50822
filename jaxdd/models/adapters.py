"""From any framework's network to `jaxdd.types.Network`, pure functions over plain dicts of arrays."""

from __future__ import annotations

import collections
import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import InvalidRngError

from jaxdd.errors import JaxddError, unknown
from jaxdd.types import Array, Key, Moments, Network, Norms, PyTree, missing

if TYPE_CHECKING:
    from flax import nnx


_MOMENTS = "jaxdd_moments"
"""A collection of what the normalisations of a linen module see."""


@functools.lru_cache(maxsize=256)
def from_linen(module: nn.Module, image_shape: tuple[int, int, int]) -> Network:
    """A flax.linen module as a Network.

    Collections other than "params" (BatchNorm's "batch_stats") become `stats`; in the mode "train" they are updated.
    Methods that have an argument `train` are told whether the mode is another than "eval"; `key` becomes the "dropout"
    stream, and without it `nn.Dropout` drops nothing. Equal modules give the same Network, so that compiled programs
    are reused. Its norms are its `nn.BatchNorm`s.

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

    def call(method: str) -> Callable[..., tuple[Any, PyTree]]:
        has_train = "train" in inspect.signature(getattr(module, method)).parameters

        def apply(theta, images, stats, *, mode: str, key: Key | None, more: tuple[str, ...] = ()):
            with contextlib.nullcontext() if key is not None else nn.intercept_methods(_drop_nothing):
                try:
                    out, updated = module.apply(
                        {"params": theta, **stats},
                        images,
                        method=method,
                        rngs=None if key is None else {"dropout": key},
                        mutable=[*more, *([] if mode == "eval" else stats)],
                        **({"train": mode != "eval"} if has_train else {}),
                    )
                except InvalidRngError as error:
                    raise JaxddError(
                        f"this network draws random numbers in the mode {mode!r} outside of nn.Dropout, so it has to "
                        f"be called with a key, and in the mode 'train': {error}"
                    ) from error
            return out, {**stats, **updated}

        return apply

    plain = call("__call__")

    def norms(theta, images, stats, *, mask: Array | None = None, mode: str = "eval", by_example: bool = False):
        if mode not in ("eval", "batch"):
            raise unknown("mode of a network's norms", mode, ("eval", "batch"))
        if by_example and mask is not None:
            raise JaxddError("moments of every example by itself have no use for a mask.")
        applied = []  # paths of modules and places; moments are sown, which from inside of `nn.remat` are not carried

        def record(function, args, kwargs, context):
            if isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__":
                x = args[0] if args else kwargs["x"]
                applied.append((context.module.path, x.size // (len(x) * x.shape[context.module.axis])))
                context.module.sow(_MOMENTS, "of_input", _moments(x, context.module.axis, mask, by_example))
            return function(*args, **kwargs)

        with nn.intercept_methods(record):
            logits, found = plain(theta, images, stats, mode=mode, key=None, more=(_MOMENTS,))
        if not applied:
            raise JaxddError("this network has no nn.BatchNorm, so there are no norms to look at.")
        return logits, _in_order(applied, found[_MOMENTS], stats["batch_stats"])

    return Network(init, plain, *_optional(call, type(module)), norms=norms)


def _drop_nothing(function, args, kwargs, context):
    """Of an interceptor: `nn.Dropout` that has no key gives its input."""
    if isinstance(context.module, nn.Dropout) and context.method_name == "__call__":
        given = inspect.signature(nn.Dropout.__call__).bind(context.module, *args, **kwargs).arguments
        if given.get("rng") is None:
            return given["inputs"]
    return function(*args, **kwargs)


def _moments(x: Array, axis: int, mask: Array | None, by_example: bool) -> Moments:
    """Over all axes but that of the channels, or also of the examples; images that count for nothing may hold
    anything."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    over = tuple(i for i in range(by_example, x.ndim) if i != axis % x.ndim)
    if mask is None:
        mean = x.mean(over, keepdims=True)
        variance = jnp.square(x - mean).mean(over)
    else:
        weights = jnp.asarray(mask, x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        x = jnp.where(weights > 0, x, 0)
        weights = weights / jnp.maximum(weights.sum(), jnp.finfo(x.dtype).tiny)
        apart = [i for i in over if i]
        mean = (weights * x.mean(apart, keepdims=True)).sum(0, keepdims=True)
        variance = (weights * jnp.square(x - mean).mean(apart, keepdims=True)).sum(over)
    return Moments(mean.squeeze(over), variance)


def _in_order(applied: list[tuple[tuple[str, ...], int]], found: PyTree, stats: PyTree) -> Norms:
    """A path that was traced more often than its module was applied counts as often as that was."""
    batch, running, names, places, seen = [], [], [], [], collections.Counter()
    for path, of_image in applied:
        sown = functools.reduce(lambda tree, name: tree[name], path, found)["of_input"]
        if seen[path] == len(sown):
            continue
        own = functools.reduce(lambda tree, name: tree[name], path, stats)
        batch.append(sown[seen[path]])
        running.append(Moments(own["mean"], own["var"]))
        names.append("/".join(("batch_stats", *path)))
        places.append(of_image)
        seen[path] += 1
    return Norms(tuple(batch), tuple(running), tuple(names), tuple(places))


def from_nnx(constructor: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """A flax.nnx module as a Network.

    Parameters become `theta`, everything else (BatchNorm's statistics, random streams) `stats`, both plain dicts.
    In the mode "eval" the module is in its own mode of that name, else in that of training; `key` reseeds its random
    streams, and without it nothing is dropped out. Its norms are not known.

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
        def apply(theta, images, stats, *, mode: str, key: Key | None):
            module = nnx.merge(graph, nnx.State(theta), nnx.State(stats))
            module.eval() if mode == "eval" else module.train()
            if key is None:
                module.set_attributes(deterministic=True, raise_if_not_found=False)
            else:
                key_default, key_dropout = jax.random.split(key)
                nnx.reseed(module, default=key_default, dropout=key_dropout)
            return getattr(module, method)(images), leaves(module)[1]

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
        def call(theta, images, stats):
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
