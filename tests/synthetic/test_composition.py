"""Every combinator over every parameterisation, and every pair of combinators, inner first, over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdd.synthetic import (
    clipped,
    corrupted,
    descend,
    frequencies,
    learned_labels,
    learning_rates,
    linear_bases,
    multi_formation,
    neural_fields,
    per_leaf,
    pixels,
    render,
    unit_norm,
)
from jaxdd.types import LABEL_CONVENTIONS

BASES = {
    "pixels": pixels(2),
    "linear_bases": linear_bases(3, 2),
    "frequencies": frequencies(2, 6),
    "neural_fields": neural_fields(2, 3),
}
ANY = {
    "raw": lambda base: learned_labels(base, "raw", nonnegative=True),
    "softmax": lambda base: learned_labels(base, "softmax"),
    "centred": lambda base: learned_labels(base, "centred"),
    "learning_rates": lambda base: learning_rates(base, 0.02, (3,)),
    "multi_formation": lambda base: multi_formation(base, 2),
}
OF_PIXELS = {"unit_norm": unit_norm, "clipped": clipped, "corrupted": lambda base: corrupted(base, 0.4)}
COMBINATORS = {**ANY, **OF_PIXELS}
LABELS = {"raw", "softmax", "centred"}


PAIRS = [(a, b) for a in COMBINATORS for b in COMBINATORS if a != b and not {a, b} <= LABELS]
COMPOSITIONS = [
    *(("pixels", *names) for names in [*((name,) for name in COMBINATORS), *PAIRS]),
    *((base, name) for base in ("linear_bases", "frequencies") for name in ANY),
    ("linear_bases", "multi_formation", "softmax"),
    ("frequencies", "softmax", "multi_formation"),
    ("neural_fields", "learning_rates", "multi_formation"),
]


@pytest.mark.parametrize(
    "names",  # all of one, and every third of more
    [
        pytest.param(names, marks=[pytest.mark.endurance] if len(names) > 2 and number % 3 else [], id="-".join(names))
        for number, names in enumerate(COMPOSITIONS)
    ],
)
def test_composition(real, key, names):
    base, *wrappers = names
    synthetic = BASES[base]
    for name in wrappers:
        synthetic = COMBINATORS[name](synthetic)
    start = synthetic.init(key, real)
    count = 6 * 4 ** wrappers.count("multi_formation")

    def loss(params):
        images, labels, rates = synthetic.render(params)
        total = jnp.sum(jnp.sin(images)) + jnp.sum(labels * jnp.cos(jnp.arange(3.0))[None])
        return total if rates is None else total + jnp.sum(rates**2)

    optimizer = per_leaf({name: optax.sgd(0.5) for name in synthetic.learned})

    grads = jax.grad(loss)(start)
    params, _ = descend(synthetic, optimizer, grads, optimizer.init(start), start)
    distilled = render(synthetic, params)
    assert {name: leaf.dtype for name, leaf in start.items()} == dict.fromkeys(start, jnp.float32)
    for name, grad in grads.items():
        assert np.all(np.isfinite(grad)), name
        assert (name in synthetic.learned) == np.any(params[name] != start[name]), name
        if name in synthetic.learned:
            assert np.any(grad), name

    # One convention and one regime, of the labels that come out.
    assert distilled.images.shape == (count, 4, 5, 2)
    assert distilled.label_convention in LABEL_CONVENTIONS
    assert distilled.label_convention == synthetic.label_convention
    assert distilled.label_regime == ("learned" if "labels" in synthetic.learned else "hard")
    assert distilled.labels.shape == ((count,) if synthetic.label_convention == "hard" else (count, 3))
    if synthetic.label_convention == "probability":
        np.testing.assert_allclose(distilled.labels.sum(1), 1, rtol=1e-5)
    assert (distilled.learning_rates is None) == ("learning_rates" not in wrappers)

    # The ledger: that of the base, and what labels and rates add.
    expected = BASES[base].num_bits(params)
    if distilled.label_regime == "learned":
        expected["labels"] = 32 * 6 * 3
    if "learning_rates" in wrappers:
        expected["learning_rates"] = 32 * 3
    assert synthetic.num_bits(params) == expected
    assert distilled.num_bits == sum(expected.values())
    assert set(distilled.params) == set(expected)

    # The decoder says what has to be done with them, outermost first.
    decoder = base
    for name in wrappers:
        word = {"softmax": "softmax_labels"}.get(name, name)
        decoder = f"{word}({decoder})" if word in ("softmax_labels", "learning_rates", "multi_formation") else decoder
    assert distilled.decoder == decoder


def test_a_long_composition_compiled(real, key):
    synthetic = learning_rates(learned_labels(multi_formation(clipped(pixels(1)), 2), "softmax"), 0.1, ())
    distilled = jax.jit(lambda key, data: render(synthetic, synthetic.init(key, data)))(key, real)
    assert distilled.decoder == "learning_rates(softmax_labels(multi_formation(pixels)))"
    assert distilled.num_bits == 32 * (3 * 40 + 3 * 3 + 1)
    assert distilled.images.shape == (12, 4, 5, 2)
    np.testing.assert_allclose(distilled.labels.max(1), 0.9, rtol=1e-6)


@pytest.mark.parametrize("name", COMBINATORS)
def test_the_constraint_of_what_is_wrapped_holds_too(real, key, name):
    seen = []

    def halve(params):
        seen.append(params["images"])
        return {**params, "images": params["images"] / 2}

    synthetic = COMBINATORS[name](pixels(2)._replace(project=halve))
    params = synthetic.init(key, real)
    after = synthetic.project(params)
    assert len(seen) == 1
    if name in ANY:  # those that leave the images alone
        np.testing.assert_array_equal(after["images"], params["images"] / 2)
