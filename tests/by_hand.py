"""What tests follow a method's updates with: optimisers as their papers write them, in float64, and plain training."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdd.types import Array, Indices, Network, PyTree


class Normed(nn.Module):
    """A hidden layer with batch statistics, so that training and evaluation differ."""

    classes: int = 4
    width: int = 8

    def setup(self):
        self.hidden, self.norm, self.head = nn.Dense(self.width), nn.BatchNorm(momentum=0.9), nn.Dense(self.classes)

    def features(self, images, train: bool = False):
        hidden = self.hidden(images.reshape(len(images), -1))
        return nn.relu(self.norm(hidden, use_running_average=not train))

    def __call__(self, images, train: bool = False):
        return self.head(self.features(images, train))


class Momentum:
    """Gradient descent with heavy-ball momentum: `step(gradient)` is the direction."""

    def __init__(self, momentum: float):
        self.momentum, self.trace = momentum, 0.0

    def step(self, gradient):
        self.trace = self.momentum * self.trace + np.float64(gradient)
        return self.trace


class Adam:
    """Kingma & Ba (2015): `step(gradient)` is the direction, `mean` and `square` are the moments."""

    def __init__(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, least: float = 0.0):
        self.b1, self.b2, self.eps, self.least = b1, b2, eps, least
        self.count, self.mean, self.square = 0, 0.0, 0.0

    def step(self, gradient):
        gradient = np.float64(gradient)
        self.count += 1
        self.mean = self.b1 * self.mean + (1 - self.b1) * gradient
        self.square = self.b2 * self.square + (1 - self.b2) * self.deviation(gradient) ** 2 + self.least
        mean, square = self.mean / (1 - self.b1**self.count), self.square / (1 - self.b2**self.count)
        return mean / (np.sqrt(square) + self.eps)

    def deviation(self, gradient):
        return gradient


class AdaBelief(Adam):
    """Zhuang et al. (2020): Adam whose second moment is of the surprise, to which they add 1e-16 at every step."""

    def __init__(self):
        super().__init__(eps=1e-16, least=1e-16)

    def deviation(self, gradient):
        return gradient - self.mean


class Lamb(Adam):
    """You et al. (2020), without weight decay: Adam's direction at the length of the parameters."""

    def __init__(self):
        super().__init__(eps=1e-6)

    def step(self, gradient, params):
        direction = super().step(gradient)
        return direction * np.linalg.norm(np.float64(params)) / np.linalg.norm(direction)


def cross_entropy(logits: Array, labels: Array) -> Array:
    """With label vectors; the mean over examples."""
    return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), axis=1))


def trained(
    network: Network,
    start: tuple[PyTree, PyTree],
    images: Array,
    labels: Array,
    plan: Indices,
    rates: Array,
    momentum: float = 0.0,
) -> PyTree:
    """A network's parameters after gradient descent in training mode on the rows of each step."""
    theta, stats = start

    def step(carry, rows_and_rate):
        (theta, velocity), (rows, rate) = carry, rows_and_rate
        slope = jax.grad(
            lambda theta: cross_entropy(network.apply(theta, images[rows], stats, train=True)[0], labels[rows])
        )(theta)
        velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, slope)
        return (jax.tree.map(lambda p, v: p - rate * v, theta, velocity), velocity), None

    return jax.lax.scan(step, (theta, jax.tree.map(jnp.zeros_like, theta)), (plan, rates))[0][0]


def assert_near(found, expected, rtol: float = 5e-4, err_msg: str = "") -> None:
    """Equal up to so much of the largest entry."""
    expected = np.float64(expected)
    np.testing.assert_allclose(np.float64(found), expected, rtol=0, atol=rtol * np.abs(expected).max(), err_msg=err_msg)


def assert_nearly_all_near(found, expected, rtol: float = 3e-3, err_msg: str = "") -> None:
    """Steps of Adam and its kin, which magnify the rounding of a gradient that is close to zero."""
    off = np.abs(np.float64(found) - expected) > rtol * np.abs(expected).max()
    assert off.mean() < 0.01, f"{err_msg}: {off.mean():.3f} are off"


def assert_moments(update, optimizers) -> None:
    """The moments of the optimisers of a synthetic set's leaves after one update, and ours."""
    for leaf, optimizer in optimizers.items():
        names = {"trace": "trace"} if isinstance(optimizer, Momentum) else {"mu": "mean", "nu": "square"}
        for name, ours in names.items():
            found = optax.tree_utils.tree_get(update.after.opt_state.inner_states[leaf], name)[leaf]
            assert_near(found, getattr(optimizer, ours), err_msg=f"{leaf} {name}")


def assert_stepped(update, slopes, optimizers, rates) -> None:
    """The leaves of a synthetic set, their optimisers' moments and the norm of the gradient after one update.

    Args:
      update: from `toys.updates`.
      slopes: of its loss, by leaf.
      optimizers: those of this module, by leaf, which take their step here.
      rates: by leaf.
    """
    for leaf, optimizer in optimizers.items():
        before = np.float64(update.before.params[leaf])
        step = optimizer.step(slopes[leaf], before) if isinstance(optimizer, Lamb) else optimizer.step(slopes[leaf])
        assert_nearly_all_near(before - update.after.params[leaf], rates[leaf] * step, err_msg=leaf)
    assert_moments(update, optimizers)
    if "gradient_norm" in update.metrics:
        norm = np.sqrt(sum(np.sum(np.square(np.float64(slopes[leaf]))) for leaf in optimizers))
        np.testing.assert_allclose(update.metrics["gradient_norm"], norm, rtol=1e-4)


def through_a_window(
    network: Network, learned: dict, plan: Indices, window: tuple, theta: PyTree, real: tuple, rate: float, change=None
):
    """The loss on real images and one-hot labels after Adam's steps on the rows of each step up to the window's end.

    Args:
      window: the first step of it, and how many steps it has; nothing before it is differentiated.
      change: `change(images, t)`, what inner steps see of the learned images.
    """
    begin, length = window

    def step(carry, t):
        constant = jax.tree.map(jax.lax.stop_gradient, carry)
        theta, mean, square = jax.tree.map(lambda old, new: jnp.where(t <= begin, old, new), constant, carry)
        images, labels = learned["images"][plan[t]], learned["labels"][plan[t]]
        images = images if change is None else change(images, t)
        slope = jax.grad(lambda theta: cross_entropy(network.apply(theta, images, {})[0], labels))(theta)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, slope)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, slope)

        def moved(p, m, s):
            return p - rate * (m / (1 - 0.9 ** (t + 1))) / (jnp.sqrt(s / (1 - 0.999 ** (t + 1)) + 1e-16) + 1e-8)

        new = jax.tree.map(moved, theta, mean, square), mean, square
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(slope)))
        return jax.tree.map(lambda old, new: jnp.where(t < begin + length, new, old), carry, new), norm

    zero = jax.tree.map(jnp.zeros_like, theta)
    (theta, *_), norms = jax.lax.scan(step, (theta, zero, zero), jnp.arange(len(plan)))
    return cross_entropy(network.apply(theta, real[0], {})[0], real[1]), norms
