"""Which layers bear few bits, and how many of them each is to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import losses
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.quantize.fake import Layer, layers_of, quantized_weights
from jaxdd.types import Array, Network, NetworkState


class Choice(NamedTuple):
    """How many bits each layer has."""

    bits: dict[str, int]
    size: int
    """Bits of all weights."""
    sensitivity: float
    """The sum over layers."""


def sensitivity(
    network: Network, state: NetworkState, images: Array, bits: Sequence[int] = (2, 4, 8)
) -> dict[str, dict[int, float]]:
    """How much the network's answers change if the weights of one layer alone are quantised, by layer and bits.

    `mean_i KL(p(x_i) | p_layer(x_i))`, in nats (Cai et al. 2020, arXiv:2001.00281, eq. 4), of the float network's
    probabilities and of those with that layer quantised.

    Args:
      network: of flax.linen, in evaluation mode.
      images: `(n, h, w, c)`, all in one pass; a calibration set.
      bits: those to be tried.

    Raises:
      JaxddError: for bits that are no whole numbers of at least 1.
    """
    layers = layers_of(network, (images.shape[1], images.shape[2], images.shape[3]))
    logits = jax.jit(lambda state, images: network.apply(state.theta, images, state.stats)[0])
    plain, found = logits(state, images), {}
    for layer in layers:
        found[layer.name] = {}
        for count in bits:
            theta = quantized_weights(state.theta, (layer,), whole(count, "bits"))
            few = logits(state._replace(theta=theta), images)
            found[layer.name][count] = float(jnp.mean(losses.distillation(few, plain)))
    return found


def mixed_precision(
    layers: Sequence[Layer], found: Mapping[str, Mapping[int, float]], *, points: int = 1000
) -> list[Choice]:
    """The front of sizes and sensitivities: of all choices of bits those that no other one beats in both.

    Sensitivities of layers add up (Cai et al. 2020, eq. 5). Layer by layer; of a front of more than `points` sizes only
    so many are gone on with.

        front = mixed_precision(layers_of(network, shape), sensitivity(network, state, images))
        small = next(choice for choice in reversed(front) if choice.size <= 8 * 2**20)

    Args:
      layers: see `layers_of`.
      found: see `sensitivity`.
      points: at most so many are kept on the way.

    Returns:
      From the smallest to the largest.

    Raises:
      JaxddError: for a layer without sensitivities.
    """
    sizes, totals, chosen = np.zeros(1), np.zeros(1), np.zeros((1, 0), int)
    for layer in layers:
        if not found.get(layer.name):
            raise JaxddError(f"there are no sensitivities of the layer {layer.name!r}.")
        options = np.array(sorted(found[layer.name]))
        costs = np.array([found[layer.name][count] for count in options])
        sizes = (sizes[:, None] + layer.weights * options[None]).ravel()
        totals = (totals[:, None] + costs[None]).ravel()
        grown = np.repeat(chosen, len(options), axis=0)
        chosen = np.concatenate([grown, np.tile(options, len(chosen))[:, None]], axis=1)
        kept = _front(sizes, totals, points)
        sizes, totals, chosen = sizes[kept], totals[kept], chosen[kept]
    names = [layer.name for layer in layers]
    return [
        Choice(dict(zip(names, bits.tolist(), strict=True)), int(size), float(total))
        for bits, size, total in zip(chosen, sizes, totals, strict=True)
    ]


def _front(sizes: np.ndarray, totals: np.ndarray, points: int) -> np.ndarray:
    """Rows that are not beaten, by size."""
    order = np.lexsort((totals, sizes))
    best = np.minimum.accumulate(totals[order])
    kept = order[np.concatenate([[True], best[1:] < best[:-1]])]
    if len(kept) <= points:
        return kept
    cells = np.unique(np.linspace(0, len(kept) - 1, points).round().astype(int))
    return kept[cells]
