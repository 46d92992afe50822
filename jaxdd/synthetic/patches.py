"""Images of which patches were dropped, and a small network that fills them in from what is around."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdd.selection.patches import Patches, from_patches, grid, in_place
from jaxdd.types import Array, Cost, Key, PyTree

DECODER = "patches"
"""What `Content.decoder` says of such a set."""


class Inpainter(NamedTuple):
    """A network that guesses a patch from the patches around it, the same at every place.

    It sees the `(2 reach + 1)² - 1` patches around, zeros for those that were dropped or lie outside, and of each
    whether it is there; between are so many rectified units. It takes the place of the published masked autoencoder, of
    330 million parameters, which was trained on ImageNet.
    """

    size: int
    """Side of a patch."""
    channels: int
    """Of images."""
    width: int = 64
    reach: int = 1

    @property
    def _sizes(self) -> tuple[int, int]:
        out = self.size**2 * self.channels
        return ((2 * self.reach + 1) ** 2 - 1) * (out + 1), out

    def init(self, key: Key) -> dict[str, Array]:
        """`hidden_kernel`, `hidden_bias`, `out_kernel`, `out_bias`."""
        inputs, out = self._sizes
        of_hidden, of_out = jax.random.split(key)
        return {
            "hidden_kernel": jax.random.normal(of_hidden, (inputs, self.width)) * (2 / inputs) ** 0.5,
            "hidden_bias": jnp.zeros(self.width),
            "out_kernel": jax.random.normal(of_out, (self.width, out)) * (1 / self.width) ** 0.5,
            "out_bias": jnp.zeros(out),
        }

    def apply(self, theta: PyTree, patches: Array, dropped: Array, places: tuple[int, int]) -> Array:
        """What it guesses of every patch, `(m, patches, size * size * c)`.

        Args:
          patches: the same shape; those that were dropped may be anything.
          dropped: bool `(m, patches)`.
          places: patches in a column and in a row.
        """
        there = (~dropped).astype(patches.dtype)[..., None]
        seen = jnp.concatenate([jnp.where(there > 0, patches, 0), there], axis=2).reshape(len(patches), *places, -1)
        r, (rows, columns) = self.reach, places
        seen = jnp.pad(seen, ((0, 0), (r, r), (r, r), (0, 0)))
        around = [
            seen[:, i : i + rows, j : j + columns]
            for i in range(2 * r + 1)
            for j in range(2 * r + 1)
            if (i, j) != (r, r)
        ]
        x = jnp.concatenate(around, axis=3).reshape(*dropped.shape, -1)
        x = jax.nn.relu(x @ theta["hidden_kernel"] + theta["hidden_bias"][None, None])
        return x @ theta["out_kernel"] + theta["out_bias"][None, None]


def filled(patches: Patches, inpainter: Inpainter, theta: PyTree, image_shape: tuple[int, int, int]) -> Array:
    """Images `(m, h, w, c)`: kept patches as they are, and what the inpainter guesses of the others.

    `x (1 - mask) + ŷ mask` of Zhou et al. 2023 (arXiv 2308.10524, section 3.3).

        images = filled(drop_patches(images, scores, 4, 0.25), Inpainter(4, 1), theta, (28, 28, 1))
    """
    size = inpainter.size
    guess = inpainter.apply(theta, in_place(patches), patches.dropped, grid(image_shape, size))
    return from_patches(in_place(patches, guess), image_shape, size)


def stored(patches: Patches, theta: PyTree) -> dict[str, Array]:
    """What a file has of such images: `patches`, `dropped` (bool), and the inpainter's numbers, `inpainter/..`.

    Without dropped patches there is nothing to fill in, and only `patches`.
    """
    if patches.kept.shape[1] == patches.dropped.shape[1]:
        return {"patches": patches.kept}
    of_inpainter = {f"inpainter/{name}": leaf for name, leaf in theta.items()}
    return {"patches": patches.kept, "dropped": patches.dropped, **of_inpainter}


def patch_cost(params: dict[str, Array], of_labels: int) -> tuple[Cost, int]:
    """The cost of what `stored` gives, and the inpainter's share of it, in bits.

    32 bits an entry of kept patches and of the inpainter, as of every set, one bit a patch for the mask. The first is
    with the inpainter: nobody can render the set without it.

    Args:
      of_labels: bits of the labels.
    """
    bits = {name: (1 if leaf.dtype == jnp.bool_ else 32) * leaf.size for name, leaf in params.items()}
    of_inpainter = sum(count for name, count in bits.items() if name.startswith("inpainter/"))
    return Cost.of({**bits, "labels": of_labels}), of_inpainter
