"""Crops of real images that a teacher is more, or less, sure of, and mosaics of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd import losses, models
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.methods._hyper import at_least, between, elements, field, one_of
from jaxdd.methods.decoupled._recovery import Block
from jaxdd.methods.decoupled._taught import TEACHER, Taught
from jaxdd.types import (
    Array,
    Batch,
    Execution,
    Key,
    Labels,
    Method,
    Metrics,
    NetworkState,
    PyTree,
    RealData,
    Recipe,
    Spec,
    Stage,
)

PATCHES = "patches"
LEAN = Execution(block=100)


@dataclasses.dataclass(frozen=True)
class Patched(Taught):
    """What those of the family have that begin with crops of real images.

    Attributes:
      pool: real images of each class, drawn once, of which crops are taken; fewer where a class has fewer.
      crops: of each of them, of which one is a candidate.
      crop_area: shares of an image that a crop has, a square that is resized.
      grid: mosaics of `grid` by `grid` crops make an image; 1 for small images.
      confidence: which candidates are taken: those that the teacher is most sure of, "high", least, "low", or those in
        the middle, "medium". It sees a crop of a mosaic at its size there, in the middle of zeros.
    """

    pool: int = field(300, at_least(1))
    crops: int = field(5, at_least(1))
    crop_area: tuple[float, float] = field((0.08, 1.0), elements(between(0, 1)))
    grid: int = field(1, at_least(1))
    confidence: str = field("high", one_of(("high", "medium", "low")))

    def check(self):
        super().check()
        crop_of(self)


def crop_of(config: Patched) -> augmentation.Augmentation:
    """How crops are drawn: squares, made as large as the image."""
    return augmentation.resized_crop(config.crop_area, (1.0, 1.0), flip=False)


Candidates = Callable[[NetworkState, Array, Array, Array, PyTree], tuple[Array, Array]]
"""`candidates(teacher, images, labels, doubts, draws) -> (crop, place)`: which crop of each image is a candidate, and
its place among them, `(n,)` each, from images `(n, h, w, c)`, the cross-entropies of their crops `(k, n)`, and the
draws of these."""


def surest(teacher: NetworkState, images: Array, labels: Array, doubts: Array, draws: PyTree) -> tuple[Array, Array]:
    """RDED's `Candidates`: of each image the crop that the teacher is surest of."""
    return doubts.argmin(0), doubts.min(0)


def patches(config: Patched, candidates: Callable[[Spec], Candidates] = lambda spec: surest) -> Recipe:
    """Crops of real images, a class an update: as many updates as there are classes visit all of them.

    Its product, and so its asset where it is a stage, are images `(classes, ipc, h, w, c)`; of mosaics of n images and
    f by f crops, crop j is in image j % n, the surest first. A class that has not been visited has its first real
    images.
    """
    crop = crop_of(config)
    count = config.ipc * config.grid**2

    def bind(spec: Spec) -> Method:
        network = models.build(config.model, spec.image_shape, spec.num_classes)
        choose = candidates(spec)
        pool = min(config.pool, *spec.counts)
        at_once = min(spec.execution.block or pool, pool)
        height, width, channels = spec.image_shape
        if height % config.grid or width % config.grid:
            raise JaxddError(f"images of {height}x{width} pixels are no mosaics of {config.grid} by {config.grid}.")
        if count > pool:
            raise JaxddError(
                f"{config.ipc} images of {config.grid**2} crops each need as many real images of every class, and "
                f"{pool} are looked at: take a larger pool, fewer images, or a smaller grid."
            )
        small = height // config.grid, width // config.grid

        def init(key: Key, data: RealData) -> Array:
            starts = jnp.asarray(data.labels.starts)[:, None]
            return data.images[data.labels.order[starts + jnp.arange(config.ipc)[None]]]

        def sample(key: Key, labels: Labels, step: Array) -> dict[str, Any]:
            label = step % labels.num_classes
            places = jnp.arange(max(labels.counts))
            order = jax.random.uniform(jax.random.fold_in(key, label), places.shape)
            members = jnp.argsort(jnp.where(places < jnp.asarray(labels.counts)[label], order, 2))[:pool]
            return {"examples": labels.order[jnp.asarray(labels.starts)[label] + members]}

        def update(key: Key, state: Array, batch: Batch, *, axis_name: str | None = None) -> tuple[Array, Metrics]:
            teacher, images, labels = batch.assets[TEACHER], batch.images, batch.labels

            def doubt(crop: Array, label: Array) -> Array:
                rows, columns = ((whole - part) // 2 for whole, part in zip((height, width), small, strict=True))
                rest = (rows, height - small[0] - rows), (columns, width - small[1] - columns), (0, 0)
                logits, _ = network.apply(teacher.theta, jnp.pad(crop, rest)[None], teacher.stats)
                return losses.cross_entropy(logits, label[None])[0]

            def of_draw(key: Key) -> tuple[Array, Array, Any]:
                drawn = crop.draw(key, len(images))
                views = crop.apply(images, drawn)
                if config.grid > 1:
                    views = jax.image.resize(views, (len(images), *small, channels), "bilinear")
                doubts = jax.lax.map(lambda pair: doubt(*pair), (views, labels), batch_size=at_once)
                return views, doubts, drawn

            views, doubts, drawn = jax.lax.map(of_draw, jax.random.split(key, config.crops))
            which, place = choose(teacher, images, labels, doubts, drawn)
            taken = jnp.argsort(place)[_window(config.confidence, len(labels), count)]
            chosen = views[which[taken], taken]
            mosaics = chosen.reshape(config.grid, config.grid, config.ipc, *small, channels)
            mosaics = mosaics.transpose(2, 0, 3, 1, 4, 5).reshape(config.ipc, height, width, channels)
            return state.at[labels[0]].set(mosaics), {
                "loss": doubts[which[taken], taken].mean(),
                "all_crops": doubts.mean(),
            }

        return Method(init, sample, update, lambda state: state)

    return Recipe(bind, lean=LEAN, most=lambda spec: Execution(block=min(config.pool, *spec.counts)))


def _window(confidence: str, candidates: int, count: int) -> slice:
    """Of candidates in the order of their doubts."""
    first = {"high": 0, "medium": (candidates - count) // 2, "low": candidates - count}[confidence]
    return slice(first, first + count)


def patches_stage(
    config: Patched, spec: Spec, candidates: Callable[[Spec], Candidates] = lambda spec: surest, **more: Any
) -> Stage:
    """The stage that chooses them, by the first teacher, whose stage comes before.

    Args:
      **more: what the candidates depend on, for the stage's identity.
    """
    fields = ("ipc", "pool", "crops", "crop_area", "grid", "confidence")
    of_teacher = {"model": models.identity(config.model, spec.image_shape)}
    named = of_teacher | {name: getattr(config, name) for name in fields} | more
    return Stage(PATCHES, patches(config, candidates), steps=spec.num_classes, config=named)


def of_block(data: RealData, block: Block) -> Array:
    """Where a block begins: its mosaics."""
    return jnp.asarray(data.assets[PATCHES])[block.labels, block.index]
