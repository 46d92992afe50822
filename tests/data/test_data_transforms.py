"""Transforms: what they make of the data, their inverse, and their form in a file."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import data
from jaxdd.data.dataset import compact_data
from jaxdd.errors import JaxddError
from jaxdd.types import HostArray


@pytest.fixture(scope="module")
def images():
    """Real digits, halved in size to be quick: float32 (3600, 14, 14, 1)."""
    return data.load("mnist_5k").train.pixels().reshape(-1, 14, 2, 14, 2, 1).mean((2, 4))


@pytest.fixture(scope="module")
def colour():
    """Correlated pixels in three channels of different scale, float32 (400, 4, 4, 3)."""
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((400, 48)) @ (np.eye(48) + 0.1 * rng.standard_normal((48, 48)))
    return (mixed.reshape(400, 4, 4, 3) * [1.0, 0.1, 3.0] + [0.5, -2.0, 0.0]).astype(np.float32)


SPECS = ["none", "standardize", "zca"]


@pytest.mark.parametrize("spec", SPECS)
def test_the_inverse_returns_for_numpy_for_jax_and_inside_jit(spec, images, colour):
    for x in (images[:300], colour):
        transform = data.fit_transform(spec, x)
        assert isinstance(transform, data.Transform)
        there = transform.apply(x)
        back = transform.inverse(there)
        assert type(there) is type(back) is np.ndarray and there.dtype == back.dtype == np.float32
        np.testing.assert_allclose(back, x, atol=1e-4)
        jax_there = transform.apply(jnp.asarray(x))
        assert isinstance(jax_there, jax.Array) and jax_there.dtype == jnp.float32
        np.testing.assert_allclose(jax_there, there, atol=1e-3)
        np.testing.assert_allclose(jax.jit(transform.inverse)(jax.jit(transform.apply)(x)), x, atol=1e-4)
        passed = jax.jit(lambda t, x: t.inverse(t.apply(x)))(transform, x)  # as an argument, not a constant
        np.testing.assert_allclose(passed, x, atol=1e-4)


@pytest.mark.parametrize("ridge", [1e-5, 1e-3, 0.1, 10.0])
def test_zca_inverts_at_any_ridge(ridge, images):
    """A quarter of the digits' pixels are constant, so the ridge alone makes them invertible."""
    transform = data.fit_transform("zca", images, zca_ridge=ridge)
    x = images[:200]
    np.testing.assert_allclose(transform.inverse(transform.apply(x)), x, atol=1e-4)
    np.testing.assert_allclose(jax.jit(transform.inverse)(jax.jit(transform.apply)(x)), x, atol=1e-4)


def test_standardize_gives_each_channel_mean_0_and_deviation_1(colour):
    transform = data.Standardize.fit(colour)
    out = transform.apply(colour)
    np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((0, 1, 2)), 1, atol=1e-5)


def test_a_constant_channel_is_only_shifted(colour):
    x = colour.copy()
    x[..., 1] = np.float32(0.1)
    transform = data.Standardize.fit(x)
    assert transform.std[1] == 1
    np.testing.assert_allclose(transform.apply(x)[..., 1], 0, atol=1e-6)


def covariance(images):
    flat = images.reshape(len(images), -1).astype(np.float64)
    return np.cov(flat, rowvar=False, bias=True)


def test_zca_whitens_at_a_small_ridge(colour):
    out = data.ZCA.fit(colour, ridge=1e-7).apply(colour)
    np.testing.assert_allclose(covariance(out), np.eye(48), atol=1e-2)
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-3)


@pytest.mark.parametrize("ridge", [0.01, 0.1, 1.0])
def test_zca_is_the_published_formula(ridge, colour):
    """W = U diag(1/sqrt(s + ridge mean(s))) U^T: the whitened covariance has eigenvalues s / (s + ridge mean(s))."""
    c = covariance(colour)
    s = np.linalg.eigvalsh(c)
    transform = data.ZCA.fit(colour, ridge=ridge)
    expected = s / (s + ridge * s.mean())
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance(transform.apply(colour))), np.sort(expected), atol=1e-4)
    # By another road: W squared is the inverse of the regularised covariance.
    w = transform.whitening.astype(np.float64)
    np.testing.assert_allclose(w @ w @ (c + ridge * s.mean() * np.eye(48)), np.eye(48), atol=1e-4)
    np.testing.assert_allclose(w, w.T, atol=1e-5)


def test_fitting_in_blocks_changes_nothing(colour, monkeypatch):
    whole = data.fit_transform("zca", colour)
    monkeypatch.setattr("jaxdd.data.transforms._BLOCK_BYTES", 4 * 48 * 7)  # seven images at a time
    pieces = data.fit_transform("zca", colour)
    np.testing.assert_allclose(pieces.transforms[1].whitening, whole.transforms[1].whitening, atol=1e-4)
    real = data.real_data(data.Split(colour, np.arange(400, dtype=np.int32) % 4), whole, 4)
    np.testing.assert_allclose(real.images, whole.apply(colour), atol=1e-5)


def test_zca_spec_standardises_first(colour):
    chain = data.fit_transform("zca", colour, zca_ridge=0.2)
    assert chain.name == "standardize+zca" and chain.transforms[1].ridge == 0.2
    standardized = data.Standardize.fit(colour).apply(colour)
    expected = data.ZCA.fit(standardized, ridge=0.2).apply(standardized)
    np.testing.assert_allclose(chain.apply(colour), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["mnist", "svhn_cropped:3.0.0", "cifar10", "cifar100", "tiny_imagenet"])
def test_published_constants_are_a_plain_standardisation_whatever_the_images(name, colour):
    mean, std = (np.float32(constants) for constants in data.PUBLISHED[name.partition(":")[0]])
    x = colour[..., : len(mean)]
    transform = data.fit_transform("published", x, name=name)
    assert type(transform) is data.Standardize
    np.testing.assert_allclose(transform.apply(x), (x - mean) / std, rtol=1e-6, atol=1e-6)
    whitened = data.fit_transform("published+zca", x, name=name)
    np.testing.assert_array_equal(whitened.transforms[0].std, std)
    np.testing.assert_allclose(whitened.inverse(whitened.apply(x)), x, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("mnist", (0.1307,), (0.3081,)),
        ("mnist_5k", (0.1307,), (0.3081,)),
        ("fashion_mnist", (0.2861,), (0.3530,)),
        ("svhn", (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
        ("svhn_cropped", (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
        ("cifar10", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ("cifar100", (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
        ("tiny_imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_the_constants_are_those_that_papers_divide_by(name, mean, std):
    assert data.PUBLISHED[name] == (mean, std)


def test_data_without_published_constants_say_so(colour):
    for name in ("birds", "cifar", None):
        with pytest.raises(JaxddError, match=r'no constants are published .* "standardize" measures them'):
            data.fit_transform("published", colour, name=name)
    with pytest.raises(JaxddError, match="published for mnist are of 1 channels, but its images have 3"):
        data.fit_transform("published", colour, name="mnist")


@pytest.mark.parametrize("spec", SPECS)
def test_a_transform_survives_its_file(spec, colour, tmp_path):
    from safetensors.numpy import load_file, save_file

    transform = data.fit_transform(spec, colour)
    steps, tensors = data.transform_to_tensors(transform)
    save_file(tensors | {"images": colour}, tmp_path / "t.safetensors")
    again = data.transform_from_tensors(json.loads(json.dumps(steps)), load_file(tmp_path / "t.safetensors"))
    assert again.name == transform.name and type(again) is type(transform)
    np.testing.assert_array_equal(again.apply(colour), transform.apply(colour))
    np.testing.assert_array_equal(again.inverse(colour), transform.inverse(colour))
    assert all(t.dtype == np.float32 for t in tensors.values())


def test_nested_chains_are_stored_flat(colour):
    standardize = data.Standardize.fit(colour)
    nested = data.Chain((data.Identity(), data.Chain((standardize, standardize))))
    steps, tensors = data.transform_to_tensors(nested)
    assert [step["name"] for step in steps] == ["none", "standardize", "standardize"] and len(tensors) == 4
    again = data.transform_from_tensors(steps, tensors)
    np.testing.assert_array_equal(again.apply(colour), nested.apply(colour))


def stored(colour, change):
    steps, tensors = data.transform_to_tensors(data.fit_transform("zca", colour))
    change(steps, tensors)
    return steps, tensors


STORED = [
    (lambda s, t: s[0].update(name="standardise"), "unknown transform 'standardise'; did you mean 'standardize'"),
    (lambda s, t: s[0].pop("name"), "unknown transform 'None'"),
    (lambda s, t: s[0].update(name=["zca"]), "unknown transform"),
    (lambda s, t: s[1].pop("ridge"), "'zca' lacks the number 'ridge'"),
    (lambda s, t: s.append(3), "must be a list of steps"),
    (lambda s, t: t.pop("transform.1.whitening"), "lacks its tensor 'transform.1.whitening'"),
    (lambda s, t: t.update({"transform.1.whitening": np.eye(3, dtype=np.float32)}), r"a matrix of shape \(3, 3\)"),
    (lambda s, t: t["transform.0.std"].fill(0), "needs a mean and a positive std"),
    (lambda s, t: t["transform.0.mean"].fill(np.nan), "'transform.0.mean' .* must be finite float32"),
    (lambda s, t: t.update({"transform.0.mean": np.zeros(3)}), "must be finite float32"),
]


@pytest.mark.parametrize(("change", "sentence"), STORED, ids=[s[:30] for _, s in STORED])
def test_bad_stored_transforms_get_one_clear_sentence(change, sentence, colour):
    with pytest.raises(JaxddError, match=sentence):
        data.transform_from_tensors(*stored(colour, change))


def test_what_is_not_ours_cannot_be_stored(colour):
    class Mine(data.Identity):
        name = "mine"

    with pytest.raises(JaxddError, match=r"transform 'mine' \(Mine\) cannot be stored"):
        data.transform_to_tensors(Mine())


@pytest.mark.parametrize("spec", ["standardize", "zca"])
def test_images_of_another_kind_are_refused(spec, colour):
    transform = data.fit_transform(spec, colour)
    for function in (transform.apply, transform.inverse):
        with pytest.raises(JaxddError, match="was fitted on images of shape"):
            function(colour[..., :1])
        with pytest.raises(JaxddError, match="takes float images in pixel space, got uint8"):
            function(colour.astype(np.uint8))
    with pytest.raises(JaxddError, match="was fitted on images of shape"):
        data.ZCA.fit(colour).apply(colour[:, :3])


@pytest.mark.parametrize("ridge", [0, -0.1, float("nan"), float("inf"), "0.1"])
def test_a_ridge_must_be_above_zero(ridge, colour):
    with pytest.raises(JaxddError, match="zca_ridge must be a finite number above 0"):
        data.fit_transform("zca", colour, zca_ridge=ridge)


def test_unknown_transforms_and_equal_images(colour):
    with pytest.raises(
        JaxddError, match=r"unknown transform 'whiten'; known: none, published, published\+zca, standardize, zca"
    ):
        data.fit_transform("whiten", colour)
    with pytest.raises(JaxddError, match="did you mean 'standardize'"):
        data.fit_transform("standardise", colour)
    with pytest.raises(JaxddError, match="all images are equal"):
        data.fit_transform("zca", np.ones((5, 2, 2, 1), np.float32))


@pytest.mark.parametrize(
    ("spec", "kind", "compact"),
    [("none", np.uint8, True), ("standardize", np.uint8, True), ("zca", np.uint8, False), ("none", np.float32, False)],
)
def test_only_pixels_of_eight_bits_taken_one_by_one_are_stored_as_they_are(spec, kind, compact):
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3)).astype(kind)
    split = data.Split(images, np.arange(30, dtype=np.int32) % 3)
    transform = data.fit_transform(spec, split.pixels())
    stored, decode = compact_data(split, transform, 3)
    expected = data.real_data(split, transform, 3)
    assert stored.labels.counts == expected.labels.counts
    assert (stored.images.dtype == np.uint8) == (decode is not None) == compact
    found = decode(stored.images) if decode else stored.images
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected.images, rtol=1e-6, atol=1e-6)


def test_decoders_are_equal_where_their_transforms_are():
    """So a second run on the same data compiles nothing anew."""

    class Mine(data.Identity):
        name = "mine"

    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3)).astype(np.uint8)
    split, other = (data.Split(x, np.arange(30, dtype=np.int32) % 3) for x in (images, images // 2))

    def decoder(split, transform):
        return compact_data(split, transform, 3)[1]

    fitted = [decoder(split, data.fit_transform("standardize", split.pixels())) for _ in range(2)]
    assert fitted[0] == fitted[1] and hash(fitted[0]) == hash(fitted[1])
    assert fitted[0] != decoder(split, data.fit_transform("standardize", other.pixels()))
    assert fitted[0] != decoder(split, data.Identity()) == decoder(other, data.Identity())
    mine = Mine()
    assert decoder(split, mine) == decoder(other, mine) != decoder(split, Mine())


@pytest.mark.parametrize("spec", SPECS)
def test_uint8_images_are_fitted_as_their_pixels_are(spec):
    split = data.load("mnist_5k").train
    small = data.Split(split.images[:600, ::2, ::2], split.labels[:600])
    expected = data.transform_to_tensors(data.fit_transform(spec, small.pixels()))
    streamed = HostArray(small.images.shape, np.uint8, lambda rows: small.images[rows], "")
    for stored in (small.images, streamed):
        found = data.transform_to_tensors(data.fit_transform(spec, stored))
        assert found[0] == expected[0] and found[1].keys() == expected[1].keys()
        for name, tensor in expected[1].items():
            np.testing.assert_array_equal(found[1][name], tensor)
