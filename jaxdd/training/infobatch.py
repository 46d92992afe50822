"""InfoBatch: what is learned already is left out by lot, and the rest of it counts more."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, losses, models
from jaxdd._numbers import whole
from jaxdd.data import epoch_sampler, epoch_steps
from jaxdd.errors import JaxddError
from jaxdd.training.step import TrainingState
from jaxdd.training.supervised import classifying, rows_of
from jaxdd.types import Array, Batch, Key, Method, Metrics, Network, NetworkState, RealData, Recipe, Spec


class InfoBatchState(NamedTuple):
    """A network on its way, and the loss that each example had when it was last looked at."""

    training: TrainingState
    losses: Array
    """float32 `(n,)`."""
    threshold: Array
    """Their mean as the epoch began."""
    step: Array
    """int32, updates so far."""
    visits: Array
    """int32, examples that were learned from so far, each time counted."""


def infobatch(
    model: str | Network,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    epochs: int,
    prune: float = 0.5,
    whole_share: float = 0.125,
    augment: str = "none",
) -> Recipe:
    """InfoBatch (Qin et al. 2024, arXiv:2303.04947): `supervised`, with an unbiased choice of what counts.

    Of the examples whose last loss was below the mean of all, as the epoch begins, each is left out with probability
    `prune`; the loss of those that stay is divided by `1 - prune` (§3). So the expectation of the gradient is that of
    all examples. Nothing is left out in the first epoch, where no loss is known, and in the last ones.

    A batch is drawn from all examples, and what is left out has the weight zero in it. **It saves visits and no
    time**: shapes are fixed, so the network sees those examples all the same, and nothing of them is used, not even
    their new loss. The authors fill batches with what stays, in fewer steps. The metric "kept" is the share of a batch
    that counts; `state.visits` is the sum.

    Its product is the `NetworkState`. An epoch has every example: its last batch is filled up with some of the one
    before.

    Args:
      model, optimizer, batch_size, augment: as of `supervised`.
      epochs: of the whole run, each of `epoch_steps(len, batch_size, complete=True)` updates.
      prune: r, the probability; 0 to below 1.
      whole_share: δ, the share of the epochs, at the end, in which nothing is left out.

    Raises:
      JaxddError: for numbers out of these ranges.
    """
    whole(epochs, "epochs")
    sample = epoch_sampler(batch_size, complete=True)
    if not (0 <= prune < 1 and 0 <= whole_share <= 1):
        raise JaxddError(
            f"InfoBatch prunes with a probability of 0 to below 1, until a share, got {prune}, {whole_share}."
        )
    until = int((1 - whole_share) * epochs + 1e-6)

    def bind(spec: Spec) -> Method:
        network = models.build(model, spec.image_shape, spec.num_classes)
        step = classifying(network, optimizer, augment)
        of_epoch = epoch_steps(spec.length(), batch_size, complete=True)

        def init(key: Key, data: RealData) -> InfoBatchState:
            training = TrainingState.first(NetworkState(*network.init(key)), optimizer)
            zero = jnp.zeros((), jnp.int32)
            return InfoBatchState(training, jnp.zeros(spec.length()), jnp.zeros(()), zero, zero)

        def update(
            key: Key, state: InfoBatchState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[InfoBatchState, Metrics]:
            threshold = jnp.where(state.step % of_epoch == 0, state.losses.mean(), state.threshold)
            below = jnp.where(state.step < until * of_epoch, threshold, -jnp.inf)
            # All losses are 0 at first, and none of them is below their mean.
            rows = rows_of(batch, axis_name)
            drawn = kept(jax.random.fold_in(key, 2), state.losses[rows], below, prune)  # of all devices' examples
            weights = inner.own_part(drawn, axis_name)
            training, value, seen = step(key, state.training, batch, weights, axis_name=axis_name)
            counts = inner.all_gather(weights, axis_name) > 0
            after = jnp.where(counts, losses.cross_entropy(seen.logits, seen.labels), state.losses[rows])
            state = InfoBatchState(
                training, state.losses.at[rows].set(after), threshold, state.step + 1, state.visits + counts.sum()
            )
            return state, {"loss": value, "batch_accuracy": seen.right.mean(), "kept": counts.mean()}

        return Method(init, sample, update, lambda state: state.training.network)

    return Recipe(bind)


def kept(key: Key, losses: Array, threshold: Array | float, prune: float) -> Array:
    """What the losses of a batch are multiplied by, `(b,)`: 1 from the threshold on; below it 0 with probability
    `prune`, and else `1 / (1 - prune)`. The expectation of each is 1."""
    stays = jax.random.uniform(key, losses.shape) >= prune
    return jnp.where(losses < threshold, stays / (1 - prune), 1.0)
