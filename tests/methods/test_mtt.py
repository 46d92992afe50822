"""MTT: its experts and its first updates by hand."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys
from walking_by_hand import CLASSES, MLP, OPTIONS, ROWS, assert_updates, left, network, walks

from jaxdd import engine, methods
from jaxdd.data import augmentation
from jaxdd.engine.stages import foretold, provide
from jaxdd.errors import JaxddError
from jaxdd.synthetic import frequencies, named
from jaxdd.types import Spec, bound

BATCHES = 4


@pytest.fixture(scope="module")
def done(digits):
    return toys.updates(methods.mtt(**OPTIONS), digits, 30)


def test_an_update_sees_starts_and_goals_of_experts(done, digits):
    """Of networks that were trained on the real digits, batch after batch."""
    augment = augmentation.named("cutout")
    keys = jax.random.split(jax.random.key(0), 3)
    labels = digits.labels.values

    @jax.jit
    def trajectory(part):
        theta, _ = network().init(jax.random.fold_in(keys[0], part))

        def epoch(theta, number):
            def step(t, theta):
                place = (part * 3 + number) * BATCHES + t
                order = jax.random.permutation(jax.random.fold_in(keys[1], place // BATCHES), len(labels))
                rows = jax.lax.dynamic_slice_in_dim(order, t * 120, 120)
                images = augment.apply(digits.images[rows], augment.draw(jax.random.fold_in(keys[2], place), 120))

                def loss(theta):
                    logits = network().apply(theta, images, {}, train=True)[0]
                    return by_hand.cross_entropy(logits, jax.nn.one_hot(labels[rows], CLASSES))

                return jax.tree.map(lambda leaf, g: leaf - 0.1 * g, theta, jax.grad(loss)(theta))

            theta = jax.lax.fori_loop(0, BATCHES, step, theta)
            return theta, theta

        after = jax.lax.scan(epoch, theta, jnp.arange(3))[1]
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), theta, after)

    whole = [trajectory(part) for part in range(3)]
    starts = set()
    for update in done:
        rows = np.asarray(update.batch.rows["experts"])
        assert rows.shape == (2, 2) and len(set(rows[:, 0] // ROWS)) == 2  # two different experts
        np.testing.assert_array_equal(rows[:, 1] - rows[:, 0], 2)
        for k, (first, goal) in enumerate(rows):
            starts.add(int(first % ROWS))
            at = np.array([first % ROWS, goal % ROWS])
            expected = jax.tree.map(lambda leaf, at=at: leaf[at], whole[first // ROWS])
            seen = jax.tree.map(lambda leaf, k=k: leaf[k], update.batch.tables["experts"].theta)
            for a, b in zip(jax.tree.leaves(seen), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert starts == {0, 1}


@jax.jit
@jax.value_and_grad
def plainly(learned, update):
    return jnp.stack([left(*walk) for walk in walks(learned, update)]).mean()


def test_updates_are_those_of_the_formula(done):
    """By gradient descent with momentum 0.5; the step size is the number itself."""
    assert done[0].before.params["learning_rates"] == np.float32(0.05)
    assert_updates(done[:3], plainly, {"images": 5.0, "learning_rates": 1e-3})
    assert all(update.metrics["step_size"] == update.after.params["learning_rates"] > 0 for update in done[:3])


@jax.jit
@jax.value_and_grad
def through_frequencies(learned, update):
    images = frequencies(2, 64).render({**update.before.params, **learned}).images
    found = walks({"images": images, "learning_rates": learned["learning_rates"]}, update)
    return jnp.stack([left(*walk) for walk in found]).mean()


@pytest.mark.endurance
def test_any_parameterisation_is_learned_through_its_rendering(digits):
    """For the bits of one plain digit a class there are two of 64 coefficients."""
    options = {**OPTIONS, "ipc": 1, "parameterisation": "frequencies(coefficients=64)"}
    done = toys.updates(methods.mtt(**options), digits, 2)
    assert_updates(done, through_frequencies, {"coefficients": 5.0, "learning_rates": 1e-3})


@pytest.mark.endurance
def test_fields_begin_as_a_stage_has_fitted_them_and_are_learned_by_adam(digits):
    text = "neural_fields(width=4, fit=3)"
    recipe = methods.mtt(**{**OPTIONS, "ipc": 1, "parameterisation": text, "optimizer": "adam"})
    real = provide(recipe, digits, devices=jax.devices()[:1])
    state = jax.jit(lambda key: engine.first_state(bound(recipe, real), real, key))(jax.random.key(0))
    for leaf in named(text)(1).learned:
        np.testing.assert_array_equal(state.params[leaf], real.assets["fitted"][leaf])
        moments = optax.tree.get(state.opt_state.inner_states[leaf], "mu")
        assert moments[leaf].shape == state.params[leaf].shape
    (_, stage) = recipe.stages(Spec.of(digits))
    assert dict(stage.config) == {"parameterisation": text, "ipc": 1, "init": "real"} and stage.steps == 3


def test_what_it_minimises_falls(done):
    losses = [float(update.metrics["loss"]) for update in done]
    assert np.mean(losses[-8:]) < 0.95 * np.mean(losses[:8])


def test_published_settings(digits):
    published = {
        "steps": 30,
        "span": 2,
        "max_start": 20,
        "learning_rate": 100.0,
        "rate_learning_rate": 1e-5,
        "inner_learning_rate": 0.001,
        "experts": 100,
        "expert_epochs": 50,
        "expert_batch": 256,
        "expert_learning_rate": 0.01,
        "augmentation": "dsa",
    }
    assert published.items() <= methods.fields("mtt").items()
    recipe = methods.mtt(ipc=1, model=MLP)
    data = foretold(recipe, digits)
    assert len(jax.tree.leaves(data.tables["experts"])[0]) == 100 * 51
    method = bound(recipe, data)
    distilled = jax.eval_shape(lambda key: method.product(method.init(key, data)), jax.random.key(0))
    assert distilled.learning_rates.shape == () and distilled.num_bits > 32 * 4 * 14 * 14


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "steps of MTT must be at least 1"),
        ({"span": 51}, "span of MTT must be from 1 to expert_epochs, 50"),
        ({"max_start": 50}, "max_start of MTT must be from 1 to 49, so that the goal is among the epochs"),
        ({"experts_per_update": 101}, "experts_per_update of MTT must be from 1 to experts, 100"),
        ({"learning_rate": 0.0}, "learning_rate of MTT must be positive"),
        ({"augmentation": "blur"}, "blur"),
        ({"parameterisation": "frequences"}, "unknown parameterisation 'frequences'; did you mean 'frequencies'"),
        ({"parameterisation": "linear_bases", "init": "noise"}, "begin at random"),
    ],
)
def test_bad_hyper_parameters_say_what_would_be_right(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.mtt(**options)


def test_students_in_double_precision(x64, digits, key):
    """Experts are in single precision, and what their students learn from is not."""
    method = methods.mtt(**OPTIONS)
    with x64():
        real = foretold(method, digits.with_images(jnp.asarray(digits.images, jnp.float64)))
        ready = bound(method, real)

        def updated(key):
            return ready.update(key, ready.init(key, real), engine.draw(ready, real, key))[0]

        assert jax.eval_shape(updated, key).params["images"].dtype == np.float64
