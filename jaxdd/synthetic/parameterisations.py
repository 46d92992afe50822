"""What is learned, and how it becomes images and labels.

A parameterisation is four pure functions over a dict of arrays. They compose: one wraps another by composing `render`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxdd.data import balanced_choice
from jaxdd.errors import JaxddError
from jaxdd.types import Distilled, Key, RealData

Params = dict[str, Array]


class Rendered(NamedTuple):
    """What networks and kernels see."""

    images: Float[Array, "m h w c"]
    labels: Float[Array, "m classes"]
    learning_rates: Float[Array, "..."] | None = None


class SyntheticSet(NamedTuple):
    """A parameterisation of the synthetic set."""

    init: Callable[[Key, RealData], Params]
    """The first parameters, a flat dict, so that every leaf can have a learning rate of its own."""
    render: Callable[[Params], Rendered]
    """Differentiable."""
    project: Callable[[Params], Params]
    """Back onto the feasible set after an optimiser's step; the identity where there is no constraint."""
    num_bits: Callable[[Params], dict[str, int]]
    """The ledger: bits for each leaf that has to be stored. A leaf that is absent here need not be stored."""
    decoder: str
    """The name under which a file says how its parameters become images."""
    label_regime: str
    """"hard" (labels stay as they were) or "learned"."""


def pixels(ipc: int, *, init: str = "real", learn_labels: bool = False) -> SyntheticSet:
    """Free pixels and centred label vectors, the plain parameterisation of most methods.

    Params are `images` `(classes * ipc, h, w, c)` and `labels` `(classes * ipc, classes)`, one-hot minus 1/classes
    (Nguyen et al. 2021), class after class.

    Args:
      ipc: images per class.
      init: "real" (random distinct real images of each class) or "noise" (standard normal in transformed space).
      learn_labels: whether the labels count as learned: 32 bits an entry instead of one class index an image.
    """
    if init not in ("real", "noise"):
        raise JaxddError(f'init must be "real" or "noise", got {init!r}.')

    def init_fn(key: Key, data: RealData) -> Params:
        key_choice, key_noise = jax.random.split(key)
        chosen = balanced_choice(key_choice, data.labels, ipc)
        images = data.images[chosen]
        if init == "noise":
            images = jax.random.normal(key_noise, images.shape, images.dtype)
        classes = data.labels.num_classes
        labels = jax.nn.one_hot(data.labels.values[chosen], classes, dtype=images.dtype) - 1 / classes
        return {"images": images, "labels": labels}

    def num_bits(params: Params) -> dict[str, int]:
        images, labels = params["images"], params["labels"]
        index = math.ceil(math.log2(max(labels.shape[1], 2)))
        return {"images": 32 * images.size, "labels": 32 * labels.size if learn_labels else index * len(labels)}

    return SyntheticSet(
        init=init_fn,
        render=lambda params: Rendered(params["images"], params["labels"]),
        project=lambda params: params,
        num_bits=num_bits,
        decoder="pixels",
        label_regime="learned" if learn_labels else "hard",
    )


def corrupted(base: SyntheticSet, fraction: float) -> SyntheticSet:
    """ρ-corruption (Nguyen et al. 2021, section 3.3): a share of each image's pixels is noise and stays so.

    In every image `ceil(fraction * pixels)` randomly placed entries are standard normal noise, independent of the
    data, and carry no gradient, so that they keep their bits.

    Args:
      base: a parameterisation with an `images` leaf in image shape.
      fraction: ρ in `[0, 1)`.
    """
    if not 0 <= fraction < 1:
        raise JaxddError(f"the corrupted fraction must be in [0, 1), got {fraction}.")

    def init(key: Key, data: RealData) -> Params:
        key_base, key_place, key_noise = jax.random.split(key, 3)
        params = base.init(key_base, data)
        images = params["images"]
        flat = images.reshape(len(images), -1)
        rank = jnp.argsort(jnp.argsort(jax.random.uniform(key_place, flat.shape), axis=1), axis=1)
        mask = (rank < math.ceil(fraction * flat.shape[1])).reshape(images.shape)
        noise = jax.random.normal(key_noise, images.shape, images.dtype)
        return {**params, "images": jnp.where(mask, noise, images), "mask": mask.astype(images.dtype)}

    def freeze(params: Params) -> Params:
        images, mask = params["images"], jax.lax.stop_gradient(params["mask"])
        return {**params, "images": jnp.where(mask > 0, jax.lax.stop_gradient(images), images)}

    return base._replace(init=init, render=lambda params: base.render(freeze(params)))


def per_leaf(transforms: Mapping[str, optax.GradientTransformation]) -> optax.GradientTransformation:
    """One optimiser for each named leaf of a synthetic set's params; leaves without one stay as they are."""
    return optax.multi_transform(
        {**transforms, "frozen": optax.set_to_zero()},
        lambda params: {name: name if name in transforms else "frozen" for name in params},
    )


def descend(
    synthetic: SyntheticSet,
    optimizer: optax.GradientTransformation,
    grads: Params,
    opt_state: optax.OptState,
    params: Params,
) -> tuple[Params, optax.OptState]:
    """One step of an optimiser on a synthetic set, back onto its constraints."""
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return synthetic.project(cast(Params, optax.apply_updates(params, updates))), opt_state


def moving_average(average: Params, params: Params, decay: float, step: Array) -> Params:
    """One step of the exponential moving average of iterates; what does not move keeps its bits.

    Early on the decay is `(1 + step) / (10 + step)` instead, so that a short run is not an average of its start.
    """
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, p: p + kept * (a - p), average, params)


def render(synthetic: SyntheticSet, params: Params, **facts: Any) -> Distilled:
    """What `Method.distilled` returns for a parameterisation with centred labels; `facts` are further fields."""
    rendered, ledger = synthetic.render(params), synthetic.num_bits(params)
    return Distilled(
        images=rendered.images,
        labels=rendered.labels,
        learning_rates=rendered.learning_rates,
        params={name: params[name] for name in ledger},
        label_convention="centred",
        label_regime=synthetic.label_regime,
        decoder=synthetic.decoder,
        num_bits=sum(ledger.values()),
        **facts,
    )
