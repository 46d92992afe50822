"""Images that are mixed from two."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdd._labels import label_vectors
from jaxdd.types import Array, Key


def cutmix(
    key: Key, images: Array, labels: Array, *, probability: float | Array = 0.5, beta: float = 1.0
) -> tuple[Array, Array]:
    """CutMix (Yun et al. 2019) as IDC and NCFM evaluate with: a box of every image comes from another one.

    One box, one permutation and one share for the batch. The box has `sqrt(1 - lam)` of each side, `lam` from
    Beta(beta, beta), around a centre anywhere, and is cut off at the edges; labels are mixed by its true area.

    Args:
      images: `(n, h, w, c)`.
      labels: vectors `(n, classes)`; integers, such as one-hot vectors, become floats.
      probability: that anything is mixed; otherwise images and labels come back as they are.

    Returns:
      images and labels of the same shapes.

    Raises:
      JaxddError: for class numbers.
    """
    labels = label_vectors(labels, (len(images), None))
    key_apply, key_share, key_box, key_order = jax.random.split(key, 4)
    height, width = images.shape[1:3]
    side = jnp.sqrt(1 - jax.random.beta(key_share, beta, beta)) * jax.random.bernoulli(key_apply, probability)
    inside, area = [], jnp.ones((), labels.dtype)
    for key_axis, size in zip(jax.random.split(key_box), (height, width), strict=True):
        half = (size * side).astype(jnp.int32) // 2
        centre = jax.random.randint(key_axis, (), 0, size)
        first, last = jnp.maximum(centre - half, 0), jnp.minimum(centre + half, size)
        inside.append((jnp.arange(size) >= first) & (jnp.arange(size) < last))
        area = area * (last - first)
    box = inside[0][:, None, None] & inside[1][None, :, None]
    order = jax.random.permutation(key_order, len(images))
    share = area / (height * width)
    mixed = jnp.where(box[None], images[order], images)
    return mixed, (1 - share) * labels + share * labels[order]


def mixup(
    key: Key, images: Array, labels: Array, *, probability: float | Array = 1.0, beta: float = 0.8
) -> tuple[Array, Array]:
    """Mixup (Zhang et al. 2018): every image, and its label, is a weighted mean with those of another one.

    One permutation and one share `lam` from Beta(beta, beta) for the batch.

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
    images, labels = jnp.asarray(images), label_vectors(labels, (len(images), None))
    key_apply, key_share, key_order = jax.random.split(key, 3)
    mixed = jax.random.bernoulli(key_apply, probability)
    share = jnp.where(mixed, jax.random.beta(key_share, beta, beta), 1.0)
    order = jax.random.permutation(key_order, len(images))
    return share * images + (1 - share) * images[order], share * labels + (1 - share) * labels[order]
