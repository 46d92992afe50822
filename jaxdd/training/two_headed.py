"""A student with two heads on one body: one learns from few labels, one from a teacher's answers to everything."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxdd import _numbers, losses, models
from jaxdd._jax import key_of
from jaxdd._numbers import positive, whole
from jaxdd.errors import JaxddError
from jaxdd.training.protocols import Protocol
from jaxdd.training.schedules import optimizer_of
from jaxdd.training.seen import seen
from jaxdd.training.step import TrainingState, train_step
from jaxdd.types import Array, Key, Network, NetworkState


class Student(NamedTuple):
    """How a student with two heads is trained: AdamW, a tenth of its steps warm-up, then half a cosine to zero.

        training.TWO_HEADED._replace(share=0.0)  # by labels alone

    Rate, batches, warm-up, temperature and share are by default those of ActiveKD (Kang et al. 2025, arXiv:2506.00910),
    the decay is AdamW's usual one, and the number of steps is ours.
    """

    steps: int = 500
    batch_size: int = 64
    """Labelled examples a step; as many others beside them."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    temperature: float = 2.0
    """Of the teacher's part of the loss."""
    share: float = 0.5
    """The teacher's, of the loss and of what both heads say, see `heads`; 0 for labels alone."""

    def check(self, where: str = "student.") -> Student:
        """Itself, in Python's numbers.

        Args:
          where: what stands before the name of a field in a sentence.

        Raises:
          JaxddError: for what is no number of its range: at least 1, above 0, at least 0 (the decay), 0 to 1 (the
            share).
        """
        decay = self.weight_decay
        return Student(
            whole(self.steps, f"{where}steps"),
            whole(self.batch_size, f"{where}batch_size"),
            positive(self.learning_rate, f"{where}learning_rate"),
            0.0 if decay is not False and decay == 0 else positive(decay, f"{where}weight_decay"),
            positive(self.temperature, f"{where}temperature"),
            _numbers.share(self.share, f"{where}share"),
        )


TWO_HEADED = Student()


class Heads(NamedTuple):
    """What a two-headed network makes of examples."""

    features: Array
    """float32 `(n, d)`, what both heads see."""
    probabilities: Array
    """float32 `(n, classes)`: both heads' softmax, weighted, see `heads`."""


def two_headed(model: str | Network, image_shape: tuple[int, ...], num_classes: int) -> Network:
    """A network whose last layer has place for two heads: the logits `(n, 2 classes)`, labels' first.

    Args:
      model: as of `models.build`; a Network must have that many outputs itself.

    Raises:
      JaxddError: as `models.build`; for a Network with another number of outputs.
    """
    network = models.build(model, image_shape, 2 * whole(num_classes, "the number of classes", least=2))
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)

    def apply(key: Key, image: Array) -> Array:
        theta, stats = network.init(key)
        return network.apply(theta, image, stats)[0]

    outputs = jax.eval_shape(apply, key_of(0), image).shape
    if outputs != (1, 2 * num_classes):
        raise JaxddError(
            f"a student with two heads for {num_classes} classes has {2 * num_classes} outputs, "
            f"this network {outputs[-1]}."
        )
    return network


def heads(logits: ArrayLike, share: float | Array = 0.5) -> Array:
    """What both heads say together, `(1 - share) softmax(first half) + share softmax(second half)`.

    ActiveKD takes half of each (Kang et al. 2025, arXiv:2506.00910), as it takes half of each loss. Here the weight is
    the teacher's share of the loss, whatever that is: with a share of 0 nothing has trained the second head.

    Args:
      logits: `(n, 2 classes)`.
      share: the second head's; 0 for the labels' head alone.

    Returns:
      float32 `(n, classes)`.

    Raises:
      JaxddError: for logits of another shape.
    """
    of_labels, of_teacher = _split(jnp.asarray(logits))
    return (1 - share) * jax.nn.softmax(of_labels) + share * jax.nn.softmax(of_teacher)


def two_headed_loss(
    logits: Array, labels: Array, everything: Array, teacher: Array, *, share: float | Array, temperature: float = 2.0
) -> Array:
    """`(1 - a) CE + a (KL of the labelled + KL of the unlabelled)`, the loss of ActiveKD with a = 1/2.

    Kang et al. 2025 (arXiv 2506.00910). Each term is a mean over its batch; KL is `T² KL(softmax(R/T) | softmax(S/T))`
    of the second head, R the teacher's logits.

    Args:
      logits: `(b, 2 classes)` of labelled examples.
      labels: `(b,)` or `(b, classes)`, theirs.
      everything: `(b + u, 2 classes)` of the labelled and, after them, of u unlabelled examples.
      teacher: `(b + u, classes)`, logits or logarithms of probabilities, of the same.
      share: a, the teacher's; 0 for labels alone.
      temperature: T.

    Returns:
      A scalar.
    """
    first, b = _split(logits)[0], len(logits)
    taught = temperature**2 * losses.distillation(_split(everything)[1], teacher, temperature=temperature)
    return (1 - share) * losses.cross_entropy(first, labels).mean() + share * (taught[:b].mean() + taught[b:].mean())


def fit_two_headed(
    network: Network,
    images: ArrayLike,
    labels: ArrayLike,
    teacher: ArrayLike,
    rows: ArrayLike,
    key: Key,
    *,
    most: int | None = None,
    student: Student = TWO_HEADED,
) -> NetworkState:
    """Train a fresh two-headed network on a pool of which some rows have labels.

    Each step sees a batch of labelled examples, drawn with replacement, and one of unlabelled ones. With `most` one
    compiled program serves every round, in which ever more rows have labels, and every share of the teacher.

        state = fit_two_headed(two_headed("mlp", (8, 8, 1), 10), images, labels, teacher, rows, key, most=60)

    Args:
      network: of `two_headed`.
      images: `(n, h, w, c)`, the pool.
      labels: `(n, classes)`, probabilities, of which only the labelled rows count.
      teacher: `(n, classes)`, probabilities that a teacher gives every example.
      rows: `(s,)`, different rows that have labels; 1 to n - 1 of them.
      key: for the initialisation and batches.
      most: how many rows there may be, at least s; s by default.
      student: how it is trained.

    Raises:
      JaxddError: for shapes that do not fit, rows that are none, or numbers of the student's out of their ranges.
    """
    images, labels, teacher = (jnp.asarray(array, jnp.float32) for array in (images, labels, teacher))
    found, n = np.asarray(rows), len(images)
    if labels.ndim != 2 or labels.shape != teacher.shape or len(labels) != n:
        raise JaxddError(
            f"{n} examples need labels and a teacher's answers (n, classes), got {labels.shape} and {teacher.shape}."
        )
    known = found.ndim == 1 and np.issubdtype(found.dtype, np.integer) and len(set(found.tolist())) == len(found)
    if not known or not 0 < len(found) < n or found.min() < 0 or found.max() >= n:
        raise JaxddError(f"labelled rows must be different ones of {n}, at least one and not all, got {found}.")
    most = len(found) if most is None else whole(most, "the most rows that have labels", least=len(found))
    student = student.check()
    padded = np.resize(found, most).astype(np.int32)
    return _fit(
        images,
        labels,
        teacher,
        padded,
        np.int32(len(found)),
        np.float32(student.share),
        key,
        network=network,
        student=student._replace(share=0.0),  # which is traced
    )


@functools.partial(jax.jit, static_argnames=("network", "student"))
def _fit(images, labels, teacher, rows, count, share, key, *, network, student):
    n, batch, steps = len(images), student.batch_size, student.steps
    key_init, key_batches, key_apply = jax.random.split(key, 3)
    rate = student.learning_rate
    protocol = Protocol("", "", (rate,), steps=steps, weight_decay=student.weight_decay, warmup=steps // 10)
    optimizer = optimizer_of(protocol, rate, n)
    # The unlabelled rows before the others; rows are there more than once where they are padded.
    unlabelled = jnp.argsort(jnp.zeros(n, bool).at[rows].set(True), stable=True)
    answers = jnp.log(jnp.maximum(teacher, jnp.finfo(jnp.float32).tiny))

    labelled, others = jax.random.uniform(key_batches, (2, steps, batch))  # ahead: quicker than a draw in every step
    ours = rows[_below(labelled, count)]
    both = jnp.concatenate([ours, unlabelled[_below(others, n - count)]], axis=1)

    def step(state, now):
        t, ours, both = now

        def loss(theta, stats):
            logits, stats = network.apply(
                theta, images[both], stats, mode="train", key=jax.random.fold_in(key_apply, t)
            )
            value = two_headed_loss(
                logits[:batch], labels[ours], logits, answers[both], share=share, temperature=student.temperature
            )
            return value, (stats, ())

        state, _ = train_step(loss, optimizer, state)
        return state, None

    first = TrainingState.first(NetworkState(*network.init(key_init)), optimizer)
    return lax.scan(step, first, (jnp.arange(steps), ours, both))[0].network


def _below(uniform: Array, count: Array) -> Array:
    """Whole numbers below a traced one, from draws of 0 to 1."""
    return jnp.minimum((uniform * count).astype(jnp.int32), count - 1)


def seen_by(network: Network, state: NetworkState, images: ArrayLike, share: float) -> Heads:
    """What a trained two-headed network makes of images `(n, h, w, c)`, see `training.seen`.

    Args:
      share: as of `heads`: that of the student as it was trained.
    """
    features, logits = seen(network, state, images)
    return Heads(jnp.asarray(features), heads(logits, share))


def _split(logits: Array) -> tuple[Array, Array]:
    if logits.ndim != 2 or logits.shape[1] % 2:
        raise JaxddError(f"logits of two heads must have the shape (n, 2 classes), got {logits.shape}.")
    classes = logits.shape[1] // 2
    return logits[:, :classes], logits[:, classes:]
