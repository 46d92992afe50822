"""Images that are mixed from two: like an augmentation a draw, which can be stored and replayed, and its use."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdd._labels import label_vectors
from jaxdd.types import Array, Indices, Key


class Mixture(NamedTuple):
    """A draw for one batch: which image each is mixed with, and by how much."""

    order: Indices
    """int32 `(n,)`, the other image of each."""
    own: Array
    """What is left of an image itself, 0 to 1: of each of its pixels `(h, w)`, or of all alike `()`."""

    @property
    def share(self) -> Array:
        """What is left of its label, `()`."""
        return jnp.mean(self.own)


def cutmix_draw(key: Key, shape: tuple[int, ...], *, probability: float | Array = 0.5, beta: float = 1.0) -> Mixture:
    """The draw of `cutmix`, for images of `shape`, `(n, h, w, ..)`."""
    key_apply, key_share, key_box, key_order = jax.random.split(key, 4)
    count, height, width = shape[:3]
    side = jnp.sqrt(1 - jax.random.beta(key_share, beta, beta)) * jax.random.bernoulli(key_apply, probability)
    inside = []
    for key_axis, size in zip(jax.random.split(key_box), (height, width), strict=True):
        half = (size * side).astype(jnp.int32) // 2
        centre = jax.random.randint(key_axis, (), 0, size)
        first, last = jnp.maximum(centre - half, 0), jnp.minimum(centre + half, size)
        inside.append((jnp.arange(size) >= first) & (jnp.arange(size) < last))
    outside = ~(inside[0][:, None] & inside[1][None, :])
    return Mixture(jax.random.permutation(key_order, count), outside.astype(side.dtype))


def mixup_draw(key: Key, shape: tuple[int, ...], *, probability: float | Array = 1.0, beta: float = 0.8) -> Mixture:
    """The draw of `mixup`, for images of `shape`, `(n, ..)`."""
    key_apply, key_share, key_order = jax.random.split(key, 3)
    some = jax.random.bernoulli(key_apply, probability)
    own = jnp.where(some, jax.random.beta(key_share, beta, beta), 1.0)
    return Mixture(jax.random.permutation(key_order, shape[0]), own)


def mixed(images: Array, labels: Array, draw: Mixture) -> tuple[Array, Array]:
    """Images `(n, h, w, c)` and their labels as a draw has them mixed.

    Args:
      labels: vectors `(n, classes)`; integers, such as one-hot vectors, become floats.

    Returns:
      images and labels of the same shapes.

    Raises:
      JaxddError: for class numbers.
    """
    images, labels = jnp.asarray(images), label_vectors(labels, (len(images), None))
    own = jnp.broadcast_to(draw.own, images.shape[1:3])[None, :, :, None]
    of_images = own * images + (1 - own) * images[draw.order]
    return of_images, draw.share * labels + (1 - draw.share) * labels[draw.order]


def cutmix(
    key: Key, images: Array, labels: Array, *, probability: float | Array = 0.5, beta: float = 1.0
) -> tuple[Array, Array]:
    """CutMix (Yun et al. 2019) as IDC and NCFM evaluate with: a box of every image comes from another one.

    One box, one permutation and one share for the batch. The box has `sqrt(1 - lam)` of each side, `lam` from
    Beta(beta, beta), around a centre anywhere, and is cut off at the edges; labels are mixed by its true area.
    `cutmix_draw` and `mixed` are its two halves.

    Args:
      images: `(n, h, w, c)`.
      labels: vectors `(n, classes)`; integers, such as one-hot vectors, become floats.
      probability: that anything is mixed; otherwise images and labels come back as they are.

    Returns:
      images and labels of the same shapes.

    Raises:
      JaxddError: for class numbers.
    """
    return mixed(images, labels, cutmix_draw(key, images.shape, probability=probability, beta=beta))


def mixup(
    key: Key, images: Array, labels: Array, *, probability: float | Array = 1.0, beta: float = 0.8
) -> tuple[Array, Array]:
    """Mixup (Zhang et al. 2018): every image, and its label, is a weighted mean with those of another one.

    One permutation and one share `lam` from Beta(beta, beta) for the batch. `mixup_draw` and `mixed` are its halves.

    Args:
      images: `(n, h, w, c)`.
      labels: vectors `(n, classes)`; integers, such as one-hot vectors, become floats.
      probability: that anything is mixed; otherwise images and labels come back as they are.
      beta: by default SRe2L's (Yin, Xing & Shen 2023) for CIFAR.

    Returns:
      images and labels of the same shapes.

    Raises:
      JaxddError: for class numbers.
    """
    return mixed(images, labels, mixup_draw(key, images.shape, probability=probability, beta=beta))
