"""As many images as cost no more than some plain ones."""

from __future__ import annotations

from collections.abc import Callable

import jax

from jaxdd._jax import key_of
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.synthetic.parameterisation import Params, Rendered, SyntheticSet
from jaxdd.synthetic.pixels import pixels
from jaxdd.types import Key, RealData


def within_budget(make: Callable[[int], SyntheticSet], ipc: int) -> SyntheticSet:
    """As many images per class as cost at most the bits of `ipc` plain ones per class, labels counted in both.

        within_budget(lambda n: frequencies(n, 64), 1)  # for images of 28x28: 11 of each class

    Args:
      make: `make(n)`, the parameterisation with n images per class, whose params have `labels` `(n * classes, classes)`
        and whose bits rise by as many from each n to the next.
      ipc: the budget, in plain images per class.

    Raises:
      JaxddError: for a budget that is no whole number of at least 1, and by `make`; (in `init`) for one that does not
        pay for one image per class.
    """
    whole(ipc, "images per class")
    one = make(1)

    def of(params: Params) -> SyntheticSet:
        count, classes = params["labels"].shape
        return make(count // classes)

    def init(key: Key, data: RealData) -> Params:
        return make(images_within(make, ipc, data)).init(key, data)

    def render(params: Params) -> Rendered:
        return of(params).render(params)

    return one._replace(
        init=init,
        render=render,
        project=lambda params: of(params).project(params),
        num_bits=lambda params: of(params).num_bits(params),
    )


def images_within(make: Callable[[int], SyntheticSet], ipc: int, data: RealData) -> int:
    """How many images per class `within_budget` pays for, from shapes; arguments and errors as there."""

    def bits(synthetic: SyntheticSet) -> int:
        params = jax.eval_shape(lambda key: synthetic.init(key, data), key_of(0))
        return sum(synthetic.num_bits(params).values())

    budget, one = bits(pixels(ipc, init="noise")), bits(make(1))
    if one > budget:
        raise JaxddError(
            f"{ipc} plain images per class are {budget} bits, and one per class as {make(1).decoder} takes {one}: take "
            "fewer numbers an image."
        )
    return 1 + (budget - one) // (bits(make(2)) - one)
