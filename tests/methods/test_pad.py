"""PAD: whom experts see when, and updates by hand, without the parameters that are nearest to the goal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from walking_by_hand import OPTIONS, assert_updates, flat, walks

from jaxdd import methods
from jaxdd.errors import JaxddError
from jaxdd.methods.trajectory.pad import window
from jaxdd.types import Spec

PAD = OPTIONS | {"threshold": 100.0, "first_max_start": None, "drop": 0.25, "difficulty_epochs": 1, "easy": ((1, 0.1),)}


@jax.jit
@jax.value_and_grad
def plainly(learned, update):
    each = []
    for thetas, start, goal in walks(learned, update, jax.nn.softmax(learned["labels"], axis=1)):
        a, b, c = map(flat, (thetas[-1], start, goal))
        kept = jnp.argsort((a - c) ** 2)[len(a) // 4 :]
        each.append(jnp.sum((a - c)[kept] ** 2) / jnp.sum((b - c)[kept] ** 2))
    return jnp.stack(each).mean()


def test_updates_leave_the_nearest_parameters_out(digits):
    done = toys.updates(methods.pad(**PAD), digits, 2)
    rates = {"images": 5.0, "labels": 2.0, "learning_rates": 1e-3}
    assert_updates(done, plainly, rates, {"labels": 0.9})


def test_experts_see_easy_data_first_and_hard_data_last():
    config = methods.pad.hyper()
    shares = [tuple(map(float, window(config, jnp.int32(epoch)))) for epoch in (0, 10, 20, 40, 41, 60, 61)]
    expected = [(0, 0.75), (0, 0.875), (0, 1), (0, 1), (0.1, 1), (0.1, 1), (0.2, 1)]
    np.testing.assert_allclose(shares, expected)


def test_published_settings_and_bad_ones(digits):
    published = {"drop": 0.5, "begin": 0.75, "grown": 20, "easy": ((40, 0.1), (60, 0.2)), "steps": 80}
    assert published.items() <= methods.fields("pad").items()
    assert [stage.name for stage in methods.pad(**PAD).stages(Spec.of(digits))] == ["difficulty", "experts"]
    for easy in (((40, 1.5),), ((60, 0.2), (40, 0.1)), ((-3, 0.1),), ((0, 0.8),)):
        with pytest.raises(JaxddError, match="easy of PAD must be pairs of a growing epoch and a share"):
            methods.pad(easy=easy)
    with pytest.raises(JaxddError, match="drop of PAD must be at least 0 and under 1"):
        methods.pad(drop=1.0)
