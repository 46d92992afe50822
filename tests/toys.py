"""What tests share: a few real digits, a small method of their own, and how they run methods."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdd
from jaxdd import data, engine, methods
from jaxdd.data import balanced_sampler
from jaxdd.engine.stages import How, provided
from jaxdd.types import (
    AT_ONCE,
    Batch,
    Distilled,
    Execution,
    Key,
    Labels,
    Method,
    Metrics,
    Parts,
    RealData,
    Recipe,
    State,
    bound,
)


class MNIST(NamedTuple):
    """The 5,000 embedded digits; `train`, `validation` and `test` as methods and networks see them."""

    dataset: data.Dataset
    transform: data.Transform
    train: RealData
    validation: RealData
    test: RealData

    @classmethod
    def load(cls) -> MNIST:
        dataset = data.load("mnist_5k")
        transform = data.fit_transform("standardize", dataset.train.pixels())
        splits = (dataset.train, dataset.validation, dataset.test)
        return cls(dataset, transform, *(data.real_data(split, transform, 10) for split in splits))


def few(real: RealData, classes: int = 4, every: int = 3) -> RealData:
    """Every third image of the first classes, each of whose pixels is one of two by two."""
    labels = np.asarray(real.labels.values)
    rows = np.flatnonzero(labels < classes)[::every]
    return RealData.of(jax.numpy.asarray(np.asarray(real.images)[rows, ::2, ::2]), Labels.index(labels[rows], classes))


def build(name: str, **options) -> Recipe:
    """A method by its name, with fields of an `Execution` among its options."""
    execution = {field: options.pop(field) for field in vars(AT_ONCE) if field in options}
    recipe = methods.build(name, **options)
    assert isinstance(recipe, Recipe)
    return dataclasses.replace(recipe, asked=Execution(**execution))


class Update(NamedTuple):
    """What went into one update of a method, and what came out of it."""

    key: Key
    batch: Batch
    before: State
    after: State
    metrics: Metrics


def updates(
    method: Method | Recipe,
    real: RealData,
    count: int = 2,
    seed: int = 0,
    start: Callable[[State], State] = lambda state: state,
) -> list[Update]:
    """The first updates of a method, each of its functions compiled once; `start` may change the state before them."""
    real, _ = provided(method, real, {}, How(seed, "default", jax.devices()[:1], 1e9, progress=False))
    method = bound(method, real)
    key_init, key_steps = jax.random.split(jax.random.key(seed))
    first = jax.jit(lambda key, real: engine.first_state(method, real, key))
    state, update, done = start(first(key_init, real)), jax.jit(method.update), []

    @jax.jit
    def draw(key, step):
        if "step" in inspect.signature(method.sample).parameters:
            return engine.draw(method, real, key, step)
        return engine.draw(method._replace(sample=lambda same, labels, step: method.sample(key, labels)), real, key)

    for step in range(count):
        key, key_sample = jax.random.split(jax.random.fold_in(key_steps, step))
        batch = draw(key_sample, step)
        after, metrics = update(key, state, batch)
        done.append(Update(key, batch, state, after, metrics))
        state = after
    return done


QUICK = {
    *("kip", "frepo", "rfad"),  # kernels
    *("dc", "dm"),  # gradients, layers
    *("mtt", "dd"),  # trajectories, unrolls
    *("sre2l", "rded"),  # recovered, chosen by a teacher
    "dq",
}
"""Methods of which the quick suite has all: one or two of each body. What the others add waits for the long run."""


def each(names: Iterable[str]) -> list[Any]:
    """Methods as parameters of a test."""
    waits = [pytest.mark.endurance, pytest.mark.sibling]
    return [pytest.param(name, marks=[] if name in QUICK else waits) for name in names]


class MeanState(NamedTuple):
    params: dict
    key: jax.Array  # a typed key in the state must survive a checkpoint


class Told:
    """A listener to what goes on that remembers."""

    draws = False

    def __init__(self):
        self.lines, self.open = [], []

    def begin(self, what):
        self.open.append(what)
        self.lines.append(": ".join(self.open))

    def end(self, done):
        assert done
        self.open.pop()

    def say(self, line):
        self.lines.append(line)


NOTED: list[tuple] = []


def note(step, metrics, state):
    """A callback by name."""
    NOTED.append((step, dict(metrics), state))


def stumble(step, metrics, state):
    """One that fails."""
    raise ValueError(f"at step {step}")


@functools.cache  # equal methods share compiled programs
def class_means(rate: float = 0.1, explode_at: float = np.inf, sampler=None) -> Method:
    """Follows the class means of noisy batches, and counts in `size` so that a test can make it explode."""

    def init(key, data):
        images = jnp.zeros((data.labels.num_classes, *data.images.shape[1:]))
        return MeanState({"images": images, "size": jnp.zeros(())}, key)

    def update(key, state, batch):
        member = jax.nn.one_hot(batch.labels, len(state.params["images"]))
        means = jnp.einsum("bc,bhwk->chwk", member, batch.images) / jnp.maximum(member.sum(0), 1)[:, None, None, None]
        noise = jax.random.normal(key, means.shape)
        images = state.params["images"] + rate * (means + noise - state.params["images"])
        size = state.params["size"] + 1
        images = jnp.where(size >= explode_at, jnp.inf, images)
        state = MeanState({"images": images, "size": size}, jax.random.fold_in(state.key, 1))
        return state, {"loss": jnp.mean((images - means) ** 2)}

    def distilled(state):
        return Distilled(state.params["images"], jnp.arange(len(state.params["images"])))

    return Method(init, sampler or balanced_sampler(16), update, distilled)


@dataclasses.dataclass(frozen=True)
class Means(methods.HyperParameters):
    """Hyper-parameters of `means`."""

    rate: float = 0.1
    explode_at: float = 1e9
    kernel: bool = False


@methods.method(Means)
def means(config: Means) -> Recipe:
    """Class means by a name, "toys:means", for runs whose method does not matter; on request they have a kernel."""
    follow = class_means(config.rate, config.explode_at)
    facts = (("name", "ntk"), ("depth", 1), ("activation", "relu"), ("w_std", 2**0.5), ("b_std", 0.1), ("ridge", 1e-3))

    def bind(spec):
        def distilled(state):
            found = follow.product(state)
            soft = jax.nn.one_hot(found.labels, spec.num_classes)
            return (
                dataclasses.replace(found, labels=soft, label_convention="raw", kernel=facts)
                if config.kernel
                else found
            )

        return follow._replace(product=distilled)

    return Recipe(bind, lean=Execution(block=8))


def part_by_hand(method: Method, data: RealData):
    """A part of a run by itself, plainly: `begin(part)` gives its keys and first state, `step(keys, state, count)` the
    next one; each is compiled once."""

    @jax.jit
    def begin(part):
        keys = jax.random.split(jax.random.key(0), 3)
        return keys, engine.first_state(method, data, jax.random.fold_in(keys[0], part), part)

    @jax.jit
    def step(keys, state, count):
        key = jax.random.fold_in(keys[1], count)
        batch = engine.draw(method._replace(sample=lambda same, labels: method.sample(key, labels)), data, key)
        return method.update(jax.random.fold_in(keys[2], count), state, batch)[0]

    return begin, step


def once(line: Sequence[str]) -> list[str]:
    """A command line without the options that later ones replace, since one is given once."""
    return list({argument.partition("=")[0]: argument for argument in line}.values())


def run(method, data, **options):
    return jaxdd.run(
        method, data, **{"steps": 25, "progress": False, "log_every": 5, "devices": jax.devices()[:1], **options}
    )


def assert_same(a, b):
    chex.assert_trees_all_equal(jax.tree.map(as_data, a), jax.tree.map(as_data, b))


def as_data(leaf):
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


class Block(NamedTuple):
    images: jax.Array
    rows: jax.Array


def blocks(total: int = 10, size: int = 4, traced: list | None = None) -> Recipe:
    """Images that go to class means, a block of them at a time; the last block is padded."""

    def init(key, data, part):
        return Block(jax.random.normal(key, (size, *data.images.shape[1:])), part * size + jnp.arange(size))

    def update(key, state, batch):
        if traced is not None:
            traced.append(1)
        ours = (batch.labels[None] == state.rows[:, None] % 3).astype(jnp.float32)
        means = jnp.einsum("nb,bhwc->nhwc", ours, batch.images) / jnp.maximum(ours.sum(1), 1)[:, None, None, None]
        noise = 0.1 * jax.random.normal(key, means.shape)
        loss = jnp.mean((state.images - means) ** 2)
        return state._replace(images=0.7 * state.images + 0.3 * (means + noise)), {"loss": loss}

    def join(products, assets):
        images, rows = (leaf.reshape(-1, *leaf.shape[2:])[:total] for leaf in products)
        return Distilled(images, rows % 3)

    method = Method(init, balanced_sampler(6), update, product=lambda state: state)
    known = ("blocks", total, size) if traced is None else None
    return Recipe(lambda spec: method, identity=known, parts=lambda spec: Parts(-(-total // size), join))


def committee() -> Recipe:
    """Three blocks of images that are recovered from two teachers, of three classes of 4 by 4 pixels."""
    small = "convnet(width=2, depth=1, norm='batch')", "convnet(width=3, depth=1, norm='batch')"
    return methods.fadrm(
        ipc=3, model=small[0], others=small[1:], decay_steps=30, segments=3, jitter=1, pool=12, labels="image",
        teacher_epochs=2, teacher_batch=12, teacher_augmentation="none",
    )  # fmt: skip
