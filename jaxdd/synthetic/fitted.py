"""Parameterisations whose first parameters a run before has fitted to images."""

from __future__ import annotations

import jax

from jaxdd._numbers import positive, whole
from jaxdd.synthetic.parameterisation import Fit, Params, SyntheticSet
from jaxdd.synthetic.pixels import pixels
from jaxdd.types import Array, Key, RealData

FITTED = "fitted"
"""The stage that does so, and its asset: the learned leaves."""


def fitted(base: SyntheticSet, *, steps: int, learning_rate: float, init: str = "real") -> SyntheticSet:
    """`base`, which begins as images (`init` of `pixels`): as near to them as a fit by Adam has brought it.

    Nothing is trained in `init`: the fit is the stage of `training.fitted`, and its product becomes the first
    parameters. Where there was none, in the stage itself for one, `base` begins as it does. What `multi_formation`
    makes of such a set is fitted to nothing.

        synthetic = fitted(neural_fields(11, width=6), steps=5_000, learning_rate=5e-4)
        stages = training.fitted(synthetic, config={..})

    Raises:
      JaxddError: for a bad argument.
    """
    pixels(1, init=init)  # or says what is wrong
    whole(steps, "the steps of a fit")
    positive(learning_rate, "the learning rate of a fit")

    def first(key: Key, data: RealData) -> Params:
        params = base.init(key, data)
        return {**params, **data.assets[FITTED]} if FITTED in data.assets else params

    def target(key: Key, data: RealData) -> Array:
        labels = jax.eval_shape(lambda key: base.init(key, data), key)["labels"]
        return pixels(labels.shape[0] // data.labels.num_classes, init=init).init(key, data)["images"]

    return base._replace(init=first, fit=Fit(steps, learning_rate, target))
