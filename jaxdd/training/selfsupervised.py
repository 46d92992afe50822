"""Encoders that are trained without labels, and what they see in every example: stages."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import losses, models
from jaxdd._numbers import whole
from jaxdd.data import augmentation, epoch_sampler
from jaxdd.errors import JaxddError
from jaxdd.training.step import TrainingState, train_step
from jaxdd.types import (
    EXAMPLES,
    Array,
    Batch,
    Indices,
    Key,
    Labels,
    Method,
    Metrics,
    Network,
    NetworkState,
    PyTree,
    RealData,
    Recipe,
    Spec,
)

ENCODER, TARGETS = "encoder", "targets"
"""Names of the stages of a method that learns from an encoder's features: of its training, and of its features of every
example. Such a method has hyper-parameters `encoder` and `projector`, as `barlow_twins` takes them."""


def barlow_twins(
    model: str | Network,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    augment: str = "views",
    projector: int = 512,
    off_diagonal: float = 5e-3,
) -> Recipe:
    """Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230): two views of an image are embedded alike, entry by entry.

    Its product is the `NetworkState` of the encoder, `models.build(model, image_shape, projector)`, whose features are
    what was learned. Embeddings are those features after three linear maps of the width `projector`, between which they
    are batch-normalised and rectified; the first of them is the network's own head. Labels play no part, not even in
    which examples are drawn. The two views pass the network one after the other, so that each is normalised by itself,
    as in the authors' code.

    Under a named axis correlations are those of each device's own examples, and their losses are averaged.

    Args:
      model: see `models.build`; a `Network` has `projector` outputs.
      optimizer: with its schedule.
      batch_size: at least 2; a last batch of an epoch that is not whole is left out.
      augment: what draws a view, with parameters for every image, see `data.augmentation.named`.
      projector: width of the three maps.
      off_diagonal: see `losses.barlow_twins`.
    """
    view, sample = augmentation.named(augment), epoch_sampler(whole(batch_size, "batch_size", least=2))

    def bind(spec: Spec) -> Method:
        network = models.build(model, spec.image_shape, projector)

        def init(key: Key, data: RealData) -> TrainingState:
            key_encoder, key_projector = jax.random.split(key)
            encoder, stats = network.init(key_encoder)
            theta = {"encoder": encoder, "projector": _projector(key_projector, projector)}
            return TrainingState.first(NetworkState(theta, stats), optimizer)

        def update(
            key: Key, state: TrainingState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[TrainingState, Metrics]:
            keys = jax.random.split(key, 2)
            views = [view.apply(batch.images, view.draw(each, len(batch.images))) for each in keys]

            def loss(theta: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, tuple]]:
                embedded = []
                for key, images in zip(keys, views, strict=True):
                    key_drop = jax.random.fold_in(key, 1)  # of dropout
                    outputs, stats = network.apply(theta["encoder"], images, stats, mode="train", key=key_drop)
                    embedded.append(_project(theta["projector"], outputs))
                return losses.barlow_twins(*embedded, off_diagonal=off_diagonal), (stats, ())

            state, (value, _) = train_step(loss, optimizer, state, axis_name=axis_name)
            return state, {"loss": value}

        def product(state: TrainingState) -> NetworkState:
            return NetworkState(state.network.theta["encoder"], state.network.stats)

        return Method(init, sample, update, product)

    return Recipe(bind)


def _projector(key: Key, width: int) -> list[dict[str, Array]]:
    """Two normalisations, each followed by a linear map without bias, which starts as PyTorch's does."""

    def layer(key: Key) -> dict[str, Array]:
        kernel = jax.random.uniform(key, (width, width), minval=-(width**-0.5), maxval=width**-0.5)
        return {"scale": jnp.ones(width), "bias": jnp.zeros(width), "kernel": kernel}

    return [layer(each) for each in jax.random.split(key, 2)]


def _project(layers: list[dict[str, Array]], x: Array) -> Array:
    for layer in layers:
        centred = x - x.mean(0, keepdims=True)
        normed = centred * jax.lax.rsqrt(jnp.square(centred).mean(0, keepdims=True) + 1e-5)
        x = jax.nn.relu(normed * layer["scale"][None] + layer["bias"][None]) @ layer["kernel"]
    return x


class Encoded(NamedTuple):
    """What an encoder sees in a block of examples."""

    features: Array
    """`(block, d)`"""


def encoded(model: str | Network, *, outputs: int, block: int = 500, encoder: str = ENCODER) -> Recipe:
    """The features that a trained encoder has of every example, a block of them at each update, in their order.

    The encoder sees images as they are, without augmentation, and in evaluation mode. A stage with

        Stage(TARGETS, encoded(..), steps=num_blocks(spec, block), config=..,
              record=Record(1, lambda state: state.features, first=False, block=block))

    leaves a table whose row i is of example i (beyond the examples it holds copies of the last one), so that an update
    draws the same rows of "examples" and of "targets".

    Args:
      model: of the encoder, as `models.build` takes it.
      outputs: that it was built with.
      block: examples an update.
      encoder: the stage whose product, a `NetworkState`, it is.
    """

    def bind(spec: Spec) -> Method:
        network = models.build(model, spec.image_shape, outputs)
        if encoder not in spec.assets:
            raise JaxddError(f"features of every example need the stage {encoder!r}, which trains their encoder.")
        trained: NetworkState = spec.assets[encoder]
        image = jax.ShapeDtypeStruct((block, *spec.image_shape), jnp.float32)
        shape, _ = jax.eval_shape(network.features, trained.theta, image, trained.stats)

        def init(key: Key, data: RealData) -> Encoded:
            return Encoded(jnp.zeros(shape.shape, shape.dtype))

        def sample(key: Key, labels: Labels, step: Array) -> dict[str, Indices]:
            rows = step * block + jnp.arange(block, dtype=jnp.int32)
            return {EXAMPLES: jnp.minimum(rows, len(labels.values) - 1)}

        def update(key: Key, state: Encoded, batch: Batch) -> tuple[Encoded, Metrics]:
            theta, stats = batch.assets[encoder]
            found, _ = network.features(theta, batch.images, stats)
            return Encoded(found), {"loss": jnp.mean(jnp.square(found))}  # their size; nothing is minimised

        return Method(init, sample, update, lambda state: ())

    return Recipe(bind)


def num_blocks(spec: Spec, block: int) -> int:
    """Updates of `encoded`."""
    return -(-spec.length() // whole(block, "block"))
