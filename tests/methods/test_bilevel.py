"""The block that all methods share which differentiate through training."""

import inspect

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from jaxdd import inner, methods, models
from jaxdd.errors import JaxddError
from jaxdd.methods import Bilevel, Inner, bilevel
from jaxdd.synthetic import learning_rates, per_leaf, pixels
from jaxdd.types import Batch, Execution, bound

NORMED = models.from_linen(by_hand.Normed(), (14, 14, 1))
PLAN = np.array([[0, 1, 2], [3, 0, 2], [1, 2, 3]])


def block(**options):
    """Networks with batch statistics; all that the block can do, and plain gradient descent at a rate of 1."""
    synthetic = learning_rates(pixels(1, init="noise"), 0.05, (3,))
    gradient = {"gradient": options.pop("gradient")}
    return bilevel(
        Bilevel(model=NORMED, networks=2, target_batch=20, **gradient),
        synthetic,
        per_leaf({name: optax.sgd(1.0) for name in synthetic.learned}),
        Inner(inner.sgd(), lambda key, num_images, num_classes: jnp.asarray(PLAN)),
        penalty=lambda params: 1e-3 * jnp.sum(params["images"] ** 2),
        relabel=lambda labels: jnp.where(labels == 3, 0, labels),
        lean=Execution(**{"block": 10, "side_by_side": 1, "remat": "step", **options}),
    )


@jax.jit
def plainly(learned, key, batch):
    """Loss, accuracy and gradient; real examples are normalised by all of them, whatever the size of a block."""
    labels = jnp.where(batch.labels == 3, 0, batch.labels)

    def loss(learned):
        rates = jnp.log(1 + jnp.exp(learned["learning_rates"]))

        def of_network(key):
            theta, stats = NORMED.init(jax.random.split(key)[0])
            theta = by_hand.trained(NORMED, (theta, stats), learned["images"], jnp.eye(4), PLAN, rates)
            return NORMED.apply(theta, batch.images, stats, mode="batch")[0]

        logits = jax.vmap(of_network)(jax.random.split(key, 2)).reshape(-1, 4)
        wanted = jnp.tile(labels, 2)
        penalty = 1e-3 * jnp.sum(learned["images"] ** 2)
        return by_hand.cross_entropy(logits, jax.nn.one_hot(wanted, 4)) + penalty, jnp.mean(logits.argmax(1) == wanted)

    return jax.value_and_grad(loss, has_aux=True)(learned)


@pytest.mark.parametrize(
    "options",
    [
        {"gradient": "fwdrev", "side_by_side": 1},
        {"gradient": "reverse", "side_by_side": None, "block": 4},
    ],
    ids=["fwdrev", "reverse"],
)
def test_updates_are_those_of_plain_loops(options, digits):
    """In either way to differentiate, and one network after the other or both side by side."""
    for update in toys.updates(block(**options), digits):
        learned = {leaf: update.before.params[leaf] for leaf in ("images", "learning_rates")}
        (loss, accuracy), slopes = plainly(learned, update.key, update.batch)
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
        assert float(update.metrics["batch_accuracy"]) == pytest.approx(float(accuracy), abs=1e-6)
        for leaf, slope in slopes.items():
            by_hand.assert_near(learned[leaf] - update.after.params[leaf], slope, 1e-3, err_msg=leaf)
        norm = np.sqrt(sum(np.sum(np.square(np.float64(slope))) for slope in slopes.values()))
        assert float(update.metrics["gradient_norm"]) == pytest.approx(norm, rel=1e-4)
        np.testing.assert_array_equal(update.after.params["labels"], np.eye(4))


@pytest.mark.parametrize(("fixed", "learned"), [(None, False), (0.1, True)])
def test_the_inner_learning_rate_is_given_or_learned(fixed, learned, digits):
    synthetic = pixels(1, init="noise")
    if learned:
        synthetic = learning_rates(synthetic, 0.05, (3,))
    plan = Inner(inner.sgd(), lambda key, num_images, num_classes: jnp.asarray(PLAN), learning_rate=fixed)
    optimizer = per_leaf({name: optax.sgd(1.0) for name in synthetic.learned})
    method = bound(bilevel(Bilevel(model="mlp(width=8, depth=1)"), synthetic, optimizer, plan), digits)
    with pytest.raises(JaxddError, match="either a learning rate or a synthetic set that learns its own, and not both"):
        jax.eval_shape(
            lambda key: method.update(key, method.init(key, digits), Batch.of(*digits.examples)), jax.random.key(0)
        )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"networks": 0}, "networks of DD must be at least 1"),
        ({"gradient": "both"}, "gradient of DD must be one of reverse, fwdrev"),
        ({"target_batch": 0}, "target_batch of DD must be at least 1"),
        ({"model": 5}, "model of DD must be str or Network"),
        ({"ipc": 0, "steps": 1}, "ipc of DD must be at least 1"),
    ],
)
def test_bad_hyper_parameters_say_what_would_be_right(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("dd", **options)


def test_every_bilevel_method_documents_all_its_hyper_parameters():
    for hyper in (methods.DD, methods.SoftLabelDD, methods.BPTT, methods.LinBa, methods.RaTBPTT, methods.ATBPTT):
        described = "".join(cls.__doc__ for cls in hyper.__mro__ if cls is not object)
        missing = [name for name in inspect.signature(hyper).parameters if name not in described]
        assert not missing, (hyper, missing)
