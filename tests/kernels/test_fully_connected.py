"""The kernels against closed forms, Monte-Carlo wide networks, and finite differences."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.kernels import build, conjugate_kernel, kernel_ridge_predict, label_solve, nngp, nngp_and_ntk, ntk

ACTIVATIONS = {"relu": jax.nn.relu, "erf": jax.scipy.special.erf}

# Compiled as a whole: operation by operation, each is a program for itself.
both = jax.jit(nngp_and_ntk, static_argnames=("depth", "activation", "block"))


def wide_network(inputs, width, depth, activation, w_std, b_std):
    """Forward pass and initialisation of a finite network in the NTK parameterisation, for checking."""
    sizes = [inputs, *[width] * depth, 1]

    def forward(theta, x):
        for i, (w, b) in enumerate(theta):
            x = w_std / np.sqrt(w.shape[0]) * x @ w + b_std * b[None]
            if i < depth:
                x = ACTIVATIONS[activation](x)
        return x[:, 0]

    def draw(key):
        pairs = []
        for a, b in itertools.pairwise(sizes):
            key, key_w, key_b = jax.random.split(key, 3)
            pairs.append((jax.random.normal(key_w, (a, b)), jax.random.normal(key_b, (b,))))
        return pairs

    return forward, draw


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.endurance)])
def test_nngp_and_ntk_are_the_limits_of_wide_networks(activation, depth):
    """The empirical NTK of random networks, and the covariance of their outputs, tend to the kernels."""
    x = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    options = {"depth": depth, "activation": activation, "w_std": 1.3, "b_std": 0.4}
    forward, draw = wide_network(6, 192, depth, activation, 1.3, 0.4)

    def one(key):
        theta = draw(key)
        jacobian = jax.jacobian(forward)(theta, x)
        rows = jnp.concatenate([leaf.reshape(4, -1) for leaf in jax.tree.leaves(jacobian)], axis=1)
        f = forward(theta, x)
        return jnp.outer(f, f), rows @ rows.T

    found = jax.jit(lambda key: jax.lax.map(one, jax.random.split(key, 300)))(jax.random.key(2))
    covariance, tangent = map(np.asarray, found)
    expected = jax.jit(functools.partial(nngp_and_ntk, **options))(x)
    # Outputs of one network are correlated samples: a Monte-Carlo error for them, a width error for the tangent kernel.
    error = covariance.std(0) / np.sqrt(len(covariance))
    assert np.all(np.abs(covariance.mean(0) - expected.nngp) < 4.5 * error)
    error = tangent.std(0) / np.sqrt(len(tangent))
    assert np.all(np.abs(tangent.mean(0) - expected.ntk) < 4.5 * error + 0.005 * np.max(expected.ntk))


# Upper triangles for x = sin(0..14) as three rows, w_std 1.3, b_std 0.4, printed by the stax of neural-tangents 0.6.5
# (float64), which itself no longer imports on current JAX and whose own tests hold no numbers, only Monte-Carlo checks.
NEURAL_TANGENTS = {
    ("relu", 1): (
        [
            0.9028524408134765,
            0.5179791190559859,
            0.2406371039811545,
            1.0314773212535848,
            0.7395754927195326,
            1.0782549807470327,
        ],
        [
            1.645704881626953,
            0.6270485576263164,
            0.09912689481490441,
            1.9029546425071697,
            1.082744012214698,
            1.9965099614940653,
        ],
    ),
    ("relu", 3): (
        [
            0.9398592140518428,
            0.7745263839433073,
            0.6932009668739405,
            1.031700594308091,
            0.8868845008936147,
            1.0651010126279001,
        ],
        [
            2.894792856207371,
            1.4266254673967889,
            1.0288619067823666,
            3.2621583772323643,
            1.8961262851422642,
            3.3957600505116012,
        ],
    ),
    ("erf", 1): (
        [
            0.9036345547909888,
            0.32666548105646875,
            -0.22854261436092055,
            0.9549908716591871,
            0.5777184593177905,
            0.9716900038102081,
        ],
        [
            1.793744235400926,
            0.4946770437544733,
            -0.6349067428726509,
            1.935236727715348,
            1.0177739517260243,
            1.9829380385888133,
        ],
    ),
    ("erf", 3): (
        [
            0.9156586991649195,
            0.4733323831530604,
            0.151078574362526,
            0.921884068336333,
            0.6219993550919619,
            0.9238074080606233,
        ],
        [
            3.6191370595161434,
            1.0981251074391485,
            -0.2215313015220021,
            3.7215297505225733,
            1.787173842419684,
            3.7553950696338267,
        ],
    ),
}


@pytest.mark.parametrize(("activation", "depth"), NEURAL_TANGENTS)
def test_equals_neural_tangents(activation, depth):
    x = jnp.array(np.sin(np.arange(15.0)).reshape(3, 5), jnp.float32)
    found = both(x, depth=depth, activation=activation, w_std=1.3, b_std=0.4)
    upper = np.triu_indices(3)
    for kernel, expected in zip(map(np.asarray, found), NEURAL_TANGENTS[activation, depth], strict=True):
        np.testing.assert_allclose(kernel[upper], expected, rtol=3e-5)


def test_depth_one_relu_closed_form():
    """Cho & Saul (2009), eq. 6 for n = 1, without bias: orthogonal and parallel inputs."""
    x = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], np.float32)
    kernel, tangent = map(
        np.asarray, jax.jit(lambda x: (nngp(x, w_std=1.0, b_std=0.0), ntk(x, w_std=1.0, b_std=0.0)))(x)
    )
    half = 1 / 2  # 1/fan_in
    np.testing.assert_allclose(kernel[0, 1], 2 * 1 * half / (2 * np.pi), rtol=1e-6)
    np.testing.assert_allclose(kernel[0, 2], 2 * 3 * half / 2, rtol=1e-6)
    # Theta = nngp + k0 * E[step step]: parallel inputs share all active units, orthogonal ones a quarter, but k0 = 0.
    np.testing.assert_allclose(tangent[0, 2], 2 * 2 * 3 * half / 2, rtol=1e-6)
    np.testing.assert_allclose(tangent[0, 1], kernel[0, 1], rtol=1e-6)


def test_deep_relu_keeps_its_diagonal():
    """With w_std = sqrt(2) and no bias a ReLU network keeps the variance, and its NTK is (depth + 1) times it."""
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    norm = 2 * np.sum(x**2, 1) / 5
    of_depths = jax.jit(lambda x: [nngp_and_ntk(x, depth=depth, b_std=0.0) for depth in range(4)])(x)
    for depth, found in enumerate(of_depths):
        np.testing.assert_allclose(np.diag(found.nngp), norm, rtol=1e-5)
        np.testing.assert_allclose(np.diag(found.ntk), (depth + 1) * norm, rtol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_the_diagonal_of_one_set_is_exact(x64, activation):
    """In float32 the angle between an input and itself is rounding noise; the diagonal must not depend on it."""
    x = np.random.default_rng(0).normal(size=(40, 784)).astype(np.float32)
    depths = (0, 1, 3)

    @functools.partial(jax.jit, static_argnames="two")
    def kernels(x, two=False):
        return [k for depth in depths for k in nngp_and_ntk(*[x] * (1 + two), depth=depth, activation=activation)]

    single = kernels(x)
    with x64():
        double, pairs = kernels(np.float64(x)), kernels(np.float64(x), two=True)
    for kernel, exact, elsewhere in zip(single, double, pairs, strict=True):
        np.testing.assert_allclose(np.diag(kernel), np.diag(exact), rtol=2e-6)
        np.testing.assert_allclose(exact, elsewhere, rtol=1e-7)  # the closed form is the limit, and only the diagonal


def test_no_product_is_left_to_tf32():
    """GPUs round the factors of a product to 10 bits unless told otherwise."""
    x = jnp.ones((3, 4))
    functions = {
        "kernel": lambda x: ntk(x, x[:2]),
        "conjugate": conjugate_kernel(jnp.sin),
        "predict": lambda x: kernel_ridge_predict(x[:, :3], ntk(x), x),
        "label solve": lambda x: label_solve(ntk, x[:1], x, x),
    }
    for name, function in functions.items():
        jaxpr = str(jax.make_jaxpr(function)(x))
        products = jaxpr.count("= dot_general[")
        assert jaxpr.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == products > 0, name


def test_linear_model_is_the_linear_kernel():
    x, y = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(ntk(x, y, depth=0, w_std=2.0, b_std=0.5), x @ y.T + 0.25, rtol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("kernel", [pytest.param(nngp, marks=pytest.mark.endurance), ntk])  # the second holds the first
def test_gradient_equals_finite_differences_and_is_finite_where_inputs_coincide(x64, kernel, activation):
    with x64():
        rng = np.random.default_rng(3)
        x, y, weights = (rng.normal(size=shape) for shape in ((4, 5), (3, 5), (4, 3)))

        # Of a kernel of two sets, and of the diagonal of one, where there is no angle to change.
        def losses(x):
            elsewhere = jnp.sum(weights * kernel(x, y, depth=2, activation=activation))
            return elsewhere, jnp.sum(jnp.sin(jnp.diag(kernel(x, depth=2, activation=activation))))

        compiled, step = jax.jit(lambda x: (jax.jacrev(losses)(x), losses(x))), 1e-6
        gradients = compiled(x)[0]
        for i, j in [(0, 0), (1, 3), (3, 4)]:
            e = np.zeros_like(x)
            e[i, j] = step
            for gradient, up, down in zip(gradients, compiled(x + e)[1], compiled(x - e)[1], strict=True):
                np.testing.assert_allclose(gradient[i, j], (up - down) / (2 * step), rtol=1e-6, atol=1e-9)
    x = np.float32(x)
    twice = np.concatenate([x, x[:1], np.zeros((1, 5), np.float32)])  # coincident inputs and a black image

    @jax.jit
    def slopes(x, b_std):
        return jax.grad(lambda x: jnp.sum(jnp.sin(kernel(x, depth=2, activation=activation, b_std=b_std))))(x)

    assert all(np.isfinite(slopes(twice, b_std)).all() for b_std in (0.0, 0.1))

    # The gradient of the trace is that of the closed form.
    def trace(x):
        return jnp.trace(kernel(x, activation=activation))

    def pairs(x):
        return jnp.sum(jax.vmap(lambda x: kernel(x[None], activation=activation)[0, 0])(x))

    np.testing.assert_allclose(*jax.jit(lambda x: (jax.grad(trace)(x), jax.grad(pairs)(x)))(x), rtol=1e-5, atol=1e-6)


def test_same_values_jitted_vmapped_and_plain():
    sets = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    plain = np.stack([ntk(x, sets[0]) for x in sets])  # operation by operation
    np.testing.assert_allclose(jax.jit(jax.vmap(lambda x: ntk(x, sets[0])))(sets), plain, rtol=1e-4)
    images = sets.reshape(2, 3, 2, 2, 1)
    np.testing.assert_allclose(ntk(images[1], images[0]), plain[1], rtol=1e-5)


def test_conjugate_kernel_of_wide_random_features_tends_to_the_nngp():
    """Features of random ReLU layers: w_std^2 E[relu relu] + b_std^2 is the NNGP of depth one."""
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 6), (6, 200_000)))

    @jax.jit
    def kernels(x, w):
        kernel = conjugate_kernel(lambda x: jax.nn.relu(np.float32(np.sqrt(2 / 6)) * x @ w))
        return kernel(x), kernel(x, x[:2]), nngp(x, b_std=0.0)

    own, pairs, expected = kernels(x, w)
    np.testing.assert_allclose(2 * own, expected, atol=0.03)
    np.testing.assert_allclose(pairs, np.asarray(own)[:, :2], rtol=1e-5)


def test_build_by_name_and_bad_arguments():
    x = jnp.ones((2, 3))
    np.testing.assert_array_equal(*jax.jit(lambda x: (build("nngp", depth=3)(x), nngp(x, depth=3)))(x))
    with pytest.raises(ValueError, match="did you mean 'ntk'"):
        build("ntkk")
    with pytest.raises(ValueError, match="activation"):
        ntk(x, activation="tanh")
    with pytest.raises(ValueError, match="depth"):
        ntk(x, depth=-1)
    with pytest.raises(ValueError, match="same size"):
        ntk(x, jnp.ones((2, 4)))


@functools.partial(jax.jit, static_argnums=2)
def value_and_gradients(x, y, block):
    def loss(x, y):
        kernels = *nngp_and_ntk(x, depth=2, block=block), *nngp_and_ntk(x, y, depth=2, block=block)
        return sum(jnp.sum(jnp.sin(k)) for k in kernels), kernels

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(x, y)


@pytest.mark.parametrize("block", [3, 4, 100])
def test_blocks_of_rows_change_nothing(block):
    """Rows that divide and rows that do not; of one set, its exact diagonal too, and of two; gradients too."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 5), (6, 5)))
    found, expected = (value_and_gradients(x, y, b) for b in (block, None))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


def test_memory_of_a_gradient_is_that_of_its_blocks():
    """Beside the kernel's own and its cotangent."""
    x = jnp.zeros((600, 4))

    def temporary(block):
        def loss(x):
            return jnp.sum(jnp.tanh(ntk(x, depth=3, block=block)))

        return jax.jit(jax.grad(loss)).lower(x).compile().memory_analysis().temp_size_in_bytes

    assert temporary(20) < temporary(None) / 3
    assert temporary(20) < 3 * 4 * 600**2


def test_a_block_must_be_positive():
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        ntk(jnp.zeros((2, 3)), block=0)
