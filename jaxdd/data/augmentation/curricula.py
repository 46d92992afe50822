"""How an augmentation changes while something is learned."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from jaxdd.errors import JaxddError, unknown
from jaxdd.types import Array

CURRICULA = ("constant", "step", "linear", "cosine", "reversed")


def crop_curriculum(kind: str, smallest: float = 0.08, milestone: float = 1.0) -> Callable[[Array | float], Array]:
    """How small crops may be as a recovery goes on: `low(done)`, the smallest share of the area, of the share of steps
    that are done.

    CDA's (Yin & Shen 2024, arXiv:2311.18838), from whole images to small crops: with `t = done / milestone`, "cosine"
    is `s + (1 - s) (1 + cos(π t)) / 2`, "linear" `s + (1 - s) (1 - t)`, "step" 1, and each of them s from `milestone`
    on. "constant" is s throughout; "reversed" goes as "cosine" does, from s to 1, and is 1 from `milestone` on.

        crop = resized_crop((crop_curriculum("cosine")(step / steps), 1.0))

    Args:
      smallest: s.
      milestone: when it ends, in (0, 1].

    Raises:
      JaxddError: for an unknown kind, or numbers outside of (0, 1].
    """
    if kind not in CURRICULA:
        raise unknown("curriculum of crops", kind, CURRICULA)
    if not (0 < smallest <= 1 and 0 < milestone <= 1):
        raise JaxddError(f"a curriculum needs a share and a milestone within (0, 1], got {smallest} and {milestone}.")

    def low(done: Array | float) -> Array:
        t = jnp.minimum(jnp.asarray(done, jnp.float32) / milestone, 1)
        falling = (1 + jnp.cos(jnp.pi * t)) / 2
        left = {
            "constant": jnp.zeros_like(t),
            "step": (t < 1).astype(t.dtype),
            "linear": 1 - t,
            "cosine": falling,
            "reversed": 1 - falling,
        }
        return smallest + (1 - smallest) * left[kind]

    return low
