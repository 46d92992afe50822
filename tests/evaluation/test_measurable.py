"""What can be measured is known from shapes and counts, and a comparison leaves out with a note what cannot."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import data, evaluation, models
from jaxdd.errors import JaxddError
from jaxdd.evaluation import Predictor, Score, measurable
from jaxdd.evaluation.baselines import coreset, rules_of
from jaxdd.kernels import ntk
from jaxdd.synthetic import DistilledDataset
from jaxdd.training import Protocol, protocols
from jaxdd.types import Distilled, Examples

ONE = Protocol("one", "", (1e-2,), steps=2)
TWO = Protocol("two", "", (1e-3, 1e-2), steps=2, selection_networks=1)


@pytest.fixture(scope="module")
def mlp():
    return models.build("mlp(width=4, depth=1)", (4, 4, 1), 3)


@pytest.fixture(scope="module")
def real():
    """Train and test of three classes with 9, 9 and 4 images in train, in memory and streamed."""
    labels = np.repeat(np.arange(3), (9, 9, 4)).astype(np.int32)
    images = np.random.default_rng(0).uniform(size=(22, 4, 4, 1)).astype(np.float32)
    found = []
    for stream in (False, True):
        dataset = data.from_arrays(images, labels, images, labels, validation=0, stream=stream)
        found.append(data.real_data(dataset.train, data.Identity(), 3))
    return found


def a_set(per_class, convention="hard", regime="hard", shapes=False):
    labels = jnp.arange(3 * per_class) % 3
    images = jax.random.normal(jax.random.key(per_class), (3 * per_class, 4, 4, 1))
    labels = labels if convention == "hard" else jax.nn.one_hot(labels, 3) - (1 / 3 if convention == "centred" else 0)
    made = Distilled(images, labels, label_convention=convention, label_regime=regime)
    return jax.eval_shape(lambda: made) if shapes else made


HARD, LEARNED, TAUGHT = "random real, hard labels", "random real, learned labels", "random real, a teacher's labels"
FEW = "class 2 has 4 real images, fewer than 5"
UNCENTRED = "a kernel's labels are centred, these are not"
STREAMED = "needs all real images in memory, and the data are streamed"


@pytest.mark.parametrize(
    ("regime", "convention", "predictor", "per_class", "streamed", "expected"),
    [
        ("hard", "hard", None, 4, False, {HARD: None, "herding": None}),
        ("hard", "hard", None, 5, False, {HARD: FEW, "herding": FEW}),
        ("hard", "hard", None, 4, True, {HARD: None, "herding": STREAMED}),
        ("learned", "raw", None, 4, False, {TAUGHT: None, HARD: None}),
        ("learned", "raw", None, 5, True, {TAUGHT: STREAMED, HARD: FEW}),
        ("learned", "centred", Predictor(ntk), 4, True, {LEARNED: None, HARD: None}),
        ("learned", "centred", Predictor(ntk), 5, False, {LEARNED: FEW, HARD: FEW}),
        ("learned", "raw", Predictor(ntk), 4, False, {LEARNED: UNCENTRED, HARD: None}),
    ],
)
def test_shapes_and_counts_tell_which_baselines_there_are(
    mlp, real, regime, convention, predictor, per_class, streamed, expected
):
    kept = a_set(per_class, convention, regime, shapes=True)
    found = measurable(mlp, kept, real[streamed], None, ONE, predictor=predictor)
    assert found.per_class == per_class
    assert {one.name: one.obstacle for one in found.baselines} == expected
    assert all((one.label_regime == "learned") == (one.name in (LEARNED, TAUGHT)) for one in found.baselines)


def test_without_networks_only_kernels_are_compared(real):
    found = measurable(None, a_set(2, "centred"), real[0], None, TWO, predictor=Predictor(ntk))
    assert [one.name for one in found.baselines] == [HARD]


def test_a_set_that_costs_less_than_it_renders_stands_beside_fewer_images(mlp, real):
    small = dataclasses.replace(a_set(5), num_bits=32 * 16 * 6)
    assert measurable(mlp, small, real[0], None, ONE) == (2, ((HARD, "hard", None), ("herding", "hard", None)))


def test_rules_that_are_named_stand_beside_any_labels(mlp, real):
    rules = rules_of("random, facility,k_center,facility_location")
    assert rules == ("facility_location", "k_center") and rules_of(None) is None and rules_of("random") == ()
    for regime, convention in (("hard", "hard"), ("learned", "centred")):
        found = measurable(mlp, a_set(2, convention, regime, shapes=True), real[0], None, ONE, rules=rules)
        named = [one for one in found.baselines if not one.name.startswith("random")]
        assert named == [("facility location", "hard", None), ("k center", "hard", None)]
    with pytest.raises(JaxddError, match=r"unknown baseline .herdin.*herding"):
        rules_of("herdin")


def test_a_set_of_unequal_classes_stands_beside_as_unequal_images(mlp, real):
    def of(*counts, **fields):
        made = dataclasses.replace(a_set(3), **fields)
        return dataclasses.replace(made, labelling=dataclasses.replace(made.labelling, counts=counts))

    assert measurable(mlp, of(6, 2, 1), real[0], None, ONE) == (
        (6, 2, 1),
        ((HARD, "hard", None), ("herding", "hard", None)),
    )
    assert measurable(mlp, of(6, 2, 1, num_bits=32 * 16 * 5), real[0], None, ONE).per_class == (4, 2, 1)
    assert measurable(mlp, of(2, 2, 5), real[0], None, ONE).baselines[0].obstacle == FEW
    assert measurable(mlp, of(6, 3), real[0], None, ONE).per_class == 3  # some classes have none
    train, like = real[0], of(6, 2, 1)
    for made in (
        evaluation.random_real(jax.random.key(0), train, (6, 2, 1), like=like),
        coreset("herding", train, (6, 2, 1), like=like),
    ):
        assert [*np.bincount(made.labels)] == [6, 2, 1] and len(made.images) == 9
    one, own = (np.asarray(coreset("herding", train, each, like=like).images) for each in (4, (4, 3, 1)))
    np.testing.assert_array_equal(own, one[np.array([0, 1, 2, 3, 4, 5, 6, 8])])


def test_what_the_set_itself_cannot_be_is_refused(mlp, real):
    train, kept = real[0], a_set(2, "centred", shapes=True)
    for validation in (None, train.examples._replace(images=train.images[:0], labels=train.labels.values[:0])):
        with pytest.raises(JaxddError, match="'two' chooses its learning rate on validation data, of which there are"):
            measurable(mlp, kept, train, validation, TWO)
    measurable(mlp, kept, train, train.examples, TWO)
    with pytest.raises(JaxddError, match="cross-entropy, which cannot use centred labels"):
        measurable(mlp, kept, train, None, dataclasses.replace(ONE, loss="cross_entropy"))
    with pytest.raises(JaxddError, match="learned no learning rates"):
        measurable(mlp, kept, train, None, "as-distilled")
    plain = models.from_functions(
        lambda key: {"w": jnp.zeros((16, 3))}, lambda theta, x: x.reshape(-1, 16) @ theta["w"]
    )
    measurable(plain, kept, train, None, ONE)
    with pytest.raises(JaxddError, match="does not say what its features are"):
        measurable(plain, kept, train, None, ONE, predictor=Predictor(None))


def test_what_cannot_be_had_is_a_row_with_a_note(mlp, real):
    train, test = real[0], real[0].examples

    def rows_of(network, made, **options):
        key = jax.random.key(0)
        return evaluation.compare(network, made, train, None, test, ONE, key=key, num_networks=1, **options)

    rows = rows_of(mlp, a_set(5))
    assert [row.name for row in rows] == ["distilled", HARD, "herding"] and rows[0].score is not None
    assert [row.as_dict()["note"] for row in rows] == [None, f"not measured: {FEW}", f"not measured: {FEW}"]
    assert [row.score for row in rows[1:]] == [None, None] and [row.num_images for row in rows] == [15, 15, 15]

    def broken(x1, x2=None):
        """No kernel of real images, which lie within 0 and 1: what no shape tells."""
        found = ntk(x1, x2)
        return jnp.where((x1.min() < 0) | (x2 is not None), found, jnp.nan)

    rows = rows_of(None, a_set(4, "centred"), predictor=Predictor(broken))
    assert rows[0].kernel_accuracy is not None and rows[1].kernel_accuracy is None
    assert rows[1].note.startswith("not measured: kernel ridge regression failed: the support's kernel is not positive")


def test_without_validation_data_one_rate_holds_for_all_rows(mlp, real):
    protocol = dataclasses.replace(TWO, fallback=0.5)
    options = {"key": jax.random.key(0), "num_networks": 1}
    rows = evaluation.compare(mlp, a_set(4), real[0], None, real[0].examples, protocol, **options)
    assert [row.score.learning_rate for row in rows] == [0.5, 0.5, 0.5]
    assert {row.note for row in rows} == {"rate fixed, no validation data"}
    assert {row.score.selected_on for row in rows} == {"none"} and rows[0].score.protocol == "two"
    empty = Examples(real[0].images[:0], real[0].labels.values[:0])
    assert rows[0].score == evaluation.evaluate(
        mlp, a_set(4), empty, real[0].examples, protocol, **_as_compared(options)
    )
    fixed = dataclasses.replace(protocol, learning_rates=(0.5,))
    alone = evaluation.compare(mlp, a_set(4), real[0], None, real[0].examples, fixed, **options)
    assert [row.score.accuracies for row in alone] == [row.score.accuracies for row in rows]
    assert {row.note for row in alone} == {None} and isinstance(alone[0].score, Score)


def _as_compared(options):
    """The key that `compare` trains its networks from."""
    return {**options, "key": jax.random.split(options["key"], 3)[1]}


def test_the_named_protocols_that_can_do_without_validation():
    rates = {name: protocols.get(name).learning_rates for name in protocols.available()}
    several = {name for name, choice in rates.items() if len(choice) > 1}
    assert several == {"default", "quick", "as-distilled"}
    for name in rates.keys() - several:
        assert protocols.get(name).without_validation() is protocols.get(name)
    # A set's own rates as they were learned, and the middle one of a quick look.
    assert protocols.get("as-distilled").without_validation().learning_rates == (1.0,)
    assert protocols.get("quick").without_validation().learning_rates == (sorted(rates["quick"])[1],)
    with pytest.raises(JaxddError, match=r"hold some out \(data.validation=0.1\), fix the rate, or take a protocol"):
        protocols.get("default").without_validation()
    with pytest.raises(JaxddError, match="positive, finite learning rates"):
        dataclasses.replace(TWO, fallback=0.0)


def test_a_set_without_classes_is_refused_in_one_sentence(real, mlp):
    train = real[0]
    features = Distilled(jnp.zeros((3, 4, 4, 1)), jnp.zeros((3, 5)), label_convention="features")
    calls = {
        "measurable": lambda: measurable(mlp, features, train, None, ONE),
        "evaluate": lambda: evaluation.evaluate(mlp, features, None, train.examples, ONE, key=jax.random.key(0)),
        "kernel": lambda: evaluation.kernel_accuracy(Predictor(ntk), features, train.examples),
        "random": lambda: evaluation.random_real(jax.random.key(0), train, 1, like=features),
        "coreset": lambda: coreset("herding", train, 1, like=features),
    }
    for call in calls.values():
        with pytest.raises(JaxddError, match="labels are features, which know no classes: pretrain networks on it"):
            call()
    source = data.from_arrays(np.asarray(train.images), np.asarray(train.labels.values))
    stored = DistilledDataset.create(features, data.Identity(), {})
    with pytest.raises(JaxddError, match="labels are features, which know no classes"):
        evaluation.check_fits(stored, source)


def test_images_that_no_transform_has_seen_are_refused(real, mlp):
    stored = Distilled(np.zeros((3, 4, 4, 1), np.uint8), np.arange(3))
    with pytest.raises(JaxddError, match="images are uint8, as their source has them"):
        evaluation.evaluate(mlp, stored, None, real[0].examples, ONE, key=jax.random.key(0))
