"""Small distilled sets that travel with jaxdd.

    from jaxdd import sets
    dataset = sets.load("mnist_10")  # a DistilledDataset

A new one is a file `NAME.safetensors` in this folder and a row of `table.SETS`; `scripts/sets.py` makes both from the
row's command. All files together stay below `table.MOST` bytes.
"""

from __future__ import annotations

from jaxdd.sets.shelf import available, load, path
from jaxdd.sets.table import SETS, Row

__all__ = ["SETS", "Row", "available", "load", "path"]
