"""Several images in the place of one."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._numbers import whole
from jaxdd.data import balanced_choice
from jaxdd.errors import JaxddError
from jaxdd.synthetic.parameterisation import Params, Rendered, SyntheticSet
from jaxdd.synthetic.resizing import bilinear, map_sides, nearest
from jaxdd.types import Key, Labels, RealData


def multi_formation(base: SyntheticSet, factor: int) -> SyntheticSet:
    """Every image of `base` is a mosaic of `factor * factor` tiles, each upsampled to full size (Kim et al. 2022, IDC).

    Rendered are the tiles of the first image row by row, then those of the second, and so on; labels are repeated.
    Where the sides do not divide, tiles differ by one pixel. `base` sees mosaics of distinct real images of one class,
    made smaller by leaving out rows and columns (`resizing.nearest`, as the authors do), as its real data: so that is
    what real images at the start are.

    Args:
      base: any parameterisation.
      factor: tiles along each side, at least 2.

    Raises:
      JaxddError: for a bad factor; (in `init`) images smaller than that, or a class too small for one mosaic.
    """
    whole(factor, "the factor of multi_formation", 2)

    def init(key: Key, data: RealData) -> Params:
        key_mosaics, key_base = jax.random.split(key)
        return base.init(key_base, _mosaics(key_mosaics, data, factor))

    def render(params: Params) -> Rendered:
        images, labels, rates = base.render(params)
        _, height, width, _ = images.shape
        tiles = map_sides("iHy,jWx,myxc->mijHWc", _enlarge(height, factor), _enlarge(width, factor), images)
        return Rendered(tiles.reshape(-1, *images.shape[1:]), jnp.repeat(labels, factor**2, axis=0), rates)

    return base._replace(
        init=init,
        render=render,
        decoder=f"multi_formation({base.decoder})",
        counts=base.counts and tuple(factor**2 * count for count in base.counts),
        fit=None,  # its images would be others than these
    )


def _mosaics(key: Key, data: RealData, factor: int) -> RealData:
    """As many mosaics of distinct real images as the smallest class allows, of each class."""
    _, height, width, channels = data.images.shape
    if factor > min(height, width):
        raise JaxddError(f"images of {height}x{width} pixels cannot be cut into {factor}x{factor} tiles.")
    smallest = int(np.argmin(data.labels.counts))
    per_class = data.labels.counts[smallest] // factor**2
    if per_class < 1:
        raise JaxddError(
            f"a mosaic takes {factor**2} images of a class, but class {smallest} has {data.labels.counts[smallest]}."
        )
    chosen = balanced_choice(key, data.labels, per_class * factor**2)
    images = data.images[chosen].reshape(-1, factor, factor, height, width, channels)
    images = map_sides("iyH,jxW,mijHWc->myxc", _shrink(height, factor), _shrink(width, factor), images)
    return RealData.of(images, Labels.index(np.repeat(np.arange(data.labels.num_classes), per_class)))


@functools.cache
def _enlarge(size: int, factor: int) -> np.ndarray:
    """`(factor, size, size)`: the i-th matrix makes the i-th tile as large as the whole."""
    return _stacked(size, factor, lambda tile: bilinear(size, tile))


@functools.cache
def _shrink(size: int, factor: int) -> np.ndarray:
    """`(factor, size, size)`: the i-th matrix makes the whole as small as the i-th tile, and puts it there."""
    return _stacked(size, factor, lambda tile: nearest(tile, size).T).transpose(0, 2, 1)


def _stacked(size: int, factor: int, to_tile) -> np.ndarray:
    stacked = np.zeros((factor, size, size))
    edges = np.arange(factor + 1) * size // factor
    for matrix, low, high in zip(stacked, edges[:-1], edges[1:], strict=True):
        matrix[:, low:high] = to_tile(high - low)
    return stacked
