"""Dataset Quantization: what is chosen, what is stored of it, and what fills it in."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from jaxdd import data, engine, methods, models, training
from jaxdd.errors import JaxddError
from jaxdd.methods.selected.dq import DQ, chosen
from jaxdd.selection import LastLayer, Patches, bins, drop_patches, patch_scores, scores
from jaxdd.selection.patches import as_patches, from_patches
from jaxdd.synthetic import DistilledDataset, Inpainter, filled, patch_cost
from jaxdd.types import Labels, RealData, Spec, bound

MODEL = "convnet(width=4, depth=2)"
TINY = {
    "ipc": 6, "bins": 3, "patch": 7, "drop": 0.25, "model": MODEL, "network_epochs": 1, "network_batch": 32,
    "network_augmentation": "none", "inpainter_width": 5, "inpainter_batch": 20,
}  # fmt: skip
SHAPE = (14, 14, 1)


@pytest.fixture(scope="module")
def provided(digits):
    return engine.provide(methods.dq(**TINY), digits, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def found(digits):
    return toys.updates(methods.dq(**TINY), digits, count=2)


def test_what_is_chosen_is_evenly_of_bins_of_last_layer_gradients(digits, provided, found):
    state, labels = provided.assets["network"], np.asarray(digits.labels.values)
    network = models.build(MODEL, SHAPE, 4)
    key = jax.random.split(jax.random.split(jax.random.key(0))[0])[0]

    @jax.jit
    def look(digits):
        features = network.features(state.theta, digits.images, state.stats)[0]
        logits = network.apply(state.theta, digits.images, state.stats)[0]
        rows = chosen(DQ(**TINY), network, state, digits, key)
        saliency = scores.grad_cam(network, state.theta, state.stats, digits.images[rows])
        gradients = LastLayer.of(features, logits, digits.labels.values).gradients()
        return rows, gradients, drop_patches(digits.images[rows], patch_scores(saliency, 7), 7, 0.25)

    rows, gradients, expected = jax.tree.map(np.asarray, look(digits))
    assert len(set(rows.tolist())) == 24 and labels[rows].tolist() == np.repeat(np.arange(4), 6).tolist()
    for c in range(4):
        members = np.flatnonzero(labels == c)
        numbers = dict(zip(members.tolist(), np.asarray(bins.graph_cut_bins(gradients[members], 3)), strict=True))
        assert sorted(numbers[row] for row in rows[6 * c : 6 * c + 6].tolist()) == [0, 0, 1, 1, 2, 2]
    first = found[0].before
    assert first.labels.tolist() == labels[rows].tolist()
    np.testing.assert_array_equal(first.patches.dropped, expected.dropped)
    np.testing.assert_allclose(first.patches.kept, expected.kept, rtol=1e-6)
    np.testing.assert_array_equal(found[1].after.patches.kept, first.patches.kept)  # updates leave them alone


def plain_guess(theta, patches, dropped):
    """Of 2x2 patches: each from the three others."""
    out, there = np.zeros_like(patches), 1.0 - dropped
    for n, i in np.ndindex(dropped.shape):
        y, x = divmod(i, 2)
        seen = []
        for dy, dx in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)):
            j = 2 * (y + dy) + x + dx
            inside = 0 <= y + dy < 2 and 0 <= x + dx < 2 and there[n, j] > 0
            seen += [*patches[n, j], 1.0] if inside else [0.0] * (patches.shape[2] + 1)
        hidden = np.maximum(np.array(seen) @ theta["hidden_kernel"] + theta["hidden_bias"], 0)
        out[n, i] = hidden @ theta["out_kernel"] + theta["out_bias"]
    return out


def test_two_updates_by_hand(found):
    """The error of guesses where patches were dropped by chance, and Adam."""
    theta = found[0].before.inpainter.network.theta
    optimizer = optax.adam(3e-3)
    kept = optimizer.init(theta)

    @jax.jit
    @jax.grad
    def slope(theta, patches, dropped):
        of_all = Inpainter(7, 1, 5).apply(theta, patches, dropped, (2, 2))
        return jnp.mean(jnp.square(of_all - patches)[jnp.nonzero(dropped, size=20)])

    for update in found:
        patches = as_patches(update.batch.images, 7)
        dropped = jax.random.uniform(update.key, (20, 4)).argsort(1).argsort(1) < 1
        numbers = jax.tree.map(lambda leaf: np.asarray(leaf, float), theta)
        guess = plain_guess(numbers, np.asarray(patches, float), np.asarray(dropped))
        error = (guess - np.asarray(patches))[np.asarray(dropped)]
        np.testing.assert_allclose(update.metrics["loss"], np.mean(error**2), rtol=1e-4)

        step, kept = optimizer.update(slope(theta, patches, dropped), kept)
        theta = optax.apply_updates(theta, step)
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5),
            theta,
            update.after.inpainter.network.theta,
        )


@pytest.fixture(scope="module")
def product(found, digits):
    return jax.jit(bound(methods.dq(**TINY), digits).product)(found[1].after)


def test_the_set_is_its_kept_patches_and_guesses_and_its_bits_are_counted(found, product, tmp_path):
    state = found[1].after
    theta = jax.tree.map(np.asarray, state.inpainter.network.theta)
    dropped = np.asarray(state.patches.dropped)
    kept = np.zeros((24, 4, 49), np.float32)
    kept[~dropped] = np.asarray(state.patches.kept).reshape(-1, 49)
    expected = np.where(dropped[..., None], plain_guess(theta, kept, dropped), kept)
    expected = np.asarray(from_patches(jnp.asarray(expected), SHAPE, 7))
    np.testing.assert_allclose(product.images, expected, rtol=1e-4, atol=1e-5)
    of_inpainter = 32 * (8 * 50 * 5 + 5 + 5 * 49 + 49)
    of_images = 32 * 24 * 3 * 49 + 24 * 4 + of_inpainter
    assert product.cost.images == of_images and product.cost.labels == 24 * 2
    assert patch_cost(dict(product.params), 48)[1] == of_inpainter
    file = DistilledDataset.create(product, data.Identity(), {})
    file.write(tmp_path / "set.safetensors")
    read = DistilledDataset.read(tmp_path / "set.safetensors").distilled()
    np.testing.assert_allclose(read.images, product.images, rtol=1e-6)
    assert read.decoder == "patches" and read.num_bits == product.num_bits and read.label_convention == "hard"
    again = filled(
        Patches(read.params["patches"], read.params["dropped"]),
        Inpainter(7, 1, 5),
        {name.partition("/")[2]: leaf for name, leaf in read.params.items() if "/" in name},
        SHAPE,
    )
    np.testing.assert_allclose(again, product.images, rtol=1e-5, atol=1e-6)


def test_without_dropped_patches_it_is_real_images(digits):
    recipe = methods.dq(**{**TINY, "by": "pixels", "drop": 0.0, "adaptive": True})
    method = bound(recipe, digits)
    assert not recipe.stages(Spec.of(digits))
    made = jax.jit(lambda key, real: method.product(method.init(key, real)))(jax.random.key(0), digits)
    real = {image.tobytes() for image in np.asarray(digits.images)}
    assert len({image.tobytes() for image in np.asarray(made.images)} & real) == 24
    assert list(made.params) == ["patches"] and made.cost.images == 32 * 24 * 14 * 14


@pytest.mark.endurance
def test_the_inpainter_learns_what_is_around(digits):
    """Images that are one grey everywhere can be filled in from any neighbour."""
    grey = np.random.default_rng(0).uniform(-1, 1, (64, 1, 1, 1)).astype(np.float32)
    images = jnp.asarray(np.broadcast_to(grey, (64, 14, 14, 1)))
    real = RealData.of(images, Labels.index(np.zeros(64, int)))
    recipe = training.inpainting(7, optax.adam(1e-2), batch_size=64, width=16)
    trained = engine.run(recipe, real, steps=150, progress=False, devices=jax.devices()[:1])
    patches = drop_patches(images, np.tile([3, 0, 1, 2], (64, 1)), 7, 0.25)
    whole = filled(patches, Inpainter(7, 1, 16), trained.product.theta, SHAPE)
    assert float(jnp.mean(jnp.square(whole - images))) < 0.02 * float(jnp.var(images))


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"ipc": 5000}, "at least 5000"), ({"patch": 4}, "cannot be cut"), ({"drop": 0.9}, "leaves none")],
)
def test_what_the_data_do_not_have_is_said_before_anything_is_computed(fields, words, digits):
    with pytest.raises(JaxddError, match=words):
        bound(methods.dq(**{**TINY, **fields}), digits)
