"""What the batch normalisations of a network see, beside what is written out, finite differences and PyTorch."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdd import models
from jaxdd.errors import JaxddError

SHAPE, CONVNET = (6, 6, 2), "convnet(width=4, depth=2, norm='batch')"
PLACES = ("batch_stats/second", "batch_stats/block/norm", "batch_stats/second")


class Block(nn.Module):
    train: bool

    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(not self.train, momentum=0.7, name="norm")(nn.Conv(3, (3, 3), name="conv")(x))


class Shared(nn.Module):
    """A normalisation that is applied twice, and one inside of a block that is computed again for its gradient."""

    @nn.compact
    def __call__(self, images, train=False):
        norm = nn.BatchNorm(not train, name="second")
        x = norm(nn.Conv(3, (3, 3), name="first")(images))
        x = norm(nn.remat(Block)(train, name="block")(x) ** 2)
        return nn.Dense(4, name="head")(nn.relu(x).mean((1, 2)))


@pytest.fixture(scope="module")
def convnet():
    network = models.build(CONVNET, SHAPE, 3)
    return network, *_trained(network)


def _trained(network):
    """Its parameters, statistics that some images have moved, and other images."""
    seen, images = 2 * np.random.default_rng(0).normal(size=(2, 8, *SHAPE)).astype(np.float32) + 1

    @jax.jit
    def moved(key):
        theta, stats = network.init(key)
        stats = jax.lax.fori_loop(0, 3, lambda _, stats: network.apply(theta, seen, stats, mode="train")[1], stats)
        return theta, stats

    return *jax.device_get(moved(jax.random.key(0))), images


def test_moments_of_a_network_by_its_parts():
    """In the order in which its normalisations are applied, each by what the layers before it give."""
    network = models.from_linen(Shared(), SHAPE)
    theta, stats, images = _trained(network)

    @jax.jit
    def seen(images):
        return *network.norms(theta, images, stats), network.apply(theta, images, stats)[0]

    logits, norms, applied = seen(images)
    np.testing.assert_allclose(logits, applied, atol=1e-6)
    assert norms.names == PLACES

    @jax.jit
    def conv(x, theta):
        return nn.Conv(3, (3, 3)).apply({"params": theta}, x)

    def normed(x, theta, stats):
        x = (np.asarray(x) - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
        return x * theta["scale"] + theta["bias"]

    theta, own = jax.tree.map(np.asarray, (theta, stats["batch_stats"]))
    inputs = [conv(images, theta["first"])]
    inputs.append(conv(normed(inputs[0], theta["second"], own["second"]), theta["block"]["conv"]))
    inputs.append(normed(inputs[1], theta["block"]["norm"], own["block"]["norm"]) ** 2)
    running = (own["second"], own["block"]["norm"], own["second"])
    for x, kept, seen, beside in zip(inputs, running, norms.batch, norms.running, strict=True):
        np.testing.assert_allclose(seen.mean, np.mean(x, (0, 1, 2)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(seen.variance, np.var(x, (0, 1, 2)), rtol=1e-4)
        np.testing.assert_array_equal(beside.mean, kept["mean"])
        np.testing.assert_array_equal(beside.variance, kept["var"])


def test_masked_images_count_for_nothing(convnet):
    """Whatever they hold, and whether they are told by booleans or weights."""
    network, theta, stats, images = convnet

    @jax.jit
    def moments(images, mask=None):
        return network.norms(theta, images, stats, mask=mask)[1].batch

    expected = moments(images[:5])
    padded = np.concatenate([images[:5], np.full_like(images[5:], np.nan)])
    for mask in (np.arange(8) < 5, np.float32([0.5] * 5 + [0] * 3)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), moments(padded, mask), expected
        )
    twice = moments(padded, np.float32([2, 1, 1, 1, 0, 0, 0, 0]))
    repeated = moments(images[[0, 0, 1, 2, 3]])
    chex.assert_trees_all_close(twice, repeated, rtol=1e-4, atol=1e-5)


def test_moments_are_differentiable_in_images(convnet, rng, x64):
    network, *start, _ = convnet
    with x64():
        theta, stats = jax.tree.map(np.float64, start)
        images, direction = rng.normal(size=(2, 4, *SHAPE))
        mask = np.array([True, True, True, False])

        @jax.jit
        @jax.value_and_grad
        def apart(images):
            _, norms = network.norms(theta, images, stats, mask=mask)
            pairs = zip(jax.tree.leaves(norms.batch), jax.tree.leaves(norms.running), strict=True)
            return sum(jnp.sum((seen - kept) ** 2) for seen, kept in pairs)

        slope = np.asarray(apart(images)[1])
        assert np.isfinite(slope).all() and not slope[3].any()
        change = (float(apart(images + 1e-5 * direction)[0]) - float(apart(images - 1e-5 * direction)[0])) / 2e-5
        assert np.vdot(slope, direction) == pytest.approx(change, rel=1e-6)
        # Where all images are one colour a variance is zero.
        assert np.isfinite(apart(np.zeros_like(images))[1]).all()


def test_networks_that_say_nothing_of_norms():
    plain = models.build("convnet(width=2, depth=1)", SHAPE, 3)
    theta, stats = jax.tree.map(lambda leaf: np.zeros(leaf.shape), jax.eval_shape(plain.init, jax.random.key(0)))
    images = np.zeros((2, *SHAPE), np.float32)
    with pytest.raises(JaxddError, match=r"has no nn\.BatchNorm"):
        jax.eval_shape(plain.norms, theta, images, stats)
    with pytest.raises(JaxddError, match="unknown mode of a network's norms 'train'"):
        plain.norms(theta, images, stats, mode="train")
    assert models.frozen_statistics(plain, theta, images, stats) is stats
    functions = models.from_functions(lambda key: {}, lambda theta, images: images[:, 0, 0])
    with pytest.raises(JaxddError, match="does not say what its normalisations see"):
        functions.norms({}, images, {})


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.conv, self.norm = nnx.Conv(2, 3, (3, 3), rngs=rngs), nnx.BatchNorm(3, momentum=0.8, rngs=rngs)
        self.again, self.head = nnx.BatchNorm(3, momentum=0.99, rngs=rngs), nnx.Linear(3, 3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.scale = nnx.Variable(jnp.float32(3.0))

    def __call__(self, images):
        x = self.norm(self.conv(images)) ** 2 * self.scale[...]
        return self.head(self.dropout(self.again(x).max((1, 2))))


@pytest.mark.parametrize(
    "network",
    [
        models.build(CONVNET, SHAPE, 3),
        models.build(CONVNET, SHAPE, 3)._replace(norms=models.from_nnx(Nnx).norms),
        models.from_nnx(Nnx),
    ],
    ids=["named", "by its steps", "nnx"],
)
def test_frozen_statistics_normalise_as_the_batch_does(network):
    theta, stats, images = _trained(network)

    @jax.jit
    def normalised(stats):
        frozen = models.frozen_statistics(network, theta, images, stats)
        expected, _ = network.apply(theta, images, stats, mode="batch")
        return frozen, expected, *(network.apply(theta, images, each)[0] for each in (frozen, stats))

    frozen, expected, found, before = jax.device_get(normalised(stats))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(before - expected).max() > 0.05
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), frozen) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), stats
    )
    if "scale" in frozen:
        assert frozen["scale"] == 3, "what training does not move stays"


@pytest.mark.endurance
@pytest.mark.parametrize("name", ["resnet10", "resnet18"])
def test_moments_are_those_of_pytorchs_hooks(name):
    """With equal weights and statistics: order, inputs, running statistics, and the logits at the end."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    class Block(torch.nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.first = torch.nn.Conv2d(before, after, 3, stride, 1, bias=False)
            self.second = torch.nn.Conv2d(after, after, 3, 1, 1, bias=False)
            self.norms = torch.nn.ModuleList([torch.nn.BatchNorm2d(after), torch.nn.BatchNorm2d(after)])
            self.around = torch.nn.Identity()
            if before != after:
                way = torch.nn.Conv2d(before, after, 1, stride, bias=False)
                self.around = torch.nn.Sequential(way, torch.nn.BatchNorm2d(after))

        def forward(self, x):
            out = functional.relu(self.norms[0](self.first(x)))
            return functional.relu(self.norms[1](self.second(out)) + self.around(x))

    width, blocks = 8, {"resnet10": 1, "resnet18": 2}[name]
    widths = [width, *(width * 2**stage for stage in range(4) for _ in range(blocks))]
    strides = [2 if stage and not block else 1 for stage in range(4) for block in range(blocks)]
    peer = torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 3, 1, 1, bias=False),
        torch.nn.BatchNorm2d(width),
        torch.nn.ReLU(),
        *(Block(*sizes, stride) for *sizes, stride in zip(widths[:-1], widths[1:], strides, strict=True)),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * width, 10),
    )
    network = models.build(name, (32, 32, 3), 10, width=width)
    theta, stats = jax.jit(network.init)(jax.random.key(0))
    noise = jax.random.split(jax.random.key(1), 1000)
    theta = jax.tree.map(lambda leaf, i: leaf + 0.05 * jax.random.normal(noise[i], leaf.shape), theta, _numbers(theta))
    images = jax.random.normal(jax.random.key(2), (6, 32, 32, 3))
    _, stats = jax.jit(lambda stats: network.apply(theta, images[::-1] + 1, stats, mode="train"))(stats)
    logits, norms = jax.jit(network.norms)(theta, images, stats)

    def put(target, leaf):
        target.data.copy_(torch.tensor(np.array(leaf)))

    def copy(conv, norm, place):
        put(conv.weight, theta[f"conv_{place}"]["kernel"].transpose(3, 2, 0, 1))
        put(norm.weight, theta[f"norm_{place}"]["scale"])
        put(norm.bias, theta[f"norm_{place}"]["bias"])
        put(norm.running_mean, stats["batch_stats"][f"norm_{place}"]["mean"])
        put(norm.running_var, stats["batch_stats"][f"norm_{place}"]["var"])

    copy(peer[0], peer[1], "stem")
    for number, block in enumerate(module for module in peer if isinstance(module, Block)):
        place = f"{number // blocks}_{number % blocks}"
        copy(block.first, block.norms[0], f"{place}_0")
        copy(block.second, block.norms[1], f"{place}_1")
        if isinstance(block.around, torch.nn.Sequential):
            copy(*block.around, f"{place}_around")
    put(peer[-1].weight, theta["head"]["kernel"].T)
    put(peer[-1].bias, theta["head"]["bias"])
    seen = []

    def look(module, inputs, output):
        (x,) = inputs
        moments = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False), module.running_mean, module.running_var
        seen.append([moment.numpy() for moment in moments])

    for module in peer.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(look)
    with torch.no_grad():
        theirs = peer.eval()(torch.tensor(np.array(images.transpose(0, 3, 1, 2))))
    ours = [[*map(np.asarray, (*batch, *running))] for batch, running in zip(norms.batch, norms.running, strict=True)]
    assert len(ours) == len(seen)
    for mine, other in zip(ours, seen, strict=True):
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
    np.testing.assert_allclose(logits, theirs.numpy(), rtol=0, atol=1e-5 * np.abs(theirs.numpy()).max())


def _numbers(tree):
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, range(len(leaves)))
