"""Images that are rolled round."""

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
