"""Scores of examples by one network: pure functions, arrays in, one number an example out.

Those that need training (forgetting, areas under the margin, means over early networks) are made of these elsewhere.
"""

from __future__ import annotations

from jaxdd.selection.scores.gradients import grand, last_layer_gradients
from jaxdd.selection.scores.logits import el2n, entropy, least_confidence, loss, margin
from jaxdd.selection.scores.saliency import grad_cam, texture

__all__ = [
    "el2n",
    "entropy",
    "grad_cam",
    "grand",
    "last_layer_gradients",
    "least_confidence",
    "loss",
    "margin",
    "texture",
]
