"""CAFE (Wang et al., CVPR 2022, "CAFE: Learning to Condense Dataset by Aligning Features", arXiv:2203.01531)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import inner, losses
from jaxdd.data import augmentation, class_sampler
from jaxdd.methods._hyper import at_least, field, positive
from jaxdd.methods._registry import method
from jaxdd.methods.match._matching import Match, Matching, match_layers, matching
from jaxdd.synthetic import Continued, pixels
from jaxdd.types import Array, Indices, Key, Labels, Network, Networks, NetworkState, PyTree, Recipe


@dataclasses.dataclass(frozen=True)
class CAFE(Matching):
    """Hyper-parameters of CAFE, the weights as in the authors' code: those of `Matching`, and

    Attributes:
      early_weight: of the distances in all layers but the last; this and that of the features count whole.
      discrimination_weight: of the discrimination loss, to which a second distance of the features belongs.
      query: real examples of each class on which the network's accuracy is watched.
      query_draws: how many draws of them an update has: one for the accuracy before the network's training, and one for
        each epoch of that in turn. The authors draw anew for every epoch.
      renewal: a new network begins when the last `window` accuracies lie this close together.
      change: in between it is trained on the set until the last `window` of its accuracies differ by so much.
      window: see above.
      max_epochs: of that training at most.
      network_learning_rate: of that training, by gradient descent on the whole set, each image augmented by itself
        where `augmentation` says so.
    """

    init: str | Continued = "noise"
    early_weight: float = field(0.1, at_least(0))
    discrimination_weight: float = field(0.01, at_least(0))
    query: int = field(128, at_least(1))
    query_draws: int = field(8, at_least(1))
    renewal: float = field(0.04, at_least(0))
    change: float = field(0.03, at_least(0))
    window: int = field(10, at_least(2))
    max_epochs: int = field(50, at_least(1))
    network_learning_rate: float = field(0.01, positive)


@method(
    CAFE,
    revisions={2: "accuracies are of 128 examples of each class, drawn anew; networks are trained with augmentation"},
)
def cafe(config: CAFE) -> Recipe:
    """CAFE: match the mean features of every layer, and classify real features by those of the set.

    Minimises `sum_c sum_l w_l |mean f_l(real) - mean f_l(synthetic)|²` over all layers but the logits, and
    `losses.cafe_discrimination` with the distance of the penultimate features, on a network that is trained on the set
    as long as this changes its accuracy slowly, and renewed when nothing changes it any more.
    """
    of_classes = class_sampler(config.query)

    def sample(key: Key, labels: Labels) -> Indices:
        draws = jax.vmap(lambda key: of_classes(key, labels))(jax.random.split(key, config.query_draws))
        return draws.T  # devices share the examples of each draw

    synthetic = pixels(config.ipc, init=config.init)
    return matching(config, synthetic, objective(config), functools.partial(_watched, config), sample=sample)


def objective(config: CAFE) -> Match:
    """What CAFE minimises."""

    def see(layers):
        *maps, features, _ = layers
        return [jnp.sum(each, axis=0, keepdims=True) for each in maps], features  # sums, since blocks may differ

    def distance(real, synthetic, key):
        weights = [config.early_weight] * (len(real[0]) - 1) + [1.0, 2.0]
        levels = [
            (*(each.sum(1, keepdims=True) / features.shape[1] for each in maps), features)
            for maps, features in (real, synthetic)
        ]
        aligned = jax.vmap(functools.partial(losses.mean_feature_matching, weights=tuple(weights)))(*levels).sum()
        count, per_class, dim = real[1].shape
        labels = jnp.repeat(jnp.arange(count), per_class)
        told_apart = losses.cafe_discrimination(real[1].reshape(-1, dim), labels, synthetic[1])
        return aligned + config.discrimination_weight * told_apart

    return match_layers(config, see, distance)


class Watched(NamedTuple):
    theta: PyTree
    stats: PyTree
    accuracies: Array
    """`(window,)`, the last ones, the newest at the end; -1 where there was none yet."""


def _watched(config: CAFE, network: Network, num_classes: int) -> Networks:
    """One network whose training and renewal depend on what they change."""
    del num_classes
    none, augment = np.full(config.window, -1, np.float32), augmentation.named(config.augmentation)

    def begin(key: Key) -> Watched:
        return Watched(*network.init(key), jnp.asarray(none))

    def spread(accuracies: Array) -> Array:
        return accuracies.max() - accuracies.min()

    def full(accuracies: Array) -> Array:
        return (accuracies >= 0).all()

    def advance(kept: Watched, tickets: Key, key: Key, shown: Any) -> Watched:
        synthetic, query = shown
        key_begin, key_augment = jax.random.split(key)

        def pushed(accuracies: Array, theta: PyTree, stats: PyTree, draw: Array | int) -> Array:
            images, labels = jax.tree.map(lambda leaf: leaf[:, draw % config.query_draws], query)
            accuracy = jnp.mean(jnp.argmax(network.apply(theta, images, stats)[0], axis=1) == labels)
            return jnp.roll(accuracies, -1).at[-1].set(accuracy)

        def epoch(carry):
            theta, stats, seen, t = carry
            drawn = augment.draw(jax.random.fold_in(key_augment, t), len(synthetic.images))

            def loss(theta: PyTree) -> tuple[Array, PyTree]:
                logits, after = network.apply(theta, augment.apply(synthetic.images, drawn), stats, mode="train")
                return losses.cross_entropy(logits, synthetic.labels).mean(), after

            grads, after = jax.grad(loss, has_aux=True)(theta)
            theta = jax.tree.map(lambda leaf, g: leaf - config.network_learning_rate * g, theta, grads)
            return theta, after, pushed(seen, theta, after, t + 1), t + 1

        def slow(carry):
            return (carry[3] < config.max_epochs) & ~(full(carry[2]) & (spread(carry[2]) > config.change))

        def train() -> Watched:
            theta, stats, _, _ = jax.lax.while_loop(slow, epoch, (kept.theta, kept.stats, jnp.asarray(none), 0))
            return Watched(theta, stats, accuracies)

        accuracies = pushed(kept.accuracies, kept.theta, kept.stats, 0)
        settled = full(accuracies) & (spread(accuracies) < config.renewal)
        return jax.lax.cond(settled, lambda: begin(key_begin), train)

    return Networks(
        init=begin,
        choose=inner.tickets,
        start=lambda kept, ticket: NetworkState(kept.theta, kept.stats),
        advance=advance,
    )
