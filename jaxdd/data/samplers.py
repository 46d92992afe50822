"""Which real examples one step sees: pure functions of a key and the labels, cheap inside `lax.scan`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._numbers import by_class, of_each, whole
from jaxdd.errors import JaxddError
from jaxdd.types import Array, Indices, Key, Labels

Sampler = Callable[[Key, Labels], Indices]


def balanced_sampler(batch_size: int) -> Sampler:
    """Class-balanced batches, with replacement: `sample(key, labels)` gives int32 `(batch_size,)`.

    Every class gets `batch_size // classes` places; the remaining places go to different classes drawn at random, so
    each class has the same expected number in every batch. Costs O(batch_size + classes).

    Raises:
      JaxddError: `batch_size` is not a positive integer; (while tracing) a class without examples.
    """
    whole(batch_size, "batch_size")

    def sample(key: Key, labels: Labels) -> Indices:
        _check_filled(labels)
        class_key, member_key = jax.random.split(key)
        shuffled = jax.random.permutation(class_key, labels.num_classes)
        classes = shuffled[np.arange(batch_size) % labels.num_classes]
        counts = jnp.asarray(labels.counts, jnp.int32)[classes]
        member = jax.random.randint(member_key, (batch_size,), 0, counts)
        return labels.order[jnp.asarray(labels.starts)[classes] + member]

    return sample


def class_sampler(per_class: int) -> Sampler:
    """As many examples of every class, in the order of the classes, with replacement.

    `sample(key, labels)` gives int32 `(classes * per_class,)`: what matching methods reshape to one batch a class.

    Raises:
      JaxddError: `per_class` is not a positive integer; (while tracing) a class without examples.
    """
    whole(per_class, "real examples of each class")

    def sample(key: Key, labels: Labels) -> Indices:
        _check_filled(labels)
        counts = np.asarray(labels.counts, np.int32)[:, None]
        member = jax.random.randint(key, (labels.num_classes, per_class), 0, counts)
        return labels.order[(labels.starts[:, None] + member).ravel()]

    return sample


def uniform_sampler(batch_size: int) -> Sampler:
    """Batches uniform over all examples, with replacement: `sample(key, labels)` gives int32 `(batch_size,)`."""
    whole(batch_size, "batch_size")

    def sample(key: Key, labels: Labels) -> Indices:
        return jax.random.randint(key, (batch_size,), 0, labels.values.shape[0], jnp.int32)

    return sample


EpochSampler = Callable[[Key, Labels, Array], Indices]


def epoch_sampler(batch_size: int, *, complete: bool = False) -> EpochSampler:
    """Batches of an order of all examples that is drawn anew for each epoch: `sample(key, labels, step)`.

    A last batch that is not whole is left out, as an epoch's `len // batch_size` steps do. The key is the same at every
    step.

    Args:
      complete: fill such a batch up with some of the one before it instead, so that every epoch has every example. The
        order is that of `shuffled`, so a step costs nothing that grows with the data; without it all of it is drawn at
        every step, 27 CPU-milliseconds for 60,000 examples.

    Raises:
      JaxddError: `batch_size` is not a positive integer; (while tracing) more than there are examples.
    """
    if complete:
        return _rounds(batch_size, lambda count: epoch_steps(count, batch_size, complete=True))
    whole(batch_size, "batch_size")

    def sample(key: Key, labels: Labels, step: Array) -> Indices:
        count = _enough(labels, batch_size)
        batches = count // batch_size
        order = jax.random.permutation(jax.random.fold_in(key, step // batches), count).astype(jnp.int32)
        return jax.lax.dynamic_slice_in_dim(order, step % batches * batch_size, batch_size)

    return sample


def repeated_sampler(batch_size: int, share: float, *, replacement: bool) -> EpochSampler:
    """RS2, repeated random sampling (Okanovic et al. 2024, arXiv:2305.18424): every epoch has a random share of the
    examples, and so few steps: `epoch_steps(len, batch_size, share)`.

    It is `sample(key, labels, step)`; the key is the same at every step, and a step costs nothing that grows with the
    data. The learning rate is to fall over the steps that there are, `epochs * epoch_steps(..)`; nothing else about the
    training changes.

    Without replacement the epochs walk through one order of all examples, a share after the other, and draw another
    order when it is exhausted. So these are the batches of ordinary epochs of all examples, whatever the share: nothing
    but the schedule is compressed.

    Args:
      share: of the examples, in (0, 1]; what is not a whole batch of it is left out.
      replacement: each epoch draws its examples from all of them, without repeats within it, whatever others had.

    Raises:
      JaxddError: `batch_size` is not a positive integer, the share not in its range; (while tracing) a batch is more
        than there are examples.

    Example:
        steps = epochs * data.epoch_steps(spec.length(), 128, share=0.1)
        optimizer = optax.sgd(optax.cosine_decay_schedule(0.1, steps), momentum=0.9)
        sampler = data.repeated_sampler(128, 0.1, replacement=False)
        recipe = training.supervised("convnet", optimizer, batch_size=128, sampler=sampler)
    """
    _check_share(share)
    of_round = share if replacement else 1.0
    return _rounds(batch_size, lambda count: epoch_steps(count, batch_size, of_round))


def epoch_steps(count: int, batch_size: int, share: float = 1.0, *, complete: bool = False) -> int:
    """Steps of an epoch of a share of so many examples, at least 1.

    Args:
      share: in (0, 1].
      complete: count a last batch that is not whole, too.

    Raises:
      JaxddError: if the number of examples or the batch is no whole number of at least 1, or the share is not in its
        range.
    """
    count, batch_size = whole(count, "the number of examples"), whole(batch_size, "batch_size")
    _check_share(share)
    of_epoch = int(share * count + 1e-6)  # 0.29 * 100 is 28.999..
    return max(1, -(-of_epoch // batch_size) if complete else of_epoch // batch_size)


def shuffled(key: Key, count: int, places: Array) -> Indices:
    """What stands at some places, int `(b,)` in `[0, count)`, of a random order of so many numbers: int32 `(b,)`.

    Different places have different numbers. Each is computed by itself, by eight rounds of a Feistel network over the
    next power of two, again and again until it is below `count` (Black & Rogaway 2002, "Ciphers with Arbitrary Finite
    Domains": cycle walking). So the cost is that of the places, where `jax.random.permutation` sorts all numbers.
    """
    bits = max(2, (count - 1).bit_length())
    wide, narrow = bits - bits // 2, bits // 2
    keys = jax.random.bits(key, (8,), jnp.uint32)

    def once(x: Array) -> Array:
        for number, of_round in enumerate(keys):
            # The lower part goes up as it is, and the upper one, mixed with it, down: of odd bits, in turn one more.
            low = wide if number % 2 else narrow
            lower, upper = x & np.uint32(2**low - 1), x >> np.uint32(low)
            mixed = (upper ^ _mixed(lower ^ of_round)) & np.uint32(2 ** (bits - low) - 1)
            x = (lower << np.uint32(bits - low)) | mixed
        return x

    def go_on(x: Array) -> Array:
        return jnp.any(x >= count)

    x = once(jnp.asarray(places, jnp.uint32))
    x = jax.lax.while_loop(go_on, lambda x: jnp.where(x >= count, once(x), x), x)
    return x.astype(jnp.int32)


def _mixed(x: Array) -> Array:
    """uint32 to uint32: each bit depends on all (the finaliser of MurmurHash3, Appleby 2011)."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def _rounds(batch_size: int, steps_of: Callable[[int], int]) -> EpochSampler:
    """The first `steps_of(examples)` batches of an order of all examples, then those of another order."""
    whole(batch_size, "batch_size")

    def sample(key: Key, labels: Labels, step: Array) -> Indices:
        count = _enough(labels, batch_size)
        steps = steps_of(count)
        first = jnp.minimum(step % steps * batch_size, count - batch_size)  # of a complete epoch's last batch
        places = first + jnp.arange(batch_size, dtype=jnp.int32)
        return shuffled(jax.random.fold_in(key, step // steps), count, places)

    return sample


def _enough(labels: Labels, batch_size: int) -> int:
    """How many examples there are, for a batch at least."""
    count = labels.values.shape[0]
    if count < batch_size:
        raise JaxddError(f"an epoch of {count} examples has no batch of {batch_size}")
    return count


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise JaxddError(f"a share of the examples is above 0 and at most 1, got {share}.")


def balanced_choice(key: Key, labels: Labels, per_class: int | Sequence[int]) -> Indices:
    """`per_class` different examples of each class, sorted by class: int32 `(classes * per_class,)`.

    Sorts all labels once; meant for initialisation, not for every step. By one key fewer examples of a class are among
    the more.

    Args:
      per_class: one number for all classes, or one for each, which may be 0: then int32 `(sum(per_class),)`.

    Raises:
      JaxddError: `per_class` is not an integer of at least 1, has not one for each class, or is larger than a class.
    """
    counts = of_each(by_class(per_class, "images per class", least=0), labels.num_classes, "images per class")
    _check_filled(labels, counts)
    scarcest = int(np.argmin(np.subtract(labels.counts, counts)))
    if counts[scarcest] > labels.counts[scarcest]:
        raise JaxddError(
            f"images per class is {counts[scarcest]}, but class {scarcest} has only {labels.counts[scarcest]} examples"
        )
    return _chosen(key, labels, counts)


@functools.partial(jax.jit, static_argnums=2)  # one program, not one for each operation, where nothing else is compiled
def _chosen(key: Key, labels: Labels, counts: tuple[int, ...]) -> Indices:
    scores = jax.random.bits(key, labels.order.shape)
    shuffled = jnp.lexsort((scores, labels.values[labels.order]))  # within each class; classes stay in place
    first = [start + np.arange(count) for start, count in zip(labels.starts, counts, strict=True)]
    return labels.order[shuffled[np.concatenate(first)]]


def _check_filled(labels: Labels, wanted: Sequence[int] | None = None) -> None:
    """Raises JaxddError for a class without examples of which some are wanted; by default of every class."""
    for k, count in enumerate(labels.counts):
        if not count and (wanted is None or wanted[k]):
            raise JaxddError(f"class {k} has no examples")
