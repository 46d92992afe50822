"""How labels are stored: class numbers, whole vectors, or as the teacher that gives them. A codec that compresses them
is one more entry of the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


_TEACHER, _TEACHERS, _OF_BATCH = "teacher:", "teachers:", "teachers-by-batch:"
_AND = " + "  # between the networks of a committee
_AT_ONCE = 100  # images that a teacher sees


def _not_from_labels(labels: Array, images: Array | None) -> Any:
    raise JaxddError("a teacher is not made from labels: see `labelled_by`.")


def _votes(
    members: Sequence[str | Network],
    states: Sequence[NetworkState],
    weights: Any,
    images: Array,
    classes: int,
    mode: str,
) -> Array:
    """The softmax of the weighted sum of some networks' logits; of one alone of its logits as they are."""
    logits = [
        models.build(model, images.shape[1:], classes).apply(state.theta, images, state.stats, mode=mode)[0]
        for model, state in zip(members, states, strict=True)
    ]
    total = logits[0] if len(logits) == 1 else sum(weights[k] * each for k, each in enumerate(logits))
    return jax.lax.stop_gradient(jax.nn.softmax(total))


def _taught(members: Sequence[str], mode: str) -> LabelCodec:
    """The probabilities that networks give a view; stored are their numbers, and what they give the images as they are.

    The latter also tell how many classes there are. What is fitted is each one's `NetworkState`, and their weights.
    """

    def name(number: int, part: str, leaf: str) -> str:
        return f"{part}/{leaf}" if len(members) == 1 else f"{number}/{part}/{leaf}"

    def decode(stored: Mapping[str, Array], images: Array | None, draws: Draws) -> Array:
        assert images is not None  # `labels_of` has said so
        classes, states = stored["values"].shape[1], []
        for number, model in enumerate(members):
            theta, stats = (
                jax.tree.unflatten(
                    jax.tree.structure(tree), [stored[name(number, part, leaf)] for leaf in leaves_by_path(tree)]
                )
                for part, tree in zip(
                    ("theta", "stats"),
                    jax.eval_shape(models.build(model, images.shape[1:], classes).init, key_of(0)),
                    strict=True,
                )
            )
            states.append(NetworkState(theta, stats))
        return _votes(members, states, stored.get("weights"), images, classes, mode)

    def encode(fitted: tuple[Sequence[NetworkState], Array], labels: Array, images: Array | None) -> dict[str, Array]:
        states, weights = fitted
        return {"values": labels, **({"weights": weights} if len(members) > 1 else {})} | {
            name(number, part, leaf): value
            for number, state in enumerate(states)
            for part, tree in zip(("theta", "stats"), state, strict=True)
            for leaf, value in leaves_by_path(tree).items()
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
    model: str | Network | Sequence[str | Network],
    teacher: NetworkState | Sequence[NetworkState],
    images: Array,
    num_classes: int,
    *,
    views: bool,
    weights: Sequence[float] | None = None,
    by_batch: bool = False,
) -> tuple[Labelling, int]:
    """Labels that a trained network gives images, or several give together, and the bits that they cost.

        labelling, bits = labelled_by(("resnet18", "vgg11"), states, images, 10, views=True, weights=(0.6, 0.4))

    Args:
      model: of the teacher, as `models.build` takes it; of several, one each.
      teacher: its numbers; of several, one each.
      images: `(m, h, w, c)`.
      views: label every view of an image when networks are trained, for which the teacher goes with the set; else one
        label an image, and no teacher.
      weights: of several networks' logits, of which the sum is taken before the softmax; equal ones by default.
      by_batch: label views by networks that normalise by the batch, or the part of one, that a student sees (batch-
        specific labels of Cui et al. 2025, arXiv:2501.07575); else in evaluation mode, as images always are.

    Returns:
      Probabilities `(m, classes)`, learned ones.

    Raises:
      JaxddError: for labels of views by a teacher that is not of the zoo: a file names no code that is run; or for
        other numbers of models, teachers and weights.
    """
    members = (model,) if isinstance(model, str | Network) else tuple(model)
    states = (teacher,) if isinstance(teacher, NetworkState) else tuple(teacher)
    shares = jnp.full(len(members), 1 / max(1, len(members))) if weights is None else jnp.asarray(weights, jnp.float32)
    if not len(members) == len(states) == len(shares) or not members:
        raise JaxddError(
            f"{len(members)} models need as many teachers and weights, got {len(states)} and {len(shares)}."
        )
    names = [each for each in members if isinstance(each, str) and not is_dotted(each.partition("(")[0])]
    if views and len(names) < len(members):
        raise JaxddError(
            "labels of views need a teacher of the zoo, since a file names no code of one's own: take another model, "
            "or one label an image."
        )

    def of_one(image: Array) -> Array:
        return _votes(members, states, shares, image[None], num_classes, "eval")[0]

    values = jax.lax.map(of_one, images, batch_size=min(_AT_ONCE, len(images)))
    if not views:
        return Labelling(values, "probability", "learned"), 32 * values.size
    kind = _OF_BATCH if by_batch else _TEACHER if len(names) == 1 else _TEACHERS
    name = f"{kind}{_AND.join(names)}"
    codec = label_codec(name)
    stored = codec.encode((states, shares), values, images)
    return Labelling(values, "probability", "learned", name, stored), codec.num_bits(stored, num_classes)


def label_codec(name: str, own: Mapping[str, LabelCodec] | None = None) -> LabelCodec:
    """A codec by name: "hard" (class numbers, as few bits each as the classes need), "dense" (vectors of float32),
    "teacher:MODEL" (the probabilities that this network gives a view, see `labelled_by`), "teachers:MODEL + MODEL"
    (that these give together), "teachers-by-batch:MODEL + .." (likewise, normalised by the batch at hand).

    Args:
      own: codecs of one's own, which have precedence.

    Raises:
      JaxddError: for an unknown name, suggesting the nearest, or a teacher that is not of the zoo.
    """
    known = {**_CODECS, **(own or {})}
    kind = next((kind for kind in (_TEACHER, _TEACHERS, _OF_BATCH) if name.startswith(kind)), None)
    if name not in known and kind is not None:
        members = name.removeprefix(kind).split(_AND)
        if any(is_dotted(model.partition("(")[0]) for model in members):
            raise JaxddError(f"the label codec {name!r} names code of somebody's own, which is not run.")
        return _taught(members, "batch" if kind == _OF_BATCH else "eval")
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
