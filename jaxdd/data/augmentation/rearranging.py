"""Images whose pixels change places."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdd._numbers import whole
from jaxdd.data.augmentation.contract import Augmentation
from jaxdd.errors import JaxddError
from jaxdd.types import Array, Key


def roll(largest: int) -> Augmentation:
    """Rolled down and right by 0 to `largest` whole pixels each; what leaves on one side comes back on the other.

    The jitter of DeepInversion (Yin et al. 2020) and SRe2L (Yin, Xing & Shen 2023).

    Raises:
      JaxddError: if that is no whole number of at least 0.
    """
    largest = whole(largest, "the largest number of pixels by which images are rolled", 0)

    def draw(key: Key, count: int) -> Array:
        return jax.random.randint(key, (count, 2), 0, largest + 1)

    def apply(images: Array, shifts: Array) -> Array:
        if len(shifts) not in (1, len(images)):
            raise JaxddError(f"a draw for {len(shifts)} images cannot be applied to {len(images)}; draw 1 or as many.")
        if len(shifts) == 1:
            return jnp.roll(images, shifts[0], axis=(1, 2))
        return jax.vmap(lambda image, shift: jnp.roll(image, shift, axis=(0, 1)))(images, shifts)

    return Augmentation(draw, apply, f"roll({largest})")


def shuffle_patches(grid: int) -> Augmentation:
    """Cut in `grid` by `grid` patches that are laid out anew, in another order for every image.

    What RDED (Sun et al. 2024, arXiv:2312.03526) trains on its mosaics with.

    Raises:
      JaxddError: if that is no whole number of at least 1; where it is used, if it does not divide an image's sides.
    """
    grid = whole(grid, "patches on a side")

    def draw(key: Key, count: int) -> Array:
        return jax.vmap(lambda key: jax.random.permutation(key, grid**2))(jax.random.split(key, count))

    def apply(images: Array, orders: Array) -> Array:
        count, height, width, channels = images.shape
        if height % grid or width % grid:
            raise JaxddError(f"images of {height}x{width} pixels are not {grid} by {grid} patches of whole pixels.")
        if len(orders) not in (1, count):
            raise JaxddError(f"a draw for {len(orders)} images cannot be applied to {count}; draw 1 or as many.")
        sides = height // grid, width // grid
        patches = images.reshape(count, grid, sides[0], grid, sides[1], channels).swapaxes(2, 3)
        patches = patches.reshape(count, grid**2, *sides, channels)
        orders = jnp.broadcast_to(orders, (count, grid**2))
        patches = jnp.take_along_axis(patches, orders[:, :, None, None, None], axis=1)
        patches = patches.reshape(count, grid, grid, *sides, channels).swapaxes(2, 3)
        return patches.reshape(images.shape)

    return Augmentation(draw, apply, f"shuffle_patches({grid})")
