"""Free pixels, and what can be asked of them: a norm, a range, a share that stays noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._numbers import by_class, of_each, whole
from jaxdd.data import balanced_choice
from jaxdd.errors import JaxddError, unknown
from jaxdd.synthetic.codecs import label_bits
from jaxdd.synthetic.continued import INITS, Continued
from jaxdd.synthetic.parameterisation import Params, Rendered, SyntheticSet, check_has_images
from jaxdd.types import Array, HostArray, Key, RealData

_SOME = 256  # images on the host that are read at once


def pixels(
    ipc: int | Sequence[int],
    *,
    init: str | Continued = "real",
    labels: str = "hard",
    classes: int | None = None,
    factor: int = 1,
) -> SyntheticSet:
    """Free pixels, class after class: the plain parameterisation of most methods.

    Params are `images` `(m, h, w, c)` and the frozen `labels` `(m, all classes)`, m = classes * ipc or sum(ipc).

    Args:
      ipc: images per class: one number for all classes, or one for each class that gets images, at least 1. Equal ones
        are the same as one number.
      init: "real" (random distinct real images of each class), "noise" (standard normal in transformed space), "unit"
        (such noise, each image scaled to an L2 norm of 1; Feng et al. 2024), or a set to go on with, see `continued`.
      labels: "hard" (one-hot) or "centred" (one-hot minus 1/classes, Nguyen et al. 2021).
      classes: only the first so many classes get images (Sucholutsky & Schonlau 2019 distil fewer images than there
        are classes); label vectors are always of all classes. All of them by default.
      factor: of a `multi_formation` around this, which tells what a set to go on with stores.

    Raises:
      JaxddError: for a bad argument; (in `init`) more images than a class has, more classes than there are, numbers by
        class for more or fewer of them, a set to go on with that has images of another size, more of them or more
        classes.
    """
    numbers = by_class(ipc, "images per class")
    begun, named = (init, "") if isinstance(init, Continued) else (None, init)
    if begun is None and named not in INITS:
        raise _unknown(named)
    if labels not in ("hard", "centred"):
        raise unknown("convention of fixed labels", labels, ("hard", "centred"))
    if classes is not None:
        whole(classes, "classes with images")

    def filled(num_classes: int) -> tuple[int, ...]:
        """Images of each class that gets some."""
        count = num_classes if classes is None else classes
        if count > num_classes:
            raise JaxddError(f"images for {count} classes were asked for, but the data have {num_classes}.")
        return of_each(numbers, count, "images per class")

    def init_fn(key: Key, data: RealData) -> Params:
        counts = filled(data.labels.num_classes)
        images = _first(key, data, named, counts) if begun is None else _continued(key, data, begun, counts, factor)
        of_rows = np.repeat(np.arange(len(counts)), counts)
        one_hot = jax.nn.one_hot(of_rows, data.labels.num_classes, dtype=images.dtype)
        return {"images": images, "labels": one_hot - 1 / one_hot.shape[1] if labels == "centred" else one_hot}

    def num_bits(params: Params) -> dict[str, int]:
        return {"images": 32 * params["images"].size, "labels": label_bits("hard", params["labels"])}

    return SyntheticSet(
        init=init_fn,
        render=lambda params: Rendered(params["images"], params["labels"]),
        project=lambda params: params,
        num_bits=num_bits,
        decoder="pixels",
        label_convention=labels,
        label_regime="hard",
        learned=("images",),
        first_labels=lambda n: None if begun is None else begun.labels(filled(n), n, factor),
        counts=numbers if isinstance(numbers, tuple) and len(set(numbers)) > 1 else None,
    )


def _unknown(init: str) -> JaxddError:
    if init.endswith(".safetensors"):
        return JaxddError(f"{init} is a file: methods and pixels take synthetic.continued(file, transform) for it.")
    return unknown("initialisation of pixels (neither a distilled set nor a name)", init, INITS)


def _first(key: Key, data: RealData, init: str, counts: tuple[int, ...]) -> Array:
    """So many images of each of the first classes, `(sum(counts), h, w, c)`."""
    key_choice, key_noise = jax.random.split(key)
    if init == "real":
        none = (0,) * (data.labels.num_classes - len(counts))
        return data.images[balanced_choice(key_choice, data.labels, counts + none)]
    images = jax.random.normal(key_noise, (sum(counts), *data.images.shape[1:]), data.images.dtype)
    return normalised(images) if init == "unit" else images


def _continued(key: Key, data: RealData, begun: Continued, counts: tuple[int, ...], factor: int) -> Array:
    """Images of a set, and others in the places that it leaves: real ones of classes that it does not know."""
    stored, vectors = begun.stored(factor)
    if stored.shape[1:] != data.images.shape[1:]:
        here, there = ("x".join(map(str, shape[1:])) for shape in (data.images.shape, stored.shape))
        raise JaxddError(
            f"the set to go on with has images of {there} and the data of {here}: nothing is resized here, so take "
            "data of its size."
        )
    places, rows = begun.layout(counts, data.labels.num_classes, factor)
    images = jnp.zeros((sum(counts), *stored.shape[1:]), data.images.dtype)
    lacking = np.setdiff1d(np.arange(sum(counts)), places)
    new = np.repeat(np.arange(len(counts)), counts)[lacking] >= vectors.shape[1]
    for init, at in ((begun.rest, lacking[~new]), ("real", lacking[new])):
        if len(at):
            images = images.at[at].set(_first(key, data, init, counts)[at])
    return images.at[places].set(jnp.asarray(stored[rows], images.dtype))


def normalised(images: Array) -> Array:
    """Images `(m, h, w, c)`, each scaled to an L2 norm of 1; one that is all zero stays so."""
    norms = jnp.sqrt(jnp.sum(images**2, axis=(1, 2, 3), keepdims=True))
    return images / jnp.maximum(norms, jnp.finfo(images.dtype).tiny)


def unit_norm(base: SyntheticSet) -> SyntheticSet:
    """Every stored image has an L2 norm of 1, from the start and after each step.

    Raises:
      JaxddError: `base` does not learn pixels.
    """
    check_has_images("unit_norm", base)

    def onto(params: Params) -> Params:
        return {**params, "images": normalised(params["images"])}

    return base._replace(
        init=lambda key, data: onto(base.init(key, data)),
        project=lambda params: onto(base.project(params)),
    )


def clipped(base: SyntheticSet) -> SyntheticSet:
    """Every stored pixel lies between the smallest and the largest real one of its channel.

    The bounds are the frozen leaves `lowest` and `highest` `(c,)`; nobody needs them to use the set.

    Raises:
      JaxddError: `base` does not learn pixels.
    """
    check_has_images("clipped", base)

    def onto(params: Params) -> Params:
        lowest, highest = (params[name][None, None, None] for name in ("lowest", "highest"))
        return {**params, "images": jnp.clip(params["images"], lowest, highest)}

    def init(key: Key, data: RealData) -> Params:
        lowest, highest = pixel_range(data.images)
        return onto({**base.init(key, data), "lowest": lowest, "highest": highest})

    return base._replace(init=init, project=lambda params: onto(base.project(params)))


def pixel_range(images: Array | HostArray) -> tuple[Array, Array]:
    """The smallest and the largest pixel of each channel `(c,)`, of images that may stay on the host."""
    if not isinstance(images, HostArray):
        return jnp.min(images, axis=(0, 1, 2)), jnp.max(images, axis=(0, 1, 2))

    def widen(k: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        some = images[jnp.minimum(k * _SOME + jnp.arange(_SOME), len(images) - 1)]
        return jnp.minimum(found[0], some.min((0, 1, 2))), jnp.maximum(found[1], some.max((0, 1, 2)))

    lowest = jnp.full(images.shape[-1:], jnp.inf, images.dtype)
    return jax.lax.fori_loop(0, -(-len(images) // _SOME), widen, (lowest, -lowest))


def corrupted(base: SyntheticSet, fraction: float) -> SyntheticSet:
    """ρ-corruption (Nguyen et al. 2021, section 3.3): a share of each image's pixels is noise and stays so.

    In every image `ceil(fraction * pixels)` randomly placed entries are standard normal noise, independent of the
    data, and carry no gradient and no constraint of `base`, so that they keep their bits.

    Args:
      base: a parameterisation that learns pixels.
      fraction: ρ in `[0, 1)`.
    """
    check_has_images("corrupted", base)
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
        images, mask = params["images"], params["mask"]
        return {**params, "images": jnp.where(mask > 0, jax.lax.stop_gradient(images), images)}

    def project(params: Params) -> Params:
        projected = base.project(params)
        return {**projected, "images": jnp.where(params["mask"] > 0, params["images"], projected["images"])}

    return base._replace(init=init, render=lambda params: base.render(freeze(params)), project=project)
