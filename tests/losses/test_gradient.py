import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.losses import convolutions, gradient_matching, matrices

SHAPES = {
    "conv_0": {"bias": (5,), "kernel": (3, 3, 2, 5)},
    "head": {"bias": (4,), "kernel": (20, 4)},
    "norm_0": {"bias": (5,), "scale": (5,)},
}
DISTANCES = ("cosine", "l1", "mse")


matching = jax.jit(gradient_matching, static_argnames=("distance", "select"))
SLOPES = {d: jax.jit(jax.value_and_grad(functools.partial(gradient_matching, distance=d), (0, 1))) for d in DISTANCES}


def gradients(rng, *leading, dtype=np.float32):
    is_shape = lambda node: isinstance(node, tuple)  # noqa: E731
    return jax.tree.map(lambda shape: rng.normal(size=(*leading, *shape)).astype(dtype), SHAPES, is_leaf=is_shape)


def by_rows(a, b):
    """Cosine as DC writes it: kernels in PyTorch's layout, one row an output unit after another."""
    a, b = (np.moveaxis(np.asarray(x, np.float64), -1, 0).reshape(x.shape[-1], -1) for x in (a, b))
    total = 0.0
    for row, other in zip(a, b, strict=True):
        total += 1 - row @ other / (np.linalg.norm(row) * np.linalg.norm(other) + 1e-6)
    return total


@pytest.mark.parametrize(
    ("distance", "formula"),
    [
        ("cosine", by_rows),
        ("l1", lambda a, b: np.abs(np.float64(a) - np.float64(b)).sum()),
        ("mse", lambda a, b: ((np.float64(a) - np.float64(b)) ** 2).sum()),
    ],
)
@pytest.mark.parametrize("magnitude", [1.0, 1e-3])
def test_equals_the_formula(rng, distance, formula, magnitude):
    real, synthetic = (jax.tree.map(lambda g: np.float32(magnitude) * g, gradients(rng)) for _ in range(2))
    conv, head = (formula(real[name]["kernel"], synthetic[name]["kernel"]) for name in ("conv_0", "head"))
    np.testing.assert_allclose(matching(real, synthetic, distance=distance), conv + head, rtol=1e-5)
    idc = matching(real, synthetic, distance=distance, select=convolutions)
    np.testing.assert_allclose(idc, conv, rtol=1e-5)


def test_which_leaves_count(rng):
    real = gradients(rng)
    other = {**real, "norm_0": gradients(rng)["norm_0"], "head": {**real["head"], "bias": np.ones(4, np.float32)}}
    assert matching(real, other, distance="l1") == 0
    everything = matching(real, other, distance="l1", select=lambda path, leaf: True)
    biases = matching(real, other, distance="l1", select=lambda path, leaf: path == "head/bias")
    assert everything > biases > 0
    assert matrices("x", jnp.ones((2, 2))) and not matrices("x", jnp.ones(2))
    assert convolutions("x", jnp.ones((3, 3, 1, 2))) and not convolutions("x", jnp.ones((2, 2)))


def test_cosine_is_zero_if_and_only_if_all_rows_are_parallel(rng):
    real = gradients(rng)
    each = jax.tree.map(lambda g: rng.uniform(1, 9, g.shape[-1:]).astype(np.float32), real)
    stretched = jax.tree.map(lambda g, s: g * s.reshape((1,) * (g.ndim - 1) + (-1,)), real, each)
    assert abs(matching(real, stretched)) < 1e-4
    assert matching(real, stretched, distance="mse") > 1
    # Stretching along the inputs turns the rows, and turning one row of nine around costs 2.
    inputs, units = np.arange(1, 21, dtype=np.float32)[:, None], np.float32([[1, 1, -1, 1]])
    along_inputs, turned = (
        {**real, "head": {**real["head"], "kernel": real["head"]["kernel"] * by}} for by in (inputs, units)
    )
    assert matching(real, along_inputs) > 0.1
    np.testing.assert_allclose(matching(real, turned), 2, rtol=1e-4)


def test_cosine_does_not_see_the_scale(rng):
    real, synthetic = gradients(rng), gradients(rng)
    scaled = jax.tree.map(lambda g: 100 * g, synthetic)
    np.testing.assert_allclose(matching(real, scaled), matching(real, synthetic), rtol=1e-5)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("case", ["equal", "zero rows", "all zero", "tiny"])
def test_gradients_are_finite(rng, distance, case):
    real = gradients(rng)
    synthetic = {
        "equal": real,
        "zero rows": jax.tree.map(lambda g: g * (np.arange(g.shape[-1]) > 0), real),
        "all zero": jax.tree.map(np.zeros_like, real),
        "tiny": jax.tree.map(lambda g: np.float32(1e-30) * g, real),
    }[case]
    for pair in ((real, synthetic), (synthetic, synthetic)):
        value, slopes = SLOPES[distance](*pair)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients_are_those_of_finite_differences(rng, x64, distance):
    with x64():
        real, synthetic = (gradients(rng, dtype=np.float64) for _ in range(2))
        along = gradients(rng, dtype=np.float64)
        slopes = jax.device_get(SLOPES[distance](real, synthetic)[1][1])
        up, down = (
            float(SLOPES[distance](real, jax.tree.map(lambda g, d, h=h: g + h * d, synthetic, along))[0])
            for h in (1e-6, -1e-6)
        )
        by_slopes = sum(jax.tree.leaves(jax.tree.map(lambda s, d: (s * d).sum(), slopes, along)))
        np.testing.assert_allclose(by_slopes, (up - down) / 2e-6, rtol=1e-5)


@pytest.mark.parametrize("distance", DISTANCES)
def test_vmap_over_classes_is_a_loop(rng, distance):
    real, synthetic = gradients(rng, 3), gradients(rng, 3)

    @jax.jit
    def loss(r, s):
        return gradient_matching(r, s, distance=distance)

    loop = [loss(*(jax.tree.map(lambda g, c=c: g[c], tree) for tree in (real, synthetic))) for c in range(3)]
    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(real, synthetic), loop, rtol=1e-5)


@pytest.mark.parametrize(
    ("real", "synthetic", "options", "message"),
    [
        ({"k": jnp.ones((2, 2))}, {"k": jnp.ones((2, 2))}, {"distance": "l2"}, "unknown distance 'l2'"),
        ({"k": jnp.ones((2, 2))}, {"j": jnp.ones((2, 2))}, {}, "the same leaves"),
        ({"a": {"k": jnp.ones((2, 2))}}, {"a": {"k": jnp.ones((2, 3))}}, {}, "'a/k' must have the same shape"),
        ({"bias": jnp.ones(2)}, {"bias": jnp.ones(2)}, {}, "no gradient counts"),
    ],
)
def test_bad_input_is_refused(real, synthetic, options, message):
    with pytest.raises(ValueError, match=message):
        gradient_matching(real, synthetic, **options)
