"""Labels that are learned."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError, unknown
from jaxdd.synthetic.codecs import label_bits
from jaxdd.synthetic.parameterisation import Params, Rendered, SyntheticSet
from jaxdd.types import Array, Key, RealData

_LEAST = 1e-6  # a share that a learned label gives a class, where softmax takes its logarithm
# What the labels of each kind are, once rendered.
_CONVENTIONS = {"raw": "raw", "softmax": "probability", "centred": "centred"}


def learned_labels(
    base: SyntheticSet, kind: str = "raw", *, nonnegative: bool = False, confidence: float = 0.9
) -> SyntheticSet:
    """The leaf `labels` of `base` is learned too: 32 bits an entry.

    Where `base` goes on with a set whose labels were learned, they begin as those.

    Args:
      base: a parameterisation with fixed labels.
      kind: what the leaf holds. "raw": vectors that cross-entropy uses as they are, at first one-hot (Sucholutsky &
        Schonlau 2019). "softmax": logits of probabilities. "centred": vectors for squared error, at first one-hot
        minus 1/classes (Nguyen et al. 2021).
      nonnegative: negative entries of raw labels become 0 after each step (Feng et al. 2024).
      confidence: the probability in (0, 1) that softmax labels give the class at first; the others share the rest.

    Raises:
      JaxddError: for a bad argument, or if the labels of `base` are learned already.
    """
    if kind not in _CONVENTIONS:
        raise unknown("kind of learned labels", kind, _CONVENTIONS)
    if nonnegative and kind != "raw":
        raise JaxddError(f"only raw labels can be kept non-negative; {kind} labels were asked for.")
    if not 0 < confidence < 1:
        raise JaxddError(f"the confidence of softmax labels must be in (0, 1), got {confidence}.")
    if "labels" in base.learned:
        raise JaxddError(f"the labels of {base.decoder} are learned already.")

    def first(vectors: Array) -> Array:
        if kind == "softmax":
            shares = jnp.maximum(vectors, _LEAST)
            return jnp.log(shares / shares.sum(axis=1, keepdims=True))
        return vectors - 1 / vectors.shape[1] if kind == "centred" else vectors

    def init(key: Key, data: RealData) -> Params:
        params = base.init(key, data)
        fixed, classes = params["labels"], data.labels.num_classes
        one_hot = jax.nn.one_hot(jnp.argmax(fixed, axis=1), classes, dtype=fixed.dtype)
        labels = one_hot
        if kind == "softmax":
            labels = one_hot * math.log(confidence * max(classes - 1, 1) / (1 - confidence))
        elif kind == "centred":
            labels = one_hot - 1 / classes
        if (known := base.first_labels(classes)) is not None:
            rows, vectors = known
            labels = labels.at[rows].set(first(vectors.astype(labels.dtype)))
        return {**params, "labels": labels}

    def render(params: Params) -> Rendered:
        if kind == "softmax":
            params = {**params, "labels": jax.nn.softmax(params["labels"], axis=1)}
        return base.render(params)

    def project(params: Params) -> Params:
        params = base.project(params)
        return {**params, "labels": jnp.maximum(params["labels"], 0)} if nonnegative else params

    return base._replace(
        init=init,
        render=render,
        project=project,
        num_bits=lambda params: {**base.num_bits(params), "labels": label_bits("learned", params["labels"])},
        decoder=f"softmax_labels({base.decoder})" if kind == "softmax" else base.decoder,
        label_convention=_CONVENTIONS[kind],
        label_regime="learned",
        learned=(*base.learned, "labels"),
    )
