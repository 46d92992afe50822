"""Updates of the matching family, the training of its networks, and their test."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import Row, Suite, convolution_of, peak_bytes, real_images, timed, update

from beside_pytorch.network import CLASSES, IMAGE, real_batch, synthetic
from beside_pytorch.peer import compared, peer
from jaxdd import engine, evaluation, inner, losses, methods, models
from jaxdd.evaluation.accuracy import accuracy, predict
from jaxdd.evaluation.arrays import blocks
from jaxdd.training import Fitted, fit
from jaxdd.types import Array, Examples, Key, Network, PyTree, bound

# Gradients of matching losses: a few ReLUs switch on both sides. They do in training, too, and from step to step more.
SAME_MATCHING = {"loss": 1e-3, "gradient": 3e-2}
SAME_TRAINING = {"moved": 0.1}


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
    program = predict.lower(trained, next(blocks(test))[0], network=network).compile()
    took, theirs = peer("test_pass", theta, {"real_images": test.images, "real_labels": test.labels}, repeats)
    row = {"name": "test_pass", "images": len(test.labels), "seconds": seconds, "cpu_seconds": cpu, **took}
    row |= {"peak_bytes": peak_bytes(program), "convolution": convolution_of(program)}
    ours = {"accuracy": accuracy(network, trained, test)}
    return compared(row, ours, theirs, {"accuracy": 2e-2})


def held(network: Network, theta: PyTree, stats: PyTree) -> Network:
    """The network, always with these weights at first."""
    return network._replace(init=lambda key: (theta, stats))


def moved(before: PyTree, after: PyTree) -> dict[str, Array]:
    return {"moved": after["conv_0"]["kernel"] - before["conv_0"]["kernel"]}
