"""What a trained network's normalisations see of each class: a stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdd import inner, models
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.types import (
    Array,
    Batch,
    Indices,
    Key,
    Labels,
    Method,
    Metrics,
    Moments,
    Network,
    RealData,
    Recipe,
    Spec,
    Stage,
)


class _Sums(NamedTuple):
    """Of the examples of each class so far: their number `(classes,)`, and of each normalisation `(classes, c)`."""

    count: Array
    means: tuple[Array, ...]
    squares: tuple[Array, ...]
    """Of the means."""
    variances: tuple[Array, ...]


def class_statistics(
    name: str, teacher: str, model: str | Network, spec: Spec, *, batch_size: int, config: Mapping[str, Any]
) -> Stage:
    """A stage that takes the moments of every normalisation's input over all real examples of each class.

    Its product, `batch.assets[name]`, is a tuple of `Moments` with leaves `(classes, channels)`, in the order in which
    the normalisations are applied: the exact mean, and the exact biased variance over examples and places, of a network
    in evaluation mode. LPLD's (Xiao & He 2024, arXiv:2410.15919), whose code has moving averages over batches instead.

        stages = teacher_stage, training.class_statistics("by_class", "teacher", model, spec, batch_size=100, config=..)

    Args:
      name: of the stage.
      teacher: of the stage of the network, whose product is a `NetworkState`.
      model: that network, see `models.build`.
      spec: of the real data.
      batch_size: examples of an update.
      config: what the teacher depends on.

    Raises:
      JaxddError: if the batch is no whole number of at least 1; (while tracing) for a class without examples.
    """
    whole(batch_size, "batch_size")
    count = spec.length()
    if 0 in spec.counts:
        raise JaxddError(f"class {spec.counts.index(0)} has no examples, so it has no statistics.")

    def sample(key: Key, labels: Labels, step: Array) -> dict[str, Indices]:
        return {"examples": jnp.minimum(step * batch_size + jnp.arange(batch_size), count - 1)}

    def bind(spec: Spec) -> Method:
        network, classes = models.build(model, spec.image_shape, spec.num_classes), spec.num_classes

        def init(key: Key, data: RealData) -> tuple[Array, _Sums]:
            found = jax.eval_shape(
                lambda state: network.norms(state.theta, jnp.zeros((1, *spec.image_shape)), state.stats)[1].batch,
                data.assets[teacher],
            )
            zeros = tuple(jnp.zeros((classes, *each.mean.shape)) for each in found)
            return jnp.zeros((), jnp.int32), _Sums(jnp.zeros(classes), zeros, zeros, zeros)

        def update(
            key: Key, state: tuple[Array, _Sums], batch: Batch, *, axis_name: str | None = None
        ) -> tuple[tuple[Array, _Sums], Metrics]:
            step, sums = state
            network_state, labels = batch.assets[teacher], batch.labels
            logits, norms = network.norms(network_state.theta, batch.images, network_state.stats, by_example=True)
            new = step * batch_size + jnp.arange(len(labels)) < count  # a last batch has some rows twice
            one_hot = jax.nn.one_hot(labels, classes) * new[:, None]

            def total(leaf: Array) -> Array:
                return inner.pmean(jnp.einsum("nk,nc->kc", one_hot, leaf, precision="highest"), axis_name)

            found = _Sums(
                inner.pmean(one_hot.sum(0), axis_name),
                tuple(total(each.mean) for each in norms.batch),
                tuple(total(each.mean**2) for each in norms.batch),
                tuple(total(each.variance) for each in norms.batch),
            )
            right = jnp.where(new, logits.argmax(1) == labels, 0).sum() / new.sum()
            return (step + 1, jax.tree.map(jnp.add, sums, found)), {"loss": 1 - right}

        def product(state: tuple[Array, _Sums]) -> tuple[Moments, ...]:
            sums = state[1]
            n = jnp.maximum(sums.count, 1)[:, None]
            return tuple(
                Moments(mean / n, jnp.maximum(variance / n + square / n - (mean / n) ** 2, 0))
                for mean, square, variance in zip(sums.means, sums.squares, sums.variances, strict=True)
            )

        return Method(init, sample, update, product)

    return Stage(name, Recipe(bind), steps=-(-count // batch_size), config={**config, "batch_size": batch_size})
