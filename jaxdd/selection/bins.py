"""Bins of Dataset Quantization, in which every point is, how important they are, and points from them.

`choose.dataset_quantization` is the rule of choice that is made of these.
"""

from __future__ import annotations

from jaxdd.selection.choose._bins import bin_importance, from_bins, graph_cut_bins

__all__ = ["bin_importance", "from_bins", "graph_cut_bins"]
