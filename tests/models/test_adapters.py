import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdd import models
from jaxdd.errors import JaxddError
from jaxdd.types import Network

SHAPE = (4, 4, 1)


class Linen(nn.Module):
    """BatchNorm and dropout, the two that need statistics, a mode and a key."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Dense(16)(images.reshape(len(images), -1))
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(3)(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(16, 16, rngs=rngs)])
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(16, 3, rngs=rngs)

    def features(self, images):
        return self.dropout(self.norm(self.layers[0](images.reshape(len(images), -1))))

    def __call__(self, images):
        return self.head(self.features(images))


class Features(nnx.Module):
    """It says nothing of its layers."""

    def __init__(self, rngs):
        self.first, self.head = nnx.Linear(16, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)

    def features(self, images):
        return self.norm(self.first(images.reshape(len(images), -1)))

    def __call__(self, images):
        return self.head(self.features(images))


def linear_init(key):
    return {"w": jax.random.normal(key, (16, 3))}


def linear_apply(theta, images):
    return images.reshape(len(images), -1) @ theta["w"]


def linen_factory(image_shape, num_classes, width=7):
    return models.MLP(num_classes, width)


def pair_factory(image_shape, num_classes):
    return linear_init, linear_apply


def network_factory(image_shape, num_classes):
    return models.from_functions(linear_init, linear_apply)


def nnx_factory(image_shape, num_classes):
    return Nnx(nnx.Rngs(0))


def wrong_factory(image_shape, num_classes):
    return 3


@pytest.mark.parametrize("network", [models.from_linen(Linen(), SHAPE), models.from_nnx(Nnx)], ids=["linen", "nnx"])
def test_batch_norm_and_dropout(network):
    theta, stats = jax.jit(network.init)(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (8, *SHAPE)) + 2

    @jax.jit
    def step(theta, stats, key):
        def loss(theta):
            logits, new = network.apply(theta, images, stats, mode="train", key=key)
            return jnp.mean(logits**2), (new, logits)

        return jax.grad(loss, has_aux=True)(theta)

    gradient, (trained, logits) = step(theta, stats, jax.random.key(2))
    _, (_, same) = step(theta, stats, jax.random.key(2))
    _, (_, other) = step(theta, stats, jax.random.key(3))
    np.testing.assert_array_equal(logits, same)
    assert np.abs(logits - other).max() > 0.1, "dropout follows the key"
    assert jax.tree.structure(gradient) == jax.tree.structure(theta)
    assert jax.tree.map(jnp.shape, trained) == jax.tree.map(jnp.shape, stats)
    evaluated, unchanged = network.apply(theta, images, stats)
    assert all(a is b for a, b in zip(jax.tree.leaves(unchanged), jax.tree.leaves(stats), strict=True))
    moved, _ = network.apply(theta, images, trained)
    assert np.abs(moved - evaluated).max() > 1e-4, "evaluation uses the statistics it is given"
    scanned, _ = jax.lax.scan(
        lambda s, k: (step(theta, s, k)[1][0], None), stats, jax.random.split(jax.random.key(4), 2)
    )
    assert jax.tree.structure(scanned) == jax.tree.structure(stats)


def test_features():
    network = models.from_nnx(Nnx)
    assert network.features(*swap(network))[0].shape == (2, 16)
    with pytest.raises(JaxddError, match="features"):
        plain = models.from_linen(Linen(), SHAPE)
        plain.features(*swap(plain))


def swap(network):
    theta, stats = jax.jit(network.init)(jax.random.key(0))
    return theta, jnp.zeros((2, *SHAPE)), stats


@pytest.mark.parametrize("factory", ["linen_factory", "pair_factory", "network_factory"])
def test_dotted_path(factory):
    network = models.build(f"{__name__}:{factory}", SHAPE, 3)
    assert isinstance(network, Network)
    assert network.apply(*swap(network))[0].shape == (2, 3)


def test_dotted_path_takes_options_and_refuses_other_things():
    theta, _ = models.build(f"{__name__}:linen_factory", SHAPE, 3, width=5).init(jax.random.key(0))
    assert theta["head"]["kernel"].shape == (5, 3)
    with pytest.raises(JaxddError, match="must return a Network, a linen module or an"):
        models.build(f"{__name__}:wrong_factory", SHAPE, 3)
    with pytest.raises(JaxddError, match=r"got Nnx; if that is a flax.nnx module, wrap it with jaxdd.models.from_nnx"):
        models.build(f"{__name__}:nnx_factory", SHAPE, 3)


def test_random_streams_of_an_nnx_module_are_independent():
    class Noisy(nnx.Module):
        def __init__(self, rngs):
            self.rngs = rngs

        def __call__(self, images):
            return jnp.stack([jax.random.normal(self.rngs[name](), (4,)) for name in ("default", "dropout")])

    network = models.from_nnx(lambda rngs: Noisy(nnx.Rngs(default=rngs(), dropout=rngs())))
    first, second = network.apply(*swap(network), mode="train", key=jax.random.key(5))[0]
    assert np.abs(first - second).max() > 0.1


def test_a_network_is_known_by_what_it_computes():
    """Not by where its functions lie; a name stands for itself."""

    def scaled(scale):
        table = np.full((16, 3), scale, np.float32)
        return models.from_functions(linear_init, lambda theta, images: linear_apply(theta, images) @ (table.T @ table))

    def masked(scale, back=1.0, name="kernel"):
        @jax.custom_vjp
        def through(x):
            return x

        through.defvjp(lambda x: (x, ()), lambda _, slope: (back * slope,))
        table = np.full((1, 3), scale, np.float32)
        mask = jax.jit(lambda x: x * table)
        return models.from_functions(
            lambda key: {name: linear_init(key)}, lambda theta, images: mask(through(linear_apply(theta[name], images)))
        )

    of = functools.partial(models.identity, image_shape=SHAPE)
    assert of("mlp(width=8)") == "mlp(width=8)"
    assert of(scaled(1.0)) == of(scaled(1.0)) != of(scaled(2.0))  # they differ in a constant alone
    # In one of a function that they call, in their gradients, in the names of their parameters.
    assert of(masked(1.0)) == of(masked(1.0))
    assert len({of(masked(1.0)), of(masked(2.0)), of(masked(1.0, back=2.0)), of(masked(1.0, name="weights"))}) == 4
    assert of(models.from_linen(Linen(), SHAPE)) == of(models.from_linen(Linen(), SHAPE))
    assert of(models.build("mlp(width=8)", SHAPE, 3)) != of(models.build("mlp(width=9)", SHAPE, 3))


@pytest.mark.parametrize("network", [models.from_linen(Linen(), SHAPE), models.from_nnx(Nnx)], ids=["linen", "nnx"])
def test_modes(network):
    """The batch at hand, with nothing dropped and nothing updated; and what calls meant before there were modes."""
    theta, stats = jax.jit(network.init)(jax.random.key(0))
    images, key = jax.random.normal(jax.random.key(1), (8, *SHAPE)) + 2, jax.random.key(2)

    @jax.jit
    def called():
        return {
            "batch": network.apply(theta, images, stats, mode="batch"),
            "batch_key": network.apply(theta, images, stats, mode="batch", key=key),
            "train": network.apply(theta, images, stats, mode="train"),
            "older": network.apply(theta, images, stats, train=True),
            "train_key": network.apply(theta, images, stats, mode="train", key=key),
            "eval": network.apply(theta, images, stats, mode="eval"),
            "older_eval": network.apply(theta, images, stats, train=False),
            "default": network.apply(theta, images, stats),
        }

    found = called()
    logits = {name: np.asarray(of[0]) for name, of in found.items()}
    for name in ("batch_key", "train", "older"):
        np.testing.assert_allclose(logits[name], logits["batch"], atol=1e-6, err_msg=name)
    for name in ("older_eval", "default"):
        np.testing.assert_array_equal(logits[name], logits["eval"], err_msg=name)
    assert np.abs(logits["train_key"] - logits["train"]).max() > 0.1, "dropout with a key alone"
    assert np.abs(logits["eval"] - logits["batch"]).max() > 0.1

    def moved(name):
        after = zip(*map(jax.tree.leaves, (found[name][1], stats)), strict=True)
        return any(np.any(a != b) for a, b in after if jnp.issubdtype(a.dtype, jnp.floating))

    assert [moved(name) for name in found] == [name in ("train", "older", "train_key") for name in found]


def test_a_network_is_called_in_one_mode_that_there_is():
    network = models.from_functions(linear_init, linear_apply)
    with pytest.raises(JaxddError, match="unknown mode of a network 'trian'; did you mean 'train'"):
        network.apply(*swap(network), mode="trian")
    with pytest.raises(JaxddError, match="in a mode or with train"):
        network.apply(*swap(network), mode="eval", train=True)


def test_other_random_numbers_need_a_key():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            return jax.random.normal(self.make_rng("dropout"), (2, 3)) if train else jnp.zeros((2, 3))

    network = models.from_linen(Noisy(), SHAPE)
    assert np.abs(network.apply(*swap(network), mode="train", key=jax.random.key(0))[0]).min() > 0
    with pytest.raises(JaxddError, match="has to be called with a key"):
        network.apply(*swap(network), mode="train")


def test_functions_of_ones_own_take_a_mode_or_train_or_neither():
    def of_train(theta, images, stats, *, train=False, key=None):
        return images[:, 0, 0] * (1 + train), {"seen": stats["seen"] + 1}

    def of_mode(theta, images, stats, *, mode, key):
        return images[:, 0, 0] * (1 + (mode != "eval")), {"seen": stats["seen"] + 1}

    images, stats = jnp.ones((2, 1, 1, 3)), {"seen": jnp.zeros(())}
    for function in (of_train, of_mode):
        network = Network(lambda key: ({}, stats), function, function)
        assert network == Network(network.init, function, function) and hash(network) == hash(network._replace())
        for mode, scale, seen in (("eval", 1, 0), ("batch", 2, 0), ("train", 2, 1)):
            logits, after = network.apply({}, images, stats, mode=mode)
            assert (logits == scale).all() and after["seen"] == seen, (function, mode)
    plain = Network(lambda key: ({}, {}), lambda theta, images, stats: (images[:, 0, 0], {}), of_mode)
    assert plain.apply({}, images, {}, mode="train")[0].shape == (2, 3)


def test_layers_are_by_default_the_features_and_the_logits():
    network = models.from_nnx(Features)
    theta, images, stats = swap(network)
    layers, after = network.layers(theta, images, stats, mode="train")
    np.testing.assert_array_equal(layers[0], network.features(theta, images, stats, mode="train")[0])
    logits, expected = network.apply(theta, images, stats, mode="train")
    np.testing.assert_array_equal(layers[1], logits)
    jax.tree.map(np.testing.assert_array_equal, after, expected)
    with pytest.raises(JaxddError, match="what its layers are"):
        bare = models.from_functions(linear_init, linear_apply)
        bare.layers(*swap(bare))


def test_moments_of_every_example_by_itself(rng):
    network = models.build("convnet(width=2, depth=2, norm='batch')", (4, 4, 1), 3)
    theta, stats = jax.jit(network.init)(jax.random.key(0))
    images = rng.normal(size=(3, 4, 4, 1)).astype(np.float32)
    _, each = jax.jit(functools.partial(network.norms, by_example=True))(theta, images, stats)
    alone = jax.jit(network.norms)
    for number in range(3):
        _, norms = alone(theta, images[number : number + 1], stats)
        for found, expected in zip(each.batch, norms.batch, strict=True):
            np.testing.assert_allclose(found.mean[number], expected.mean, atol=1e-6)
            np.testing.assert_allclose(found.variance[number], expected.variance, atol=1e-6)
    with pytest.raises(JaxddError, match="have no use for a mask"):
        network.norms(theta, images, stats, by_example=True, mask=np.ones(3, bool))
