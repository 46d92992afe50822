"""TESLA: its updates by hand, with parameters that count as constants."""

import functools

import jax
import jax.numpy as jnp
import pytest
import toys
from walking_by_hand import OPTIONS, assert_updates, left, network, walks

from jaxdd import methods


def told(goal, images):
    return jax.lax.stop_gradient(jax.nn.softmax(network().apply(goal, images, {})[0]))


@functools.partial(jax.jit, static_argnums=2)
@jax.value_and_grad
def plainly(learned, update, taught):
    labels = told if taught else None
    return jnp.stack([left(*walk) for walk in walks(learned, update, labels, detached=True)]).mean()


@pytest.mark.parametrize("taught", [False, True])
def test_updates_are_those_of_a_student_whose_gradients_are_constants(taught, digits):
    done = toys.updates(methods.tesla(**OPTIONS, teacher_labels=taught), digits, 2)
    rates = {"images": 5.0, "learning_rates": 1e-3}
    assert_updates(done, lambda learned, update: plainly(learned, update, taught), rates)


def test_published_settings():
    published = {"ipc": 1, "steps": 50, "span": 2, "max_start": 5, "learning_rate": 500.0, "rate_learning_rate": 1e-7}
    assert published.items() <= methods.fields("tesla").items()
    assert methods.fields("tesla")["gradient"] == "detached"
