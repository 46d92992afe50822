"""What DATM and PAD share: parts of the way that grow harder, labels that experts gave and that are learned."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdd import inner, models
from jaxdd._numbers import of_each
from jaxdd.methods._hyper import at_least, field, positive, require
from jaxdd.methods.trajectory import _trajectory as family
from jaxdd.synthetic import Continued, Params, SyntheticSet, learned_labels
from jaxdd.types import Array, Indices, Key, Metrics, Network, NetworkState, RealData, Recipe, Spec, Stage

CORRECT = "correct"
_SOME = 500  # images that an expert sees at once


@dataclasses.dataclass(frozen=True)
class Aligned(family.Trajectory):
    """Hyper-parameters that both have beside those of `Trajectory`; by default DATM's for 10 images per class of
    CIFAR-10, whitened.

    Attributes:
      init: "correct": real images that the first expert, at its last epoch, gets right; or see `synthetic.pixels`.
      min_start: the first epoch is at least this.
      first_max_start: below which it is at first; None for `max_start`.
      growth: updates after which it may be any below `max_start`.
      label_learning_rate: of gradient descent, with momentum 0.9, on the labels' logits.
      threshold: a larger loss takes no step.
      radius, surrogate: ρ and α of the experts' gradients, see `training.sharpness_aware`.
    """

    init: str | Continued = CORRECT
    steps: int = 80
    min_start: int = field(0, at_least(0))
    first_max_start: int | None = field(10, at_least(1))
    growth: int = field(1000, at_least(1))
    batch: int | None = 100
    label_learning_rate: float = field(2.0, positive)
    inner_learning_rate: float = 0.01
    threshold: float = field(1.0, positive)
    expert_epochs: int = 100
    radius: float = field(0.01, positive)
    surrogate: float = field(0.3, at_least(0, under=math.inf))

    def check(self):
        super().check()
        begin = self.first_max_start if self.first_max_start is not None else self.max_start
        require(
            self,
            min_start=(self.min_start < begin, f"below the first epochs that follow, {begin}"),
            first_max_start=(begin <= self.max_start, f"at most max_start, {self.max_start}"),
        )

    def epochs_used(self) -> Sequence[int]:
        window = range(self.min_start, self.max_start + self.span)
        return sorted({*window, self.expert_epochs})  # which is the last, and labels


def aligned(
    config: Aligned,
    stages: Callable[[Spec], tuple[Stage, ...]],
    distance: Callable[[family.Walk], tuple[Array, Metrics]] = family.to_the_goal,
) -> Recipe:
    """DATM's composition, by any distance."""
    return family.matching(
        config,
        soft_labels_of_experts(config),
        family.descent(config, labels=optax.sgd(config.label_learning_rate, momentum=0.9)),
        stages,
        way=family.from_epoch(growing(config), (0, config.span)),
        distance=distance,
        accepted=lambda loss: loss <= config.threshold,
    )


def growing(config: Aligned) -> Callable[[Key, int, Array], Array]:
    """First epochs: from `min_start` to below an end that grows from `first_max_start` to `max_start`."""

    def first(key: Key, count: int, step: Array) -> Array:
        begin = config.max_start if config.first_max_start is None else config.first_max_start
        grown = (config.max_start - begin) * jnp.minimum(step, config.growth) // config.growth
        return jax.random.randint(key, (count,), config.min_start, begin + grown)

    return first


def soft_labels_of_experts(config: Aligned) -> SyntheticSet:
    """Pixels, a step size, and labels that are learned: at first the mean logits of the experts, at their last epochs,
    that get the image right, or of all where none does. A set to go on with keeps its own."""
    correct = config.init == CORRECT
    base = learned_labels(family.images(config, "real" if correct else config.init), "softmax")
    where = family.where(config)
    rows = where.rows(jnp.arange(config.experts), config.expert_epochs)

    def init(key: Key, data: RealData) -> Params:
        key_base, key_order = jax.random.split(key)
        params = base.init(key_base, data)
        network = models.build(config.model, data.images.shape[1:], data.labels.num_classes)
        table = data.tables[family.EXPERTS]

        def last_of(row: Indices) -> NetworkState:
            return where.read(jax.tree.map(lambda leaf: leaf[row], table), row, data.assets)

        if correct:
            params |= {"images": data.images[_right_ones(key_order, network, last_of(rows[0]), data, config.ipc)]}
        if isinstance(config.init, Continued):
            return params
        images, own = params["images"], jnp.argmax(params["labels"], axis=1)

        def said(row: Array) -> Array:
            expert = last_of(row)
            return inner.map_blocks(lambda some: network.apply(expert.theta, some, expert.stats)[0], images, _SOME)

        logits = jax.lax.map(said, rows)  # (experts, m, classes)
        right = (jnp.argmax(logits, axis=2) == own[None]).astype(logits.dtype)
        counts = jnp.where(right.any(0)[None], right, 1)[:, :, None]
        return params | {"labels": jnp.sum(counts * logits, axis=0) / jnp.sum(counts, axis=0)}

    return base._replace(init=init)


def _right_ones(
    key: Key, network: Network, expert: NetworkState, data: RealData, ipc: int | tuple[int, ...]
) -> Indices:
    """Rows of images that an expert gets right, so many of each class at random; of the others where these are few."""
    labels = data.labels

    def right(rows: Indices) -> Array:
        logits = network.apply(expert.theta, data.images[rows], expert.stats)[0]
        return jnp.argmax(logits, axis=1) == labels.values[rows]

    found = inner.map_blocks(right, jnp.arange(len(labels.values)), _SOME)
    order = jnp.lexsort((jax.random.uniform(key, found.shape), ~found, labels.values))  # by class, right ones first
    numbers = of_each(ipc, labels.num_classes, "images per class")
    return order[np.concatenate([start + np.arange(n) for start, n in zip(labels.starts, numbers, strict=True)])]
