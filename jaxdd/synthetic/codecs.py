"""How labels are stored: class numbers, whole vectors. A codec that compresses them is one more entry of the table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError, unknown
from jaxdd.types import Array, Draws, LabelCodec, Labelling


def _stored_values(stored: Mapping[str, Array], images: Array | None, draws: Draws) -> Array:
    return stored["values"][draws.rows]


def _class_numbers(fitted: Any, labels: Array, images: Array | None) -> dict[str, Array]:
    return {"values": jnp.argmax(labels, axis=-1).astype(jnp.int32)}


_CODECS = {
    "hard": LabelCodec(
        fit=lambda labels, images: (),
        encode=_class_numbers,
        decode=_stored_values,
        num_bits=lambda stored, classes: math.ceil(math.log2(max(classes, 2))) * stored["values"].size,
        convention="hard",
    ),
    "dense": LabelCodec(
        fit=lambda labels, images: (),
        encode=lambda fitted, labels, images: {"values": labels},
        decode=_stored_values,
        num_bits=lambda stored, classes: 32 * stored["values"].size,
    ),
}


def label_codec(name: str, own: Mapping[str, LabelCodec] | None = None) -> LabelCodec:
    """A codec by name: "hard" (class numbers, as few bits each as the classes need), "dense" (vectors of float32).

    Args:
      own: codecs of one's own, which have precedence.

    Raises:
      JaxddError: for an unknown name, suggesting the nearest.
    """
    known = {**_CODECS, **(own or {})}
    if name not in known:
        raise unknown("label codec", name, known)
    return known[name]


def labels_of(
    labelling: Labelling, images: Array | None, draws: Draws, own: Mapping[str, LabelCodec] | None = None
) -> Array:
    """The labels of views of a set, which may be the images themselves.

    A set without a codec has one label an image, and each of its views has that of its image.

    Args:
      images: the views `(b, h, w, c)` as networks see them; None will do for a codec with one label an image.
      draws: what made them.
      own: see `label_codec`.

    Returns:
      `(b,)` or `(b, classes)`.

    Raises:
      JaxddError: for an unknown codec, or one with one label a view, if there are no views.
    """
    if labelling.codec is None:
        return _stored_values({"values": labelling.values}, images, draws)
    codec = label_codec(labelling.codec, own)
    if codec.per_view and images is None:
        raise JaxddError(f"the labels of the codec {labelling.codec!r} are one a view: give the views.")
    return codec.decode(labelling.stored, images, draws)


def label_bits(regime: str, labels: Any) -> int:
    """What a set's label vectors `(m, classes)`, or their shape, cost: class numbers if they were not learned."""
    codec = _CODECS["dense" if regime == "learned" else "hard"]
    like = jax.ShapeDtypeStruct(labels.shape, labels.dtype)
    return codec.num_bits(jax.eval_shape(lambda labels: codec.encode((), labels, None), like), labels.shape[-1])
