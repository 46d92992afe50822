"""The learnable set: parameterisations, their optimisers, label codecs, and the file a distilled set travels in."""

from jaxdd.synthetic.bases import linear_bases, rows_for_budget
from jaxdd.synthetic.budget import images_within, within_budget
from jaxdd.synthetic.codecs import label_bits, label_codec, labelled_by, labels_of
from jaxdd.synthetic.continued import Continued, continued
from jaxdd.synthetic.dataset import FORMAT_VERSION, DistilledDataset
from jaxdd.synthetic.fitted import FITTED, fitted
from jaxdd.synthetic.frequencies import frequencies
from jaxdd.synthetic.labels import learned_labels
from jaxdd.synthetic.multi_formation import multi_formation
from jaxdd.synthetic.named import named
from jaxdd.synthetic.neural_fields import neural_fields
from jaxdd.synthetic.optimize import clip_by_running_norm, descend, moving_average, per_leaf
from jaxdd.synthetic.pairs import pairs
from jaxdd.synthetic.parameterisation import Fit, Params, Rendered, SyntheticSet, render, with_mirror_images
from jaxdd.synthetic.patches import Inpainter, filled, patch_cost
from jaxdd.synthetic.pixels import clipped, corrupted, pixel_range, pixels, unit_norm
from jaxdd.synthetic.rates import learning_rates

__all__ = [
    "FITTED",
    "FORMAT_VERSION",
    "Continued",
    "DistilledDataset",
    "Fit",
    "Inpainter",
    "Params",
    "Rendered",
    "SyntheticSet",
    "clip_by_running_norm",
    "clipped",
    "continued",
    "corrupted",
    "descend",
    "filled",
    "fitted",
    "frequencies",
    "images_within",
    "label_bits",
    "label_codec",
    "labelled_by",
    "labels_of",
    "learned_labels",
    "learning_rates",
    "linear_bases",
    "moving_average",
    "multi_formation",
    "named",
    "neural_fields",
    "pairs",
    "patch_cost",
    "per_leaf",
    "pixel_range",
    "pixels",
    "render",
    "rows_for_budget",
    "unit_norm",
    "with_mirror_images",
    "within_budget",
]
