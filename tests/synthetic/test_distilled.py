"""A distilled set in four parts, and the names that its fields had before there were parts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.synthetic import learned_labels, learning_rates, linear_bases, pixels, render
from jaxdd.types import Content, Cost, Distilled, Labelling, Training

IMAGES, LABELS = np.ones((4, 2, 2, 1), np.float32), np.float32([[0.5, -0.5]] * 4)
FIELDS = {
    "images": IMAGES,
    "labels": LABELS,
    "learning_rates": np.float32([0.1, 0.2]),
    "plan": np.int32([[0, 1], [2, 3]]),
    "theta0": {"bias": np.float32([1.0])},
    "params": {"images": IMAGES},
    "label_convention": "centred",
    "label_regime": "learned",
    "kernel": (("name", "ntk"), ("ridge", 1e-3)),
    "iterate": "average",
    "decoder": "bases",
    "num_bits": 123,
}
PARTS = (
    Content(IMAGES, FIELDS["params"], "bases", "average"),
    Labelling(LABELS, "centred", "learned"),
    Training(FIELDS["learning_rates"], FIELDS["plan"], FIELDS["theta0"], FIELDS["kernel"]),
    Cost(123),
)


def assert_same(found, expected):
    leaves = [jax.tree_util.tree_flatten(one) for one in (found, expected)]
    assert leaves[0][1] == leaves[1][1]
    for one, other in zip(leaves[0][0], leaves[1][0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_keywords_of_before_fill_the_parts_and_are_read_as_before():
    distilled = Distilled(**FIELDS)
    for name, value in FIELDS.items():
        assert getattr(distilled, name) is value
    assert distilled.schedule is FIELDS["plan"]
    assert_same(distilled, Distilled(*PARTS))
    assert_same(distilled, Distilled(content=PARTS[0], labelling=PARTS[1], training=PARTS[2], cost=PARTS[3]))


def test_images_and_labels_alone_are_a_set():
    for made in (Distilled(IMAGES, LABELS), Distilled(images=IMAGES, labels=LABELS)):
        assert made.images is IMAGES and made.labels is LABELS
        assert (made.label_convention, made.label_regime, made.iterate, made.decoder) == (
            "hard",
            "hard",
            "last",
            "pixels",
        )
        assert made.plan is made.learning_rates is made.theta0 is made.kernel is made.labelling.codec is None
        assert (made.params, made.num_bits, made.cost) == ({}, 0, Cost())


def test_replacing_a_field_leaves_the_rest_of_its_part():
    changed = dataclasses.replace(Distilled(*PARTS), labels=LABELS + 1, plan=None, num_bits=7)
    np.testing.assert_array_equal(changed.labels, LABELS + 1)
    assert (changed.label_convention, changed.label_regime) == ("centred", "learned")
    assert changed.schedule is None and changed.learning_rates is FIELDS["learning_rates"]
    assert changed.content is PARTS[0] and changed.cost == Cost(7)
    whole = dataclasses.replace(Distilled(*PARTS), training=Training())
    assert whole.training == Training() and whole.labelling is PARTS[1]


def test_another_total_forgets_what_it_was_the_sum_of():
    made = Distilled(Content(IMAGES), Labelling(LABELS), cost=Cost(10, 7, 2))
    assert made.cost.other == 1
    assert dataclasses.replace(made, num_bits=12).cost == Cost(12, None, None)
    assert Cost(12).other is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lables": LABELS}, "no 'lables'; it has content, .*label_regime"),
        ({"labels": LABELS}, "images"),
        ({"images": IMAGES}, "values"),
    ],
)
def test_what_is_misspelt_or_missing_is_named(fields, message):
    with pytest.raises(TypeError, match=message):
        Distilled(**fields)


def test_it_passes_through_jit_and_shapes_and_keeps_its_facts():
    distilled = Distilled(*PARTS)
    assert_same(jax.jit(lambda one: one)(distilled), distilled)
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, distilled))
    assert shapes.images.shape == IMAGES.shape and shapes.kernel == FIELDS["kernel"] and shapes.num_bits == 123
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(distilled)]
    assert paths[0] == ".content.images" and ".labelling.values" in paths and ".training.schedule" in paths
    # What a leaf becomes is not taken for images: here all parts are leaves.
    parts = (Content, Labelling, Training, Cost)
    named = jax.tree.map(lambda part: type(part).__name__, distilled, is_leaf=lambda one: isinstance(one, parts))
    assert named.content == "Content"


def test_the_ways_that_a_set_prescribes():
    assert Training().ways == Training(learning_rates=np.float32(0.1)).ways == ()
    assert Training(kernel=FIELDS["kernel"]).ways == ("kernel",)
    assert Training(FIELDS["learning_rates"], FIELDS["plan"]).ways == ("descent",)
    assert PARTS[2].ways == ("descent", "kernel")


def test_render_fills_all_parts(real):
    synthetic = learning_rates(learned_labels(pixels(2), "raw"), 0.5, (3,))
    params = synthetic.init(jax.random.key(0), real)
    schedule = jnp.zeros((3, 1), jnp.int32)
    made = render(synthetic, params, iterate="average", schedule=schedule, kernel=FIELDS["kernel"])
    assert made.schedule is schedule and made.kernel == FIELDS["kernel"] and made.iterate == "average"
    np.testing.assert_allclose(made.learning_rates, 0.5, rtol=1e-6)
    assert (made.label_convention, made.label_regime, made.decoder) == ("raw", "learned", synthetic.decoder)
    assert made.cost == Cost(32 * (6 * 40 + 6 * 3 + 3), 32 * 6 * 40, 32 * 6 * 3) and made.cost.other == 32 * 3
    assert render(synthetic, params, plan=schedule).schedule is schedule


def test_what_images_are_made_of_costs_as_images(real):
    synthetic = linear_bases(2, 3)
    cost = render(synthetic, synthetic.init(jax.random.key(0), real)).cost
    assert cost.images == cost.total > 0 and cost.labels == cost.other == 0
