"""Meta-gradients through a ConvNet's training, their memory, and a step of RaT-BPTT."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from measuring import Row, Suite, convolution_of, matmul_rate, peak_bytes, real_images, timed

from beside_pytorch.network import CLASSES, convnet, real_batch, synthetic
from beside_pytorch.peer import SAME_LOSS, compared, peer
from jaxdd import inner
from jaxdd.types import Array, PyTree

# By step: a gradient of the network costs three forward passes, the product with its derivative six.
TRAINED, DIFFERENTIATED = 3, 9


def inner_loops(repeats: int) -> Suite:
    """Meta-gradients through a ConvNet's training, their memory, and a step of RaT-BPTT."""
    for width, steps in ((32, 20), (128, 10)):
        yield f"meta_gradient_w{width}_t{steps}", functools.partial(meta_gradient, width, steps, repeats)
    yield "rat_bptt_ipc1", functools.partial(rat_bptt, 128, repeats)
    yield "memory_w128_t50_n100", functools.partial(memory, 128, 50, 100)


def meta_gradient(width: int, steps: int, repeats: int, *, images: int = 10, real: int = 256) -> Row:
    """Gradient in images and learning rates of the loss on real images after SGD steps on the synthetic ones."""
    loss, theta, flops = convnet(width)
    start, labels = synthetic(images)
    params = {"images": start, "rates": jnp.full((steps,), 0.01)}
    # The fastest: the inner backward pass is not stored, so that there is little that could be recomputed.
    choice = {"gradient": "fwdrev", "remat": "none"}
    arguments = (params, theta, labels, real_batch(real))

    step = jax.jit(jax.value_and_grad(sgd_loss(loss, steps, **choice))).lower(*arguments).compile()
    seconds, cpu = timed(step, *arguments, repeats=repeats)
    value, grads = step(*arguments)
    real_x, real_y = arguments[-1]
    took, theirs = peer(
        "meta_gradient", theta, params | {"labels": labels, "real_images": real_x, "real_labels": real_y}, repeats
    )
    row = {
        "name": f"meta_gradient_w{width}_t{steps}",
        "data": real_images()[0],
        "images": images,
        "real_batch": real,
        **choice,
        "convolution": convolution_of(step),
        "seconds": seconds,
        "cpu_seconds": cpu,
        **took,
        "peak_bytes": peak_bytes(step),
        "matmul_share": flops * (DIFFERENTIATED * steps * images + TRAINED * real) / seconds / matmul_rate(),
    }
    return compared(row, {"loss": value, "gradient": grads["images"]}, theirs, SAME_LOSS)


def memory(width: int, steps: int, images: int, *, real: int = 256, block: int = 64) -> Row:
    """Compiled memory of a meta-gradient, not run: naive, and with each step or each segment of steps recomputed."""
    loss, theta, _ = convnet(width)
    start, labels = synthetic(images)

    def compiled_bytes(steps: int, gradient: str, remat: str) -> int:
        outer = sgd_loss(loss, steps, block=block, gradient=gradient, remat=remat)
        params = {"images": start, "rates": jnp.zeros(steps)}
        return peak_bytes(jax.jit(jax.value_and_grad(outer)).lower(params, theta, labels, real_batch(real)).compile())

    lean = {
        f"{remat}_{t}": compiled_bytes(t, "fwdrev", remat) for remat in ("step", "sqrt") for t in (steps, 10 * steps)
    }
    naive, peak = compiled_bytes(steps, "reverse", "none"), min(lean[f"step_{steps}"], lean[f"sqrt_{steps}"])
    return {
        "name": f"memory_w{width}_t{steps}_n{images}",
        "real_batch": real,
        "real_block": block,
        "gradient": "fwdrev",
        "peak_bytes": peak,
        "naive_bytes": naive,
        "naive_over_peak": naive / peak,
        **{f"{name}_bytes": size for name, size in lean.items()},
        "sqrt_growth": lean[f"sqrt_{10 * steps}"] / lean[f"sqrt_{steps}"],
    }


def rat_bptt(
    width: int, repeats: int, *, prefix: int = 70, window: int = 60, real: int = 1000, block: int = 100
) -> Row:
    """One outer step of RaT-BPTT (Feng et al. 2024) with one image per class and the prefix at the mean of its lengths.

    New weights, Adam without gradient, Adam with, the loss on real images block by block, Adam on the images. The
    paper's clipping of the outer gradient is left out of both.
    """
    loss, theta, flops = convnet(width)
    images, labels = synthetic(CLASSES)
    outer_rate, rate = 1e-3, 1e-3
    optimizer = optax.adam(outer_rate)
    choice = {"gradient": "fwdrev", "remat": "step"}

    def outer(images, theta, prefix, real):
        def feed(t):
            return (images, labels), rate

        trained = inner.unroll(loss, inner.adam(), theta, feed, window, prefix=prefix, **choice).theta
        return real_loss(loss, trained, real, block)

    def update(images, opt_state, theta, prefix, real):
        value, gradient = jax.value_and_grad(outer)(images, theta, prefix, real)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return {"loss": value, "gradient": gradient, "images": optax.apply_updates(images, updates)}, opt_state

    arguments = (images, optimizer.init(images), theta, jnp.asarray(prefix), real_batch(real))
    step = jax.jit(update).lower(*arguments).compile()
    seconds, cpu = timed(step, *arguments, repeats=repeats)
    real_x, real_y = arguments[-1]
    rates = {"prefix": prefix, "window": window, "rate": rate, "outer_rate": outer_rate}
    took, theirs = peer(
        "rat_bptt",
        theta,
        rates | {"images": images, "labels": labels, "real_images": real_x, "real_labels": real_y},
        repeats,
    )
    work = flops * (CLASSES * (TRAINED * prefix + DIFFERENTIATED * window) + TRAINED * real)
    row = {
        "name": "rat_bptt_ipc1",
        "data": real_images()[0],
        "prefix": prefix,
        "window": window,
        "real_batch": real,
        "real_block": block,
        **choice,
        "convolution": convolution_of(step),
        "seconds": seconds,
        "cpu_seconds": cpu,
        **took,
        "peak_bytes": peak_bytes(step),
        "matmul_share": work / seconds / matmul_rate(),
    }
    return compared(row, step(*arguments)[0], theirs, SAME_LOSS)


def sgd_loss(loss: Callable, steps: int, *, block: int | None = None, **choice: str) -> Callable:
    """`outer(params, theta, labels, real)`: the loss on real images after plain SGD steps with a learned rate each."""

    def outer(params: dict[str, Array], theta: PyTree, labels: Array, real: tuple[Array, Array]) -> Array:
        def feed(t):
            return (params["images"], labels), params["rates"][t]

        trained = inner.unroll(loss, inner.sgd(), theta, feed, steps, **choice).theta
        return real_loss(loss, trained, real, block)

    return outer


def real_loss(loss: Callable[[PyTree, tuple], Array], theta: PyTree, real: tuple[Array, Array], block: int | None):
    return inner.mean_over_blocks(lambda theta, rows: (loss(theta, rows), ()), theta, real, block)[0]
