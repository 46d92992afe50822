"""Each operation against a second evaluation of its formula in NumPy, one image and one pixel at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxdd.data import augmentation, cutmix, siamese
from jaxdd.data.augmentation import DSA, DSA_DIGITS, FREPO, frepo, named
from jaxdd.errors import JaxddError

SHAPES = [(6, 28, 28, 1), (6, 9, 12, 3), (3, 40, 36, 3)]  # the last is too large for one matrix


def images_of(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sampled(image, matrix, shift, mode):
    """Bilinear samples by SciPy, border included as PyTorch's grid_sample and augmax do."""
    height, width, channels = image.shape
    y, x = np.mgrid[:height, :width].astype(float)
    y, x = (y - (height - 1) / 2) / height, (x - (width - 1) / 2) / width
    rows = (matrix[0, 0] * y + matrix[0, 1] * x) * height + (height - 1) / 2 + shift[0]
    columns = (matrix[1, 0] * y + matrix[1, 1] * x) * width + (width - 1) / 2 + shift[1]
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0))) if mode == "constant" else image
    border = 1 if mode == "constant" else 0
    return np.stack(
        [
            scipy.ndimage.map_coordinates(padded[..., c], [rows + border, columns + border], order=1, mode=mode)
            for c in range(channels)
        ],
        -1,
    )


def expected(operation, image, draw, i):
    """The published operation on one image with the i-th parameters."""
    height, width = image.shape[:2]
    matrix, shift, hole = (np.asarray(field[i], float) for field in (draw.matrix, draw.shift, draw.hole))
    if operation == "color":
        x = image + float(draw.brightness[i])
        x = (x - x.mean(-1, keepdims=True)) * float(draw.saturation[i]) + x.mean(-1, keepdims=True)
        return (x - x.mean()) * float(draw.contrast[i]) + x.mean()
    if operation == "crop":
        result = np.zeros_like(image)
        largest = [int(size * 0.125 + 0.5) for size in (height, width)]
        ty, tx = (int(np.floor((f + 0.125) * 4 * (2 * s + 1))) - s for f, s in zip(shift, largest, strict=True))
        assert abs(ty) <= largest[0] and abs(tx) <= largest[1]
        for y in range(height):
            for x in range(width):
                if 0 <= y + ty < height and 0 <= x + tx < width:
                    result[y, x] = image[y + ty, x + tx]
        return result
    if operation == "cutout":
        result = image.copy()
        sides = [int(size * 0.5 + 0.5) for size in (height, width)]
        centres = [int(u * (n + 1 - s % 2)) for u, n, s in zip(hole, (height, width), sides, strict=True)]
        for y in range(centres[0] - sides[0] // 2, centres[0] - sides[0] // 2 + sides[0]):
            for x in range(centres[1] - sides[1] // 2, centres[1] - sides[1] // 2 + sides[1]):
                result[min(max(y, 0), height - 1), min(max(x, 0), width - 1)] = 0
        return result
    if operation == "flip":
        return image[:, ::-1] if matrix[1, 1] < 0 else image
    assert operation in ("scale", "rotate")
    return sampled(image, matrix, (0, 0), "constant")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("operation", DSA.split("_"))
def test_operations_are_their_formulas(operation, shape, key):
    images, one = images_of(shape), siamese(operation)
    for count in (1, len(images)):
        draw = one.draw(key, count)
        result = np.asarray(jax.jit(one.apply)(images, draw))
        wanted = np.stack([expected(operation, x, draw, i % count) for i, x in enumerate(images)])
        if operation in ("crop", "flip", "cutout"):
            np.testing.assert_array_equal(result, wanted)
        else:
            np.testing.assert_allclose(result, wanted, atol=2e-5)
        assert np.abs(result - images).max() > 0.1 or operation == "flip"


@pytest.mark.parametrize("operation", FREPO.split("_"))
def test_frepos_operations_are_their_formulas(operation, key):
    images, one = images_of((5, 12, 12, 3)), frepo(operation)
    draw = one.draw(key, 5)
    result = np.asarray(one.apply(images, draw))
    for i, image in enumerate(images):
        if operation in ("color", "flip"):
            wanted = expected(operation, image, draw, i)
        elif operation == "cutout":
            wanted = image.copy()
            top, left = (int(u * 10) for u in draw.hole[i])
            wanted[top : top + 3, left : left + 3] = 0
            assert (wanted == 0).sum() == 27
        else:
            wanted = sampled(image, np.asarray(draw.matrix[i], float), np.asarray(draw.shift[i]) * 12, "nearest")
        np.testing.assert_allclose(result[i], wanted, atol=2e-5)


def test_parameters_lie_in_their_ranges(key):
    draw = {operation: siamese(operation).draw(key, 4000) for operation in DSA.split("_")}
    for values, low, high in (
        (draw["color"].brightness, -0.5, 0.5),
        (draw["color"].saturation, 0, 2),
        (draw["color"].contrast, 0.5, 1.5),
        (draw["crop"].shift[:, 0], -0.125, 0.125),
        (draw["crop"].shift[:, 1], -0.125, 0.125),
        (draw["cutout"].hole[:, 0], 0, 1),
        (draw["scale"].matrix[:, 0, 0], 1 / 1.2, 1.2),
        (draw["scale"].matrix[:, 1, 1], 1 / 1.2, 1.2),
        (np.rad2deg(np.arctan2(draw["rotate"].matrix[:, 0, 1], draw["rotate"].matrix[:, 0, 0])), -15, 15),
        (frepo("color").draw(key, 4000).contrast, np.exp(-0.25), np.exp(0.25)),
        (1 / frepo("crop").draw(key, 4000).matrix[:, 0, 0], 0.8, 1.25),
    ):
        values, span = np.asarray(values), high - low
        assert low - 1e-5 <= values.min() < low + 0.01 * span and high - 0.01 * span < values.max() <= high + 1e-5
    assert np.std(np.asarray(draw["scale"].matrix[:, 0, 0] - draw["scale"].matrix[:, 1, 1])) > 0.1, "axes are apart"
    assert 0.45 < (np.asarray(draw["flip"].matrix)[:, 1, 1] < 0).mean() < 0.55
    assert set(np.unique(augmentation._dsa_pixels(draw["crop"].shift, 28))) == set(range(-4, 5))


def changed(draw):
    """Which operations a draw of DSA for several images contains; a flip of none of them counts as one all the same."""
    matrix = np.asarray(draw.matrix)
    return {
        "color": (np.asarray(draw.brightness) != 0).any(),
        "crop": (np.asarray(draw.shift) != 0).any(),
        "cutout": (np.asarray(draw.hole) >= 0).any(),
        "flip": (matrix[:, 1, 1] < 0).any(),
        "scale": ((matrix[:, 0, 1] == 0) & (np.abs(matrix[:, 0, 0]) != 1)).any(),
        "rotate": (matrix[:, 0, 1] != 0).any(),
    }


def test_one_operation_a_call_and_all_equally_often(key):
    one = siamese(DSA)
    draws = jax.vmap(lambda k: one.draw(k, 16))(jax.random.split(key, 1200))
    counts = dict.fromkeys(DSA.split("_"), 0)
    for i in range(1200):
        found = [name for name, there in changed(jax.tree.map(lambda leaf: leaf[i], draws)).items() if there]  # noqa: B023
        assert len(found) == 1
        counts[found[0]] += 1
    assert all(150 < n < 250 for n in counts.values()), counts  # 200 +- 13


def test_some_operations_always(key):
    one = siamese(DSA, always="flip_color_cutout")
    draws = jax.vmap(lambda k: one.draw(k, 16))(jax.random.split(key, 100))
    counts = dict.fromkeys(DSA.split("_"), 0)
    for i in range(100):
        for name, there in changed(jax.tree.map(lambda leaf: leaf[i], draws)).items():  # noqa: B023
            counts[name] += there
    assert counts["flip"] == counts["color"] == counts["cutout"] == 100
    assert counts["crop"] + counts["scale"] + counts["rotate"] == 100
    assert min(counts.values()) > 15


def test_always_composes_colour_then_geometry_then_cutout(key):
    images = images_of((6, 10, 10, 3))
    one = siamese("color_crop_cutout_flip", always="flip_color_cutout")
    draw = one.draw(key, 6)
    wanted = images
    for operation in ("color", "flip", "crop", "cutout"):
        # A shift of the mirrored image goes the other way in the image itself.
        turned = draw._replace(shift=draw.shift * jnp.stack([jnp.ones(6), jnp.sign(draw.matrix[:, 1, 1])], -1))
        wanted = np.stack([expected(operation, x, turned, i) for i, x in enumerate(wanted)])
    np.testing.assert_allclose(one.apply(images, draw), wanted, atol=1e-5)


def test_siamese_means_the_same_change_for_two_batches(key):
    one, images = siamese(DSA), images_of((8, 12, 12, 3))
    apply = jax.jit(lambda x, k: one.apply(x, one.draw(k, 1)))
    for k in jax.random.split(key, 12):
        np.testing.assert_allclose(apply(images, k)[:3], apply(images[:3], k), atol=1e-5)
        np.testing.assert_array_equal(apply(images, k), apply(images, k))


@pytest.mark.parametrize("make", [siamese, frepo])
@pytest.mark.parametrize("strategy", ["", "none"])
def test_no_strategy_is_the_identity(make, strategy, key):
    images, one = images_of((4, 6, 6, 1)), make(strategy)
    assert one.apply(images, one.draw(key, 4)) is images


@pytest.mark.parametrize("one", [siamese(), frepo()], ids=["dsa", "frepo"])
def test_what_was_not_drawn_changes_no_bit(one):
    images = jnp.asarray(images_of((4, 28, 28, 3)))
    identity = augmentation._identity(4)
    np.testing.assert_array_equal(jax.jit(one.apply)(images, identity), images)
    rows, columns = augmentation._places(identity.matrix, [jnp.zeros(4)] * 2, 28, 28)
    np.testing.assert_array_equal(augmentation._by_gather(images, rows, columns), images)
    np.testing.assert_array_equal(augmentation._by_matrix(images, rows[0], columns[0]), images)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("one", [siamese(DSA), siamese(DSA, always=DSA), frepo()], ids=["dsa", "all of dsa", "frepo"])
def test_gradient_is_the_finite_difference(one, count, key, x64):
    with x64():
        rng = np.random.default_rng(0)
        images, direction, weights = (jnp.asarray(rng.normal(size=(3, 7, 7, 2))) for _ in range(3))
        images = images.at[0].set(0.3)  # a constant image
        function = jax.jit(lambda x, k: (jnp.sin(one.apply(x, one.draw(k, count))) * weights).sum())
        gradient = jax.jit(jax.grad(function))
        for k in jax.random.split(key, 12):
            step = 1e-5 * direction
            difference = (function(images + step, k) - function(images - step, k)) / 2e-5
            there = gradient(images, k)
            assert np.isfinite(there).all()
            np.testing.assert_allclose((there * direction).sum(), difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("one", [siamese(DSA), frepo()], ids=["dsa", "frepo"])
def test_vmap_over_draws_is_the_loop(one, count, key):
    images, keys = jnp.asarray(images_of((5, 28, 28, 1))), jax.random.split(key, 8)

    def call(k, x):
        return one.apply(x, one.draw(k, count))

    def pulled(k, x):
        return jax.grad(lambda x: (call(k, x) ** 2).sum())(x)

    for function in (call, pulled):
        mapped = jax.jit(jax.vmap(function, in_axes=(0, None)))(keys, images)
        single = jax.jit(function)
        for k, result in zip(keys, mapped, strict=True):
            np.testing.assert_allclose(result, single(k, images), atol=2e-5)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: siamese("color_crp"), "unknown operation of augmentation 'crp'; did you mean 'crop'"),
        (lambda: siamese("translate"), "unknown operation of augmentation 'translate'"),
        (lambda: frepo("flip_scale"), "unknown operation of augmentation 'scale'"),
        (lambda: siamese("flip__crop"), "unknown operation of augmentation ''"),
        (lambda: siamese("flip_crop_flip"), "'flip' occurs twice"),
        (lambda: siamese("crop", always="flip"), "'flip' is always applied but not in the strategy 'crop'"),
        (lambda: named("das"), "unknown augmentation 'das'; did you mean 'dsa'"),
        (lambda: named("flip_rotat"), "did you mean 'rotate'"),
        (lambda: siamese().apply(jnp.zeros((3, 8, 8, 1)), augmentation._identity(2)), "a draw for 2 images"),
    ],
)
def test_impossible_augmentations(call, sentence):
    with pytest.raises(JaxddError, match=sentence):
        call()


def test_augmentations_by_name():
    assert named("dsa").name == DSA and named("dsa-digits").name == DSA_DIGITS
    assert named("idc").name == "color_crop_flip_scale_rotate (always flip_color)"
    assert named("frepo").name == FREPO and "flip" not in named("frepo-digits").name
    assert named("flip_rotate").name == "flip_rotate" and named("none").name == named("").name == "none"
    assert all("flip" not in named(name).name for name in ("dsa-digits", "idc-digits"))


def test_cutmix_is_its_definition(key):
    """Constant images of a number each: a mixed one holds another's number in a box, its label the box's share."""
    n, height, width = 12, 10, 8
    images = jnp.broadcast_to(jnp.arange(1.0, n + 1)[:, None, None, None], (n, height, width, 2))
    labels = jnp.eye(n)
    mix = jax.jit(functools.partial(cutmix, images=images, labels=labels))
    areas = []
    for k in jax.random.split(key, 200):
        mixed, soft = (np.asarray(a) for a in mix(k))
        boxes = []
        for i in range(n):
            numbers = set(np.unique(mixed[i])) - {i + 1.0}
            assert len(numbers) <= 1
            box = np.argwhere(mixed[i, :, :, 0] != i + 1)
            wanted = np.eye(n)[i]
            if numbers:
                (top, left), (bottom, right) = box.min(0), box.max(0)
                assert len(box) == (bottom - top + 1) * (right - left + 1)
                boxes.append((top, left, bottom, right))
                wanted = (1 - len(box) / 80) * wanted + len(box) / 80 * np.eye(n)[int(numbers.pop()) - 1]
            np.testing.assert_allclose(soft[i], wanted, atol=1e-6)
        assert len(set(boxes)) <= 1, "one box for the batch"
        areas.append((boxes[0][2] - boxes[0][0] + 1) * (boxes[0][3] - boxes[0][1] + 1) / 80 if boxes else 0)
    areas = np.array(areas)
    assert 0.5 < (areas == 0).mean() < 0.75  # half by chance, more by boxes of less than two pixels
    assert areas.max() > 0.5
    never = cutmix(key, images, labels, probability=0.0)
    np.testing.assert_array_equal(never[0], images)
    np.testing.assert_array_equal(never[1], labels)


def test_cutmix_can_be_differentiated(key):
    images, labels = jnp.asarray(images_of((4, 6, 6, 1))), jnp.eye(4)
    gradient = jax.grad(lambda x: cutmix(key, x, labels, probability=1.0)[0].sum())(images)
    assert gradient.sum() == images.size and np.isfinite(gradient).all()
