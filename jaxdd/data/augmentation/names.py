"""Augmentations by name."""

from __future__ import annotations

from collections.abc import Callable

from jaxdd.data.augmentation.contract import Augmentation, chain
from jaxdd.data.augmentation.operations import DSA_DIGITS, FREPO, OPERATIONS, frepo, resized_crop, siamese
from jaxdd.data.augmentation.rearranging import shuffle_patches
from jaxdd.errors import unknown


def named(name: str) -> Augmentation:
    """An augmentation by name, or by a strategy of `siamese`.

    "dsa" and "dsa-digits" (without flips) are Zhao & Bilen's; "idc" and "idc-digits" what IDC and NCFM train with
    beside CutMix (colour and flip always, one of crop, scale, rotate); "idc-match" and "idc-train" what they match, and
    train their networks, with (colour, crop and cutout; colour and crop); "frepo" and "frepo-digits" FRePo's;
    "crop-flip" and "crop-flip-digits" shifts by up to an eighth and flips, what networks for small images usually are
    trained with; "resized-crop" and "resized-crop-digits" (without flips) crops of 8 to 100 % of the area, resized, and
    flips, what networks for large images are trained with; "shuffle-crop" and "shuffle-crop-digits" (without flips)
    what RDED trains on mosaics of two by two with: their parts shuffled, crops of 50 to 100 %, and flips; "flip-digits"
    the identity, for digits where others flip;
    "views" and "views-digits" (without flips, with rotations) what two views of an image are drawn by for
    self-supervised learning: a crop of 30 to 100 % of the area, resized, a flip, and colour; "none" the identity.

    Raises:
      JaxddError: for what is neither, suggesting the nearest name.
    """
    if name in _NAMED:
        return _NAMED[name]()
    if "_" in name or name in (*OPERATIONS, "none", ""):
        return siamese(name)
    raise unknown("augmentation", name, (*_NAMED, *OPERATIONS, "none"))


_NAMED: dict[str, Callable[[], Augmentation]] = {
    "dsa": siamese,
    "dsa-digits": lambda: siamese(DSA_DIGITS),
    "idc": lambda: siamese("color_crop_flip_scale_rotate", always="flip_color"),
    "idc-digits": lambda: siamese("color_crop_scale_rotate", always="color"),
    "idc-match": lambda: siamese("color_crop_cutout", always="color_crop_cutout"),
    "idc-train": lambda: siamese("color_crop", always="color_crop"),
    "frepo": frepo,
    "frepo-digits": lambda: frepo(FREPO.removeprefix("flip_")),
    "crop-flip": lambda: siamese("crop_flip", always="crop_flip"),
    "crop-flip-digits": lambda: siamese("crop", always="crop"),
    "resized-crop": resized_crop,
    "resized-crop-digits": lambda: resized_crop(flip=False),
    "shuffle-crop": lambda: chain(shuffle_patches(2), resized_crop((0.5, 1.0))),
    "shuffle-crop-digits": lambda: chain(shuffle_patches(2), resized_crop((0.5, 1.0), flip=False)),
    "flip-digits": lambda: siamese("none"),
    "views": lambda: chain(resized_crop((0.3, 1.0)), siamese("color", always="color")),
    "views-digits": lambda: chain(resized_crop((0.3, 1.0), flip=False), siamese("color_rotate", always="color_rotate")),
}
