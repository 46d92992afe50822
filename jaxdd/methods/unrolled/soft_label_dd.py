"""Soft-label dataset distillation (Sucholutsky & Schonlau 2019, https://arxiv.org/abs/1910.02551)."""

from __future__ import annotations

import dataclasses

from jaxdd.methods._hyper import at_least, field, one_of
from jaxdd.methods._registry import method
from jaxdd.methods.unrolled.dd import DD, gradient_descent_set
from jaxdd.synthetic import learned_labels, pixels
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class SoftLabelDD(DD):
    """Hyper-parameters of soft-label distillation: those of `DD`, with which it shares everything but the labels.

    Attributes:
      classes: only the first so many classes get images (which then stand for the others too); None for all.
      labels: "raw" (any vectors, the paper) or "softmax" (probabilities).
    """

    classes: int | None = field(None, at_least(1))
    labels: str = field("raw", one_of(("raw", "softmax")))


@method(SoftLabelDD)
def soft_label_dd(config: SoftLabelDD) -> Recipe:
    """Dataset Distillation with learned label vectors; fewer images than classes are possible."""
    images = pixels(config.ipc, init=config.init, classes=config.classes)
    return gradient_descent_set(config, learned_labels(images, config.labels))
