"""The suites that stand beside the same arithmetic in PyTorch, which `peers.py` computes in a process of its own."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import Row, Suite, convolution_of, matmul_rate, peak_bytes, real_images, timed, update

from jaxdd import engine, evaluation, inner, losses, methods, models
from jaxdd.errors import JaxddError
from jaxdd.evaluation.accuracy import accuracy, count_correct
from jaxdd.evaluation.arrays import blocks
from jaxdd.training import Fitted, fit
from jaxdd.types import Array, Examples, Key, Network, PyTree, bound

PEERS = pathlib.Path(__file__).with_name("peers.py")
IMAGE, CLASSES = (28, 28, 1), 10
# By step: a gradient of the network costs three forward passes, the product with its derivative six.
TRAINED, DIFFERENTIATED = 3, 9


def convnet(width: int) -> tuple[Callable[[PyTree, tuple], Array], PyTree, int]:
    """ConvNet-3: its mean loss on a batch, its first weights, and the FLOP of one image forwards."""
    network = models.build("convnet", IMAGE, CLASSES, width=width, depth=3)
    theta, stats = network.init(jax.random.key(0))
    # The first convolution pads 28x28 so that it behaves as 32x32.
    flops = 2 * (32**2 * 9 * width + (16**2 + 8**2) * 9 * width**2 + 4**2 * width * CLASSES)
    return inner.classification(network, stats), theta, flops


def synthetic(count: int) -> tuple[Array, Array]:
    """Noise for images, with labels in turn."""
    return jax.random.normal(jax.random.key(1), (count, *IMAGE)), jnp.arange(count) % CLASSES


def real_batch(size: int) -> tuple[Array, Array]:
    real = real_images()[1]
    return real.images[:size], real.labels.values[:size]


def real_loss(loss: Callable[[PyTree, tuple], Array], theta: PyTree, real: tuple[Array, Array], block: int | None):
    return inner.mean_over_blocks(lambda theta, rows: (loss(theta, rows), ()), theta, real, block)[0]


def sgd_loss(loss: Callable, steps: int, *, block: int | None = None, **choice: str) -> Callable:
    """`outer(params, theta, labels, real)`: the loss on real images after plain SGD steps with a learned rate each."""

    def outer(params: dict[str, Array], theta: PyTree, labels: Array, real: tuple[Array, Array]) -> Array:
        def feed(t):
            return (params["images"], labels), params["rates"][t]

        trained = inner.unroll(loss, inner.sgd(), theta, feed, steps, **choice).theta
        return real_loss(loss, trained, real, block)

    return outer


def peer(task: str, theta: PyTree, arrays: dict[str, Any], repeats: int) -> tuple[Row, dict[str, np.ndarray]]:
    """What PyTorch took for the same, and its results; nothing without PyTorch."""
    if importlib.util.find_spec("torch") is None:
        return {}, {}
    weights = {
        "theta/" + jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(theta)
    }
    with tempfile.TemporaryDirectory() as folder:
        given, got = (os.path.join(folder, name) for name in ("given.npz", "got.npz"))
        np.savez(given, **weights, **arrays)
        command = [sys.executable, str(PEERS), task, given, got, "--repeats", str(repeats)]
        line = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
        with np.load(got) as results:
            return json.loads(line), dict(results)


def difference(ours: Any, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


# Gradients of a float32 network differ by a few ReLUs that switch, losses do not.
SAME_LOSS = {"loss": 1e-3, "gradient": np.inf}


def compared(row: Row, ours: dict[str, Array], theirs: dict[str, np.ndarray], tolerances: Mapping[str, float]) -> Row:
    """The row with how far PyTorch's results are at most, of those that have a tolerance.

    Raises:
      JaxddError: if it did not compute the same thing.
    """
    if not theirs:
        return row
    differences = {name: difference(ours[name], theirs[name]) for name in tolerances}
    for name, tolerance in tolerances.items():
        if not differences[name] <= tolerance:
            raise JaxddError(f"{row['name']} is not what its peer computes: {name} differs by {differences[name]:.2g}.")
    return row | {"peer_difference": max(differences.values())}


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


def inner_loops(repeats: int) -> Suite:
    """Meta-gradients through a ConvNet's training, their memory, and a step of RaT-BPTT."""
    for width, steps in ((32, 20), (128, 10)):
        yield f"meta_gradient_w{width}_t{steps}", functools.partial(meta_gradient, width, steps, repeats)
    yield "rat_bptt_ipc1", functools.partial(rat_bptt, 128, repeats)
    yield "memory_w128_t50_n100", functools.partial(memory, 128, 50, 100)


Arrays = dict[str, Array]
Convolve = Callable[..., Array]


def conv_fwd(at: Arrays, convolve: Convolve) -> Arrays:
    return {"maps": convolve(at["images"], at["kernel"])}


def conv_dx(at: Arrays, convolve: Convolve) -> Arrays:
    return {"to_images": jax.vjp(lambda x: convolve(x, at["kernel"]), at["images"])[1](at["to_maps"])[0]}


def conv_dw(at: Arrays, convolve: Convolve) -> Arrays:
    return {"to_kernel": jax.vjp(lambda w: convolve(at["images"], w), at["kernel"])[1](at["to_maps"])[0]}


def conv_dw_in_scan(at: Arrays, convolve: Convolve, steps: int = 5) -> Arrays:
    """Both operands change with every gradient, and all of it is summed: nothing can leave the loop or be left out."""

    def step(carry: tuple[Arrays, Array], _: None):
        at, total = carry
        weights = conv_dw(at, convolve)["to_kernel"]
        changed = {name: at[name].at[0, 0, 0, 0].add(1e-6 * weights[0, 0, 0, 0]) for name in ("images", "to_maps")}
        return ({**at, **changed}, total + weights), None

    return {"to_kernel": jax.lax.scan(step, (at, jnp.zeros_like(at["kernel"])), None, length=steps)[0][1]}


def conv_grouped(at: Arrays, convolve: Convolve) -> Arrays:
    """Forward and both gradients of several networks."""
    return jax.vmap(lambda at: conv_fwd(at, convolve) | conv_dx(at, convolve) | conv_dw(at, convolve))(at)


def convolution(
    name: str,
    operation: Callable[[Arrays, Convolve], Arrays],
    repeats: int,
    *,
    images: tuple[int, ...] = (64, 32, 32, 128),
    products: int = 1,
    precision: str | None = None,
    tolerance: float = 1e-5,
) -> Row:
    """A convolution 3x3 with as many outputs as channels.

    Args:
      images: their shape, perhaps with networks in front.
      products: how many of its three operations are computed.
      tolerance: of the results' relative difference from PyTorch's, both in this precision.
    """
    *networks, n, height, width, channels = images
    key_x, key_w, key_g = jax.random.split(jax.random.key(0), 3)
    at = {
        "images": jax.random.normal(key_x, images),
        "kernel": jax.random.normal(key_w, (*networks, 3, 3, channels, channels)) / (9 * channels) ** 0.5,
        "to_maps": jax.random.normal(key_g, images),
    }
    convolve = functools.partial(models.conv2d, precision=precision)
    step = jax.jit(functools.partial(operation, convolve=convolve)).lower(at).compile()
    seconds, cpu = timed(step, at, repeats=repeats)
    took, theirs = peer(name, {}, at, repeats)
    work = products * 2 * int(np.prod(networks)) * n * height * width * 9 * channels**2
    row = {
        "name": name,
        "images": "x".join(map(str, images)),
        "convolution": convolution_of(step),
        "seconds": seconds,
        "cpu_seconds": cpu,
        **took,
        "gflop_per_cpu_second": work / cpu / 1e9,
    }
    if took:
        row["peer_gflop_per_cpu_second"] = work / took["peer_cpu_seconds"] / 1e9
    return compared(row, step(at), theirs, dict.fromkeys(theirs, tolerance))


def convolutions(repeats: int) -> Suite:
    """The three operations of a convolution, alone, in a loop, for several networks, and in a whole meta-gradient."""
    few = max(1, repeats // 4)
    for name, operation, times, options in (
        ("conv_fwd", conv_fwd, repeats, {}),
        ("conv_dx", conv_dx, repeats, {}),
        ("conv_dw", conv_dw, repeats, {}),
        ("conv_dw_in_scan", conv_dw_in_scan, few, {"products": 5}),
        ("conv_grouped_4", conv_grouped, repeats, {"images": (4, 10, 16, 16, 128), "products": 3}),
        ("conv_fwd_bf16", conv_fwd, repeats, {"precision": "bfloat16", "tolerance": 1e-2}),
    ):
        yield name, functools.partial(convolution, name, operation, times, **options)
    yield "meta_gradient_w128_t10", functools.partial(meta_gradient, 128, 10, few)


# Gradients of matching losses: a few ReLUs switch on both sides. They do in training, too, and from step to step more.
SAME_MATCHING = {"loss": 1e-3, "gradient": 3e-2}
SAME_TRAINING = {"moved": 0.1}


def held(network: Network, theta: PyTree, stats: PyTree) -> Network:
    """The network, always with these weights at first."""
    return network._replace(init=lambda key: (theta, stats))


def matching_update(name: str, config: methods.Matching, repeats: int, *, width: int = 128) -> Row:
    """One update of a method of the matching family; without augmentation its loss and its step are compared.

    PyTorch's is the originals': a loop over classes, and of the augmentations one that costs little, flips.
    """
    kind = type(config).__name__.lower()
    config = dataclasses.replace(config, model=f"convnet(width={width})")
    row = update(name, getattr(methods, kind)(config), repeats, ipc=config.ipc, real_per_class=config.target_per_class)

    key, real = jax.random.key(0), real_images()[1]
    network = models.build("convnet", IMAGE, CLASSES, width=width)
    theta, stats = network.init(jax.random.key(1))
    config = dataclasses.replace(config, model=held(network, theta, stats), augmentation="none")
    plain = bound(getattr(methods, kind)(config), real)
    state = jax.jit(plain.init)(key, real)
    batch = engine.draw(plain, real, key)
    before = state.params["images"]

    task = "dm" if kind == "dm" else "dc"
    arrays = {"images": before, "real_images": batch.images, "rate": config.learning_rate, "momentum": 0.5}
    took, theirs = peer(task, theta, arrays | {"flips": False}, repeats)
    if config.augmentation != "none":
        took, _ = peer(task, theta, arrays | {"flips": True}, repeats)
    if not theirs:
        return row
    after, metrics = jax.jit(plain.update)(key, state, batch)
    ours = {"loss": metrics["loss"], "gradient": (before - after.params["images"]) / config.learning_rate}
    return compared(row | took, ours, theirs, SAME_MATCHING)


def network_update(repeats: int, *, width: int = 128, ipc: int = 10, steps: int = 50) -> Row:
    """DC's training of its network on the set between two matching steps, all images in each step."""
    network = models.build("convnet", IMAGE, CLASSES, width=width)
    images, labels = synthetic(CLASSES * ipc)
    rate = methods.DC().network_learning_rate

    def loss(theta: PyTree, stats: PyTree, shown: Array, step: Array, key: Key) -> tuple[Array, PyTree]:
        logits, stats = network.apply(theta, shown, stats, mode="train")
        return losses.cross_entropy(logits, labels).mean(), stats

    pool = inner.pool(network, optax.sgd(rate), loss, size=1, max_age=steps, steps=steps)

    def grown(slots: inner.Slots, images: Array) -> inner.Slots:
        return pool.advance(slots, jnp.zeros(1, jnp.int32), jax.random.key(0), images)

    slots = pool.init(jax.random.key(0))
    step = jax.jit(grown).lower(slots, images).compile()
    seconds, cpu = timed(step, slots, images, repeats=repeats)
    theta, after = (jax.tree.map(lambda leaf: leaf[0], of.theta) for of in (slots, step(slots, images)))
    arrays = {"images": images, "labels": labels, "rate": rate, "momentum": 0.0, "decay": 0.0, "steps": steps}
    took, theirs = peer("train", theta, arrays | {"flips": False}, repeats)
    row = {"name": f"dc_ipc{ipc}_update", "images": len(images), "steps": steps, "seconds": seconds, "cpu_seconds": cpu}
    row |= {**took, "peak_bytes": peak_bytes(step), "convolution": convolution_of(step)}
    return compared(row, moved(theta, after), theirs, SAME_TRAINING)


def moved(before: PyTree, after: PyTree) -> dict[str, Array]:
    return {"moved": after["conv_0"]["kernel"] - before["conv_0"]["kernel"]}


def evaluation_epoch(repeats: int, *, width: int = 128, ipc: int = 10, steps: int = 10) -> Row:
    """An epoch of the evaluation of DSA and DM, the mean of several, one network as on CPUs.

    Compared without augmentation; PyTorch flips instead.
    """
    network = models.build("convnet", IMAGE, CLASSES, width=width)
    images, labels = synthetic(CLASSES * ipc)
    theta, stats = network.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), 1)
    protocol = dataclasses.replace(evaluation.protocols.get("dsa"), epochs=steps, schedule="constant", milestones=())
    (rate,) = protocol.learning_rates

    def trained(network: Network, protocol: evaluation.Protocol, images: Array) -> Fitted:
        return fit(network, images[None], labels[None], protocol, [rate], keys)

    step = jax.jit(functools.partial(trained, network, protocol)).lower(images).compile()
    seconds, cpu = timed(step, images, repeats=repeats)
    plain = dataclasses.replace(protocol, augmentation="none")
    after = jax.tree.map(lambda leaf: leaf[0], trained(held(network, theta, stats), plain, images).theta)
    arrays = {"images": images, "labels": labels, "rate": rate, "momentum": protocol.momentum}
    arrays |= {"decay": protocol.weight_decay, "steps": steps}
    _, theirs = peer("train", theta, arrays | {"flips": False}, 1)
    took, _ = peer("train", theta, arrays | {"flips": True}, repeats)
    row = {"name": f"eval_epoch_ipc{ipc}", "images": len(images), "seconds": seconds / steps}
    row |= {"cpu_seconds": cpu / steps, **took}
    row |= {name: took[name] / steps for name in ("peer_seconds", "peer_cpu_seconds") if took}
    row |= {"peak_bytes": peak_bytes(step), "convolution": convolution_of(step)}
    return compared(row, moved(theta, after), theirs, SAME_TRAINING)


def test_pass(repeats: int, *, width: int = 128, count: int = 10_000) -> Row:
    """The accuracy of one network on real images."""
    network = models.build("convnet", IMAGE, CLASSES, width=width)
    theta, stats = network.init(jax.random.key(0))
    trained = Fitted(*jax.tree.map(lambda leaf: leaf[None], (theta, stats)))
    test = Examples(*map(np.asarray, real_batch(count)))
    seconds, cpu = timed(accuracy, network, trained, test, repeats=repeats)
    program = count_correct.lower(trained, *next(blocks(test)), network=network).compile()
    took, theirs = peer("test_pass", theta, {"real_images": test.images, "real_labels": test.labels}, repeats)
    row = {"name": "test_pass", "images": len(test.labels), "seconds": seconds, "cpu_seconds": cpu, **took}
    row |= {"peak_bytes": peak_bytes(program), "convolution": convolution_of(program)}
    ours = {"accuracy": accuracy(network, trained, test)}
    return compared(row, ours, theirs, {"accuracy": 2e-2})


def matching(repeats: int) -> Suite:
    """What the matching family and its evaluation cost beside the originals."""
    for name, config in (
        ("dm_ipc1", methods.DM(ipc=1)),
        ("dm_ipc10", methods.DM(ipc=10)),
        ("dc_ipc1", methods.DC(ipc=1)),
        ("dc_ipc10_match", methods.DC(ipc=10, matching_steps=1)),  # so the network is not trained
        ("dsa_ipc1", methods.DSA(ipc=1)),
    ):
        yield name, functools.partial(matching_update, name, config, repeats)
    yield "dc_ipc10_update", functools.partial(network_update, max(1, repeats // 2))
    yield "eval_epoch_ipc10", functools.partial(evaluation_epoch, repeats)
    yield "test_pass", functools.partial(test_pass, repeats)
