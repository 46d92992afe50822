import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.errors import JaxddError
from jaxdd.models.zoo import layers


def count(theta):
    return sum(leaf.size for leaf in jax.tree.leaves(theta))


@pytest.mark.parametrize(
    ("name", "image_shape", "classes", "options", "parameters"),
    [
        ("convnet", (28, 28, 1), 10, {}, 317_706),
        ("convnet", (32, 32, 3), 10, {}, 320_010),
        ("convnet", (32, 32, 3), 100, {}, 504_420),
        ("convnet", (64, 64, 3), 200, {"depth": 4}, 857_160),
        ("convnet", (32, 32, 3), 10, {"norm": "none"}, 320_010 - 3 * 256),
        ("convnet(width=32)", (28, 28, 1), 10, {"depth": 2}, 320 + 64 + 9248 + 64 + 20_490),
        ("lenet", (28, 28, 1), 10, {}, 61_706),
        ("lenet", (32, 32, 3), 10, {}, 62_006),
        ("alexcifarnet", (32, 32, 3), 10, {}, 1_756_426),
        ("resnet18", (32, 32, 3), 10, {"norm": "none"}, 11_173_962 - 9600),
        ("resnet10", (28, 28, 1), 10, {"norm": "instance"}, 4_903_242 - 2 * 9 * 64),
        ("vgg11", (32, 32, 3), 10, {"norm": "none"}, 9_231_114 - 2 * 2752),
        ("mlp", (28, 28, 1), 10, {}, 784 * 128 + 128 + 128 * 128 + 128 + 1290),
    ],
)
def test_parameter_counts(name, image_shape, classes, options, parameters):
    network = models.build(name, image_shape, classes, **options)
    theta, stats = jax.eval_shape(network.init, jax.random.key(0))
    assert count(theta) == parameters
    assert stats == {}
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    logits, _ = jax.eval_shape(network.apply, theta, images, stats)
    assert logits.shape == (2, classes)


@pytest.mark.parametrize(
    ("name", "norms", "parameters"),
    [
        ("resnet10", 12, 4_903_242),
        ("resnet18", 20, 11_173_962),
        ("resnet50", 53, 23_520_842),
        # Idelbayev's, whose weights others use; the paper counts without normalisations.
        ("resnet20", 19, 269_722),
        ("resnet56", 55, 853_018),
        # torchvision's with a head of ten classes.
        ("mobilenet_v2", 52, 3_504_872 - 990 * 1281),
        ("shufflenet_v2", 56, 2_278_604 - 990 * 1025),
        ("shufflenet_v2(width=48)", 56, 1_366_792 - 990 * 1025),
    ],
)
def test_published_networks_have_the_published_parameters(name, norms, parameters):
    theta, stats = jax.eval_shape(models.build(name, (32, 32, 3), 10).init, jax.random.key(0))
    assert count(theta) == parameters
    assert [len(stats["batch_stats"]), len(theta)] == [norms, 2 * norms + 1]


def some_parameters(network, rng):
    """Without the compilation of an initialisation: kernels that keep the size of maps, scales around 1."""

    def leaf(path, shape):
        noise = rng.normal(size=shape.shape).astype(np.float32)
        scaled = noise / np.sqrt(np.prod(shape.shape[:-1])) if len(shape.shape) > 1 else 0.1 * noise
        return scaled + np.float32(path[-1].key in ("scale", "var"))

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(network.init, jax.random.key(0)))


@pytest.mark.parametrize(("norm", "form"), [("batch", "small"), ("group", "small"), ("batch", "large")])
def test_a_residual_network_is_its_definition(norm, form, rng):
    """In float64 by loops; strides, ways around, and the order in which its maps come."""
    shape = (9, 8, 3) if form == "small" else (37, 34, 3)
    network = models.build("resnet10", shape, 5, width=4, norm=norm, form=form)
    theta, stats = some_parameters(network, rng)
    images = rng.normal(size=(3, *shape)).astype(np.float32)

    def normed(x, name, stride=1):
        kernel = np.asarray(theta[f"conv_{name}"]["kernel"], np.float64)
        size = len(kernel)
        x = np.pad(x, ((0, 0), *[(size // 2, size // 2)] * 2, (0, 0)))
        h, w = (x.shape[axis] - size + 1 for axis in (1, 2))
        y = sum(x[:, a : a + h, b : b + w] @ kernel[a, b] for a in range(size) for b in range(size))
        y = y[:, ::stride, ::stride]
        z = y if norm == "batch" else y.reshape(*y.shape[:3], 4, -1)
        over = (0, 1, 2) if norm == "batch" else (1, 2, 4)
        z = (z - z.mean(over, keepdims=True)) / np.sqrt(z.var(over, keepdims=True) + 1e-5)
        scale, bias = (np.asarray(theta[f"norm_{name}"][leaf]) for leaf in ("scale", "bias"))
        return z.reshape(y.shape) * scale + bias

    maps = [np.maximum(normed(np.asarray(images, np.float64), "stem", 1 if form == "small" else 2), 0)]
    if form == "large":
        inside = np.pad(maps[0], ((0, 0), (1, 1), (1, 1), (0, 0)))  # none is negative
        windows = np.lib.stride_tricks.sliding_window_view(inside, (3, 3), (1, 2))
        maps = [windows.max((-2, -1))[:, ::2, ::2]]
    for stage in range(4):
        x, stride = maps[-1], 2 if stage else 1
        maps.append(np.maximum(normed(x, f"{stage}_0_0", stride), 0))
        around = normed(x, f"{stage}_0_around", stride) if stage else x
        maps.append(np.maximum(normed(maps[-1], f"{stage}_0_1") + around, 0))
    features = maps[-1].mean((1, 2))
    logits = features @ np.asarray(theta["head"]["kernel"]) + np.asarray(theta["head"]["bias"])
    found, _ = jax.jit(lambda *args: network.layers(*args, mode="batch"))(theta, images, stats)
    for ours, expected in zip(found, (*maps, features, logits), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3)


def test_class_activation_maps_are_the_last_map_and_the_head(rng):
    network = models.build("resnet10(width=4)", (16, 16, 1), 3)
    theta, stats = some_parameters(network, rng)
    images = rng.normal(size=(2, 16, 16, 1)).astype(np.float32)
    layers = jax.device_get(jax.jit(network.layers)(theta, images, stats)[0])
    activation = layers[-3] @ theta["head"]["kernel"]
    assert activation.shape == (2, 2, 2, 3)
    np.testing.assert_allclose(activation.mean((1, 2)) + theta["head"]["bias"][None], layers[-1], atol=1e-5)


def test_running_statistics_keep_nine_tenths(rng):
    """PyTorch's momentum of 0.1."""
    network = models.build("convnet(width=2, depth=1, norm='batch')", (8, 8, 1), 3)
    images = rng.normal(size=(5, 8, 8, 1)).astype(np.float32)

    @jax.jit
    def seen_and_after(images):
        theta, stats = network.init(jax.random.key(0))
        return network.norms(theta, images, stats)[1].batch, network.apply(theta, images, stats, mode="train")[1]

    (seen,), after = jax.device_get(seen_and_after(images))
    found = after["batch_stats"]["norm_0"]
    np.testing.assert_allclose(found["mean"], 0.1 * seen.mean, rtol=1e-4)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * seen.variance, rtol=1e-5)


def test_initialisation_is_torchs():
    """PyTorch: kaiming_uniform_(a=√5) has bound gain·√(3/fan_in), gain = √(2/(1+a²)); biases U(±1/√fan_in)."""
    theta, _ = jax.jit(models.build("convnet", (32, 32, 3), 10, width=64).init)(jax.random.key(0))
    for layer, fan_in in (("conv_0", 27), ("conv_1", 576), ("head", 1024)):
        bound = np.sqrt(2 / (1 + 5)) * np.sqrt(3 / fan_in)
        for leaf in ("kernel", "bias"):
            values = np.asarray(theta[layer][leaf]).ravel()
            assert np.abs(values).max() <= bound, (layer, leaf)
            assert np.abs(values).max() > 0.85 * bound, (layer, leaf)
        kernel = np.asarray(theta[layer]["kernel"]).ravel()
        error = bound / np.sqrt(3 * kernel.size)
        assert abs(kernel.mean()) < 4 * error
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
    np.testing.assert_array_equal(theta["norm_0"]["scale"], 1)
    np.testing.assert_array_equal(theta["norm_0"]["bias"], 0)


def by_hand(theta, x, groups):
    """ConvNet in NumPy loops, from the definition."""
    for i in range(2):
        kernel, pad = np.asarray(theta[f"conv_{i}"]["kernel"]), 3 if i == 0 and x.shape[-1] == 1 else 1
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        n, h, w = len(x), padded.shape[1] - 2, padded.shape[2] - 2
        y = np.zeros((n, h, w, kernel.shape[-1])) + np.asarray(theta[f"conv_{i}"]["bias"])
        for a in range(3):
            for b in range(3):
                y += padded[:, a : a + h, b : b + w] @ kernel[a, b]
        if groups:
            z = y.reshape(n, h, w, groups, -1)
            z = (z - z.mean((1, 2, 4), keepdims=True)) / np.sqrt(z.var((1, 2, 4), keepdims=True) + 1e-5)
            y = z.reshape(y.shape) * np.asarray(theta[f"norm_{i}"]["scale"]) + np.asarray(theta[f"norm_{i}"]["bias"])
        y = np.maximum(y, 0)[:, : h // 2 * 2, : w // 2 * 2]
        x = y.reshape(n, h // 2, 2, w // 2, 2, -1).mean((2, 4))
    features = x.reshape(len(x), -1)
    return features, features @ np.asarray(theta["head"]["kernel"]) + np.asarray(theta["head"]["bias"])


@pytest.mark.parametrize(("norm", "groups"), [("instance", 8), ("group", 4), ("none", 0)])
@pytest.mark.parametrize("image_shape", [(9, 9, 1), (8, 10, 3)])
def test_convnet_is_its_definition(norm, groups, image_shape, rng):
    network = models.build("convnet", image_shape, 5, depth=2, width=8, norm=norm)
    theta, stats = some_parameters(network, rng)
    images = rng.normal(size=(3, *image_shape)).astype(np.float32)
    features, logits = by_hand(theta, np.asarray(images, np.float64), groups)
    found = jax.jit(lambda *args: (network.features(*args)[0], network.apply(*args)[0]))(theta, images, stats)
    np.testing.assert_allclose(found[0], features, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[1], logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("size", "stride", "pad"), [(2, 2, 0), (3, 2, 1)])
def test_max_pooling_is_its_definition(size, stride, pad):
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-np.inf)
    height, width = ((extent - size) // stride + 1 for extent in padded.shape[1:3])
    expected = np.array(
        [
            [padded[:, stride * i :, stride * j :][:, :size, :size].max((1, 2)) for j in range(width)]
            for i in range(height)
        ]
    )
    found = jax.jit(lambda x: layers.max_pool(x, size, stride, pad))(x)
    np.testing.assert_array_equal(found, expected.transpose(2, 0, 1, 3))


def test_local_response_normalisation_is_its_definition():
    x = 30 * np.random.default_rng(0).normal(size=(2, 1, 2, 7))
    expected = np.empty_like(x)
    for channel in range(7):
        window = x[..., max(0, channel - 2) : channel + 2]  # PyTorch's: two before, one after
        expected[..., channel] = x[..., channel] / (1 + 0.001 / 9 * (window**2).sum(-1) / 4) ** 0.75
    np.testing.assert_allclose(jax.jit(layers.local_response_norm)(np.float32(x)), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["lenet", "alexcifarnet"])
def test_xavier_is_glorots_normal_with_zero_biases(name):
    theta, _ = jax.device_get(jax.jit(models.build(name, (32, 32, 3), 10).init)(jax.random.key(0)))
    for layer in theta.values():
        kernel = np.asarray(layer["kernel"])
        receptive = np.prod(kernel.shape[:-2])
        expected = np.sqrt(2 / (receptive * (kernel.shape[-2] + kernel.shape[-1])))
        assert kernel.std() == pytest.approx(expected, rel=4 / np.sqrt(2 * kernel.size))
        assert not np.any(layer["bias"])


def test_one_channel_28_is_like_32():
    theta, _ = jax.eval_shape(models.build("convnet", (28, 28, 1), 10).init, jax.random.key(0))
    assert theta["head"]["kernel"].shape == (2048, 10)


def test_equal_builds_share_compiled_programs():
    assert models.build("mlp(width=8)", (4, 4, 1), 3) is models.build("mlp", (4, 4, 1), 3, width=8)
    assert models.build("mlp", (4, 4, 1), 3, width=8) is models.build("mlp", (4, 4, 1), 3, width=8)


@pytest.mark.parametrize(
    ("name", "image_shape", "classes", "options", "sentence"),
    [
        ("convnot", (8, 8, 1), 3, {}, "unknown model 'convnot'; did you mean 'convnet'?"),
        ("mlp", (8, 8, 1), 3, {"widht": 3}, "unknown option of model 'mlp' 'widht'; did you mean 'width'?"),
        ("convnet(width=0)", (8, 8, 1), 3, {}, "width of model 'convnet' must be an integer of at least 1, got 0"),
        ("convnet(depth=-1)", (8, 8, 1), 3, {}, "depth of model 'convnet' must be an integer of at least 1, got -1"),
        ("mlp(width='a')", (8, 8, 1), 3, {}, "width of model 'mlp' must be an integer of at least 1, got 'a'"),
        ("mlp(width=True)", (8, 8, 1), 3, {}, "must be an integer of at least 1, got True"),
        ("mlp(**{'width': 3})", (8, 8, 1), 3, {}, "options must be written name=value"),
        ("lenet(initializer=[1])", (8, 8, 1), 3, {}, "initializer of model 'lenet' must be a string, got [1]"),
        ("convnet(norm='group', width=6)", (8, 8, 1), 3, {}, "a width that 4 divides, got 6"),
        ("resnet18(norm='bach')", (8, 8, 1), 3, {}, "did you mean 'batch'?"),
        ("resnet18(form='larg')", (8, 8, 1), 3, {}, "unknown form 'larg'; did you mean 'large'?"),
        ("mlp(widht=3)", (8, 8, 1), 3, {}, "unknown option of model 'mlp' 'widht'; did you mean 'width'?"),
        ("mlp(3)", (8, 8, 1), 3, {}, "must be written name(option=value, ..): options must be written name=value"),
        ("mlp(width=", (8, 8, 1), 3, {}, "must be written name(option=value, ..)"),
        ("mlp(width=open('x'))", (8, 8, 1), 3, {}, "must be written name(option=value, ..)"),
        ("lenet(initializer='tronch')", (8, 8, 1), 3, {}, "did you mean 'torch'?"),
        ("lenet", (8, 8, 1), 3, {}, "give larger images"),
        ("mlp", (8, 8), 3, {}, "a network needs images"),
        ("mlp", (8, 8, 1), 1, {}, "at least 2 classes"),
        ("no.such.module:net", (8, 8, 1), 3, {}, "cannot import 'no.such.module'"),
        ("jaxdd.models:no_such", (8, 8, 1), 3, {}, "has no 'no_such'"),
        ("jaxdd.models:from_nnx", (8, 8, 1), 3, {}, "must take (image_shape, num_classes, **options): too many"),
        ("jaxdd:__version__", (8, 8, 1), 3, {}, "must take (image_shape, num_classes, **options)"),
    ],
)
def test_bad_requests(name, image_shape, classes, options, sentence):
    with pytest.raises(JaxddError) as caught:
        jax.eval_shape(models.build(name, image_shape, classes, **options).init, jax.random.key(0))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("options", "image_shape", "sentence"),
    [({"norm": "instant"}, (8, 8, 1), "did you mean 'instance'"), ({"depth": 5}, (8, 8, 3), "too deep for its images")],
)
def test_impossible_convnets(options, image_shape, sentence):
    with pytest.raises(JaxddError, match=sentence):
        jax.eval_shape(models.build("convnet", image_shape, 3, width=4, **options).init, jax.random.key(0))


def test_available_names_build():
    for name, description in models.available().items():
        assert description and models.build(name, (28, 28, 1), 10).apply


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("mobilenet_v2", 3_504_872),
        ("shufflenet_v2", 2_278_604),
        ("shufflenet_v2(width=48)", 1_366_792),
    ],
)
def test_the_forms_for_large_images_are_those_of_imagenet(name, parameters):
    """As many parameters as torchvision's, and maps of 7 by 7 at the end."""
    network = models.build(name, (224, 224, 3), 1000, form="large")
    theta, stats = jax.eval_shape(network.init, jax.random.key(0))
    assert count(theta) == parameters
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    layers, _ = jax.eval_shape(network.layers, theta, images, stats)
    assert layers[-3].shape[1:3] == (7, 7)


def test_options_are_put_into_a_name():
    assert models.with_options("resnet18", form="large") == "resnet18(form='large')"
    name = models.with_options("convnet(width=8, norm='batch')", width=4, depth=1)
    assert models.options_of(name) == ("convnet", models.options_of("convnet(width=4, depth=1, norm='batch')")[1])
    with pytest.raises(JaxddError, match="must be written name"):
        models.with_options("mlp(3)", depth=1)


@pytest.mark.endurance
def test_small_images_keep_some_pixels():
    """The last maps of 32 by 32, and of 28 by 28, pixels."""
    sizes = {"vgg11": (2, 1), "mobilenet_v2": (4, 4), "shufflenet_v2": (4, 4), "resnet20": (8, 7), "resnet50": (4, 4)}
    for name, expected in sizes.items():
        for size, side in zip((32, 28), expected, strict=True):
            network = models.build(name, (size, size, 3), 10)
            theta, stats = jax.eval_shape(network.init, jax.random.key(0))
            images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
            layers, _ = jax.eval_shape(network.layers, theta, images, stats)
            assert layers[-3].shape[1:3] == (side, side), name


def test_a_way_around_without_parameters_skips_pixels_and_pads_channels(rng):
    network = models.build("resnet8(width=2)", (8, 8, 3), 4)
    theta, stats = some_parameters(network, rng)
    for stage in range(3):  # nothing comes of the blocks themselves
        theta[f"norm_{stage}_0_1"] = jax.tree.map(np.zeros_like, theta[f"norm_{stage}_0_1"])
    layers, _ = jax.jit(network.layers)(theta, rng.normal(size=(2, 8, 8, 3)).astype(np.float32), stats)
    expected = np.pad(np.asarray(layers[0])[:, ::4, ::4], ((0, 0), (0, 0), (0, 0), (3, 3)))
    np.testing.assert_allclose(layers[-3], expected, atol=1e-6)


def test_halves_of_channels_are_shuffled(rng):
    network = models.build("shufflenet_v2(width=4, stem=2, last=3)", (8, 8, 3), 4)
    theta, stats = some_parameters(network, rng)
    theta = {name: jax.tree.map(np.zeros_like, leaf) if name == "norm_2_3_1" else leaf for name, leaf in theta.items()}
    theta["conv_last"] = {"kernel": np.zeros_like(theta["conv_last"]["kernel"])}
    theta["conv_last"]["kernel"][0, 0, 1::2] = 1.0  # of the last block what it saw, and that is nothing
    theta["norm_last"], stats = jax.tree.map(np.zeros_like, theta["norm_last"]), stats
    theta["norm_last"]["scale"] += 1
    stats["batch_stats"]["norm_last"] = jax.tree.map(np.zeros_like, stats["batch_stats"]["norm_last"])
    layers, _ = jax.jit(network.layers)(theta, rng.normal(size=(2, 8, 8, 3)).astype(np.float32), stats)
    np.testing.assert_array_equal(layers[-3], 0)
