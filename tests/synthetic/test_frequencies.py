import jax
import numpy as np
import pytest
import scipy.fft

from jaxdd.errors import JaxddError
from jaxdd.synthetic import frequencies, pixels, render


def spectra(images):
    return scipy.fft.dctn(np.asarray(images, np.float64), axes=(1, 2), norm="ortho")


@pytest.mark.parametrize("init", ["real", "noise", "unit"])
def test_all_coefficients_give_the_image_back(uneven, key, init):
    synthetic = frequencies(2, 24, init=init)
    params = jax.jit(synthetic.init)(key, uneven)
    assert params["coefficients"].shape == (6, 24, 1)
    plain = pixels(2, init=init).init(key, uneven)
    images, labels, _ = synthetic.render(params)
    np.testing.assert_allclose(images, plain["images"], atol=2e-6)
    np.testing.assert_array_equal(labels, plain["labels"])


@pytest.mark.parametrize("data", ["real", "uneven"])
def test_kept_positions_explain_most_variance_of_each_class(request, key, data):
    real = request.getfixturevalue(data)
    mask = np.asarray(jax.jit(frequencies(1, 6).init)(key, real)["mask"])
    values = np.asarray(real.labels.values)
    for label in range(3):
        variances = spectra(real.images)[values == label].var(axis=0)
        for channel in range(mask.shape[3]):
            kept = mask[label, :, :, channel] > 0
            assert kept.sum() == 6
            assert variances[kept, channel].min() > variances[~kept, channel].max()


def test_images_are_the_inverse_transform_of_what_is_kept(real, key):
    synthetic = frequencies(2, 6)
    params = jax.jit(synthetic.init)(key, real)
    kept = spectra(jax.jit(pixels(2).init)(key, real)["images"]) * np.repeat(params["mask"], 2, axis=0)
    expected = scipy.fft.idctn(kept, axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(synthetic.render(params).images, expected, atol=2e-6)
    # Orthonormal: what is kept has the energy of the images.
    energy = np.sum(np.square(params["coefficients"]), axis=(1, 2))
    np.testing.assert_allclose(np.sum(np.square(synthetic.render(params).images), axis=(1, 2, 3)), energy, rtol=1e-5)


def test_rendering_reaches_only_kept_positions(real, key):
    synthetic = frequencies(2, 6)
    params = jax.jit(synthetic.init)(key, real)
    moved = {**params, "coefficients": jax.random.normal(key, params["coefficients"].shape)}
    spectrum = spectra(synthetic.render(moved).images)
    assert np.abs(spectrum[np.repeat(params["mask"], 2, axis=0) == 0]).max() < 1e-6


def test_bits(real, key):
    synthetic = frequencies(2, 6)
    params = jax.jit(synthetic.init)(key, real)
    # 32 a coefficient; 5 an index into 20 positions, for 3 classes and 2 channels; 2 a label.
    assert synthetic.num_bits(params) == {"coefficients": 32 * 6 * 6 * 2, "mask": 5 * 3 * 2 * 6, "labels": 2 * 6}
    distilled = render(synthetic, params)
    assert set(distilled.params) == {"coefficients", "mask", "labels"}
    assert (distilled.decoder, distilled.label_convention) == ("frequencies", "hard")
    assert synthetic.learned == ("coefficients",)
    assert frequencies(1, 6, labels="centred").label_convention == "centred"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3), "images per class must be an integer of at least 1"),
        ((1, 0), "the number of coefficients must be an integer of at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(JaxddError, match=message):
        frequencies(*arguments)


def test_more_coefficients_than_pixels(real, key):
    with pytest.raises(JaxddError, match="21 coefficients were asked for, but images of 4x5 have 20"):
        frequencies(1, 21).init(key, real)
