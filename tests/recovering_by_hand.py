"""What tests of the decoupled family follow recovery with: a teacher and its inversion in plain operations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from by_hand import Adam
from toys import Update, updates

from jaxdd.engine.stages import How, provided
from jaxdd.types import RealData, Recipe

MODEL = "convnet(width=4, depth=2, norm='batch')"
OTHER = "convnet(width=3, depth=2, norm='batch')"
TEACHER = {"model": MODEL, "teacher_epochs": 1, "teacher_batch": 32}
TINY = {**TEACHER, "ipc": 2, "decay_steps": 4, "statistics_weight": 0.3}
CLASSES = 4


def taught(recipe: Recipe, digits: RealData) -> RealData:
    """The digits with what the stages of a recipe leave."""
    return provided(recipe, digits, {}, How(0, "default", jax.devices()[:1], progress=False))[0]


@jax.numpy_rank_promotion("allow")
def plain_teacher(teacher, images):
    """The teacher's logits, and mean and variance of what each normalisation sees, in plain operations."""
    theta, (running,) = teacher.theta, teacher.stats.values()
    x, seen = images, []
    for block in range(2):
        conv, norm, kept = theta[f"conv_{block}"], theta[f"norm_{block}"], running[f"norm_{block}"]
        pad = ((3, 3), (3, 3)) if block == 0 else ((1, 1), (1, 1))
        kind = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, conv["kernel"], (1, 1), pad, dimension_numbers=kind) + conv["bias"]
        mean = x.sum((0, 1, 2)) / (x.size / x.shape[-1])
        seen.append((mean, ((x - mean) ** 2).sum((0, 1, 2)) / (x.size / x.shape[-1]), kept["mean"], kept["var"]))
        x = (x - kept["mean"]) / jnp.sqrt(kept["var"] + 1e-5) * norm["scale"] + norm["bias"]
        x = jnp.maximum(x, 0)
        n, h, w, c = x.shape
        x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
    head = theta["head"]
    return x.reshape(len(x), -1) @ head["kernel"] + head["bias"], seen


@jax.numpy_rank_promotion("allow")
def plain_inversion(teacher, views, labels, *, kept=None, variance=1.0):
    """Cross-entropy plus 0.3 times the distances of moments, of which the first normalisation's count ten times."""
    logits, seen = plain_teacher(teacher, views)
    distances = []
    for number, (mean, spread, running, width) in enumerate(seen):
        running, width = (running, width) if kept is None else kept[number]
        distances.append(jnp.sqrt(((mean - running) ** 2).sum()) + variance * jnp.sqrt(((spread - width) ** 2).sum()))
    picked = jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels]
    return -picked.mean() + 0.3 * (10 * distances[0] + distances[1])


def rolled(images, key):
    return jnp.roll(images, jax.random.randint(key, (1, 2), 0, 5)[0], axis=(1, 2))


def assert_updates(
    recipe: Recipe,
    digits: RealData,
    loss,
    *,
    rate: float = 0.25,
    learned: str = "images",
    project=None,
    count: int = 2,
) -> list[Update]:
    """Updates are Adam (0.5, 0.9) along half a cosine of four steps on `loss(params, state, key)`, and what
    `project` makes of it: images are clipped to pixels."""
    found = updates(recipe, digits, count=count)
    adam, lowest, highest = Adam(b1=0.5, b2=0.9), np.min(digits.images, (0, 1, 2)), np.max(digits.images, (0, 1, 2))
    project = project or (lambda images: np.clip(images, lowest, highest))
    slope_of = jax.jit(jax.value_and_grad(loss))
    for step, update in enumerate(found):
        before = update.before.params[learned]
        value, slope = slope_of(before, update.before, update.key)
        np.testing.assert_allclose(update.metrics["loss"], value, rtol=2e-4)
        size = rate * 0.5 * (1 + np.cos(np.pi * step / 4))
        off = np.abs(np.asarray(update.after.params[learned]) - project(np.asarray(before) - size * adam.step(slope)))
        assert (off > 1e-3).mean() < 2e-3  # Adam's first step divides by a gradient that may be rounding alone
        assert not update.batch.tables  # no real image
    return found
