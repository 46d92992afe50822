"""Trajectory matching: a step of an expert, gradients through a student's steps, and their memory."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from measuring import Row, Suite, convolution_of, matmul_rate, peak_bytes, real_images, timed

from beside_pytorch.network import CLASSES, convnet, real_batch, synthetic
from beside_pytorch.peer import SAME_LOSS, compared, peer
from jaxdd import inner, losses
from jaxdd.types import Array, PyTree

TRAINED, DIFFERENTIATED = 3, 9  # forward passes of a step, see inner_loops
EXPERT_BATCH, RATE = 256, 0.01
BLOCK = 50  # images of one pass, the methods' choice on a CPU


def trajectories(repeats: int) -> Suite:
    """Trajectory matching: what one expert's step and one update cost, and the memory of long unrolls."""
    yield "expert_step", functools.partial(expert_step, repeats)
    for ipc, steps in ((1, 50), (10, 30)):
        for name, gradient in (("mtt", "fwdrev"), ("tesla", "detached")):
            yield f"{name}_ipc{ipc}", functools.partial(update, f"{name}_ipc{ipc}", ipc, steps, gradient, repeats)
    for steps in (50, 500):
        yield f"memory_w128_t{steps}_n100", functools.partial(memory, steps)


def expert_step(repeats: int) -> Row:
    """Plain gradient descent on a batch of real images."""
    loss, theta, flops = convnet(128)

    @jax.jit
    def step(theta: PyTree, batch: tuple[Array, Array]) -> dict[str, Array]:
        value, slope = jax.value_and_grad(loss)(theta, batch)
        moved = jax.tree.map(lambda p, g: p - RATE * g, theta, slope)
        return {"loss": value, "gradient": slope["conv_1"]["kernel"], "theta": moved}

    batch = real_batch(EXPERT_BATCH)
    compiled = step.lower(theta, batch).compile()
    seconds, cpu = timed(compiled, theta, batch, repeats=repeats)
    took, theirs = peer("expert_step", theta, {"images": batch[0], "labels": batch[1], "rate": RATE}, repeats)
    row = _row("expert_step", compiled, seconds, cpu, took, flops * TRAINED * EXPERT_BATCH)
    return compared(row | {"batch": EXPERT_BATCH}, compiled(theta, batch), theirs, {"loss": 1e-4})


def update(name: str, ipc: int, steps: int, gradient: str, repeats: int) -> Row:
    """Value and gradient, in images and step size, of what is left of the way after so many steps on all images.

    Without augmentation, which costs neither side much.
    """
    loss, theta, flops = convnet(128)
    images, labels = synthetic(ipc * CLASSES)
    batch = real_batch(EXPERT_BATCH)  # not while a program is traced, which would keep what is traced for later rows
    goal = jax.jit(lambda theta: _walked(loss, theta, batch, 5))(theta)
    arguments = ({"images": images, "rate": jnp.float32(RATE)}, labels, theta, goal)
    compiled = jax.jit(jax.value_and_grad(_left(loss, steps, gradient, "step"))).lower(*arguments).compile()
    seconds, cpu = timed(compiled, *arguments, repeats=repeats)
    value, slope = compiled(*arguments)
    flat = {
        "goal/" + jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(goal)
    }
    given = {"images": images, "labels": labels, "rate": RATE, "steps": steps, **flat}
    took, theirs = peer("mtt" if gradient == "fwdrev" else "tesla", theta, given, repeats)
    # With constants the products leave the Hessian out, but a pass through the gradient stays.
    work = flops * DIFFERENTIATED * steps * len(images)
    row = _row(name, compiled, seconds, cpu, took, work) | {"images": len(images), "steps": steps, "gradient": gradient}
    return compared(row, {"loss": value, "gradient": slope["images"]}, theirs, SAME_LOSS)


def memory(steps: int, images: int = 100) -> Row:
    """Compiled memory of an update, not run: naive reverse, and what recomputes each step or each segment of steps, all
    images at once and some at a time."""
    loss, theta, _ = convnet(128)
    shown, labels = synthetic(images)
    arguments = ({"images": shown, "rate": jnp.float32(RATE)}, labels, theta, theta)

    def needed(gradient: str, remat: str, block: int | None = BLOCK) -> int:
        left = _left(loss, steps, gradient, remat, block)
        return peak_bytes(jax.jit(jax.value_and_grad(left)).lower(*arguments).compile())

    lean = {remat: needed("fwdrev", remat) for remat in ("step", "sqrt")}
    naive, peak = needed("reverse", "none", None), min(lean.values())
    return {
        "name": f"memory_w128_t{steps}_n{images}",
        "peak_bytes": peak,
        "naive_bytes": naive,
        "naive_over_peak": naive / peak,
        **{f"{remat}_bytes": size for remat, size in lean.items()},
        "at_once_bytes": needed("fwdrev", "sqrt", None),
        "detached_bytes": needed("detached", "sqrt"),
    }


def _row(name: str, compiled, seconds: float, cpu: float, took: Row, flops: float) -> Row:
    return {
        "name": name,
        "data": real_images()[0],
        "convolution": convolution_of(compiled),
        "seconds": seconds,
        "cpu_seconds": cpu,
        **took,
        "peak_bytes": peak_bytes(compiled),
        "matmul_share": flops / seconds / matmul_rate(),
    }


def _walked(loss, theta: PyTree, batch: tuple[Array, Array], steps: int, rate: float | Array = RATE, **options):
    return inner.unroll(loss, inner.sgd(), theta, lambda t: (batch, rate), steps, **options).theta


def _left(loss, steps: int, gradient: str, remat: str, block: int | None = BLOCK):
    def left(params: dict[str, Array], labels: Array, theta: PyTree, goal: PyTree) -> Array:
        batch = params["images"], labels
        student = _walked(loss, theta, batch, steps, params["rate"], gradient=gradient, remat=remat, block=block)
        return losses.trajectory_matching(student, theta, goal)

    return left
