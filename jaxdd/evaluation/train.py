"""Fresh networks trained on small sets, several at once, and their accuracy on large ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike

from jaxdd import inner, kernels, losses
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.evaluation.arrays import CPU_BLOCK, blocks, centred
from jaxdd.evaluation.protocols import Protocol
from jaxdd.types import Array, Distilled, Examples, Key, Network, PyTree, leaves_by_path


class Trained(NamedTuple):
    """Networks at their last step, or their weights' average if the protocol says so, stacked along a first axis."""

    theta: PyTree
    stats: PyTree


def train(
    network: Network,
    images: Array,
    labels: Array,
    protocol: Protocol,
    learning_rates: ArrayLike,
    keys: Key,
    *,
    label_convention: str,
    sets: ArrayLike | None = None,
) -> Trained:
    """Train fresh networks side by side; the i-th starts from `keys[i]`, with peak rate `learning_rates[i]`.

    One compiled program for one (network, protocol, shapes), whatever the rates and keys.

    Args:
      images: `(s, m, h, w, c)`, one or more sets of equal size.
      labels: `(s, m)` or `(s, m, classes)`.
      learning_rates: `(k,)`.
      keys: `(k,)`.
      label_convention: of the labels, see `types.Distilled`.
      sets: int `(k,)`, the set of each network; the first for all by default.

    Raises:
      JaxddError: if the protocol's loss cannot use labels of this convention.
    """
    _check_loss(protocol, label_convention)
    indices = np.zeros(len(keys), np.int32) if sets is None else np.asarray(sets, np.int32)
    rates = np.asarray(learning_rates, np.float32)
    return _train(images, labels, rates, keys, indices, network=network, protocol=protocol, convention=label_convention)


def train_as_distilled(
    network: Network, sets: Sequence[Distilled], factors: ArrayLike, keys: Key, *, members: ArrayLike
) -> Trained:
    """Train networks by gradient descent as their sets were distilled for: plan, learned rates, initialisation.

    Args:
      sets: of equal size; how the first is to be trained on holds for all.
      factors: `(k,)`, what the learned rates are multiplied by.
      keys: `(k,)`, of fresh initialisations.
      members: int `(k,)`, the set of each network.

    Raises:
      JaxddError: as `check_as_distilled`.
    """
    first = sets[0]
    check_as_distilled(network, first)
    images = jnp.stack([jnp.asarray(s.images, jnp.float32) for s in sets])
    labels = jnp.stack([jnp.asarray(s.labels) for s in sets])
    arrays = (images, labels, first.plan, first.learning_rates, first.theta0)
    return _train_as_distilled(
        arrays, jnp.asarray(factors, jnp.float32), keys, np.asarray(members, np.int32), network=network
    )


def check_as_distilled(network: Network, distilled: Distilled) -> None:
    """Check that a set, or its shapes, says how networks are to be trained on it, and that this network can be.

    Raises:
      JaxddError: for a set without a plan and learned rates, with labels that cross-entropy cannot use, or for one
        initialisation of another network.
    """
    if distilled.plan is None or distilled.learning_rates is None:
        raise JaxddError(
            "this set has learned no learning rates, so there is no way it was distilled for; "
            'evaluate it by another protocol, "default" for one.'
        )
    if distilled.label_convention == "centred":
        raise JaxddError("centred labels are for squared error, not for gradient descent on cross-entropy.")
    if distilled.theta0 is not None:
        expected = leaves_by_path(jax.eval_shape(network.init, jax.random.key(0))[0])
        shapes = [{name: leaf.shape for name, leaf in leaves.items()} for leaves in (expected, distilled.theta0)]
        if shapes[0] != shapes[1]:
            raise JaxddError("this set was distilled for one initialisation of another network: name that model.")


def check_trainable(network: Network, distilled: Distilled, protocol: Protocol) -> None:
    """Check, by shapes alone, that a network can be trained on a set by a protocol.

    Args:
      distilled: a set, or its shapes.

    Raises:
      JaxddError: if it cannot, or as the network itself says.
    """
    theta, stats = jax.eval_shape(network.init, jax.random.key(0))
    jax.eval_shape(lambda theta, images, stats: network.apply(theta, images, stats), theta, distilled.images, stats)
    if protocol.as_distilled:
        check_as_distilled(network, distilled)
    else:
        _check_loss(protocol, distilled.label_convention)


def _check_loss(protocol: Protocol, label_convention: str) -> None:
    if protocol.loss == "cross_entropy" and label_convention == "centred":
        raise JaxddError(f"protocol {protocol.name!r} trains with cross-entropy, which cannot use centred labels.")


@functools.partial(jax.jit, static_argnames="network")
def _train_as_distilled(arrays, factors, keys, members, *, network):
    images, labels, plan, learning_rates, theta0 = arrays

    def train_one(arguments):
        factor, key, member = arguments
        theta, stats = network.init(key)
        if theta0 is not None:
            theta = jax.tree.unflatten(jax.tree.structure(theta), [theta0[name] for name in leaves_by_path(theta)])
        feed = inner.planned((images[member], labels[member]), plan, factor * learning_rates)
        trained = inner.unroll(inner.classification(network, stats), inner.sgd(), theta, feed, len(plan))
        return Trained(trained.theta, stats)

    return _map(train_one, (factors, keys, members))


def accuracy(network: Network, trained: Trained, test: Examples) -> np.ndarray:
    """The share of test images whose largest logit is their label, float64 `(k,)`, one for each trained network.

    The test set may lie on the host; it is sent to the device in blocks of at most 500 images.
    """
    correct = np.zeros(len(jax.tree.leaves(trained)[0]), np.int64)
    for images, labels in blocks(test):
        correct += np.asarray(count_correct(trained, images, labels, network=network), np.int64)
    return correct / len(test.labels)


def feature_regression(
    network: Network,
    trained: Trained,
    images: Array,
    labels: Array,
    test: Examples,
    *,
    ridge: float,
    float64: bool = False,
) -> np.ndarray:
    """Accuracy of kernel ridge regression on the features of trained networks (Zhou, Nezhadarya & Ba 2022).

    Args:
      trained: `k` networks.
      images, labels: `(k, m, h, w, c)` and `(k, m, classes)`, what each was trained on; labels around zero.
      ridge: relative to the mean diagonal of the support's conjugate kernel.
      float64: solve in float64.

    Returns:
      float64 `(k,)`.

    Raises:
      JaxddError: if the solve fails: a kernel is not positive definite in that precision.
    """
    support, coefficients = _regress(trained, images, labels, ridge, network=network, float64=float64)
    if not jnp.isfinite(coefficients).all():
        precision = "float64; use" if float64 else "float32; use float64 or"
        raise JaxddError(
            "kernel ridge regression on trained features failed: their kernel is not positive definite in "
            f"{precision} a larger ridge."
        )
    correct = np.zeros(len(images), np.int64)
    for block in blocks(test):
        correct += np.asarray(_count_regressed(trained, support, coefficients, *block, network=network), np.int64)
    return correct / len(test.labels)


def _map(function: Callable, arguments: PyTree) -> PyTree:
    """`vmap`, except over a single network: a vmapped convolution is a grouped one, slow on CPUs."""
    if len(jax.tree.leaves(arguments)[0]) == 1:
        return jax.tree.map(lambda leaf: leaf[None], function(jax.tree.map(lambda leaf: leaf[0], arguments)))
    return jax.vmap(function)(arguments)


def _few_at_a_time(function: Callable[[Array], Array], images: Array) -> Array:
    """`function` of images that each stand for themselves: on CPUs so few at once that a network's maps stay in cache,
    in two thirds of the time."""
    return inner.map_blocks(function, images, CPU_BLOCK if jax.default_backend() == "cpu" else None)


@functools.partial(jax.jit, static_argnames=("network", "protocol", "convention"))
def _train(images, labels, learning_rates, keys, sets, *, network, protocol, convention):
    num_examples = images.shape[1]
    num_steps = protocol.num_steps(num_examples)
    batch_size = min(protocol.batch_size, num_examples)
    batches = num_examples // batch_size
    squared = protocol.loss == "squared_error" or (protocol.loss == "auto" and convention == "centred")
    augment = None if protocol.augmentation == "none" else augmentation.named(protocol.augmentation)
    if protocol.cutmix and convention == "hard":
        theta, stats = jax.eval_shape(network.init, keys[0])
        logits, _ = jax.eval_shape(network.apply, theta, images[0], stats)
        labels, convention = jax.nn.one_hot(labels, logits.shape[-1]), "probability"

    def changed(key, images, labels):
        """A batch as networks see it."""
        key_augment, key_mix = jax.random.split(key)
        if augment is not None:
            images = augment.apply(images, augment.draw(key_augment, len(images)))
        if protocol.cutmix:
            images, labels = augmentation.cutmix(key_mix, images, labels, probability=protocol.cutmix)
        return images, labels

    def objective(theta, stats, images, labels, key):
        logits, stats = network.apply(theta, images, stats, train=True, key=key)
        if squared:
            per_example = losses.squared_error(logits, centred(labels, convention, logits.shape[-1]))
        else:
            per_example = losses.cross_entropy(logits, labels)
        return per_example.mean(), stats

    def train_one(arguments):
        index, learning_rate, key = arguments
        key_init, key_order, key_apply = jax.random.split(key, 3)
        theta, stats = network.init(key_init)
        optimizer = _optimizer(protocol, learning_rate, num_examples)
        whole = (images[index], labels[index]) if batch_size == num_examples else None

        decay = protocol.weight_average

        def step(carry, t):
            theta, stats, opt_state, average, order = carry
            if whole is None:
                position = t % batches
                # A new order at the start of an epoch only: sorting a large set costs more than a step.
                order = lax.cond(
                    position == 0,
                    lambda: jax.random.permutation(jax.random.fold_in(key_order, t), num_examples),
                    lambda: order,
                )
                chosen = lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)
                batch = images[index, chosen], labels[index, chosen]
            else:
                batch = whole
            key_step = jax.random.fold_in(key_apply, t)
            if augment is not None or protocol.cutmix:
                key_step, key_change = jax.random.split(key_step)
                batch = changed(key_change, *batch)
            gradient, stats = jax.grad(objective, has_aux=True)(theta, stats, *batch, key_step)
            updates, opt_state = optimizer.update(gradient, opt_state, theta)
            theta = optax.apply_updates(theta, updates)
            average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, theta) if decay else ()
            return (theta, stats, opt_state, average, order), None

        average = jax.tree.map(jnp.zeros_like, theta) if decay else ()
        start = (theta, stats, optimizer.init(theta), average, jnp.arange(num_examples))
        (theta, stats, _, average, _), _ = lax.scan(step, start, jnp.arange(num_steps))
        if decay:
            theta = jax.tree.map(lambda a: a / (1 - decay**num_steps), average)
        return Trained(theta, stats)

    return _map(train_one, (sets, learning_rates, keys))


def schedule_of(protocol: Protocol, num_examples: int) -> optax.Schedule:
    """The learning rate at each step on a set of this size, as a share of its peak."""
    if protocol.schedule == "cosine":
        decay_steps = max(1, protocol.num_steps(num_examples) - protocol.warmup)
        schedule = optax.cosine_decay_schedule(1.0, decay_steps, protocol.final)
    elif protocol.schedule == "multistep":
        milestones = jnp.asarray(protocol.milestone_steps(num_examples)) - protocol.warmup

        def multistep(t):
            return protocol.factor ** jnp.sum(t >= milestones)

        schedule = multistep
    else:
        schedule = optax.constant_schedule(1.0)
    if protocol.warmup:
        warmup = optax.linear_schedule(0.0, 1.0, protocol.warmup)
        schedule = optax.join_schedules([warmup, schedule], [protocol.warmup])
    return schedule


def _optimizer(protocol: Protocol, learning_rate: Array, num_examples: int) -> optax.GradientTransformation:
    schedule = schedule_of(protocol, num_examples)
    decay = optax.add_decayed_weights(protocol.weight_decay) if protocol.weight_decay else optax.identity()
    if protocol.optimizer == "adam":
        direction = optax.chain(optax.scale_by_adam(), decay)
    else:
        direction = optax.chain(decay, optax.trace(protocol.momentum) if protocol.momentum else optax.identity())
    return optax.chain(direction, optax.scale_by_schedule(lambda t: -learning_rate * schedule(t)))


@functools.partial(jax.jit, static_argnames="network")
def count_correct(trained, images, labels, *, network):
    def count(one):
        predicted = _few_at_a_time(lambda rows: network.apply(one.theta, rows, one.stats)[0].argmax(-1), images)
        return (predicted == labels).sum()

    return _map(count, trained)


@functools.partial(jax.jit, static_argnames=("network", "float64"))
def _regress(trained, images, labels, ridge, *, network, float64):
    def solve(arguments):
        one, images, labels = arguments
        support, _ = network.features(one.theta, images, one.stats)
        return support, kernels.kernel_ridge_solve(
            kernels.feature_kernel(support), labels, ridge=ridge, float64=float64
        )

    return _map(solve, (trained, images, labels))


@functools.partial(jax.jit, static_argnames="network")
def _count_regressed(trained, support, coefficients, images, labels, *, network):
    def count(arguments):
        one, support, coefficients = arguments
        targets = _few_at_a_time(lambda rows: network.features(one.theta, rows, one.stats)[0], images)
        predictions = jnp.matmul(kernels.feature_kernel(targets, support), coefficients, precision="highest")
        return (predictions.argmax(-1) == labels).sum()

    return _map(count, (trained, support, coefficients))
