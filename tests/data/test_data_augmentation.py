"""Each operation against a second evaluation of its formula in NumPy, one image and one pixel at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from jaxdd.data import cutmix, siamese
from jaxdd.data.augmentation import (
    DSA,
    DSA_DIGITS,
    FREPO,
    Draw,
    chain,
    cutmix_draw,
    frepo,
    mixed,
    mixup,
    mixup_draw,
    named,
    operations,
    resized_crop,
    roll,
    shuffle_patches,
)
from jaxdd.errors import JaxddError

MANY, COUNT = 4000, 4
# Shared by all images a resampling is a matrix product, but for images that are too large for it.
APPLIED = [((COUNT, 9, 12, 3), 1), ((COUNT, 9, 12, 3), COUNT), ((COUNT, 10, 11, 1), COUNT), ((COUNT, 40, 36, 3), 1)]


@functools.cache
def compiled(one):
    """`apply` of an augmentation that tests share, a program for each shape."""
    return jax.jit(one.apply)


DSA_OPERATIONS, FREPO_OPERATIONS = siamese(DSA), frepo()


@pytest.fixture(scope="module")
def draws():
    """Four thousand of each operation by itself, of both families, and of all operations of DSA together."""

    def draw(key):
        return {
            **{operation: siamese(operation).draw(key, MANY) for operation in DSA.split("_")},
            **{f"frepo {operation}": frepo(operation).draw(key, MANY) for operation in FREPO.split("_")},
            "all": siamese(DSA, always=DSA).draw(key, MANY),
        }

    return jax.device_get(jax.jit(draw)(jax.random.key(0)))


def first(draw, count):
    return Draw(*(field[:count] for field in draw))


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


@pytest.mark.parametrize(("shape", "count"), APPLIED)
def test_operations_are_their_formulas(shape, count, draws):
    """Of each image by itself, also where they share a draw, which is what siamese means."""
    images = images_of(shape)
    for operation in DSA.split("_"):
        draw = first(draws[operation], count)
        result = np.asarray(compiled(DSA_OPERATIONS)(images, draw))
        wanted = np.stack([expected(operation, x, draw, i % count) for i, x in enumerate(images)])
        if operation in ("crop", "flip", "cutout"):
            np.testing.assert_array_equal(result, wanted, operation)
        else:
            np.testing.assert_allclose(result, wanted, atol=2e-5, err_msg=operation)
        assert np.abs(result - images).max() > 0.1 or (operation == "flip" and draw.matrix[0, 1, 1] > 0)


def test_an_operation_by_itself_is_that_of_a_strategy(draws):
    images, one = images_of((2, 6, 5, 3)), siamese(DSA)
    alone = {operation: first(draws[operation], 1) for operation in DSA.split("_")}
    alone["flip"] = alone["flip"]._replace(matrix=np.array([[[1.0, 0], [0, -1]]], np.float32))

    @jax.jit
    def both(images):
        return {k: (siamese(k).apply(images, draw), one.apply(images, draw)) for k, draw in alone.items()}

    for by_itself, of_strategy in both(images).values():
        assert np.abs(by_itself - images).max() > 0.1
        np.testing.assert_allclose(by_itself, of_strategy, atol=1e-6)


def test_frepos_operations_are_their_formulas(draws):
    images = images_of((COUNT, 12, 12, 3))
    for operation in FREPO.split("_"):
        draw = first(draws[f"frepo {operation}"], COUNT)
        result = np.asarray(compiled(FREPO_OPERATIONS)(images, draw))
        for i, image in enumerate(images):
            if operation in ("color", "flip"):
                wanted = expected(operation, image, draw, i)
            elif operation == "cutout":
                wanted = image.copy()
                top, left = (int(u * 10) for u in draw.hole[i])
                wanted[top : top + 3, left : left + 3] = 0
                assert (wanted == 0).sum() == 27
            else:
                wanted = sampled(image, np.asarray(draw.matrix[i], float), draw.shift[i] * 12, "nearest")
            np.testing.assert_allclose(result[i], wanted, atol=2e-5, err_msg=operation)


def test_parameters_are_uniform_in_their_ranges(draws):
    turns = [draws[name].matrix for name in ("rotate", "frepo rotate")]
    zoom = 1 / draws["frepo crop"].matrix[:, 0, 0]
    colour, frepos = draws["color"], draws["frepo color"]
    for values, low, high in (
        (colour.brightness, -0.5, 0.5),
        (colour.saturation, 0, 2),
        (colour.contrast, 0.5, 1.5),
        *((draws[name].shift[:, axis], -0.125, 0.125) for name in ("crop", "frepo translate") for axis in (0, 1)),
        *((draws[name].hole[:, axis], 0, 1) for name in ("cutout", "frepo cutout") for axis in (0, 1)),
        *((draws["scale"].matrix[:, axis, axis], 1 / 1.2, 1.2) for axis in (0, 1)),
        *((np.rad2deg(np.arctan2(turn[:, 0, 1], turn[:, 0, 0])), -15, 15) for turn in turns),
        (frepos.brightness, -0.25, 0.25),
        (np.log(frepos.saturation), -0.25, 0.25),
        (np.log(frepos.contrast), -0.25, 0.25),
        (np.log(zoom), np.log(0.8), np.log(1.25)),
        # As far from the centre as the zoomed image leaves room for.
        *((draws["frepo crop"].shift[:, axis] * zoom / np.abs(zoom - 1), -0.5, 0.5) for axis in (0, 1)),
    ):
        assert scipy.stats.kstest(values, scipy.stats.uniform(low, high - low).cdf).pvalue > 1e-3
        assert low - 1e-3 * (high - low) <= values.min() and values.max() <= high + 1e-3 * (high - low)
    for turn in turns:
        np.testing.assert_allclose(turn @ turn.swapaxes(1, 2), np.broadcast_to(np.eye(2), turn.shape), atol=1e-6)
        np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-6)
    for name in ("scale", "frepo crop"):
        assert not draws[name].matrix[:, [0, 1], [1, 0]].any()
    np.testing.assert_array_equal(draws["frepo crop"].matrix[:, 0, 0], draws["frepo crop"].matrix[:, 1, 1])
    for name in ("flip", "frepo flip"):
        mirrored = draws[name].matrix[:, 1, 1] < 0
        assert 0.46 < mirrored.mean() < 0.54  # five times what chance gives
        np.testing.assert_array_equal(
            draws[name].matrix, np.where(mirrored[:, None, None], np.diag([1, -1]), np.eye(2))
        )
    assert set(np.unique(operations._dsa_pixels(draws["crop"].shift, 28))) == set(range(-4, 5))


def test_parameters_know_nothing_of_each_other(draws):
    crop = draws["frepo crop"]
    together = draws["all"]
    for parameters in (
        [draws["scale"].matrix[:, 0, 0], draws["scale"].matrix[:, 1, 1]],
        [draws["frepo color"].brightness, draws["frepo color"].saturation, draws["frepo color"].contrast],
        [crop.matrix[:, 0, 0], np.sign(crop.shift[:, 0]), np.sign(crop.shift[:, 1])],
        [
            *(together.brightness, together.saturation, together.contrast),
            *(*together.shift.T, *together.hole.T, np.linalg.det(together.matrix), together.matrix[:, 0, 1]),
        ],
    ):
        correlations = np.corrcoef(parameters) - np.eye(len(parameters))
        assert np.abs(correlations).max() < 0.08  # five times what chance gives
    # One key for both would give the places of the first half, in their order in memory, the ranks of all zooms.
    zoom = 1 / crop.matrix[:, 0, 0]
    places = (crop.shift * (zoom / np.abs(zoom - 1))[:, None]).ravel()[:MANY]
    assert abs(np.corrcoef(np.log(zoom), places)[0, 1]) < 0.08


def changed(draw):
    """Which operations draws of DSA for several images contain; a flip of none of them counts as one all the same."""
    matrix = draw.matrix
    return {
        "color": (draw.brightness != 0).any(1),
        "crop": (draw.shift != 0).any((1, 2)),
        "cutout": (draw.hole >= 0).any((1, 2)),
        "flip": (matrix[..., 1, 1] < 0).any(1),
        "scale": ((matrix[..., 0, 1] == 0) & (np.abs(matrix[..., 0, 0]) != 1)).any(1),
        "rotate": (matrix[..., 0, 1] != 0).any(1),
    }


def test_one_operation_a_call_and_all_equally_often(key):
    draw = jax.jit(jax.vmap(lambda key: siamese(DSA).draw(key, 16)))
    found = changed(jax.device_get(draw(jax.random.split(key, 1200))))
    np.testing.assert_array_equal(sum(there.astype(int) for there in found.values()), 1)
    counts = {name: there.sum() for name, there in found.items()}
    assert all(150 < n < 250 for n in counts.values()), counts  # 200 +- 13


def test_some_operations_always(key):
    draw = jax.jit(jax.vmap(lambda key: siamese(DSA, always="flip_color_cutout").draw(key, 16)))
    counts = {name: there.sum() for name, there in changed(jax.device_get(draw(jax.random.split(key, 100)))).items()}
    assert counts["flip"] == counts["color"] == counts["cutout"] == 100
    assert counts["crop"] + counts["scale"] + counts["rotate"] == 100
    assert min(counts.values()) > 15


def test_operations_compose_colour_then_geometry_then_cutout(draws):
    """In one resampling, which sees the image flipped, scaled and rotated in this order: then `M Mᵀ` is diagonal."""
    images = images_of((COUNT, 9, 12, 3))
    parts = {name: first(draws[name], COUNT) for name in ("color", "flip", "crop", "cutout")}
    draw = parts["color"]._replace(
        matrix=parts["flip"].matrix, shift=parts["crop"].shift, hole=parts["cutout"].hole
    )  # fmt: skip
    wanted = images
    for operation in parts:
        # A shift of the mirrored image goes the other way in the image itself.
        turned = draw._replace(shift=draw.shift * np.stack([np.ones(COUNT), draw.matrix[:, 1, 1]], -1))
        wanted = np.stack([expected(operation, x, turned, i) for i, x in enumerate(wanted)])
    assert set(draw.matrix[:, 1, 1]) == {-1, 1}
    np.testing.assert_allclose(compiled(DSA_OPERATIONS)(images, draw), wanted, atol=1e-5)
    matrix = draws["all"].matrix
    np.testing.assert_allclose((matrix @ matrix.swapaxes(1, 2))[:, 0, 1], 0, atol=1e-6)
    assert (np.abs(matrix[:, 0, 1]) > 0.01).mean() > 0.9


@pytest.mark.parametrize("make", [siamese, frepo])
@pytest.mark.parametrize("strategy", ["", "none"])
def test_no_strategy_is_the_identity(make, strategy, key):
    images, one = images_of((4, 6, 6, 1)), make(strategy)
    assert one.apply(images, jax.jit(lambda key: one.draw(key, 4))(key)) is images


@pytest.mark.parametrize("one", [DSA_OPERATIONS, FREPO_OPERATIONS], ids=["dsa", "frepo"])
def test_what_was_not_drawn_changes_no_bit(one):
    images = jax.device_put(images_of((COUNT, 28, 28, 3)))

    @jax.jit
    def unchanged(images):
        identity = operations._identity(COUNT)
        rows, columns = operations._places(identity.matrix, [jnp.zeros(COUNT)] * 2, 28, 28)
        gathered = operations._by_gather(images, rows, columns)
        return one.apply(images, identity), gathered, operations._by_matrix(images, rows[0], columns[0])

    for result in unchanged(images):
        np.testing.assert_array_equal(result, images)


@pytest.mark.parametrize(
    ("make", "count"),  # shared draws resample by a matrix product, others by gathering, whichever the family
    [
        (siamese, 1),
        (frepo, 3),
        *(pytest.param(*each, marks=pytest.mark.endurance) for each in ((siamese, 3), (frepo, 1))),
    ],
)
def test_gradient_is_the_finite_difference_also_under_vmap(make, count, key, x64):
    """Of draws of one operation, and of all of DSA's together."""
    with x64():
        rng = np.random.default_rng(0)
        images, direction, weights = (rng.normal(size=(3, 7, 7, 2)) for _ in range(3))
        images[0] = 0.3  # a constant image
        one = make()
        drawn = [one, siamese(DSA, always=DSA)] if make is siamese else [one]

        def value(step, draw):
            return (jnp.sin(one.apply(images + step, draw)) * weights).sum()

        def at(draw):
            """Value and gradient there and a little on both sides."""
            steps = 1e-5 * jnp.array([0.0, 1, -1])[:, None, None, None, None] * direction[None]
            return jax.lax.map(lambda step: jax.value_and_grad(value)(step, draw), steps)

        @jax.jit
        def both_ways(key):
            keys = jax.random.split(key, 12)
            draws = [jax.vmap(lambda key, of=of: of.draw(key, count))(keys) for of in drawn]
            draws = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *draws)
            return jax.lax.map(at, draws), jax.vmap(at)(draws)

        (values, slopes), (_, side_by_side) = jax.device_get(both_ways(key))
        assert np.isfinite(slopes).all()
        along = (slopes[:, 0] * direction).sum((1, 2, 3, 4))
        np.testing.assert_allclose(along, (values[:, 1] - values[:, 2]) / 2e-5, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(slopes, side_by_side, atol=1e-10)


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
        (lambda: siamese().apply(jnp.zeros((3, 8, 8, 1)), Draw(*np.zeros((6, 2)))), "a draw for 2 images"),
    ],
)
def test_impossible_augmentations(call, sentence):
    with pytest.raises(JaxddError, match=sentence):
        call()


def test_augmentations_by_name():
    published = {
        "dsa": DSA,
        "dsa-digits": DSA_DIGITS,
        "idc": "color_crop_flip_scale_rotate (always flip_color)",
        "idc-digits": "color_crop_scale_rotate (always color)",
        "idc-match": "color_crop_cutout (always color_crop_cutout)",
        "idc-train": "color_crop (always color_crop)",
        "frepo": FREPO,
        "frepo-digits": "color_crop_rotate_translate_cutout",
        "flip_rotate": "flip_rotate",
        "none": "none",
        "": "none",
    }
    assert {name: named(name).name for name in published} == published
    assert DSA.replace("flip_", "") == DSA_DIGITS


def boxes(probability, beta, height, width, count):
    """First and last rows and columns of boxes as Yun et al. draw them, one after the other; of nothing 0."""
    rng = np.random.default_rng(0)
    found = np.zeros((count, 4), int)
    for box in found:
        side = np.sqrt(1 - rng.beta(beta, beta)) if rng.random() < probability else 0.0
        ends = []
        for size in (height, width):
            half, centre = int(size * side) // 2, rng.integers(size)
            ends += [max(centre - half, 0), min(centre + half, size)]
        if ends[0] < ends[1] and ends[2] < ends[3]:
            box[:] = ends
    return found


def test_cutmix_is_its_definition(key):
    """Constant images of a number each: a mixed one holds another's number in a box, its label the box's share."""
    n, height, width, count = 5, 12, 9, 1000
    images = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, height, width, 2))
    settings = np.repeat([[1.0, 1.0], [1.0, 0.3], [0.4, 1.0], [0.0, 1.0]], count, 0)

    @jax.jit
    @jax.vmap
    def mix(key, setting):
        def mixed(images):
            return cutmix(key, images, jnp.eye(n), probability=setting[0], beta=setting[1])

        mixed, pull, labels = jax.vjp(mixed, images, has_aux=True)
        return mixed, labels, pull(jnp.ones_like(mixed))[0].sum()

    mixed, labels, used = map(np.asarray, mix(jax.random.split(key, len(settings)), settings))
    np.testing.assert_allclose(used, images.size)  # every pixel of the result is one of the images
    np.testing.assert_array_equal(mixed[..., 0], mixed[..., 1])
    seen = mixed[..., 0].astype(int)
    foreign = seen != np.arange(n)[:, None, None]
    box = foreign.any(1)  # of all images that are mixed with another one the same
    rows, columns = box.any(2), box.any(1)
    np.testing.assert_array_equal(box, rows[:, :, None] & columns[:, None])
    assert ((foreign == box[:, None]) | ~foreign.any((2, 3), keepdims=True)).all()
    partner = np.where(foreign.any((2, 3)), np.where(foreign, seen, 0).max((2, 3)), np.arange(n))
    np.testing.assert_array_equal(np.sort(partner), np.broadcast_to(np.arange(n), partner.shape))
    np.testing.assert_array_equal(seen, np.where(box[:, None], partner[..., None, None], np.arange(n)[:, None, None]))
    share = box.mean((1, 2))[:, None, None]
    np.testing.assert_allclose(labels, (1 - share) * np.eye(n) + share * np.eye(n)[partner], atol=1e-6)
    # Which other image it is, and where the box lies, are as likely as they should be.
    pairs = np.array([np.bincount(partner[box.any((1, 2)), i], minlength=n) for i in range(n)])
    assert scipy.stats.chisquare(pairs.ravel(), np.full(n * n, pairs.sum() / n**2)).pvalue > 1e-3
    ends = [rows.argmax(1), height - rows[:, ::-1].argmax(1), columns.argmax(1), width - columns[:, ::-1].argmax(1)]
    ends = np.where(box.any((1, 2)), ends, 0).T
    of_ends = np.vstack([np.eye(4), [[-1, 1, 0, 0], [0, 0, -1, 1], [1, 0, -1, 0], [0, 1, 0, -1], [1, 0, 0, 1]]])
    for ours, (probability, beta) in zip(np.split(ends, 4), settings[::count], strict=True):
        theirs = boxes(probability, beta, height, width, 4000)
        for weights in of_ends:
            assert scipy.stats.ks_2samp(ours @ weights, theirs @ weights).pvalue > 1e-3


def test_a_roll_is_numpys_and_a_shared_one_rolls_all_alike(rng):
    images = rng.normal(size=(COUNT, 6, 7, 3)).astype(np.float32)
    one = roll(3)
    draws = np.asarray(jax.jit(lambda key: one.draw(key, MANY))(jax.random.key(0)))
    assert set(np.unique(draws)) == {0, 1, 2, 3} and draws.shape == (MANY, 2)
    each = compiled(one)(images, draws[:COUNT])
    shared = compiled(one)(images, draws[:1])
    for k, image in enumerate(images):
        np.testing.assert_array_equal(np.asarray(each)[k], np.roll(image, draws[k], (0, 1)))
        np.testing.assert_array_equal(np.asarray(shared)[k], np.roll(image, draws[0], (0, 1)))
    with pytest.raises(JaxddError, match="a draw for 3 images cannot be applied to 4"):
        one.apply(images, draws[:3])
    with pytest.raises(JaxddError, match="an integer of at least 0, got -1"):
        roll(-1)


def test_shuffled_patches_are_each_somewhere_once(rng):
    images = rng.normal(size=(COUNT, 6, 9, 2)).astype(np.float32)
    one = shuffle_patches(3)
    draws = np.asarray(jax.jit(lambda key: one.draw(key, COUNT))(jax.random.key(0)))
    assert len(np.unique(draws, axis=0)) == COUNT  # every image in an order of its own
    found, shared = compiled(one)(images, draws), compiled(one)(images, draws[:1])
    for k, image in enumerate(images):
        patches = [image[2 * (p // 3) : 2 * (p // 3) + 2, 3 * (p % 3) : 3 * (p % 3) + 3] for p in range(9)]
        for order, result in ((draws[k], found[k]), (draws[0], shared[k])):
            rows = [np.concatenate([patches[p] for p in order[3 * r : 3 * r + 3]], 1) for r in range(3)]
            np.testing.assert_array_equal(result, np.concatenate(rows))
    with pytest.raises(JaxddError, match="images of 6x9 pixels are not 2 by 2 patches"):
        shuffle_patches(2).apply(images, draws)
    with pytest.raises(JaxddError, match="a draw for 2 images cannot be applied to 4"):
        one.apply(images, draws[:2])


def test_a_resized_crop_is_a_box_of_the_image(rng):
    one = resized_crop((0.08, 1.0), flip=False)
    draw = jax.jit(lambda key: one.draw(key, MANY))(jax.random.key(1))
    sides, shift = np.asarray(draw.matrix)[:, [0, 1], [0, 1]], np.asarray(draw.shift)
    assert (sides <= 1).all() and (np.abs(shift) <= (1 - sides) / 2 + 1e-6).all()  # within the image
    area, aspect = sides.prod(1), sides[:, 1] / sides[:, 0]
    assert area.min() >= 0.079 and aspect.min() >= 0.749 and aspect.max() <= 1.334
    np.testing.assert_allclose(area[sides.max(1) < 1].mean(), 0.5, atol=0.03)
    # A box by hand: rows 2 to 6 and columns 3 to 9 of 12, whose centres the result samples at its own centres.
    image = rng.normal(size=(1, 12, 12, 1)).astype(np.float32)
    height, width, top, left = 4.0, 6.0, 2.0, 3.0
    box = jax.jit(lambda: operations._identity(1))()._replace(
        matrix=np.diag(np.float32([height, width]) / 12)[None],
        shift=np.float32([[(top + height / 2) / 12 - 0.5, (left + width / 2) / 12 - 0.5]]),
    )
    rows = (np.arange(12) + 0.5) * height / 12 - 0.5 + top
    columns = (np.arange(12) + 0.5) * width / 12 - 0.5 + left
    at = np.meshgrid(rows, columns, indexing="ij")
    expected = scipy.ndimage.map_coordinates(image[0, :, :, 0], at, order=1)
    np.testing.assert_allclose(np.asarray(compiled(one)(image, box))[0, :, :, 0], expected, atol=1e-5)
    with pytest.raises(JaxddError, match=r"a crop needs shares 0 < low <= high <= 1"):
        resized_crop((0.5, 0.1))


def test_a_chain_is_one_after_the_other(rng):
    images = rng.normal(size=(COUNT, 8, 8, 1)).astype(np.float32)
    flip, move = siamese("flip", always="flip"), roll(2)
    both = chain(flip, move)

    @jax.jit
    def changed(images):
        draws = both.draw(jax.random.key(0), COUNT)
        return both.apply(images, draws), move.apply(flip.apply(images, draws[0]), draws[1])

    found, expected = jax.device_get(changed(images))
    np.testing.assert_array_equal(found, expected)
    assert (np.abs(found - images).max((1, 2, 3)) > 0.1).all()


def test_mixup_is_a_mean_of_two_images_and_of_their_labels(rng):
    images = rng.normal(size=(COUNT, 3, 3, 1)).astype(np.float32)
    labels = np.eye(COUNT, dtype=np.float32)
    mix = jax.jit(jax.vmap(lambda key, probability: mixup(key, images, labels, probability=probability)))
    keys = jax.random.split(jax.random.key(0), 501)
    mixed, weights = jax.device_get(mix(keys, np.float32([1] * 500 + [0])))
    np.testing.assert_allclose(mixed, np.einsum("knm,mhwc->knhwc", weights, images), atol=1e-6)
    np.testing.assert_allclose(weights.sum(2), 1, rtol=1e-6)
    np.testing.assert_array_equal(mixed[500], images)
    np.testing.assert_array_equal(weights[500], labels)
    shares = weights[:500].max(1).min(1)
    assert ((shares > 0) & (shares <= 1)).all() and (shares < 0.99).mean() > 0.8
    assert np.ptp(shares) > 0.4  # at 0.8 most shares are far from a half


@pytest.mark.endurance
def test_a_mixture_is_replayed_from_its_draw(rng):
    """From the key as much as from what is stored of it; one draw mixes any images of its shape."""
    images, labels = rng.normal(size=(COUNT, 5, 4, 2)).astype(np.float32), np.eye(COUNT, dtype=np.float32)
    for whole, draw in (cutmix, cutmix_draw), (mixup, mixup_draw):
        key = jax.random.key(3)
        stored = jax.device_get(jax.jit(lambda key, draw=draw: draw(key, images.shape, probability=1.0))(key))
        ours, theirs = (
            jax.jit(mixed)(images, labels, stored),
            jax.jit(functools.partial(whole, probability=1.0))(key, images, labels),
        )
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
        assert 0 < stored.share < 1
