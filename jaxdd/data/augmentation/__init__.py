"""Random changes of images: pure functions of a key.

An augmentation is a pair: `draw(key, count)` gives the parameters, `apply(images, draw)` uses them. So what was drawn
can be stored and replayed. One draw applied to two batches is what "siamese" means; a draw for every image is what
networks are trained with. Images are in the space that networks see: zero, with which borders and holes are filled, is
the mean pixel there.
"""

from jaxdd.data.augmentation.contract import Augmentation, chain
from jaxdd.data.augmentation.curricula import CURRICULA, crop_curriculum
from jaxdd.data.augmentation.mixing import Mixture, cutmix, cutmix_draw, mixed, mixup, mixup_draw
from jaxdd.data.augmentation.names import named
from jaxdd.data.augmentation.operations import DSA, DSA_DIGITS, FREPO, Draw, frepo, resized_crop, siamese
from jaxdd.data.augmentation.rearranging import roll, shuffle_patches

__all__ = [
    "CURRICULA",
    "DSA",
    "DSA_DIGITS",
    "FREPO",
    "Augmentation",
    "Draw",
    "Mixture",
    "chain",
    "crop_curriculum",
    "cutmix",
    "cutmix_draw",
    "frepo",
    "mixed",
    "mixup",
    "mixup_draw",
    "named",
    "resized_crop",
    "roll",
    "shuffle_patches",
    "siamese",
]
