"""Training whose ways are smooth: a loss that is held down at first, and a penalty on the slope in the images."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import losses, models
from jaxdd.data import augmentation, epoch_sampler, epoch_steps
from jaxdd.training.step import TrainingState, train_step
from jaxdd.types import Array, Batch, Key, Method, Metrics, Network, NetworkState, PyTree, RealData, Recipe, Spec


class SmoothState(NamedTuple):
    """A network on its way."""

    training: TrainingState
    step: Array

    @property
    def network(self) -> NetworkState:
        return self.training.network


def smooth(
    model: str | Network,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    augment: str = "none",
    penalty: float = 2.0,
    target: float = 0.0,
    clipped_epochs: int = 10,
) -> Recipe:
    """`supervised`, with AST's clipped loss and gradient penalty (Shen et al. 2023, arXiv:2310.10541).

    `c(e) CE + λ mean (|g|_c - t)²`: c is 0.5, 0.55, .. 0.95 in the first ten epochs and 1 after them; g is the gradient
    of the sum of all logits in the images as they are, without augmentation, and `|.|_c` its norm over the channels of
    a pixel, of which the mean over pixels and images is taken. The target t is 0 here, which makes slopes small. The
    paper and the last commit of its code (shenjiyuan123/AST-Alignment-with-Smooth-Expert) have 1, of which each pixel
    has its own: the norm over a whole image then grows to the root of its pixels, docs/trajectories.md.

    Args:
      model, optimizer, batch_size, augment: as of `supervised`.
      penalty: λ; 0 for none, which saves three passes.
      target: t, what the norms are held to.
      clipped_epochs: how many epochs the cross-entropy is held down in; c grows evenly, from a half.
    """
    chosen = augmentation.named(augment)

    def bind(spec: Spec) -> Method:
        network = models.build(model, spec.image_shape, spec.num_classes)
        steps = epoch_steps(spec.length(), batch_size)

        def init(key: Key, data: RealData) -> SmoothState:
            return SmoothState(TrainingState.first(NetworkState(*network.init(key)), optimizer), jnp.int32(0))

        def update(
            key: Key, state: SmoothState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[SmoothState, Metrics]:
            plain, labels = batch.images, batch.labels
            images = chosen.apply(plain, chosen.draw(key, len(plain))) if augment != "none" else plain
            epoch = state.step // steps
            clip = jnp.where(epoch < clipped_epochs, 0.5 * (1 + epoch / max(clipped_epochs, 1)), 1.0)

            def loss(theta: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
                key_drop = jax.random.fold_in(key, 1)
                logits, after = network.apply(theta, images, stats, mode="train", key=key_drop)
                value = clip * losses.cross_entropy(logits, labels).mean()
                right = jnp.mean(jnp.argmax(logits, axis=1) == labels)
                if not penalty:
                    return value, (after, {"batch_accuracy": right})

                def total(images: Array) -> Array:
                    return network.apply(theta, images, stats, mode="batch")[0].sum()

                slope = jax.grad(total)(plain)
                norms = jnp.sqrt(jnp.sum(jnp.square(slope), axis=-1) + jnp.finfo(slope.dtype).tiny)
                value += penalty * jnp.mean(jnp.square(norms - target))
                return value, (after, {"batch_accuracy": right, "slope": norms.mean()})

            training, (value, metrics) = train_step(loss, optimizer, state.training, axis_name=axis_name)
            return SmoothState(training, state.step + 1), {"loss": value} | metrics

        return Method(init, epoch_sampler(batch_size), update, lambda state: state.network)

    return Recipe(bind)
