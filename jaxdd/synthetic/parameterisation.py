"""What is learned, and how it becomes images and labels: the contract of every parameterisation.

A parameterisation is four pure functions over a flat dict of arrays. They compose: one wraps another by composing
`init`, `render`, `project` and `num_bits`. Where two of them constrain the same leaf, the outer constraint holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdd.errors import JaxddError
from jaxdd.synthetic.codecs import label_codec
from jaxdd.types import Content, Cost, Distilled, Key, Labelling, RealData, Training

Params = dict[str, Array]


class Rendered(NamedTuple):
    """What networks and kernels see."""

    images: Float[Array, "m h w c"]
    labels: Float[Array, "m classes"]
    """Always floats: one-hot for "hard", one-hot minus 1/classes for fixed "centred" ones; `(m, d)` for "features"."""
    learning_rates: Float[Array, "..."] | None = None


class Fit(NamedTuple):
    """How a run before fits first parameters to images, see `fitted`."""

    steps: int
    """Of Adam."""
    learning_rate: float
    target: Callable[[Key, RealData], Array]
    """The images `(m, h, w, c)` that are to be rendered."""


class SyntheticSet(NamedTuple):
    """A parameterisation of the synthetic set."""

    init: Callable[[Key, RealData], Params]
    """The first parameters, a flat dict of float arrays, so that every leaf can have a learning rate of its own."""
    render: Callable[[Params], Rendered]
    """Differentiable."""
    project: Callable[[Params], Params]
    """Back onto the feasible set after an optimiser's step; the identity where there is no constraint."""
    num_bits: Callable[[Params], dict[str, int]]
    """The ledger: bits for each leaf that has to be stored. A leaf that is absent here need not be stored."""
    decoder: str
    """How a file's parameters become images, labels and rates, outermost first: "multi_formation(pixels)". What only
    constrains them (`unit_norm`, `clipped`, `corrupted`, labels used as they are) is not part of it."""
    label_convention: str
    """Of `Rendered.labels`, one of `jaxdd.types.LABEL_CONVENTIONS`."""
    label_regime: str
    """"hard" (labels stay as they were) or "learned"."""
    learned: tuple[str, ...]
    """The leaves meant to be learned, each by an optimiser of its own (`per_leaf`); the others are frozen."""
    first_labels: Callable[[int], tuple[Array, Array] | None] = lambda num_classes: None
    """Rows that begin with labels which a run before has learned, and these, as vectors `(rows, classes)` with one-hot
    ones for their origin; None if there are none. What learns labels begins from them."""
    counts: tuple[int, ...] | None = None
    """Rendered images of each class, where classes have unequal numbers of them."""
    fit: Fit | None = None
    """What a run before makes its first parameters by, if one does."""


def render(synthetic: SyntheticSet, params: Params, *, iterate: str = "last", **training: Any) -> Distilled:
    """What `Method.product` returns of a distillation: the rendered set and the leaves of its ledger.

    Args:
      iterate: see `types.Content`.
      **training: fields of `types.Training` beside learned rates, which are rendered.
    """
    rendered, ledger = synthetic.render(params), synthetic.num_bits(params)
    labels = rendered.labels
    if synthetic.label_convention == "hard":
        labels = label_codec("hard").encode((), labels, None)["values"]
    if "plan" in training:
        training["schedule"] = training.pop("plan")  # its older name
    return Distilled(
        Content(rendered.images, {name: params[name] for name in ledger}, synthetic.decoder, iterate),
        Labelling(labels, synthetic.label_convention, synthetic.label_regime, counts=synthetic.counts),
        Training(**{"learning_rates": rendered.learning_rates, **training}),
        Cost.of(ledger),
    )


def check_has_images(what: str, base: SyntheticSet) -> None:
    """Raises JaxddError unless the pixels of stored images are what `base` learns."""
    if "images" not in base.learned:
        raise JaxddError(
            f"{what} needs a parameterisation that learns pixels, but {base.decoder} learns {', '.join(base.learned)}."
        )


def with_mirror_images(rendered: Rendered) -> Rendered:
    """A set, and after it the same images mirrored, with the same labels."""
    images, labels, rates = rendered
    return Rendered(jnp.concatenate([images, images[:, :, ::-1]]), jnp.concatenate([labels, labels]), rates)
