"""The grid shows the images' own pixels, enlarged and nothing else."""

import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.report import grid_image
from jaxdd.report.pictures import SHOWN_PER_CLASS, by_class, clipped_share, shown_range, to_8_bit


def enlarged(dataset, index, scale):
    """What the grid must hold, from the definition of the picture: clip, round, repeat."""
    pixels = np.rint(255 * dataset.images[index].clip(0, 1)).astype(np.uint8)
    pixels = np.kron(pixels, np.ones((scale, scale, 1), np.uint8))
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def places(picture, tile):
    """Where a tile lies in a picture, exactly."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, tile.shape)[:, :, 0]
    rows, columns = np.nonzero((windows[:, :, tile.shape[0] // 2] == tile[tile.shape[0] // 2]).all((2, 3)))
    return [(r, c) for r, c in zip(rows, columns, strict=True) if (windows[r, c] == tile).all()]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 3])
def test_every_image_is_in_the_grid_exactly_enlarged(make, channels, scale):
    dataset = make(2, channels=channels, noise=0.3)
    picture = np.asarray(grid_image(dataset, scale=scale))
    found = [places(picture, enlarged(dataset, index, scale)) for index in range(20)]
    assert all(len(where) == 1 for where in found)
    # Two images of a class lie side by side.
    for (first,), (second,) in zip(found[::2], found[1::2], strict=True):
        assert first[0] == second[0] and first[1] < second[1]


def test_rows_are_wrapped_and_classes_below_each_other(make):
    dataset = make(5, noise=0.1)
    picture = np.asarray(grid_image(dataset, columns_per_class=3, scale=1))
    found = np.array([places(picture, enlarged(dataset, index, 1))[0] for index in range(50)]).reshape(10, 5, 2)
    assert (found[:, :3, 0] == found[:, :1, 0]).all() and (found[:, 3:, 0] > found[:, :1, 0]).all()
    assert (found[1:, 0, 0] > found[:-1, 4, 0]).all()
    assert len(np.unique(found[:, 0, 1])) == 1


def test_default_size_is_readable_and_moderate(make):
    one = grid_image(make(1))
    assert 84 * 5 < one.width < 1000 and 2 * 84 < one.height < 300
    ten = grid_image(make(10))
    assert 84 * 10 < ten.width < 1100 and 84 * 10 < ten.height < 1300


def test_at_most_twenty_of_a_class_are_shown(make):
    groups = by_class(make(23))
    assert [group.hidden for group in groups] == [3] * 10
    assert {len(group.indices) for group in groups} == {SHOWN_PER_CLASS}


@pytest.mark.parametrize("ipc", [5, pytest.param(1, marks=pytest.mark.endurance)])
def test_names_stand_above_their_images_in_ink(make, provenance, ipc):
    """Of a single image as of a grid of many, and the wider where a name is."""
    names = [f"class {'number ' * (k == 3)}{k}" for k in range(10)]
    dataset = make(ipc, noise=0.1, data=provenance["data"] | {"class_names": names})
    picture = np.asarray(grid_image(dataset, scale=2))
    ink = (picture.max(axis=2) < 80).astype(int)
    for label in range(10):
        first = ipc * label
        ((top, left),) = places(picture, enlarged(dataset, first, 2))
        above = ink[top - 22 : top - 2, left : left + 50]
        assert above.sum() > 20  # letters, on paper: no image reaches there
        assert not ink[top : top + 56, max(0, left - 4) : left].any()  # and none at its left


def test_a_name_without_end_is_shortened(make, provenance):
    names = ["x" * 10_000] + [str(k) for k in range(1, 10)]
    assert grid_image(make(10, data=provenance["data"] | {"class_names": names})).width < 1200


def test_soft_labels_go_by_their_largest_entry(make):
    dataset = make(1)
    dataset.labels[0] = dataset.labels[1]
    assert by_class(dataset)[0].indices.tolist() == [0, 1]


def test_pixels_are_clipped_to_the_range_of_the_source(make):
    dataset = make(1, data={"pixel_range": [-1.0, 3.0]})
    dataset.images[:] = 1.0
    dataset.images[0] = -5.0
    dataset.images[1] = np.nan
    dataset.images[2] = 7.0
    dataset.images[3] = 3.001  # within half a grey level
    black_white = shown_range(dataset)
    pixels = to_8_bit(dataset.pixels(), black_white)
    assert black_white == (-1, 3) and [int(pixels[k].max()) for k in range(5)] == [0, 0, 255, 255, 128]
    assert clipped_share(dataset, black_white) == pytest.approx(0.3)


def test_a_dark_set_is_shown_brighter_and_others_as_they_are(make):
    dataset = make(2, noise=0.3)
    assert shown_range(dataset) == (0, 1)
    dataset.images[:] = 0.4 + 0.2 * dataset.images
    low, high = shown_range(dataset)
    assert 0.2 < low < 0.3 and 0.65 < high < 0.75
    assert clipped_share(dataset, (low, high)) < 0.02
    picture = np.asarray(grid_image(dataset, scale=1))
    assert picture[16:44, 40:].min() == 0
    dataset.images[:] = 0.5
    assert shown_range(dataset) == (0, 1)


def test_real_8_bit_images_survive_unchanged(make, mnist):
    dataset = make(3)
    chosen = np.concatenate([np.flatnonzero(mnist.train.labels == k)[:3] for k in range(10)])
    np.testing.assert_array_equal(to_8_bit(dataset.pixels(), (0, 1)), mnist.train.images[chosen])
    assert clipped_share(dataset, (0, 1)) == 0


def test_constant_range_and_other_channels_still_make_a_picture(make):
    picture = grid_image(make(1, channels=2, data={"pixel_range": [0.5, 0.5]}))
    assert picture.size == grid_image(make(1)).size


@pytest.mark.parametrize("arguments", [{"columns_per_class": 0}, {"scale": 0}])
def test_bad_arguments(make, arguments):
    with pytest.raises(JaxddError, match="columns_per_class and scale must be at least 1"):
        grid_image(make(1), **arguments)
