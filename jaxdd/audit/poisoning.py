"""Distilled poisoning (Wang et al. 2018, section 3.4): images that ruin one class of a trained network in one step.

Whoever fine-tunes a network on somebody else's distilled set trusts every image in it; this measures how far.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdd import inner
from jaxdd.data import balanced_choice
from jaxdd.errors import JaxddError
from jaxdd.evaluation.arrays import blocks
from jaxdd.methods import Bilevel, Inner, bilevel
from jaxdd.synthetic import learning_rates, per_leaf, pixels
from jaxdd.training import running_statistics
from jaxdd.types import (
    Array,
    Content,
    Distilled,
    Examples,
    Key,
    Labelling,
    Method,
    Network,
    NetworkState,
    RealData,
    Recipe,
    Spec,
    Training,
)


class Poisoned(NamedTuple):
    """What one dose did to trained networks, each `(networks,)`, shares of test images."""

    success: np.ndarray
    """Of the attacked class: taken for the target after the dose."""
    success_before: np.ndarray
    others: np.ndarray
    """Of all other classes: still classified rightly after the dose."""
    others_before: np.ndarray


def poisoning(
    network: Network,
    starts: NetworkState,
    *,
    attacked: int,
    target: int,
    ipc: int | tuple[int, ...] = 10,
    steps: int = 1,
    inner_learning_rate: float = 0.02,
    learning_rate: float = 0.02,
    networks: int = 4,
    target_batch: int = 1024,
) -> Recipe:
    """The attack as a distillation method: images and rates after which networks take one class for another.

    Minimises the cross-entropy of real data, in which the attacked class is called the target, after gradient descent
    from trained networks.

    Args:
      starts: `(theta, stats)` of trained networks, stacked along the first axis; an attack on networks one has not
        seen needs many.
      attacked, target: classes of the data, two different ones.
      ipc: images per class, one number or one for each class; they keep their right labels.
      steps: gradient descent steps, each on all images.
      inner_learning_rate: where the learned rates of these steps start.
      learning_rate: Adam's, for images and rates.
      networks: trained networks an update.
      target_batch: real examples an update.
    """
    if attacked == target:
        raise JaxddError(f"attacked and target must be different classes, both are {attacked}.")
    synthetic = learning_rates(pixels(ipc, init="noise"), inner_learning_rate, (steps,))

    def plan(num_images: int) -> Array:
        return inner.ordered_plan(1, num_images, num_images, epochs=steps)  # all images at every step

    recipe = bilevel(
        Bilevel(ipc=ipc, model=network, networks=networks, target_batch=target_batch),
        synthetic,
        per_leaf({leaf: optax.adam(learning_rate, b1=0.5) for leaf in synthetic.learned}),
        Inner(inner.sgd(), lambda key, num_images, num_classes: plan(num_images)),
        networks=lambda _: inner.among(NetworkState(*starts)),
        relabel=lambda labels: jnp.where(labels == attacked, target, labels),
        describe=lambda num_images, kept: {"schedule": plan(num_images)},
    )

    def bind(spec: Spec) -> Method:
        _check_classes(spec.num_classes, attacked, target)
        return recipe.bind(spec)

    return Recipe(bind, lean=recipe.lean, most=recipe.most)


def _check_classes(num_classes: int, *classes: int) -> None:
    for which in classes:
        if not 0 <= which < num_classes:
            raise JaxddError(f"there is no class {which}: the data have 0 to {num_classes - 1}.")


def mislabelled_real(key: Key, data: RealData, like: Distilled, *, attacked: int, target: int) -> Distilled:
    """The plain attack to compare with: as many real images, those of the attacked class labelled as the target."""
    _check_classes(data.labels.num_classes, attacked, target)
    per_class = like.labelling.counts or len(like.images) // data.labels.num_classes
    chosen = balanced_choice(key, data.labels, per_class)
    labels = data.labels.values[chosen]
    labels = jnp.where(labels == attacked, target, labels)
    return Distilled(Content(data.images[chosen]), Labelling(labels), Training(like.learning_rates, like.schedule))


def poison(
    network: Network,
    starts: NetworkState,
    dose: Distilled,
    test: Examples,
    *,
    attacked: int,
    target: int,
    rate_factor: float = 1.0,
) -> Poisoned:
    """Give trained networks a dose and see what they take test images for.

    Args:
      starts: `(theta, stats)` of networks, stacked; not those that the dose was distilled with.
      dose: from `poisoning` or `mislabelled_real`.
      test: real images in the space of the dose.
      rate_factor: what the learning rates of the dose are multiplied by.
    """
    if "descent" not in dose.training.ways:
        raise JaxddError("a dose needs learning rates and a schedule; distil it with jaxdd.audit.poisoning.")
    if not np.any(np.asarray(test.labels) == attacked):
        raise JaxddError(f"there are no test images of the attacked class, {attacked}.")
    starts = NetworkState(*starts)
    after = _dosed(
        starts, (dose.images, dose.labels), dose.schedule, rate_factor * dose.learning_rates, network=network
    )
    (before, others_before), (now, others) = (_outcome(network, s, test, attacked, target) for s in (starts, after))
    return Poisoned(now, before, others, others_before)


@functools.partial(jax.jit, static_argnames="network")
def _dosed(starts, data, plan, rates, *, network):
    def one(start):
        theta, stats = start
        feed = inner.planned(data, plan, rates)
        trained = inner.unroll(inner.classification(network, stats), inner.sgd(), theta, feed, len(plan)).theta
        return NetworkState(trained, running_statistics(network, trained, data[0], stats, plan))

    return jax.lax.map(one, starts)


def _outcome(
    network: Network, starts: NetworkState, test: Examples, attacked: int, target: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each network: the share of the attacked class taken for the target, and the accuracy on all other classes."""
    labels = np.asarray(test.labels)
    predictions = [np.asarray(_predict(starts, images, network=network)) for images, _ in blocks(test)]
    predicted = np.concatenate(predictions, axis=1)[:, : len(labels)]
    hit, other = labels == attacked, labels != attacked
    return (predicted[:, hit] == target).mean(1), (predicted[:, other] == labels[other]).mean(1)


@functools.partial(jax.jit, static_argnames="network")
def _predict(starts, images, *, network):
    return jax.lax.map(lambda start: network.apply(start[0], images, start[1])[0].argmax(-1), starts)
