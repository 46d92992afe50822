"""How labels are stored: class numbers, whole vectors, or as the teacher that gives them. A codec that compresses them
is one more entry of the table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd import models
from jaxdd._dotted import is_dotted
from jaxdd._jax import key_of
from jaxdd.errors import JaxddError, unknown
from jaxdd.types import Array, Draws, LabelCodec, Labelling, Network, NetworkState, leaves_by_path


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


_TEACHER = "teacher:"
_AT_ONCE = 100  # images that a teacher sees


def _not_from_labels(labels: Array, images: Array | None) -> Any:
    raise JaxddError("a teacher is not made from labels: see `labelled_by`.")


def _teacher(model: str) -> LabelCodec:
    """The probabilities that a network gives a view; stored are its numbers, and what it gives the images as they are.

    The latter also tell how many classes there are. What is fitted is the teacher's `NetworkState`.
    """

    def decode(stored: Mapping[str, Array], images: Array | None, draws: Draws) -> Array:
        assert images is not None  # `labels_of` has said so
        network = models.build(model, images.shape[1:], stored["values"].shape[1])
        theta, stats = (
            jax.tree.unflatten(jax.tree.structure(tree), [stored[f"{part}/{name}"] for name in leaves_by_path(tree)])
            for part, tree in zip(("theta", "stats"), jax.eval_shape(network.init, key_of(0)), strict=True)
        )
        return jax.lax.stop_gradient(jax.nn.softmax(network.apply(theta, images, stats)[0]))

    def encode(teacher: NetworkState, labels: Array, images: Array | None) -> dict[str, Array]:
        return {"values": labels} | {
            f"{part}/{name}": leaf
            for part, tree in zip(("theta", "stats"), teacher, strict=True)
            for name, leaf in leaves_by_path(tree).items()
        }

    return LabelCodec(
        fit=_not_from_labels,
        encode=encode,
        decode=decode,
        num_bits=lambda stored, classes: sum(
            8 * leaf.dtype.itemsize * leaf.size for name, leaf in stored.items() if name != "values"
        ),
        convention="probability",
        per_view=True,
    )


def labelled_by(
    model: str | Network, teacher: NetworkState, images: Array, num_classes: int, *, views: bool
) -> tuple[Labelling, int]:
    """Labels that a trained network gives images, and the bits that they cost.

    Args:
      model: of the teacher, as `models.build` takes it.
      teacher: its numbers, in evaluation mode.
      images: `(m, h, w, c)`.
      views: label every view of an image when networks are trained, for which the teacher goes with the set; else one
        label an image, and no teacher.

    Returns:
      Probabilities `(m, classes)`, learned ones.

    Raises:
      JaxddError: for labels of views by a teacher that is not of the zoo: a file names no code that is run.
    """
    if views and (not isinstance(model, str) or is_dotted(model.partition("(")[0])):
        raise JaxddError(
            "labels of views need a teacher of the zoo, since a file names no code of one's own: take another model, "
            "or one label an image."
        )
    network = models.build(model, images.shape[1:], num_classes)

    def of_one(image: Array) -> Array:
        return jax.nn.softmax(network.apply(teacher.theta, image[None], teacher.stats)[0][0])

    values = jax.lax.map(of_one, images, batch_size=min(_AT_ONCE, len(images)))
    if not views:
        return Labelling(values, "probability", "learned"), 32 * values.size
    name = f"{_TEACHER}{model}"
    codec = label_codec(name)
    stored = codec.encode(teacher, values, images)
    return Labelling(values, "probability", "learned", name, stored), codec.num_bits(stored, num_classes)


def label_codec(name: str, own: Mapping[str, LabelCodec] | None = None) -> LabelCodec:
    """A codec by name: "hard" (class numbers, as few bits each as the classes need), "dense" (vectors of float32),
    "teacher:MODEL" (the probabilities that this network gives a view, see `labelled_by`).

    Args:
      own: codecs of one's own, which have precedence.

    Raises:
      JaxddError: for an unknown name, suggesting the nearest, or a teacher that is not of the zoo.
    """
    known = {**_CODECS, **(own or {})}
    if name not in known and name.startswith(_TEACHER):
        model = name.removeprefix(_TEACHER)
        if is_dotted(model.partition("(")[0]):
            raise JaxddError(f"the label codec {name!r} names code of somebody's own, which is not run.")
        return _teacher(model)
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
