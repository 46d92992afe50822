"""Gradients of each example: their length, and those of the last layer."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdd._arrays import images_of
from jaxdd._labels import class_numbers
from jaxdd._numbers import whole
from jaxdd.selection.choose._lazy import in_blocks
from jaxdd.selection.last_layer import LastLayer
from jaxdd.types import Array, Network, PyTree


def grand(
    network: Network, theta: PyTree, stats: PyTree, images: ArrayLike, labels: ArrayLike, *, block: int | None = None
) -> Array:
    """The length of each example's gradient of cross-entropy in all parameters: large is hard (GraNd).

    Paul et al. 2021 (arXiv 2107.07075), who take the mean over several networks, at their start or early in training.
    Batch normalisation has its running statistics, since one example has none.

        scores = grand(network, theta, stats, images, labels)

    Args:
      network: the network.
      theta, stats: its numbers.
      images: `(n, h, w, c)`.
      labels: class numbers `(n,)`.
      block: examples whose gradients are there at a time; memory grows with it. None for 8 on CPUs, 128 elsewhere.

    Returns:
      float32 `(n,)`.

    Raises:
      JaxddError: for labels that are not as many numbers of the network's classes as images, or a block below 1.
    """
    images = images_of(images)
    labels = class_numbers(labels, images.shape[:1])
    logits, _ = jax.eval_shape(lambda: network.apply(theta, images[:1], stats, mode="eval"))
    class_numbers(labels, classes=logits.shape[-1])
    if block is None:
        block = 8 if jax.default_backend() == "cpu" else 128
    return _grand(network, theta, stats, images, labels, block=min(whole(block, "block"), len(images)))


@functools.partial(jax.jit, static_argnames=("network", "block"))
def _grand(network: Network, theta: PyTree, stats: PyTree, images: Array, labels: Array, *, block: int) -> Array:
    def loss(theta: PyTree, image: Array, label: Array) -> Array:
        logits = network.apply(theta, image[None], stats, mode="eval")[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits[0].astype(jnp.float32), label)

    def length(image: Array, label: Array) -> Array:
        leaves = jax.tree.leaves(jax.grad(loss)(theta, image, label))
        return jnp.sqrt(sum((jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in leaves), jnp.float32(0)))

    return in_blocks(lambda rows: jax.vmap(length)(images[rows], labels[rows]), len(images), block)


def last_layer_gradients(features: ArrayLike, logits: ArrayLike, labels: ArrayLike) -> Array:
    """The gradient of each example's cross-entropy in the last layer, `(p - y) ⊗ [φ, 1]`.

    For CRAIG and GradMatch. `LastLayer.of(features, logits, labels).products()` gives their inner products without
    them; their lengths, `|p - y| sqrt(|φ|² + 1)`, are GraNd of the last layer.

        rows, weights = choose.craig(last_layer_gradients(features, logits, labels), 10)

    Args:
      features: `(n, d)`, what the last layer sees.
      logits: `(n, classes)`.
      labels: class numbers `(n,)` or probabilities `(n, classes)`.

    Returns:
      float32 `(n, classes * (d + 1))`: of each class the weights, then the bias.

    Raises:
      JaxddError: as `LastLayer.of`.
    """
    return LastLayer.of(features, logits, labels).gradients()
