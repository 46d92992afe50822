"""The matching family: gradients, distributions and attention, class by class."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdd
from jaxdd import data, losses, methods, models
from jaxdd.errors import JaxddError
from jaxdd.methods import DC, DM, Classes, Matching, match_gradients, match_layers
from jaxdd.types import Batch, Labels, RealData

MODEL, SHALLOW = "convnet(width=4, depth=2)", "convnet(width=4, depth=1)"  # compiled in half the time
SMALL = {
    "dc": {"model": SHALLOW, "epochs": 3, "matching_steps": 2, "network_batch": 8},
    "dsa": {"model": SHALLOW, "epochs": 2, "matching_steps": 2},
    "idc": {"model": SHALLOW, "distance": "l1", "network_examples": 20, "network_batch": 10, "matching_steps": 2},
    "dm": {},
    "cafe": {"query": 20, "max_epochs": 3, "window": 2},
    "datadam": {},
    "ncfm": {"networks": 2, "network_steps": 5, "network_batch": 16, "frequencies": 64},
}
COMMON = {"ipc": 3, "model": MODEL, "target_per_class": 8, "target_block": 3}  # which does not divide


@pytest.fixture(scope="module")
def real():
    """Four classes of MNIST at half its size."""
    dataset = data.load("mnist_5k")
    transform = data.fit_transform("standardize", dataset.train.pixels())
    whole = data.real_data(dataset.train, transform, 10)
    few = np.flatnonzero(np.asarray(whole.labels.values) < 4)[::3]
    return RealData(whole.images[few, ::2, ::2], Labels.index(np.asarray(whole.labels.values)[few], 4))


@pytest.fixture(scope="module")
def classes(real):
    chosen = data.class_sampler(11)(jax.random.key(3), real.labels)
    images = real.images[chosen].reshape(4, 11, *real.images.shape[1:])
    return Classes(images[:, :3], images[:, 3:])


@pytest.fixture(scope="module")
def network():
    return models.build(SHALLOW, (14, 14, 1), 4)


def build(name, **options):
    return methods.build(name, **{**COMMON, **SMALL[name], **options})


def run(real, name, steps, **options):
    return jaxdd.run(build(name, **options), real, steps=steps, log_every=1, devices=jax.devices()[:1], progress=False)


def cosine_by_hand(of_real, of_synthetic):
    """DC's distance, layer by layer and unit by unit."""
    total = 0.0
    for a, b in zip(jax.tree.leaves(of_real), jax.tree.leaves(of_synthetic), strict=True):
        if a.ndim > 1:
            for i in range(a.shape[-1]):
                x, y = a[..., i].ravel(), b[..., i].ravel()
                total += 1 - x @ y / (jnp.linalg.norm(x) * jnp.linalg.norm(y) + 1e-6)
    return total


def test_gradient_matching_is_that_of_a_loop_over_classes(classes, network):
    start = network.init(jax.random.key(0))

    def gradient(images, label):
        def loss(theta):
            logits, _ = network.apply(theta, images, start[1], train=True)
            return -jax.nn.log_softmax(logits)[:, label].mean()

        return jax.grad(loss)(start[0])

    def by_hand(images):
        return sum(cosine_by_hand(gradient(classes.real[c], c), gradient(images[c], c)) for c in range(4))

    expected = jax.jit(jax.value_and_grad(by_hand))(classes.images)
    for side_by_side in (1, None):
        config = Matching(target_per_class=8, target_block=4, classes_per_batch=side_by_side)
        match = match_gradients(config, losses.gradient_matching)
        loss, slopes = jax.jit(lambda key, match=match: match(network, start, classes, key))(jax.random.key(1))
        np.testing.assert_allclose(loss, expected[0], rtol=1e-4)
        np.testing.assert_allclose(slopes, expected[1], atol=1e-4 * np.abs(expected[1]).max())


def test_distribution_matching_is_that_of_a_loop_over_classes(classes, network):
    start = network.init(jax.random.key(0))

    def by_hand(images):
        total = 0.0
        for c in range(4):
            f, g = (network.features(start[0], x[c], start[1])[0].mean(0) for x in (classes.real, images))
            total += jnp.sum((f - g) ** 2)
        return total

    expected = jax.value_and_grad(by_hand)(classes.images)
    for block in (None, 3):
        config = DM(target_per_class=8, target_block=block, augmentation="none")
        match = match_layers(
            config,
            lambda layers: layers[-2],
            lambda real, synthetic, key: jax.vmap(losses.mean_feature_matching)(real, synthetic).sum(),
        )
        loss, slopes = jax.jit(lambda key, match=match: match(network, start, classes, key))(jax.random.key(1))
        np.testing.assert_allclose(loss, expected[0], rtol=1e-4)
        np.testing.assert_allclose(slopes, expected[1], atol=1e-4 * np.abs(expected[1]).max())


def test_siamese_both_sides_are_augmented_alike(classes, network):
    """What is equal stays so, whatever the augmentation; with another draw for each side it would not."""
    start = network.init(jax.random.key(0))
    same = Classes(classes.real, classes.real)
    config = DC(augmentation="color_crop_cutout_flip_scale_rotate", target_block=None)
    matches = [
        match_gradients(config, lambda a, b: losses.gradient_matching(a, b, distance="mse")),
        match_layers(
            config,
            lambda layers: layers,
            lambda a, b, key: sum(jnp.abs(x - y).sum() for x, y in zip(a, b, strict=True)),
        ),
    ]
    for match in matches:
        step = jax.jit(lambda key, classes, match=match: match(network, start, classes, key)[0])
        for seed in range(3):
            assert step(jax.random.key(seed), same) < 1e-3 * step(
                jax.random.key(seed), classes._replace(images=2.0 * same.images)
            )


@pytest.mark.parametrize("name", SMALL)
def test_what_it_minimises_falls(name, real):
    rates = {"idc": 0.3, "dm": 1.0, "datadam": 1.0, "cafe": 1e-3, "ncfm": 0.01}
    outcome = run(real, name, 40, learning_rate=rates.get(name, 0.1))
    seen = [row["loss"] for row in outcome.history]
    assert np.mean(seen[-10:]) < 0.95 * np.mean(seen[:10])
    images = outcome.distilled.images
    assert images.shape == ((48 if name in ("idc", "ncfm") else 12), 14, 14, 1)
    np.testing.assert_array_equal(outcome.distilled.labels, np.repeat(np.arange(4), len(images) // 4))
    assert outcome.distilled.label_regime == "hard"


def test_dc_trains_its_network_on_the_set_and_renews_it(real):
    method = build("dc", matching_steps=3)
    state = method.init(jax.random.key(0), real)
    update = jax.jit(method.update)
    chosen = method.sample(jax.random.key(1), real.labels)
    batch = Batch(real.images[chosen], real.labels.values[chosen])
    ages, heads = [], []
    for step in range(6):
        state, _ = update(jax.random.fold_in(jax.random.key(2), step), state, batch)
        ages.append(int(state.networks.age[0]))
        heads.append(np.asarray(state.networks.theta["head"]["kernel"]))
    assert ages == [6, 12, 0, 6, 12, 0]  # three epochs of two batches of 6 (at most 8) after each match but the last
    assert not np.array_equal(heads[2], heads[5])


def test_dc_takes_the_plain_steps_of_gradient_descent(real, network):
    method = build("dc", matching_steps=2, epochs=2, network_batch=256)
    state = method.init(jax.random.key(0), real)
    chosen = method.sample(jax.random.key(1), real.labels)
    after, _ = method.update(jax.random.key(2), state, Batch(real.images[chosen], real.labels.values[chosen]))
    theta, stats = jax.tree.map(lambda leaf: leaf[0], (state.networks.theta, state.networks.stats))
    labels = np.repeat(np.arange(4), 3)
    for _ in range(2):
        grads = jax.grad(
            lambda theta: losses.cross_entropy(network.apply(theta, after.params["images"], stats)[0], labels).mean()
        )(theta)
        theta = jax.tree.map(lambda leaf, g: leaf - 0.01 * g, theta, grads)
    got = jax.tree.map(lambda leaf: leaf[0], after.networks.theta)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(theta), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(("ipc", "ages"), [(1, [0, 0]), (10, [50, 100]), (12, [50, 100])])
def test_dc_has_the_published_loops_and_takes_any_ipc(real, ipc, ages):
    method = methods.build("dc", ipc=ipc, model="mlp(width=4)", target_per_class=4)
    state = method.init(jax.random.key(0), real)
    chosen = method.sample(jax.random.key(1), real.labels)
    batch = Batch(real.images[chosen], real.labels.values[chosen])
    seen = []
    for step in range(2):
        state, _ = jax.jit(method.update)(jax.random.key(step), state, batch)
        seen.append(int(state.networks.age[0]))
    assert seen == ages


def test_idc_stays_within_the_range_of_pixels_and_learns_on_real_data(real, network):
    method = build("idc", learning_rate=100.0, matching_steps=20, network_examples=100)
    before = method.init(jax.random.split(jax.random.key(0), 3)[0], real).networks
    after = jaxdd.run(method, real, steps=5, devices=jax.devices()[:1], progress=False).state
    images = after.params["images"]
    assert images.min() == real.images.min() and images.max() == real.images.max()  # clipped, at such a rate
    assert int(after.networks.age[0]) == 50  # ten steps an epoch

    def loss(slots):
        logits, _ = network.apply(jax.tree.map(lambda leaf: leaf[0], slots.theta), real.images, {})
        return losses.cross_entropy(logits, real.labels.values).mean()

    assert loss(after.networks) < 0.7 * loss(before)


def test_cafe_renews_a_network_whose_accuracy_has_settled(real):
    def heads(**options):
        method = build("cafe", **options)
        state = method.init(jax.random.key(0), real)
        seen = []
        for step in range(4):
            chosen = method.sample(jax.random.key(step), real.labels)
            batch = Batch(real.images[chosen], real.labels.values[chosen])
            state, _ = method.update(jax.random.key(step), state, batch)
            seen.append((np.asarray(state.networks.theta["head"]["kernel"]), float(state.networks.accuracies[0])))
        return seen

    always, never = heads(renewal=2.0), heads(renewal=0.0)
    # The window of two accuracies is full after the second update.
    assert [seen for _, seen in always] == [-1.0, -1.0, -1.0, -1.0] and never[-1][1] >= 0
    steps = [np.abs(b - a).max() for (a, _), (b, _) in itertools.pairwise(never)]
    assert 0 < max(steps) < np.abs(always[1][0] - always[0][0]).max()


def datadam_by_hand(layers, real, synthetic, key):
    total = 0.0
    for c in range(4):
        (*maps, features, _), (*others, their_features, _) = (layers(x[c]) for x in (real, synthetic))
        for a, b in zip(maps[:-1], others[:-1], strict=True):
            attention = [np.abs(m).sum(-1).reshape(len(m), -1) for m in (a, b)]
            attention = [(m / np.linalg.norm(m, axis=1, keepdims=True)).mean(0) for m in attention]
            total += 100 * ((attention[0] - attention[1]) ** 2).sum()
        total += 100 * 0.01 * ((features.mean(0) - their_features.mean(0)) ** 2).sum()
    return total


def cafe_by_hand(layers, real, synthetic, key):
    total, seen = 0.0, [[layers(x[c]) for c in range(4)] for x in (real, synthetic)]
    for ours, theirs in zip(*seen, strict=True):
        for weight, a, b in zip((0.1, 1.0, 1.0 + 1.0), ours[:-1], theirs[:-1], strict=True):
            total += weight * ((a.mean(0) - b.mean(0)) ** 2).sum()
    centres = np.stack([theirs[-2].mean(0) for theirs in seen[1]])
    for c, ours in enumerate(seen[0]):
        scores = ours[-2] @ centres.T
        total -= 0.01 * (scores[:, c] - np.log(np.exp(scores - scores.max()).sum(1)) - scores.max()).sum()
    return total


def ncfm_by_hand(layers, real, synthetic, key):
    total = 0.0
    t = np.asarray(jax.random.normal(jax.random.split(jax.random.split(key)[0])[1], (64, layers(real[0])[-2].shape[1])))
    for c in range(4):
        f, g = (layers(x[c])[-2] for x in (real, synthetic))
        p, q = (np.exp(1j * (y / np.linalg.norm(y, axis=1, keepdims=True)) @ t.T).mean(0) for y in (f, g))
        phase = 2 * (np.abs(p) * np.abs(q) - p.real * q.real - p.imag * q.imag)
        total += 300 * np.sqrt(0.5 * (np.abs(p) - np.abs(q)) ** 2 + 0.5 * phase).mean()
        logits = layers(synthetic[c])[-1]
        total += (np.log(np.exp(logits).sum(1)) - logits[:, c]).mean()
    return total


@pytest.mark.parametrize("name", ["datadam", "cafe", "ncfm"])
def test_the_loss_of_an_update_is_that_of_the_formula(name, real):
    method = (
        build(name, augmentation="none", factor=1, networks=1) if name == "ncfm" else build(name, augmentation="none")
    )
    network = models.build(MODEL, (14, 14, 1), 4)
    state = method.init(jax.random.key(0), real)
    key = jax.random.key(1)
    key_start, key_match, _ = jax.random.split(key, 3)
    if name == "datadam":
        theta, stats = network.init(key_start)
    elif name == "cafe":
        theta, stats = state.networks.theta, state.networks.stats
    else:  # both ends are the same network, so that every place between them is
        theta, stats = jax.tree.map(lambda leaf: leaf[0], state.networks[1])
        state = state._replace(networks=(state.networks[1], state.networks[1]))
    chosen = method.sample(jax.random.key(2), real.labels)
    batch = Batch(real.images[chosen], real.labels.values[chosen])
    images = [np.asarray(x).reshape(4, -1, 14, 14, 1) for x in (batch.images[:32], state.params["images"])]

    def layers(images):
        return [np.asarray(layer, np.float64) for layer in network.layers(theta, images, stats, train=True)[0]]

    expected = {"datadam": datadam_by_hand, "cafe": cafe_by_hand, "ncfm": ncfm_by_hand}[name](
        layers, *images, key_match
    )
    _, metrics = jax.jit(method.update)(key, state, batch)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-3)


def test_ncfm_trains_its_networks_at_the_start(real, network):
    state = build("ncfm", model=SHALLOW, network_steps=60, networks=1).init(jax.random.key(0), real)
    (first, _), (trained, _) = jax.tree.map(lambda leaf: leaf[0], state.networks)

    def loss(theta):
        return losses.cross_entropy(network.apply(theta, real.images, {})[0], real.labels.values).mean()

    assert loss(trained) < 0.5 * loss(first)


@pytest.mark.parametrize("name", ["dsa", "cafe"])
def test_resumed_it_is_the_same_bit_for_bit(name, real, tmp_path):
    options = {"devices": jax.devices()[:1], "progress": False}
    method = build(name)
    whole = jaxdd.run(method, real, steps=5, **options)
    jaxdd.run(method, real, steps=2, workdir=tmp_path, checkpoint_seconds=0.0, **options)
    resumed = jaxdd.run(method, real, steps=5, workdir=tmp_path, resume=True, **options)
    assert resumed.resumed_from == 2
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_network_without_layers_is_one_sentence(real):
    theta = {"kernel": jnp.zeros((196, 4))}
    plain = models.from_functions(lambda key: theta, lambda theta, x: x.reshape(len(x), -1) @ theta["kernel"])
    method = methods.build("dm", model=plain, target_per_class=4)
    with pytest.raises(JaxddError, match="does not say what its layers are"):
        jaxdd.run(method, real, steps=1, progress=False)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("dc", {"ipc": 0}, "ipc of DC must be at least 1"),
        ("dc", {"matching_steps": 0}, "matching_steps"),
        ("dsa", {"augmentation": "colour_crop"}, "did you mean 'color'"),
        ("dm", {"target_per_class": 0}, "target_per_class"),
        ("dm", {"precision": "half"}, "precision"),
        ("datadam", {"exponent": 0.0}, "exponent"),
        ("idc", {"distance": "cosine"}, "l1, mse"),
        ("idc", {"network_examples": 5, "network_batch": 10}, "network_examples"),
        ("cafe", {"window": 1}, "window"),
        ("ncfm", {"amplitude_weight": 1.5}, "amplitude_weight"),
    ],
)
def test_bad_hyper_parameters(name, options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build(name, **options)
