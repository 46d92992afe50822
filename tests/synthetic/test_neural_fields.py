import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import training
from jaxdd.data import Standardize
from jaxdd.errors import JaxddError
from jaxdd.synthetic import DistilledDataset, fitted, neural_fields, render
from jaxdd.types import bound

FIELDS = neural_fields(2, 3, first_scale=7.0, scale=5.0)


@pytest.fixture(scope="module")
def params(real):
    return jax.jit(FIELDS.init)(jax.random.key(0), real)


def plainly(params, image, height, width):
    """One image, pixel by pixel."""
    w0, w1, w2, b0, b1, b2 = (
        np.float64(params[f"{kind}_{k}"][image]) for kind in ("weights", "biases") for k in range(3)
    )
    found = np.zeros((height, width, w2.shape[1]))
    for i in range(height):
        for j in range(width):
            place = np.array([2 * i / (height - 1) - 1, 2 * j / (width - 1) - 1])
            found[i, j] = np.sin(5 * (np.sin(7 * (place @ w0 + b0)) @ w1 + b1)) @ w2 + b2
    return found


def test_each_image_is_its_own_network_of_the_place(params):
    images, labels, rates = FIELDS.render(params)
    np.testing.assert_array_equal(labels.argmax(1), [0, 0, 1, 1, 2, 2])
    assert rates is None
    for k in range(6):
        np.testing.assert_allclose(images[k], plainly(params, k, 4, 5), atol=2e-5)
    larger = FIELDS.render({**params, "rows": jnp.linspace(-1, 1, 7), "columns": jnp.linspace(-1, 1, 3)}).images
    np.testing.assert_allclose(larger[1], plainly(params, 1, 7, 3), atol=2e-5)


def test_they_begin_as_a_siren(real):
    """Uniformly within 1 / inputs in the first layer, sqrt(6 / inputs) / scale in the others."""
    params = jax.jit(neural_fields(3, 40, 3, scale=5.0).init)(jax.random.key(0), real)
    for name in ("weights_0", "biases_0", "weights_1", "weights_2", "weights_3"):
        bound = 1 / 2 if name.endswith("0") else np.sqrt(6 / 40) / 5
        largest = np.abs(params[name]).max()
        assert 0.97 * bound < largest <= bound and abs(np.mean(params[name])) < 0.1 * bound
    assert params["weights_0"].shape == (9, 2, 40) and params["weights_3"].shape == (9, 40, 2)
    np.testing.assert_array_equal(params["scales"], np.float32([30, 5, 5]))


def test_what_is_stored_renders_the_images(params, real):
    distilled = render(FIELDS, params)
    # 2 x 3 + 3, 3 x 3 + 3 and 3 x 2 + 2 numbers an image, 2 scales, 2 bits a label.
    of_leaves = {"weights_0": 36, "biases_0": 18, "weights_1": 54, "biases_1": 18, "weights_2": 36, "biases_2": 12}
    assert FIELDS.num_bits(params) == {name: 32 * size for name, size in {**of_leaves, "scales": 2}.items()} | {
        "labels": 12
    }
    transform = Standardize(np.full(2, 0.5, np.float32), np.full(2, 0.25, np.float32))
    opened = DistilledDataset.from_bytes(DistilledDataset.create(distilled, transform, {}).to_bytes())
    assert opened.header["decoder"] == "neural_fields" and opened.header["num_bits"] == 32 * 176 + 12
    height, width = opened.images.shape[1:3]
    coordinates = {"rows": jnp.linspace(-1, 1, height), "columns": jnp.linspace(-1, 1, width)}
    again = FIELDS.render({**opened.params, **coordinates}).images
    np.testing.assert_allclose(again, transform.apply(opened.pixels()), atol=1e-5)


def test_a_fit_comes_near_to_real_digits(digits):
    synthetic = fitted(neural_fields(2, 10), steps=200, learning_rate=0.01)
    (stage,) = training.fitted(synthetic, config={})
    method = bound(stage.recipe, digits)
    assert synthetic.fit.steps == 200
    start = jax.jit(method.init)(jax.random.key(1), digits)
    rows = [
        np.flatnonzero((np.asarray(digits.images) == image[None]).all((1, 2, 3))) for image in np.asarray(start.target)
    ]
    np.testing.assert_array_equal([digits.labels.values[found[0]] for found in rows], [0, 0, 1, 1, 2, 2, 3, 3])
    assert len({int(found[0]) for found in rows}) == 8

    @jax.jit
    def fit(state):
        return jax.lax.scan(lambda state, _: method.update(jax.random.key(0), state, None), state, length=200)

    state, metrics = fit(start)
    left = np.square(synthetic.render(state.params).images - start.target).mean()
    assert left < 0.1 * np.square(start.target).mean() < 0.2 * metrics["loss"][0]
    assert set(method.product(state)) == set(synthetic.learned)
    # And `init` begins with what a stage has left.
    assets = {"fitted": method.product(state)}
    found = synthetic.init(jax.random.key(2), type(digits)(digits.tables, digits.labels, assets))
    np.testing.assert_array_equal(synthetic.render(found).images, synthetic.render(state.params).images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 0), "the width of neural fields must be an integer of at least 1"),
        ((1, 3, 0), "the layers of neural fields must be an integer of at least 1"),
        ((0, 3), "images per class must be an integer of at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(JaxddError, match=message):
        neural_fields(*arguments)


def test_bad_scales():
    with pytest.raises(JaxddError, match="the first scale of neural fields must be a number above 0"):
        neural_fields(1, 3, first_scale=0.0)
