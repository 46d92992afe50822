"""Decoupled distillation: a step of recovery, and an epoch of a student that a teacher labels."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import Row, Suite, convolution_of, peak_bytes, timed

from beside_pytorch.peer import SAME_LOSS, compared, peer
from jaxdd import losses, models
from jaxdd.types import Array, PyTree

IMAGE, CLASSES = (32, 32, 3), 10


def decoupled(repeats: int) -> Suite:
    """What one step of recovery costs, and one epoch of a student of 100 images."""
    yield (
        "recover_convnet_w64",
        functools.partial(recover, "recover_convnet_w64", "convnet(width=64, norm='batch')", 100, repeats),
    )
    yield "recover_resnet18", functools.partial(recover, "recover_resnet18", "resnet18", 10, repeats)
    yield "student_epoch_resnet18", functools.partial(student, repeats)


def recover(name: str, model: str, count: int, repeats: int) -> Row:
    """Value and gradient in images of SRe2L's loss, without augmentation."""
    network, theta, stats, images, labels = _given(model, count)

    @jax.jit
    def step(images: Array, theta: PyTree, stats: PyTree) -> dict[str, Array]:
        def loss(images: Array) -> Array:
            logits, norms = network.norms(theta, images, stats)
            distance = losses.statistics_matching(norms.batch, norms.running)
            return losses.cross_entropy(logits, labels).mean() + 0.01 * distance

        value, slope = jax.value_and_grad(loss)(images)
        return {"loss": value, "gradient": slope}

    return _measured(name, "recover", step, (images, theta, stats), labels, repeats)


def student(repeats: int) -> Row:
    """A step of AdamW on all of 100 images, labelled by a teacher of the same weights, at a temperature of 30."""
    network, theta, stats, images, labels = _given("resnet18", 100)
    optimizer = optax.adamw(1e-9, weight_decay=0.01)

    @jax.jit
    def step(images: Array, theta: PyTree, stats: PyTree, moments: PyTree) -> dict[str, Any]:
        soft, _ = network.apply(theta, images, stats)

        def loss(taught: PyTree) -> Array:
            logits, _ = network.apply(taught, images, stats, mode="train")
            return losses.distillation(logits, soft, temperature=30.0).mean()

        value, slope = jax.value_and_grad(loss)(theta)
        updates, after = optimizer.update(slope, moments, theta)
        moved = optax.apply_updates(theta, updates)
        return {"loss": value, "gradient": slope["conv_1_0_0"]["kernel"], "after": (moved, after)}

    arguments = images, theta, stats, optimizer.init(theta)
    return _measured("student_epoch_resnet18", "student", step, arguments, labels, repeats)


def _given(model: str, count: int) -> tuple[Any, PyTree, PyTree, Array, Array]:
    network = models.build(model, IMAGE, CLASSES)
    theta, stats = jax.jit(network.init)(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (count, *IMAGE))
    return network, theta, stats, images, jnp.arange(count) % CLASSES


def _measured(name: str, task: str, step: Any, arguments: tuple[Any, ...], labels: Array, repeats: int) -> Row:
    images, theta, stats, *_ = arguments
    compiled = step.lower(*arguments).compile()
    seconds, cpu = timed(compiled, *arguments, repeats=repeats)
    running = {
        "stats/" + jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(stats)
    }
    took, theirs = peer(task, theta, {"images": images, "labels": labels, **running}, repeats)
    row = {
        "name": name,
        "images": len(images),
        "convolution": convolution_of(compiled),
        "seconds": seconds,
        "cpu_seconds": cpu,
        **took,
        "peak_bytes": peak_bytes(compiled),
    }
    return compared(row, compiled(*arguments), theirs, SAME_LOSS)
