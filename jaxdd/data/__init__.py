"""Real data in, as arrays: sources, splits, transforms that know their inverse, augmentation, samplers.

`load` finds a data set by name or path, `from_arrays` takes the user's own `(x, y)`; both give a `Dataset` of NumPy
arrays with a train / validation / test split. Nothing here imports TensorFlow unless TFDS has to prepare a set.
"""

from __future__ import annotations

from jaxdd.data.augmentation import Augmentation, cutmix, siamese
from jaxdd.data.dataset import Dataset, Split, compact_data, from_arrays, real_data
from jaxdd.data.resizing import resized
from jaxdd.data.samplers import (
    balanced_choice,
    balanced_sampler,
    class_sampler,
    epoch_sampler,
    epoch_steps,
    repeated_sampler,
    uniform_sampler,
)
from jaxdd.data.sources import available, load
from jaxdd.data.transforms import (
    PUBLISHED,
    ZCA,
    Chain,
    Identity,
    Standardize,
    Transform,
    fit_transform,
    transform_from_tensors,
    transform_to_tensors,
)

__all__ = [
    "PUBLISHED",
    "ZCA",
    "Augmentation",
    "Chain",
    "Dataset",
    "Identity",
    "Split",
    "Standardize",
    "Transform",
    "available",
    "balanced_choice",
    "balanced_sampler",
    "class_sampler",
    "compact_data",
    "cutmix",
    "epoch_sampler",
    "epoch_steps",
    "fit_transform",
    "from_arrays",
    "load",
    "real_data",
    "repeated_sampler",
    "resized",
    "siamese",
    "transform_from_tensors",
    "transform_to_tensors",
    "uniform_sampler",
]
