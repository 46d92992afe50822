"""Random changes of images: pure functions of a key.

An augmentation is a pair: `draw(key, count)` gives the parameters, `apply(images, draw)` uses them. So what was drawn
can be stored and replayed. One draw applied to two batches is what "siamese" means; a draw for every image is what
networks are trained with. Images are in the space that networks see: zero, with which borders and holes are filled, is
the mean pixel there.
"""

from jaxdd.data.augmentation.contract import Augmentation, chain
from jaxdd.data.augmentation.curricula import CURRICULA, crop_curriculum
from jaxdd.data.augmentation.mixing import cutmix, mixup
from jaxdd.data.augmentation.names import named
from jaxdd.data.augmentation.operations import DSA, DSA_DIGITS, FREPO, Draw, frepo, resized_crop, siamese
from jaxdd.data.augmentation.rolling import roll

__all__ = [
    "CURRICULA",
    "DSA",
    "DSA_DIGITS",
    "FREPO",
    "Augmentation",
    "Draw",
    "chain",
    "crop_curriculum",
    "cutmix",
    "frepo",
    "mixup",
    "named",
    "resized_crop",
    "roll",
    "siamese",
]
