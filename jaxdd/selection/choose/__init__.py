"""Rules of choice, each a plain function over one group of points: arrays in, int32 rows out, in order of choice.

All take how many to choose, k, and a key where they draw; CRAIG and GradMatch give `(rows, weights)`. `mask=` says
which points count, so that groups of different sizes, filled up to one, are one compiled program (`selection.by_class`
does that). Greedy rules choose what the plain loop over all points chooses, of equal points the lowest row, up to the
rounding of float32, and 50,000 points never need a matrix of all pairs.
"""

from __future__ import annotations

from jaxdd.selection.choose._bins import dataset_quantization
from jaxdd.selection.choose.covering import k_center
from jaxdd.selection.choose.drawn import stratified, uniform
from jaxdd.selection.choose.gradients import glister, grad_match
from jaxdd.selection.choose.means import herding, k_means, moderate
from jaxdd.selection.choose.scored import ccs, easiest, hardest
from jaxdd.selection.choose.submodular import craig, facility_location, graph_cut

__all__ = [
    "ccs",
    "craig",
    "dataset_quantization",
    "easiest",
    "facility_location",
    "glister",
    "grad_match",
    "graph_cut",
    "hardest",
    "herding",
    "k_center",
    "k_means",
    "moderate",
    "stratified",
    "uniform",
]
