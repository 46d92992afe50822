"""What an inner step sees: rows of the synthetic set, and the loss on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import losses
from jaxdd.data.augmentation import Augmentation
from jaxdd.inner.networks import shared
from jaxdd.inner.unroll import Feed
from jaxdd.types import Array, Indices, Key, Network, PyTree


def planned(data: PyTree, plan: Indices, learning_rates: float | Array) -> Feed:
    """A feed for `unroll`: at step t the rows `plan[t]` of every leaf of `data`.

    Args:
      data: a pytree whose leaves share their first axis, such as `(images, labels)`; differentiable.
      plan: int `(steps, b)`, from `epoch_plan`, `balanced_plan` or `ordered_plan`.
      learning_rates: one for all steps, or `(steps,)`; differentiable.
    """
    rates = jnp.broadcast_to(learning_rates, (len(plan),))

    def feed(t: Array) -> tuple[PyTree, Array]:
        return jax.tree.map(lambda leaf: leaf[plan[t]], data), rates[t]

    return feed


def augmented(feed: Feed, augment: Augmentation, draw: Callable[[Array], Any]) -> Feed:
    """`feed` of `(images, labels)` with its images changed; gradients flow through the change.

    Args:
      draw: `draw(t)`, what `augment` drew for the t-th step: for each of its images, or one for all of them.
    """

    def changed(t: Array) -> tuple[PyTree, Array]:
        (images, labels), rate = feed(t)
        return (augment.apply(images, draw(t)), labels), rate

    return changed


def classification(
    network: Network, stats: PyTree, loss: Callable[[Array, Array], Array] = losses.cross_entropy
) -> Callable[[PyTree, tuple[Array, Array]], Array]:
    """The mean loss of a network on `(images, labels)`, as `unroll` takes it, normalised by this batch.

    Args:
      stats: the network's, kept as they are from step to step.
      loss: `loss(logits, labels)`, one value an example.
    """

    def mean_loss(theta: PyTree, batch: tuple[Array, Array]) -> Array:
        images, labels = batch
        logits, _ = network.apply(theta, images, stats, mode="batch")
        return loss(logits, labels).mean()

    return mean_loss


def regression(network: Network) -> Callable[..., tuple[Array, PyTree]]:
    """Half the mean squared error of a network in training mode on a whole set at every step, as a pool advances by.

    Returns:
      `loss(theta, stats, shown, step, key) -> (scalar, stats)`; shown are images `(n, h, w, c)` and labels
      `(n, classes)` around zero, and whatever follows them.
    """

    def mean_loss(theta: PyTree, stats: PyTree, shown: tuple, step: Array, key: Key) -> tuple[Array, PyTree]:
        images, labels, *_ = shown
        outputs, stats = network.apply(theta, images, stats, mode="train")
        return losses.squared_error(outputs, labels).mean(), stats

    return mean_loss


def mean_over_blocks(
    function: Callable[[PyTree, PyTree], tuple[Array, PyTree]],
    theta: PyTree,
    data: PyTree,
    block: int | None,
    *,
    stats: PyTree = (),
) -> tuple[Array, PyTree]:
    """The mean of `function(theta, rows)` over equal blocks of `data`, in the memory of one block.

    For functions that are means over examples it is their value on all of them. The gradient is accumulated on the way
    forward, so that nothing is computed twice; reverse mode only, and no gradient flows into the data. Examples are
    dealt out in turn, so that a batch that is split over devices stays so. In a run of the engine its devices share the
    examples, see `inner.networks.shared`; their blocks may then be smaller.

    Args:
      function: `(theta, rows) -> (loss, aux)`; the loss is a scalar, aux a pytree of floats without a gradient.
      data: a pytree whose leaves share their first axis.
      block: examples in a block; None takes all at once. What does not divide is taken at once, too.
      stats: as of `map_blocks`.
    """
    if jax.tree.leaves(stats):
        return function(theta, data)
    count = len(jax.tree.leaves(data)[0])

    def average(results: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), results)

    def over_devices(of_share: Callable[[PyTree], PyTree], data: PyTree) -> PyTree:
        """The mean of what each device makes of its share."""
        return average(shared(lambda rows: jax.tree.map(lambda leaf: leaf[None], of_share(rows)), data))

    if block is None or block >= count or count % block:
        return over_devices(lambda rows: function(theta, rows), data)

    def dealt(rows: PyTree) -> PyTree:
        size = math.gcd(block, len(jax.tree.leaves(rows)[0]))
        return jax.tree.map(lambda leaf: _deal(leaf, size), rows)

    @jax.custom_vjp
    def mean(theta: PyTree, data: PyTree) -> tuple[Array, PyTree]:
        return over_devices(lambda rows: average(jax.lax.map(lambda block: function(theta, block), dealt(rows))), data)

    def forward(theta: PyTree, data: PyTree):
        def accumulate(sums: PyTree, rows: PyTree) -> tuple[PyTree, tuple[Array, PyTree]]:
            value, grads = jax.value_and_grad(function, has_aux=True)(theta, rows)
            return jax.tree.map(jnp.add, sums, grads), value

        def of_share(rows: PyTree) -> tuple[tuple[Array, PyTree], PyTree]:
            blocks = dealt(rows)
            sums, values = jax.lax.scan(accumulate, jax.tree.map(jnp.zeros_like, theta), blocks)
            number = len(jax.tree.leaves(blocks)[0])
            return average(values), jax.tree.map(lambda leaf: leaf / number, sums)

        value, grads = over_devices(of_share, data)
        return value, (grads, data)

    def backward(residual, cotangent):
        grads, data = residual
        return jax.tree.map(lambda leaf: cotangent[0] * leaf, grads), jax.tree.map(_no_cotangent, data)

    mean.defvjp(forward, backward)
    return mean(theta, data)


def map_blocks(function: Callable[[PyTree], PyTree], data: PyTree, block: int | None, *, stats: PyTree = ()) -> PyTree:
    """`function` of all of `data`, block by block, the results in the order of the examples.

    What `mean_over_blocks` is for means, for functions of each example by itself: features of real images. In a run of
    the engine its devices share the examples, see `inner.networks.shared`.

    Args:
      function: from rows to results whose leaves have one row for each.
      data: a pytree whose leaves share their first axis.
      block: examples in a block, on each device; None takes all at once. The last block may be smaller.
      stats: of a network that `function` normalises by the batch at hand. One that has any sees all examples together.
    """
    if jax.tree.leaves(stats):
        return function(data)

    def on_device(data: PyTree) -> PyTree:
        count = len(jax.tree.leaves(data)[0])
        if block is None or block >= count:
            return function(data)
        whole = count // block * block
        blocks = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, block, *leaf.shape[1:]), data)
        results = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.lax.map(function, blocks))
        if whole == count:
            return results
        rest = function(jax.tree.map(lambda leaf: leaf[whole:], data))
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), results, rest)

    return shared(on_device, data)


def _deal(leaf: Array, block: int) -> Array:
    """`(n, ..)` to `(n / block, block, ..)`, rows dealt out in turn: a batch that is split over devices stays so."""
    return leaf.reshape(block, len(leaf) // block, *leaf.shape[1:]).swapaxes(0, 1)


def _no_cotangent(leaf: Array) -> Array | np.ndarray:
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
