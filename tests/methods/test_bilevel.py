"""Methods that differentiate through training."""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdd
from jaxdd import data, evaluation, inner, losses, methods, models
from jaxdd.errors import JaxddError
from jaxdd.methods import Bilevel, Inner, bilevel
from jaxdd.synthetic import learning_rates, per_leaf, pixels

MLP = "mlp(width=16, depth=1)"
SMALL = {
    "dd": {"ipc": 2, "steps": 2, "epochs": 2, "networks": 2, "target_batch": 40},
    "soft_label_dd": {"ipc": 1, "steps": 1, "classes": 4, "networks": 1, "target_batch": 40},
    "bptt": {"steps": 6, "target_batch": 40, "target_block": 20, "optimizer": "adam", "learning_rate": 0.01},
    "linba": {"steps": 6, "target_batch": 40, "target_block": 20, "per_class": 3, "bases": 8},
    "rat_bptt": {"ipc": 2, "steps": 8, "window": 3, "per_class": 1, "target_batch": 40, "learn_labels": True},
}


@pytest.fixture(scope="module")
def mnist():
    dataset = data.load("mnist_5k")
    transform = data.fit_transform("standardize", dataset.train.pixels())
    return [data.real_data(s, transform, 10) for s in (dataset.train, dataset.validation, dataset.test)]


def run(mnist, name, steps=3, **options):
    method = methods.build(name, model=MLP, **{**SMALL[name], **options})
    return jaxdd.run(method, mnist[0], steps=steps, devices=jax.devices()[:1], progress=False)


def test_the_gradient_is_that_of_a_plain_python_loop(mnist):
    """Images, labels' rates: against explicit gradient descent, differentiated by JAX as a whole."""
    train = mnist[0]
    synthetic = learning_rates(pixels(1, init="noise"), 0.05, (3,))
    optimizer = per_leaf({name: optax.sgd(1.0) for name in synthetic.learned})
    plan = jnp.array([[0, 1, 2], [3, 4, 5], [6, 7, 9]])
    method = bilevel(
        Bilevel(model=MLP, target_batch=30, target_block=10),
        synthetic,
        optimizer,
        Inner(inner.sgd(), lambda key, num_images, num_classes: plan),
        source=inner.fixed,
        penalty=lambda params: 1e-3 * jnp.sum(params["images"] ** 2),
    )
    state = method.init(jax.random.key(0), train)
    chosen = method.sample(jax.random.key(1), train.labels)
    batch = jaxdd.types.Batch(train.images[chosen], train.labels.values[chosen])
    after, metrics = method.update(jax.random.key(2), state, batch)
    network = models.build(MLP, (28, 28, 1), 10)

    def loss_by_hand(params):
        theta, stats = state.kept
        images, labels, rates = synthetic.render(params)
        for rows, rate in zip(plan, rates, strict=True):

            def loss(theta, rows=rows):
                return losses.cross_entropy(network.apply(theta, images[rows], stats)[0], labels[rows]).mean()

            theta = jax.tree.map(lambda p, g, rate=rate: p - rate * g, theta, jax.grad(loss)(theta))
        real = losses.cross_entropy(network.apply(theta, batch.images, stats)[0], batch.labels).mean()
        return real + 1e-3 * jnp.sum(params["images"] ** 2)

    value, expected = jax.value_and_grad(loss_by_hand)(state.params)
    assert metrics["loss"] == pytest.approx(float(value), rel=1e-5)
    for name in synthetic.learned:
        moved = state.params[name] - after.params[name]
        np.testing.assert_allclose(moved, expected[name], rtol=1e-4, atol=1e-5 * jnp.abs(expected[name]).max())
    np.testing.assert_array_equal(after.params["labels"], state.params["labels"])
    norm = np.sqrt(sum(float(jnp.sum(expected[name] ** 2)) for name in synthetic.learned))
    assert metrics["gradient_norm"] == pytest.approx(norm, rel=1e-4)  # of what is learned, not of the labels


class Normed(nn.Module):
    """A network with running statistics."""

    @nn.compact
    def __call__(self, images, train: bool = False):
        hidden = nn.Dense(8)(images.reshape(len(images), -1))
        return nn.Dense(10)(nn.relu(nn.BatchNorm(use_running_average=not train)(hidden)))


@pytest.mark.parametrize("networks_per_batch", [1, None])
def test_networks_with_statistics_and_both_gradients_agree(mnist, networks_per_batch):
    network = models.from_linen(Normed(), (28, 28, 1))

    def images(gradient):
        options = {"gradient": gradient, "networks": 2, "networks_per_batch": networks_per_batch}
        method = methods.bptt(model=network, **{**SMALL["bptt"], **options})
        return jaxdd.run(method, mnist[0], steps=1, devices=jax.devices()[:1], progress=False).distilled.images

    np.testing.assert_allclose(images("fwdrev"), images("reverse"), rtol=1e-4, atol=1e-4)


def test_networks_are_averaged_whatever_their_batching(mnist):
    one, two = (run(mnist, "dd", networks=4, networks_per_batch=b).distilled.images for b in (1, None))
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(mnist, name, tmp_path):
    def go(steps, **options):
        method = methods.build(name, model=MLP, **SMALL[name])
        return jaxdd.run(method, mnist[0], steps=steps, devices=jax.devices()[:1], progress=False, **options)

    whole = go(4).state
    go(2, workdir=tmp_path)
    resumed = go(4, workdir=tmp_path, resume=True)
    assert resumed.resumed_from == 2
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_devices_share_the_real_batch_of_a_single_network(mnist):
    def go(devices):
        method = methods.build("rat_bptt", model=MLP, **{**SMALL["rat_bptt"], "networks": 1})
        return jaxdd.run(method, mnist[0], steps=2, devices=devices, progress=False).distilled.images

    one, four = go(jax.devices()[:1]), go(jax.devices()[:4])
    np.testing.assert_allclose(one, four, rtol=1e-3, atol=1e-4)


def test_ten_images_for_a_fixed_initialisation_teach_it_in_three_steps(mnist):
    train, validation, test = mnist
    method = methods.dd(model=MLP, ipc=1, steps=1, initialisation="fixed", target_batch=200, learning_rate=0.02)
    result = jaxdd.run(method, train, steps=250, devices=jax.devices()[:1], progress=False)
    network = models.build(MLP, (28, 28, 1), 10)
    ours, random, _ = evaluation.compare(
        network, result.distilled, train, validation.batch, test.batch, "as-distilled", key=jax.random.key(3)
    )
    assert len(ours.score.accuracies) == 1 and len(random.score.accuracies) == 5
    assert ours.score.mean > 0.55 and ours.score.mean > random.score.mean + 0.2


def test_learned_rates_move_and_stay_positive(mnist):
    distilled = run(mnist, "dd", steps=20, learning_rate=0.3).distilled
    assert distilled.learning_rates.shape == (4,)
    assert float(jnp.min(distilled.learning_rates)) > 0
    assert float(jnp.ptp(distilled.learning_rates)) > 1e-3


def test_soft_labels_of_fewer_images_than_classes(mnist):
    distilled = run(mnist, "soft_label_dd", steps=5).distilled
    assert distilled.images.shape == (4, 28, 28, 1) and distilled.labels.shape == (4, 10)
    assert (distilled.label_convention, distilled.label_regime) == ("raw", "learned")
    assert float(jnp.abs(distilled.labels - jnp.eye(10)[:4]).max()) > 1e-3
    np.testing.assert_array_equal(distilled.plan, np.tile(np.arange(4), (3, 1)))


def test_labels_of_rat_bptt_stay_nonnegative(mnist):
    distilled = run(mnist, "rat_bptt", steps=10, label_learning_rate=0.1).distilled
    assert float(distilled.labels.min()) == 0.0
    assert float(jnp.abs(distilled.labels - jnp.repeat(jnp.eye(10), 2, axis=0)).max()) > 1e-2


def test_windows_of_rat_bptt(mnist):
    """The last window of all steps is full backpropagation; a random one is another gradient."""

    def images(**options):
        return np.asarray(run(mnist, "rat_bptt", steps=1, learn_labels=False, **options).distilled.images)

    full = images(window=8, place="full")
    np.testing.assert_array_equal(full, images(window=8, place="last"))
    assert not np.array_equal(full, images(window=3, place="last"))


def test_linear_bases_cost_no_more_bits_than_the_pixels_they_stand_for(mnist):
    bases, plain = (run(mnist, name, steps=1).distilled for name in ("linba", "bptt"))
    assert len(bases.images) > 5 * len(plain.images)
    assert 0.9 * plain.num_bits < bases.num_bits <= plain.num_bits
    assert bases.decoder == "linear_bases"


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("dd", {"ipc": 3, "steps": 2}, "steps of DD must be a divisor of ipc, 3"),
        ("dd", {"initialisation": "fixd"}, 'initialisation of DD must be "random" or "fixed"'),
        ("dd", {"networks": 0}, "networks of DD must be at least 1"),
        ("dd", {"remat": "all"}, "remat of DD must be one of step, sqrt, none"),
        ("bptt", {"target_block": 0}, "target_block of BPTT must be at least 1 or None"),
        ("soft_label_dd", {"classes": 0}, "classes of SoftLabelDD must be at least 1 or None"),
        ("bptt", {"momentum": 1.0}, "momentum of BPTT must be at least 0 and under 1"),
        ("bptt", {"optimizer": "rmsprop"}, "optimizer of BPTT must be one of sgd, adam"),
        ("linba", {"bases": 0}, "bases"),
        ("rat_bptt", {"window": 0}, "window of RaTBPTT must be from 1 to the 200 steps left"),
        ("rat_bptt", {"window": 150, "start": 100}, "from 1 to the 100 steps left"),
        ("rat_bptt", {"place": "middle"}, "place of RaTBPTT must be one of full, last, random, fixed"),
        ("rat_bptt", {"lerning_rate": 0.1}, "learning_rate"),
        ("rat_bptt", {"place": "full"}, "another than full unless window is 200"),
        ("rat_bptt", {"start": -1}, "start of RaTBPTT must be at least 0"),
        ("rat_bptt", {"clip": 1.0}, "clip of RaTBPTT must be more than 1"),
        ("rat_bptt", {"inner_learning_rate": float("nan")}, "must be positive and finite"),
        ("dd", {"learning_rate": -1.0}, "learning_rate of DD must be positive and finite"),
        ("dd", {"networks_per_batch": "a"}, "networks_per_batch of DD must be int or None"),
        ("dd", {"model": 5}, "model of DD must be str or Network"),
        ("bptt", {"per_class": 0}, "per_class of BPTT must be at least 1 or None"),
        ("linba", {"coefficient_decay": -1.0}, "coefficient_decay of LinBa must be at least 0"),
        ("soft_label_dd", {"labels": "centred"}, 'labels of SoftLabelDD must be "raw" or "softmax"'),
    ],
)
def test_bad_hyper_parameters_say_what_would_be_right(name, options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build(name, **options)


def test_every_bilevel_method_documents_all_its_hyper_parameters():
    for hyper in (methods.DD, methods.SoftLabelDD, methods.BPTT, methods.LinBa, methods.RaTBPTT):
        described = "".join(cls.__doc__ for cls in hyper.__mro__ if cls is not object)
        missing = [name for name in inspect.signature(hyper).parameters if name not in described]
        assert not missing, (hyper, missing)
