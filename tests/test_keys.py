"""No key is drawn from twice: asked of JAX's own checker, which follows keys through a traced function."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.experimental.key_reuse._core import check_key_reuse

from jaxdd import data, engine, inner, methods, models, synthetic, training
from jaxdd.cli import config as configs
from jaxdd.data import augmentation
from jaxdd.engine import foretold
from jaxdd.training.fit import _fit
from jaxdd.types import Labels, RealData, bound

CLASSES, KEY = 10, jax.random.key(0)


@pytest.fixture(scope="module")
def real():
    images = np.random.default_rng(0).normal(size=(64 * CLASSES, 28, 28, 1))
    return RealData.of(jax.device_put(np.float32(images)), Labels.index(np.arange(64 * CLASSES) % CLASSES))


@pytest.mark.parametrize("name", toys.each(methods.available()))
def test_methods(real, name):
    options = dict(configs.read(name, "smoke")["method"])
    if "model" in options and name != "datadam":  # it needs two layers; of others the depth plays no part
        options["model"] = re.sub(r"convnet\(width=8(, depth=2)?", "convnet(width=2, depth=1", options["model"])
    recipe = methods.build(**options)
    real = foretold(recipe, real)
    method = bound(recipe, real)

    def updated(key_first, key_draw, key_update):
        state = engine.first_state(method, real, key_first)
        return method.update(key_update, state, engine.draw(method, real, key_draw))

    check_key_reuse(updated, *jax.random.split(KEY, 3))


@pytest.mark.parametrize("base", [synthetic.pixels(2), synthetic.linear_bases(3, 2), synthetic.frequencies(2, 6)])
def test_parameterisations(real, base):
    wrapped = [
        synthetic.multi_formation(base, 2),
        synthetic.learning_rates(synthetic.learned_labels(base, "softmax"), 0.1, (2,)),
    ]
    if base.decoder == "pixels":
        wrapped += [synthetic.corrupted(base, 0.5), synthetic.clipped(synthetic.unit_norm(base))]
        wrapped += [synthetic.pixels(2, init=init) for init in ("noise", "unit")]
    for each in (base, *wrapped):
        check_key_reuse(each.init, KEY, real)


def test_augmentations(real):
    for name in ("dsa", "idc-train", "idc-match", "idc", "frepo", "flip_rotate"):
        check_key_reuse(functools.partial(augmentation.named(name).draw, count=3), KEY)
    one_hot = jnp.eye(CLASSES)[real.labels.values]
    check_key_reuse(lambda key: augmentation.cutmix(key, real.images, one_hot, probability=1.0), KEY)


def test_samplers_and_plans(real):
    for sampler in (data.balanced_sampler(7), data.class_sampler(3), data.uniform_sampler(5)):
        check_key_reuse(lambda key, sampler=sampler: sampler(key, real.labels), KEY)
    check_key_reuse(lambda key: data.balanced_choice(key, real.labels, 2), KEY)
    check_key_reuse(lambda key: inner.epoch_plan(key, 8, 2, 9), KEY)
    check_key_reuse(lambda key: inner.balanced_plan(key, 4, 3, 2, 5), KEY)


def test_networks_on_the_way(real):
    network = models.build("mlp", (28, 28, 1), CLASSES, width=4)
    fresh = inner.fresh(network)
    for source in (fresh, inner.fixed(network), inner.interpolated(fresh, inner.fixed(network))):
        check_key_reuse(source.init, KEY)
        check_key_reuse(lambda key, source=source: source.one(source.init(KEY), key), KEY)


@pytest.mark.parametrize("name", ["dc", "dsa", "idc", "frepo", "rat"])
def test_protocols(real, name):
    network, protocol = models.build("mlp", (28, 28, 1), CLASSES, width=4), training.protocols.get(name)

    def trained(key):
        sets = real.images[None], real.labels.values[None]
        options = {"network": network, "protocol": protocol, "convention": "hard", "codec": None}
        return _fit(*sets, jnp.ones(1), jax.random.split(key, 1), jnp.zeros(1, int), {}, **options)

    check_key_reuse(trained, KEY)


def test_a_key_that_is_used_twice_is_found():
    with pytest.raises(Exception, match="already consumed"):
        check_key_reuse(lambda key: jax.random.normal(key) + jax.random.uniform(key), KEY)
