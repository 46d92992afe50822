"""Wrong methods that the tests once let pass: always among the mutants, written down as patches.

A patch whose text is not in its file exactly once says so; then it is to be written anew.
"""

from __future__ import annotations

import pathlib
from typing import NamedTuple

from mutants.source import Mutant, Unappliable, make


class Patch(NamedTuple):
    """`before` becomes `after` in a file of the package; `wrong` says what that makes of it."""

    path: str
    before: str
    after: str
    wrong: str


_MOMENTUM = "dataclasses.replace(config, momentum=0.0)"

LISTED = {
    "dsa_network_without_augmentation": Patch(
        "methods/match/dc.py",
        "return augment.apply(images, augment.draw(key, batch)), labels",
        "return images, labels",
        "DSA trains its network without augmentation",
    ),
    "ncfm_always_network_0": Patch(
        "methods/match/ncfm.py",
        "chosen = jax.random.randint(key_networks, (1, 1), 0, config.networks)",
        "chosen = jnp.zeros((1, 1), jnp.int32)",
        "NCFM always takes its first network",
    ),
    "ncfm_with_adam": Patch(
        "methods/match/ncfm.py",
        "of_all - config.learning_rate * _DECAY * (of_all - black)",
        "of_all",
        "NCFM has Adam instead of AdamW",
    ),
    "cafe_renews_before_its_window_is_full": Patch(
        "methods/match/cafe.py",
        "settled = full(accuracies) & (spread(accuracies) < config.renewal)",
        "settled = spread(accuracies) < config.renewal",
        "CAFE renews its network before its window is full",
    ),
    "cafe_trains_without_a_full_window": Patch(
        "methods/match/cafe.py",
        "~(full(carry[2]) & (spread(carry[2]) > config.change))",
        "~(spread(carry[2]) > config.change)",
        "CAFE stops training its network before the window is full",
    ),
    "dd_without_decay": Patch(
        "methods/unrolled/dd.py",
        "optax.exponential_decay(config.learning_rate, config.decay_every, 0.5, staircase=True)",
        "optax.constant_schedule(config.learning_rate)",
        "DD's learning rate stays where it starts",
    ),
    "rat_bptt_without_clip": Patch(
        "methods/unrolled/_windowed.py",
        "optax.chain(clip_by_running_norm(factor=config.clip), optax.adam(config.learning_rate))",
        "optax.adam(config.learning_rate)",
        "RaT-BPTT does not cut long gradients",
    ),
    "bptt_without_momentum": Patch(
        "methods/unrolled/bptt.py",
        "return through_time(config, pixels(",
        f"return through_time({_MOMENTUM}, pixels(",
        "BPTT trains its networks without momentum",
    ),
    "linba_without_momentum": Patch(
        "methods/unrolled/linba.py",
        "return through_time(config, bases, penalty)",
        f"return through_time({_MOMENTUM}, bases, penalty)",
        "LinBa trains its networks without momentum",
    ),
    "linba_without_penalty": Patch(
        "methods/unrolled/linba.py",
        "return through_time(config, bases, penalty)",
        "return through_time(config, bases)",
        "LinBa's coefficients cost nothing",
    ),
    "unbalanced_class_sampler": Patch(
        "data/samplers.py",
        "return labels.order[(labels.starts[:, None] + member).ravel()]",
        "return jax.random.randint(key, (labels.num_classes * per_class,), 0, len(labels.order))",
        "what should be a batch of each class is of any",
    ),
    "unbalanced_sampler": Patch(
        "data/samplers.py",
        "classes = shuffled[np.arange(batch_size) % labels.num_classes]",
        "classes = jax.random.randint(class_key, (batch_size,), 0, labels.num_classes)",
        "balanced batches have classes at random",
    ),
    "unbalanced_inner_batches": Patch(
        "methods/unrolled/_bilevel.py",
        "return inner.balanced_plan(key, num_classes, ipc, per_class, steps)",
        "return inner.epoch_plan(key, num_images, num_classes * per_class, steps)",
        "inner steps see batches of any classes",
    ),
    "gradients_in_evaluation_mode": Patch(
        "methods/match/_matching.py",
        "stats = models.frozen_statistics(network, theta, mixed, stats)",
        "stats = stats",
        "gradients are matched with running statistics, not with those of a mixed batch",
    ),
    "layers_in_evaluation_mode": Patch(
        "methods/match/_matching.py",
        'return lambda images: see(network.layers(start.theta, images, start.stats, mode="batch")[0])',
        'return lambda images: see(network.layers(start.theta, images, start.stats, mode="eval")[0])',
        "layers are matched in evaluation mode",
    ),
    "real_batch_in_evaluation_mode": Patch(
        "methods/unrolled/_bilevel.py",
        'logits, _ = network.apply(theta, images, start.stats, mode="batch")',
        'logits, _ = network.apply(theta, images, start.stats, mode="eval")',
        "the bilevel family measures real batches in evaluation mode",
    ),
}


def listed(root: pathlib.Path) -> list[Mutant]:
    """The listed mutants of a tree.

    Raises:
      Unappliable: names every patch that does not fit it any more.
    """
    found, lost = [], []
    for name, patch in LISTED.items():
        path = f"jaxdd/{patch.path}"
        content = (root / path).read_bytes() if (root / path).exists() else b""
        begin = content.find(patch.before.encode())
        if content.count(patch.before.encode()) != 1:
            lost.append(f"{name} ({path} has {patch.before!r} {content.count(patch.before.encode())} times, not once)")
            continue
        span = begin, begin + len(patch.before.encode())
        found.append(make(path, content, "listed", span, patch.after, name))
    if lost:
        raise Unappliable(f"listed mutants do not fit this tree any more, write them anew: {'; '.join(lost)}.")
    return found
