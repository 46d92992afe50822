"""Long inner trainings by Adam, a window of whose steps is differentiated."""

from __future__ import annotations

import dataclasses

import optax

from jaxdd import inner
from jaxdd.methods._hyper import at_least, field, more_than, positive
from jaxdd.methods.unrolled._bilevel import LEAN, Bilevel, Inner, bilevel, check_batches, class_batches
from jaxdd.synthetic import Continued, clip_by_running_norm, learned_labels, per_leaf, pixels
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class Windowed(Bilevel):
    """What RaT-BPTT and AT-BPTT have beside `Bilevel`; by default their papers' for CIFAR-10.

    Attributes:
      init: of the images; "unit" is noise of norm 1, the papers'.
      learn_labels: whether labels are learned, as non-negative vectors, beside the images.
      steps: inner steps of the longest run.
      per_class: images per class of an inner step; None for all. Papers that show some of the classes at a step
        (`task_sampler_nc`) are not followed in that.
      inner_learning_rate: of Adam on the network.
      learning_rate: of Adam on the images.
      label_learning_rate: of Adam on learned labels.
      clip: gradients of the images that are longer than so many times their running norm are cut.
      augmentation: flips or rotations by up to 15 degrees: one of the two for each step, with a draw for each image;
        likewise for the real batch.
    """

    ipc: int | tuple[int, ...] = 10
    target_batch: int = 5000
    augmentation: str = "flip_rotate"
    init: str | Continued = "unit"
    learn_labels: bool = False
    steps: int = field(200, at_least(1))
    per_class: int | None = field(None, at_least(1))
    inner_learning_rate: float = field(0.001, positive)
    learning_rate: float = field(0.001, positive)
    label_learning_rate: float = field(0.001, positive)
    clip: float = field(2.0, more_than(1))

    def check(self):
        super().check()
        check_batches(self)


def through_windows(config: Windowed, windows: inner.Windows) -> Recipe:
    """Backpropagation through a window of the inner training, to free pixels and, if asked for, their labels."""
    synthetic = pixels(config.ipc, init=config.init)
    if config.learn_labels:
        synthetic = learned_labels(synthetic, "raw", nonnegative=True)
    optimizers = {"images": optax.chain(clip_by_running_norm(factor=config.clip), optax.adam(config.learning_rate))}
    if config.learn_labels:
        optimizers["labels"] = optax.adam(config.label_learning_rate)
    return bilevel(
        config,
        synthetic,
        per_leaf(optimizers),
        Inner(
            inner.adam(),
            class_batches(config.per_class, config.steps),
            learning_rate=config.inner_learning_rate,
            windows=windows,
        ),
        lean=dataclasses.replace(LEAN, block=500),
    )
