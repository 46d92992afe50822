"""Choosing some of the real data: arrays in, rows out, no training.

* `choose`: rules over one group of points, such as `choose.herding(features, k)`;
* `bins`: the points of a group divided by graph cut, what `choose.dataset_quantization` draws from;
* `by_class`: any of them over the classes of a set, `of_every_class` while that is traced; `Selector`: with what they
  look at;
* `Selection`: what was chosen, in a safe file;
* `drop_patches`: images without their least salient patches;
* `scores`: what a network says of each example;
* `queries`: which examples to ask a teacher about;
* `diversity`: how many different examples there are in a set, and how well some stand for all.
"""

from __future__ import annotations

from jaxdd.selection import bins, choose, diversity, queries, scores
from jaxdd.selection.last_layer import LastLayer
from jaxdd.selection.patches import Patches, drop_patches, patch_scores
from jaxdd.selection.selector import Chosen, Selector, by_class, pixels
from jaxdd.selection.stored import Selection
from jaxdd.selection.traced import of_every_class

__all__ = [
    "Chosen",
    "LastLayer",
    "Patches",
    "Selection",
    "Selector",
    "bins",
    "by_class",
    "choose",
    "diversity",
    "drop_patches",
    "of_every_class",
    "patch_scores",
    "pixels",
    "queries",
    "scores",
]
