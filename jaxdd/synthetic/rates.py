"""Learning rates that are learned with the images."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.synthetic.parameterisation import Params, Rendered, SyntheticSet
from jaxdd.types import Key, RealData

SMALLEST = 1e-6


def learning_rates(base: SyntheticSet, initial: float, shape: tuple[int, ...], *, raw: bool = False) -> SyntheticSet:
    """A leaf `learning_rates` of the given shape, rendered by softplus and so always positive (Wang et al. 2018).

    Args:
      base: a parameterisation without learned learning rates.
      initial: what every rate is at first, positive.
      shape: `()` for one rate, `(steps,)` for one a step, `(epochs, steps)`, ...
      raw: the leaf is the rate itself, brought back to at least 1e-6 after each step, so that published rates of a
        step size hold (Cazenavette et al. 2022): where softplus is, a step at .01 is ten thousand times smaller.

    Raises:
      JaxddError: for a bad argument, or if `base` learns learning rates already.
    """
    if not (initial > 0 and math.isfinite(initial)):
        raise JaxddError(f"the initial learning rate must be positive and finite, got {initial}.")
    if not isinstance(shape, tuple):
        raise JaxddError(f"the shape of learning rates must be a tuple of sizes, got {shape!r}.")
    for size in shape:
        whole(size, "every size in the shape of learning rates")
    if "learning_rates" in base.learned:
        raise JaxddError(f"{base.decoder} learns learning rates already.")
    # The inverse of softplus, which does not overflow.
    start = initial if raw else initial + math.log(-math.expm1(-initial))

    def init(key: Key, data: RealData) -> Params:
        return {**base.init(key, data), "learning_rates": jnp.full(shape, start, data.images.dtype)}

    def render(params: Params) -> Rendered:
        leaf = params["learning_rates"]
        if raw:
            return base.render(params)._replace(learning_rates=leaf)
        # What is added changes nothing but a softplus that has underflowed to zero.
        return base.render(params)._replace(learning_rates=jax.nn.softplus(leaf) + jnp.finfo(leaf.dtype).tiny)

    def project(params: Params) -> Params:
        params = base.project(params)
        return {**params, "learning_rates": jnp.maximum(params["learning_rates"], SMALLEST)} if raw else params

    return base._replace(
        init=init,
        render=render,
        project=project,
        num_bits=lambda params: {**base.num_bits(params), "learning_rates": 32 * params["learning_rates"].size},
        decoder=f"learning_rates({base.decoder})",
        learned=(*base.learned, "learning_rates"),
    )
