import jax
import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.synthetic import learned_labels, linear_bases, multi_formation, pixels, render

EDGES = {(4, 2): [0, 2, 4], (5, 2): [0, 2, 5], (4, 3): [0, 1, 2, 4], (5, 3): [0, 1, 3, 5]}


@pytest.mark.parametrize("factor", [2, 3])
def test_every_tile_is_upsampled_in_its_place(real, key, factor):
    synthetic = multi_formation(pixels(2, init="noise"), factor)
    params = synthetic.init(key, real)
    assert params["images"].shape == (6, 4, 5, 2)
    images, labels, _ = synthetic.render(params)
    assert images.shape == (6 * factor**2, 4, 5, 2)
    np.testing.assert_array_equal(labels, np.repeat(params["labels"], factor**2, axis=0))
    rows, columns = EDGES[4, factor], EDGES[5, factor]
    place = 0
    for stored in params["images"]:
        for i in range(factor):
            for j in range(factor):
                tile = stored[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
                large = jax.image.resize(tile, (4, 5, 2), "linear")
                np.testing.assert_allclose(images[place], large, atol=1e-6)
                place += 1


@pytest.mark.parametrize("factor", [2, 3])
def test_first_tiles_are_distinct_real_images_of_the_class_made_smaller(real, key, factor):
    params = multi_formation(pixels(1), factor).init(key, real)
    rows, columns = EDGES[4, factor], EDGES[5, factor]
    used = []
    for stored, label in zip(np.asarray(params["images"]), np.argmax(params["labels"], axis=1), strict=True):
        for i in range(factor):
            for j in range(factor):
                tile = stored[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
                # By nearest neighbour: the rows and columns at whole steps, counted from the first.
                high, wide = (
                    np.arange(part) * whole // part for whole, part in ((4, tile.shape[0]), (5, tile.shape[1]))
                )
                small = np.asarray(real.images)[:, high][:, :, wide]
                same = (small == tile[None]).all(axis=(1, 2, 3))
                used.append(int(same.argmax()))
                assert same.any()
                assert real.labels.values[used[-1]] == label
    assert len(set(used)) == 3 * factor**2


def test_a_constant_mosaic_renders_constant_images(real, key):
    synthetic = multi_formation(pixels(1), 3)
    params = synthetic.init(key, real)
    images = synthetic.render({**params, "images": 0 * params["images"] + 0.7}).images
    np.testing.assert_allclose(images, 0.7, rtol=1e-6)


def test_bits_are_those_of_the_base(real, key):
    for base in (pixels(2), learned_labels(pixels(2)), linear_bases(3, 2)):
        synthetic = multi_formation(base, 2)
        params = synthetic.init(key, real)
        assert synthetic.num_bits(params) == base.num_bits(params)
        distilled = render(synthetic, params)
        assert distilled.decoder == f"multi_formation({base.decoder})"
        assert len(distilled.images) == len(distilled.labels) == 24
        assert (distilled.label_convention, distilled.label_regime) == (base.label_convention, base.label_regime)


@pytest.mark.parametrize("factor", [1, 0, -2, 2.0])
def test_bad_factors(factor):
    with pytest.raises(JaxddError, match="the factor of multi_formation must be an integer of at least 2"):
        multi_formation(pixels(1), factor)


def test_what_the_data_do_not_have(real, uneven, key):
    with pytest.raises(JaxddError, match="images of 4x5 pixels cannot be cut into 5x5 tiles"):
        multi_formation(pixels(1), 5).init(key, real)
    with pytest.raises(JaxddError, match="a mosaic takes 9 images of a class, but class 1 has 5"):
        multi_formation(pixels(1), 3).init(key, uneven)
    with pytest.raises(JaxddError, match="only 2 examples"):
        multi_formation(pixels(3), 2).init(key, real)


def test_mosaics_and_the_base_draw_by_keys_of_their_own(real, key):
    keys, base = [], pixels(1)

    def init(key, data):
        keys.append(key)
        return base.init(key, data)

    multi_formation(base._replace(init=init), 2).init(key, real)
    np.testing.assert_array_equal(jax.random.key_data(keys[0]), jax.random.key_data(jax.random.split(key)[1]))
