"""Parameterisations by name, as many images as a budget pays for."""

import jax
import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.synthetic import (
    Continued,
    frequencies,
    images_within,
    linear_bases,
    named,
    neural_fields,
    pixels,
    within_budget,
)

SET = Continued(np.zeros((4, 14, 14, 1), np.float32), np.eye(4), False, None, "real", "0")
PLAIN = 32 * 4 * 3 * 14 * 14 + 2 * 12
"""Bits of three plain digits of each of four classes."""


def cost(synthetic, data):
    return sum(synthetic.num_bits(jax.eval_shape(lambda key: synthetic.init(key, data), jax.random.key(0))).values())


@pytest.mark.parametrize("make", [lambda n: frequencies(n, 20), lambda n: neural_fields(n, 5)], ids=["dct", "fields"])
def test_a_budget_pays_for_as_many_images_as_it_can(make, digits):
    count = images_within(make, 3, digits)
    assert cost(make(count), digits) <= PLAIN < cost(make(count + 1), digits)
    synthetic = within_budget(make, 3)
    params = jax.jit(synthetic.init)(jax.random.key(0), digits)
    rendered = synthetic.render(params)
    assert len(rendered.images) == 4 * count
    np.testing.assert_array_equal(rendered.images, make(count).render(params).images)
    assert sum(synthetic.num_bits(params).values()) == cost(make(count), digits) == cost(synthetic, digits)


def test_a_budget_that_pays_for_nothing_says_so(digits):
    with pytest.raises(
        JaxddError, match="1 plain images per class are 25096 bits, and one per class as frequencies takes"
    ):
        named("frequencies(coefficients=196)")(1).init(jax.random.key(0), digits)


@pytest.mark.parametrize(
    ("text", "decoder", "count"),
    [
        ("pixels", "pixels", 12),
        ("multi_formation", "multi_formation(pixels)", 48),
        ("multi_formation(factor=3)", "multi_formation(pixels)", 108),
        ("frequencies(coefficients=20)", "frequencies", None),
        ("neural_fields(width=5, layers=1)", "neural_fields", None),
        ("linear_bases(bases=8)", "linear_bases", None),
    ],
)
def test_names_make_what_they_say_at_no_more_bits(text, decoder, count, digits):
    synthetic = named(text)(3)
    shapes = jax.eval_shape(lambda key: synthetic.render(synthetic.init(key, digits)), jax.random.key(0))
    assert synthetic.decoder == decoder
    assert count is None or len(shapes.images) == count
    assert 0.9 * PLAIN < cost(synthetic, digits) <= PLAIN
    fit = synthetic.fit
    assert fit is None if "fields" not in text else (fit.steps, fit.learning_rate) == (5_000, 5e-4)


def test_options_arrive(digits):
    found = named("linear_bases(bases=4, scale=3, fit=7, fit_learning_rate=0.5)")(2, init="noise")
    assert (found.fit.steps, found.fit.learning_rate) == (7, 0.5)
    key = jax.random.key(3)
    expected = linear_bases(4, ipc=2, scale=3).init(key, digits)
    jax.tree.map(np.testing.assert_array_equal, found.init(key, digits), expected)
    rows = expected["coefficients"].shape[1]
    noise = pixels(rows, init="noise").init(key, digits)["images"]
    np.testing.assert_array_equal(found.fit.target(key, digits), noise)
    fields = named("neural_fields(width=5, layers=3, first_scale=4.0, scale=2.0, fit=0)")(1)
    assert fields.fit is None
    np.testing.assert_array_equal(fields.init(key, digits)["scales"], [4, 2, 2])


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        ("neural_feilds", {}, "unknown parameterisation 'neural_feilds'; did you mean 'neural_fields'"),
        (
            "frequencies(coeficients=3)",
            {},
            "option of parameterisation 'frequencies' 'coeficients'; did you mean 'coeff",
        ),
        ("frequencies(64)", {}, r"parameterisation 'frequencies\(64\)' must be written name\(option=value"),
        ("multi_formation(factor=1)", {}, "the factor of multi_formation must be an integer of at least 2"),
        ("neural_fields(fit=-1)", {}, "fit must be an integer of at least 0"),
        ("linear_bases(fit=3, fit_learning_rate=0)", {}, "the learning rate of a fit must be a number above 0"),
        ("linear_bases", {"init": "noise"}, "linear_bases without a fit begin at random: init 'noise' needs fit"),
        ("frequencies", {"ipc": (1, 2)}, "images by class are for pixels and multi_formation: of frequencies, ipc is"),
        ("neural_fields", {"init": SET}, "a set to go on with is for pixels and multi_formation: neural_fields cannot"),
    ],
)
def test_what_cannot_be_is_one_sentence(text, arguments, sentence):
    with pytest.raises(JaxddError, match=sentence):
        named(text)(**{"ipc": 1, **arguments})
