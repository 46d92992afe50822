"""Which examples of a pool to ask a teacher about: arrays in, int32 rows out, no training.

* `random`, `entropy`, `margin`: by chance, or where a student is unsure;
* `badge`, `k_center`, `pcoreset`: different ones, by gradients, features or probabilities;
* `robust`: for a teacher who is wrong at times, by the game `robust_game`.

All take `mask=`, the points that may be asked: a pool that shrinks from round to round keeps its shape, and so one
compiled program.
"""

from __future__ import annotations

from jaxdd.selection.queries.diverse import badge, k_center, pcoreset
from jaxdd.selection.queries.robust import Game, robust, robust_game
from jaxdd.selection.queries.uncertain import entropy, margin, random

__all__ = ["Game", "badge", "entropy", "k_center", "margin", "pcoreset", "random", "robust", "robust_game"]
