"""The learnable set: parameterisations, their optimisers, and the file a distilled set travels in."""

from jaxdd.synthetic.dataset import FORMAT_VERSION, DistilledDataset
from jaxdd.synthetic.parameterisations import SyntheticSet, corrupted, descend, moving_average, per_leaf, pixels, render

__all__ = [
    "FORMAT_VERSION",
    "DistilledDataset",
    "SyntheticSet",
    "corrupted",
    "descend",
    "moving_average",
    "per_leaf",
    "pixels",
    "render",
]
