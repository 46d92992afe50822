"""DataDAM (Sajedi et al. 2023, "DataDAM: Efficient Dataset Distillation with Attention Matching", ICCV)."""

from __future__ import annotations

import dataclasses

import jax

from jaxdd import losses
from jaxdd.errors import JaxddError
from jaxdd.methods._hyper import at_least, field, positive
from jaxdd.methods._registry import method
from jaxdd.methods.match._matching import Match, Matching, match_layers, matching
from jaxdd.synthetic import pixels
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class DataDAM(Matching):
    """Hyper-parameters of DataDAM, as in the authors' code: those of `Matching`, and

    Attributes:
      exponent: of the activations in an attention map; the paper has 4, the code 1.
      attention_weight: of the distance of attention maps.
      feature_weight: of the squared distance of the mean features, relative to that.
    """

    target_per_class: int = 64
    augmentation: str = "dsa"
    learning_rate: float = 1.0
    exponent: float = field(1.0, positive)
    attention_weight: float = field(100.0, positive)
    feature_weight: float = field(0.01, at_least(0))


@method(DataDAM)
def datadam(config: DataDAM) -> Recipe:
    """DataDAM: match the spatial attention of random networks' layers, and their features.

    Minimises `w sum_c (sum_l |mean A_l(real) - mean A_l(synthetic)|² + λ |mean f(real) - mean f(synthetic)|²)` over the
    attention maps A of all layers of a new random network but the last, and its penultimate features f, which are what
    the authors' code takes for its output.
    """
    return matching(config, pixels(config.ipc, init=config.init), objective(config))


def objective(config: DataDAM) -> Match:
    """What DataDAM minimises."""

    def see(layers):
        *maps, features, _ = layers
        if len(maps) < 2 or any(each.ndim != 4 for each in maps[:-1]):
            raise JaxddError("datadam needs a convolutional network of at least two layers before its features.")
        return [losses.attention_map(each, config.exponent) for each in maps[:-1]], features

    def distance(real, synthetic, key):
        attention, features = (
            jax.vmap(losses.mean_feature_matching)(*sides).sum() for sides in zip(real, synthetic, strict=True)
        )
        return config.attention_weight * (attention + config.feature_weight * features)

    return match_layers(config, see, distance)
