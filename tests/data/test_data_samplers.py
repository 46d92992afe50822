"""Samplers: balance, range, determinism, and purity under jit, vmap and scan."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import data
from jaxdd.data.samplers import shuffled
from jaxdd.errors import JaxddError
from jaxdd.types import Labels

RAGGED = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [40, 3, 7, 11]))


@pytest.fixture
def labels():
    return Labels.index(RAGGED)


def counts_of(labels, indices):
    return np.bincount(np.asarray(labels.values)[np.asarray(indices)], minlength=labels.num_classes)


def test_balanced_batches_are_balanced_and_in_range(labels):
    for batch_size in (1, 4, 10, 64):
        sample = jax.jit(data.balanced_sampler(batch_size))
        for seed in range(5):
            indices = sample(jax.random.key(seed), labels)
            assert indices.shape == (batch_size,) and indices.dtype == jnp.int32
            assert indices.min() >= 0 and indices.max() < len(RAGGED)
            counts = counts_of(labels, indices)
            assert counts.max() - counts.min() <= 1 and counts.sum() == batch_size


def test_balanced_sampling_reaches_every_example_equally_within_its_class(labels):
    """Over many draws each example appears 1/(classes * its class's size) of the time, to five standard errors."""
    draws = 400 * len(RAGGED)
    keys = jax.random.split(jax.random.key(0), 400)
    indices = jax.vmap(data.balanced_sampler(len(RAGGED)), (0, None))(keys, labels)  # 61 places: one is left over
    share = np.bincount(np.asarray(indices).ravel(), minlength=len(RAGGED)) / draws
    expected = 1 / (4 * np.array(labels.counts)[RAGGED])
    assert np.all(np.abs(share - expected) < 5 * np.sqrt(expected / draws))


def test_class_batches_are_of_each_class_in_turn_and_of_any_of_its_examples(labels):
    """As above; a batch of each class is what a reshape of them gives."""
    keys = jax.random.split(jax.random.key(0), 400)
    indices = np.asarray(jax.vmap(data.class_sampler(15), (0, None))(keys, labels))
    assert indices.shape == (400, 60) and indices.dtype == np.int32
    np.testing.assert_array_equal(RAGGED[indices], np.tile(np.repeat(np.arange(4), 15), (400, 1)))
    share = np.bincount(indices.ravel(), minlength=len(RAGGED)) / indices.size
    expected = 1 / (4 * np.array(labels.counts)[RAGGED])
    assert np.all(np.abs(share - expected) < 5 * np.sqrt(expected / indices.size))


def test_uniform_sampling_reaches_every_example_equally(labels):
    draws = 400 * 64
    keys = jax.random.split(jax.random.key(1), 400)
    indices = jax.vmap(data.uniform_sampler(64), (0, None))(keys, labels)
    assert indices.shape == (400, 64) and indices.dtype == jnp.int32
    share = np.bincount(np.asarray(indices).ravel(), minlength=len(RAGGED)) / draws
    assert len(share) == len(RAGGED)
    assert np.all(np.abs(share - 1 / len(RAGGED)) < 5 * np.sqrt(1 / len(RAGGED) / draws))


@pytest.mark.parametrize("make", [data.balanced_sampler, data.uniform_sampler, data.class_sampler])
def test_samples_depend_on_the_key_alone_plain_jitted_and_in_a_scan(make, labels):
    sample = make(32)
    keys = jax.random.split(jax.random.key(2), 3)
    plain = jnp.stack([sample(key, labels) for key in keys])
    _, scanned = jax.lax.scan(lambda carry, key: (carry, sample(key, labels)), None, keys)
    np.testing.assert_array_equal(plain, scanned)
    np.testing.assert_array_equal(plain[0], jax.jit(sample)(keys[0], labels))
    assert not np.array_equal(plain[0], plain[1])


@pytest.mark.parametrize(
    ("make", "step"),
    [
        (data.balanced_sampler, ()),
        (data.uniform_sampler, ()),
        (functools.partial(data.repeated_sampler, share=0.1, replacement=True), (7,)),
        (functools.partial(data.epoch_sampler, complete=True), (7,)),
    ],
)
def test_a_step_costs_nothing_that_grows_with_the_data(make, step):
    """No operation in the compiled step has an output as large as the data set, so nothing sorts or permutes it."""
    labels = Labels.index(np.arange(100_000) % 10)
    jaxpr = jax.make_jaxpr(make(32))(jax.random.key(0), labels, *step)
    sizes = [int(np.prod(v.aval.shape)) for eqn in jaxpr.jaxpr.eqns for v in eqn.outvars]
    assert max(sizes) <= 64


def test_balanced_choice_takes_different_examples_sorted_by_class(labels):
    for per_class in (1, 3):
        indices = np.asarray(data.balanced_choice(jax.random.key(0), labels, per_class))
        assert indices.shape == (4 * per_class,) and indices.dtype == np.int32
        assert np.array_equal(RAGGED[indices], np.repeat(np.arange(4), per_class))
        assert len(set(indices.tolist())) == len(indices)
    first, again, other = (data.balanced_choice(jax.random.key(k), labels, 3) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    jitted = jax.jit(data.balanced_choice, static_argnums=2)(jax.random.key(0), labels, 3)
    np.testing.assert_array_equal(first, jitted)


def test_balanced_choice_by_class_is_a_part_of_that_of_more(labels):
    three = np.asarray(data.balanced_choice(jax.random.key(0), labels, 3)).reshape(4, 3)
    found = data.balanced_choice(jax.random.key(0), labels, (3, 1, 0, 2))
    np.testing.assert_array_equal(found, np.concatenate([three[0], three[1, :1], three[3, :2]]))


def test_balanced_choice_is_uniform_within_a_class(labels):
    choose = jax.jit(jax.vmap(lambda key: data.balanced_choice(key, labels, 2)))
    chosen = np.asarray(choose(jax.random.split(jax.random.key(3), 3000))).ravel()
    share = np.bincount(chosen, minlength=len(RAGGED)) / 3000
    expected = 2 / np.array(labels.counts)[RAGGED]
    assert np.all(np.abs(share - expected) < 5 * np.sqrt(expected / 3000))


@pytest.mark.parametrize(
    ("per_class", "sentence"),
    [
        (0, "images per class must be an integer of at least 1, got 0"),
        (-1, "images per class must be an integer of at least 1, got -1"),
        (1.5, "images per class must be an integer of at least 1, got 1.5"),
        (True, "images per class must be an integer of at least 1, got True"),
        (4, "images per class is 4, but class 1 has only 3 examples"),
        ((1, 4, 0, 0), "images per class is 4, but class 1 has only 3 examples"),
        ((1, -1, 0, 0), "images per class, for class 1, must be an integer of at least 0, got -1"),
        ((1, 2), "images per class are given for 2 classes, but there are 4"),
    ],
)
def test_bad_numbers_of_images_get_one_clear_sentence(per_class, sentence, labels):
    with pytest.raises(JaxddError, match=sentence):
        data.balanced_choice(jax.random.key(0), labels, per_class)


@pytest.mark.parametrize("make", [data.balanced_sampler, data.uniform_sampler])
@pytest.mark.parametrize("batch_size", [0, -3, 2.0, None])
def test_bad_batch_sizes_get_one_clear_sentence(make, batch_size):
    with pytest.raises(JaxddError, match="batch_size must be an integer of at least 1"):
        make(batch_size)


def test_a_class_without_examples_is_refused_not_sampled_wrongly():
    empty = Labels.index(np.array([0, 0, 2]), num_classes=3)
    with pytest.raises(JaxddError, match="class 1 has no examples"):
        data.balanced_sampler(4)(jax.random.key(0), empty)
    with pytest.raises(JaxddError, match="class 1 has no examples"):
        data.balanced_choice(jax.random.key(0), empty, 1)
    with pytest.raises(JaxddError, match="class 1 has no examples"):
        data.class_sampler(1)(jax.random.key(0), empty)


def test_a_bad_number_of_examples_of_each_class_gets_one_clear_sentence():
    with pytest.raises(JaxddError, match="real examples of each class must be an integer of at least 1, got 0"):
        data.class_sampler(0)


def epochs_of(sampler, labels, steps, epochs, seed=0):
    """Rows `(epochs, steps, batch)`."""
    draw = jax.jit(lambda: jax.lax.map(lambda t: sampler(jax.random.key(seed), labels, t), jnp.arange(epochs * steps)))
    rows = np.asarray(draw())
    assert rows.dtype == np.int32
    return rows.reshape(epochs, steps, -1)


def test_a_complete_epoch_has_every_example_and_no_batch_has_one_twice(labels):
    """61 in batches of 8: the last one has five of the one before; without that five are left out."""
    found = epochs_of(data.epoch_sampler(8, complete=True), labels, data.epoch_steps(61, 8, complete=True), 3)
    assert found.shape == (3, 8, 8)
    for epoch in found:
        assert sorted(set(epoch.ravel())) == list(range(61)) and all(len(set(batch)) == 8 for batch in epoch)
        np.testing.assert_array_equal(epoch[-1, :3], epoch[-2, -3:])
    shorter = epochs_of(data.epoch_sampler(8), labels, data.epoch_steps(61, 8), 3)
    assert shorter.shape == (3, 7, 8) and all(len(set(epoch.ravel())) == 56 for epoch in shorter)


def test_repeated_sampling_without_replacement_has_each_row_once_a_pass(labels):
    """A share of a fifth after the other, of one order; then of another one, whatever the share."""
    assert data.epoch_steps(60, 4, 0.2) == 3
    of_sixty = Labels.index(RAGGED[:60])
    found = epochs_of(data.repeated_sampler(4, 0.2, replacement=False), of_sixty, 3, 10)
    passes = found.reshape(2, 60)
    np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(60), (2, 1)))
    assert not np.array_equal(*passes)
    whole = epochs_of(data.repeated_sampler(4, 1.0, replacement=False), of_sixty, 15, 2)
    np.testing.assert_array_equal(found.reshape(2, 15, 4), whole)


def test_repeated_sampling_with_replacement_draws_every_epoch_from_all(labels):
    """So many different rows an epoch, each example in it as often as any other one."""
    epochs, steps = 600, data.epoch_steps(61, 4, 0.3)
    found = epochs_of(data.repeated_sampler(4, 0.3, replacement=True), labels, steps, epochs).reshape(epochs, -1)
    assert found.shape[1] == 16  # of 18.3
    assert all(len(set(epoch)) == 16 for epoch in found)
    share = np.bincount(found.ravel(), minlength=61) / epochs
    assert np.all(np.abs(share - 16 / 61) < 5 * np.sqrt(16 / 61 * 45 / 61 / epochs))
    both = np.mean([len(set(a) & set(b)) for a, b in zip(found[1:], found[:-1], strict=True)])
    assert abs(both - 16 * 16 / 61) < 0.5, "what one epoch has says nothing of the next one"


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none_gets_one_clear_sentence(share):
    for refused in (
        lambda: data.repeated_sampler(4, share, replacement=False),
        lambda: data.epoch_steps(100, 4, share),
    ):
        with pytest.raises(JaxddError, match="a share of the examples is above 0 and at most 1"):
            refused()


def test_steps_of_an_epoch():
    assert data.epoch_steps(100, 29, 0.29) == 1, "28.999.. is 29"
    assert data.epoch_steps(100, 30, 0.29) == 1, "at least one"
    for count, batch_size in ((100, 0), (100, True), (100, 2.5), (0, 10)):
        with pytest.raises(JaxddError, match="must be an integer of at least 1"):
            data.epoch_steps(count, batch_size)
    assert data.epoch_steps(100, 30) == 3 and data.epoch_steps(100, 30, complete=True) == 4


@pytest.mark.parametrize("count", [5, 61, 1000])
def test_an_order_computed_by_places_is_one_of_all_numbers(count):
    """Each stands at each place equally often, and beside each other one; of each key another order."""
    draws = 4000 if count < 100 else 50
    orders = np.asarray(
        jax.jit(jax.vmap(lambda key: shuffled(key, count, jnp.arange(count))))(
            jax.random.split(jax.random.key(3), draws)
        )
    )
    np.testing.assert_array_equal(np.sort(orders, 1), np.tile(np.arange(count), (draws, 1)))
    if count < 100:
        at_place = np.stack([(orders == number).mean(0) for number in range(count)])
        assert np.abs(at_place - 1 / count).max() < 5 * np.sqrt(1 / count / draws)
        after = np.zeros((count, count))
        np.add.at(after, (orders[:, :-1].ravel(), orders[:, 1:].ravel()), 1 / draws)
        off = ~np.eye(count, dtype=bool)
        assert np.abs(after[off] - 1 / count).max() < 5 * np.sqrt(1 / count / draws)
    else:
        assert abs(np.corrcoef(orders.ravel(), np.tile(np.arange(count), draws))[0, 1]) < 5 / np.sqrt(orders.size)
    some = np.array([count - 1, 0], np.int32)
    np.testing.assert_array_equal(shuffled(jax.random.split(jax.random.key(3), draws)[0], count, some), orders[0][some])
