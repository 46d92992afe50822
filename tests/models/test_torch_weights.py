"""PyTorch's weights: arrays of its names and layouts, and two published networks."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import data, models
from jaxdd.errors import JaxddError
from jaxdd.types import leaves_by_path

MODEL, SHAPE = "resnet8(width=2)", (8, 8, 3)
ORDER = [("stem", "conv1", "bn1")] + [
    (f"{stage}_0_{k}", f"layer{stage + 1}.0.conv{k + 1}", f"layer{stage + 1}.0.bn{k + 1}")
    for stage in range(3)
    for k in range(2)
]


@pytest.fixture(scope="module")
def state():
    return jax.jit(models.build(MODEL, SHAPE, 4).init)(jax.random.key(0))


@pytest.fixture
def arrays(state):
    """As PyTorch has them."""
    theta, stats = state
    found = {}
    for own, conv, norm in ORDER:
        found[f"{conv}.weight"] = np.asarray(theta[f"conv_{own}"]["kernel"]).transpose(3, 2, 0, 1)
        found[f"{norm}.weight"], found[f"{norm}.bias"] = (theta[f"norm_{own}"][leaf] for leaf in ("scale", "bias"))
        running = stats["batch_stats"][f"norm_{own}"]
        found[f"{norm}.running_mean"], found[f"{norm}.running_var"] = running["mean"], running["var"]
        found[f"{norm}.num_batches_tracked"] = np.int64(7)
    found["linear.weight"], found["linear.bias"] = np.asarray(theta["head"]["kernel"]).T, theta["head"]["bias"]
    return {name: np.asarray(value) for name, value in found.items()}


def assert_equal(found, state):
    for ours, theirs in zip(found, state, strict=True):
        theirs = leaves_by_path(theirs)
        assert {name: leaf.dtype for name, leaf in leaves_by_path(ours).items()} == {
            name: leaf.dtype for name, leaf in theirs.items()
        }
        for name, leaf in leaves_by_path(ours).items():
            np.testing.assert_array_equal(leaf, theirs[name], err_msg=name)


def test_layers_are_paired_in_order(arrays, state):
    assert_equal(models.from_torch(arrays, MODEL, SHAPE, 4), state)


def test_names_pair_what_comes_in_another_order(arrays, state):
    turned = dict(reversed(arrays.items()))
    names = {f"conv_{own}": conv for own, conv, _ in ORDER} | {f"norm_{own}": norm for own, _, norm in ORDER}
    assert_equal(models.from_torch(turned, MODEL, SHAPE, 4, names=names), state)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"linear.bias": None}, "there is nothing for 1 arrays of the network, params/head/bias for one"),
        ({"layer2.0.bn1.running_var": None}, "there is nothing for 1 .* batch_stats/norm_1_0_0/var"),
        ({"extra.weight": np.zeros((1, 1, 1, 1))}, "the network has 7 convolutions and the arrays are of 8"),
        ({"linear.weight": np.zeros((5, 8))}, r"linear.weight becomes \(8, 5\), but the network's head is .* \(8, 4\)"),
        ({"bn1.slope": np.zeros(2)}, "bn1.slope becomes .* of no such field"),
        ({"linear.slope": np.zeros(4)}, "linear.slope becomes .* of no such field"),
    ],
)
def test_what_does_not_fit_is_named(arrays, change, sentence):
    changed = {name: value for name, value in {**arrays, **change}.items() if value is not None}
    with pytest.raises(JaxddError, match=sentence):
        models.from_torch(changed, MODEL, SHAPE, 4)
    with pytest.raises(JaxddError, match="names pair 'conv_stim' with 'conv1', of which one is not there"):
        models.from_torch(arrays, MODEL, SHAPE, 4, names={"conv_stim": "conv1"})


@pytest.mark.endurance
@pytest.mark.parametrize(("name", "accuracy"), [("resnet20", 0.9173), ("resnet56", 0.9339)])
def test_published_weights_are_as_accurate_as_published(name, accuracy):
    path = pathlib.Path(os.environ.get("JAXDD_DATA_DIR", "")) / "weights" / f"cifar10_{name}.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    network, test = models.build(name, (32, 32, 3), 10), data.load("cifar10").test
    state = models.from_torch(dict(np.load(path)), name, (32, 32, 3), 10)
    of = jax.jit(lambda images: network.apply(state.theta, images, state.stats)[0].argmax(1))
    images = data.Standardize.published("imagenet", 3).apply(test.pixels()).reshape(20, -1, 32, 32, 3)
    found = np.concatenate([of(jnp.asarray(some)) for some in images])
    assert (found == np.asarray(test.labels)).mean() == pytest.approx(accuracy, abs=1e-4)
