"""A small network that fills in patches, trained on real images of which patches are dropped by chance."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxdd.data import uniform_sampler
from jaxdd.selection.patches import as_patches, grid, num_dropped
from jaxdd.synthetic.patches import Inpainter
from jaxdd.training.step import TrainingState, train_step
from jaxdd.types import Array, Batch, Key, Method, Metrics, NetworkState, PyTree, RealData, Recipe, Spec


def inpainting_step(
    inpainter: Inpainter, optimizer: optax.GradientTransformation, share: float
) -> Callable[..., tuple[TrainingState, Array]]:
    """`step(key, state, images, *, axis_name=None) -> (state, loss)`: the mean squared error of guessed patches.

    Of every image the same share of patches is dropped, by chance, and at least one; the error is of those alone.
    """

    def step(
        key: Key, state: TrainingState, images: Array, *, axis_name: str | None = None
    ) -> tuple[TrainingState, Array]:
        places, patches = grid(images.shape[1:], inpainter.size), as_patches(images, inpainter.size)
        count = max(1, num_dropped(patches.shape[1], share))
        chance = jax.random.uniform(key, patches.shape[:2])
        dropped = jnp.argsort(jnp.argsort(chance, axis=1), axis=1) < count

        def loss(theta: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, tuple]]:
            guess = inpainter.apply(theta, patches, dropped, places)
            error = jnp.where(dropped[..., None], jnp.square(guess - patches), 0)
            return error.sum() / (dropped.sum() * patches.shape[2]), (stats, ())

        state, (value, _) = train_step(loss, optimizer, state, axis_name=axis_name)
        return state, value

    return step


def inpainting(
    size: int,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    share: float = 0.25,
    width: int = 64,
    reach: int = 1,
) -> Recipe:
    """Trains a `synthetic.Inpainter` on real images: as a stage, or by itself. Its product is the `NetworkState`.

        recipe = inpainting(4, optax.adam(1e-3), batch_size=128)

    Args:
      size: side of a patch.
      optimizer: with its schedule.
      batch_size: images an update, uniform over all, with replacement.
      share: of patches that are dropped, in [0, 1).
      width, reach: see `synthetic.Inpainter`.
    """
    sample = uniform_sampler(batch_size)

    def bind(spec: Spec) -> Method:
        grid(spec.image_shape, size)  # or says that they cannot be cut
        inpainter = Inpainter(size, spec.image_shape[-1], width, reach)
        step = inpainting_step(inpainter, optimizer, share)

        def init(key: Key, data: RealData) -> TrainingState:
            return TrainingState.first(NetworkState(inpainter.init(key), {}), optimizer)

        def update(
            key: Key, state: TrainingState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[TrainingState, Metrics]:
            state, loss = step(key, state, batch.images, axis_name=axis_name)
            return state, {"loss": loss}

        return Method(init, sample, update, lambda state: state.network)

    return Recipe(bind)
