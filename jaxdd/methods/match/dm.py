"""DM (Zhao & Bilen 2023, "Dataset Condensation with Distribution Matching", https://arxiv.org/abs/2110.04181)."""

from __future__ import annotations

import dataclasses

import jax

from jaxdd import losses
from jaxdd.methods._registry import method
from jaxdd.methods.match._matching import Match, Matching, match_layers, matching
from jaxdd.synthetic import pixels
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class DM(Matching):
    """Hyper-parameters of DM, the paper's for up to 50 images per class: those of `Matching`."""

    augmentation: str = "dsa"
    learning_rate: float = 1.0


@method(DM)
def dm(config: DM) -> Recipe:
    """Distribution Matching: match the mean features of random networks.

    Minimises `sum_c |mean f(real of class c) - mean f(synthetic of class c)|²` (eq. 6), with the penultimate features
    f of a new random network in every update.
    """
    return matching(config, pixels(config.ipc, init=config.init), objective(config))


def objective(config: DM) -> Match:
    """What DM minimises."""

    def distance(real, synthetic, key):
        return jax.vmap(losses.mean_feature_matching)(real, synthetic).sum()

    return match_layers(config, lambda layers: layers[-2], distance)
