"""NNGP and NTK of infinitely wide convolutional networks.

Blocks of a 3 x 3 convolution with zero padding, an activation and 2 x 2 average pooling, then a linear read-out, in
the NTK parameterisation (weights of standard deviation w_std / sqrt(fan_in), fan_in = 9 channels). Sources: Novak et
al. (2019) for the NNGP, Arora et al. (2019) for the NTK; the network is KIP's (Nguyen et al. 2021, "ConvNet").

Pooling needs the covariance of pixel p of one image with every pixel p + o of the other. Convolutions and activations
act on each offset o alone, and a read-out of the flattened features sees offset 0 only; a pooling widens the offsets
of ±r behind it to ±(2r + 1) before it. So of a pair of images the array `(2r + 1, 2r + 1, h, w)` of offsets and pixels
is kept, with zeros where p + o is outside, and not all of `(h, w, h, w)`: for three blocks of 28 x 28 pixels 176
thousand covariances instead of 615 thousand.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.kernels.blocked import blocked, check_block
from jaxdd.kernels.expectations import Expectations, expectations
from jaxdd.kernels.fully_connected import Kernels


class _Layer(NamedTuple):
    """A convolution and an activation, perhaps a pooling."""

    inside: np.ndarray
    """Which pixels p + o exist, bool `(2r + 1, 2r + 1, h, w)`."""
    pooled: np.ndarray | None
    """The same behind the pooling."""


class _Network(NamedTuple):
    layers: list[_Layer]
    readout: np.ndarray
    """Which pixels p + o exist of those that are read out."""
    expectations: Expectations
    w: float
    b: float


def conv_nngp_and_ntk(
    x1: jax.Array,
    x2: jax.Array | None = None,
    *,
    depth: int = 3,
    stem: bool = False,
    activation: str = "relu",
    global_average_pooling: bool = False,
    w_std: float = math.sqrt(2),
    b_std: float = 0.1,
    block: int = 4,
) -> Kernels:
    """NNGP and NTK of a convolutional network, between two sets of images.

    Differentiable in both sets to first order everywhere, with finite gradients where images or pixels coincide.
    Jittable; a leading batch of sets goes through `jax.vmap`. An entry of 28 x 28 pixels takes one CPU core 6 ms (10
    with a stem) and three to four times that with its gradient, so this is for accelerators, small images, and checks;
    elsewhere the `conjugate_kernel` of finite networks.

    Args:
      x1: `(n, h, w, c)` images.
      x2: `(m, h, w, c)` images, or None for `x1`: the kernels are then exactly symmetric, at half the cost, and their
        diagonals not at the mercy of rounding.
      depth: blocks of convolution, activation and pooling, at least 0. An odd last row or column is not pooled.
      stem: a convolution and activation without pooling before them, as KIP's "ConvNet" has.
      activation: "relu" or "erf".
      global_average_pooling: before the read-out, instead of flattening. Its offsets reach much farther: at 28 x 28
        pixels ten times the cost and memory.
      w_std, b_std: standard deviations of weights (before the 1/sqrt(fan_in)) and biases.
      block: images of each set in a block. In memory are the covariances of `block²` pairs, a few arrays
        `(2r + 1, 2r + 1, h, w)` each (see the module); in a gradient a few a layer.

    Returns:
      Two `(n, m)` kernels in the dtype of the images.

    Raises:
      ValueError: for images that are not `(n, h, w, c)`, differ in shape or are too small for `depth` poolings; for
        an unknown activation; for a negative depth or a block less than 1.
    """
    if x1.ndim != 4 or (x2 is not None and x1.shape[1:] != x2.shape[1:]):
        found = x1.shape if x2 is None else f"{x1.shape} and {x2.shape}"
        raise ValueError(f"convolutional kernels need images (n, h, w, c) of one shape, got {found}")
    check_block(block)
    layers, readout = _layers(x1.shape[1:3], depth, stem, global_average_pooling)
    network = _Network(layers, readout, expectations(activation), w_std**2, b_std**2)

    def described(x):
        """Images with the variances of their pixels, and the kernels of each with itself."""
        alone = jax.checkpoint(lambda x: _propagate(network, x, x))
        own, variances = jax.lax.map(alone, x, batch_size=min(block**2, len(x)))
        return (x, variances), own

    def between(first, second):
        def pair(a, b):
            (x, q1), (y, q2) = a, b
            return _propagate(network, x, y, list(zip(q1, q2, strict=True)))[0]

        return jax.vmap(lambda a: jax.vmap(lambda b: pair(a, b))(second))(first)

    first, own = described(x1)
    if x2 is not None:
        return blocked(between, first, described(x2)[0], block=block)
    same = np.eye(len(x1), dtype=bool)
    return jax.tree.map(
        lambda k, diagonal: jnp.where(same, diagonal[:, None], k), blocked(between, first, block=block), own
    )


def conv_nngp(x1: jax.Array, x2: jax.Array | None = None, **network) -> jax.Array:
    """NNGP kernel `(n, m)` of a convolutional network; arguments as in `conv_nngp_and_ntk`."""
    return conv_nngp_and_ntk(x1, x2, **network).nngp


def conv_ntk(x1: jax.Array, x2: jax.Array | None = None, **network) -> jax.Array:
    """Neural tangent kernel `(n, m)` of a convolutional network; arguments as in `conv_nngp_and_ntk`."""
    return conv_nngp_and_ntk(x1, x2, **network).ntk


def _layers(size, depth, stem, global_average_pooling):
    """The layers of a network on images of this size, and which pixels p + o are read out behind them."""
    if depth < 0:
        raise ValueError(f"depth must be at least 0, got {depth}")
    sizes = [size]
    for _ in range(depth):
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    if min(sizes[-1]) < 1:
        raise ValueError(f"images of {size[0]} x {size[1]} pixels are too small for {depth} poolings by two")
    radius = (sizes[-1][0] - 1, sizes[-1][1] - 1) if global_average_pooling else (0, 0)
    insides = [_inside(sizes[-1], radius)]
    for pixels in reversed(sizes[:-1]):
        radius = (2 * radius[0] + 1, 2 * radius[1] + 1)
        insides.append(_inside(pixels, radius))
    insides.reverse()
    layers = [_Layer(*pair) for pair in itertools.pairwise(insides)]
    return [_Layer(insides[0], None), *layers] if stem else layers, insides[-1]


def _inside(size, radius):
    """Which pixels p + o exist, bool `(2r + 1, 2r + 1, h, w)`."""
    rows, columns = (np.arange(-r, r + 1)[:, None] + np.arange(n) for n, r in zip(size, radius, strict=True))
    rows, columns = (rows >= 0) & (rows < size[0]), (columns >= 0) & (columns < size[1])
    return rows[:, None, :, None] & columns[None, :, None, :]


def _propagate(network, x, y, variances=None):
    """The kernels of two images `(h, w, c)`, and the variances `(h, w)` of x before each activation.

    `variances` are those of x and y, layer by layer; without them x and y are the same image.
    """
    layers, readout, (between, coincident), w, b = network
    x, y = jnp.moveaxis(x, -1, 0), jnp.moveaxis(y, -1, 0)
    # Not a sum over an axis of one channel: XLA 0.10 for CPUs makes programs of its gradient that crash.
    windows = _windows(y, layers[0].inside if layers else readout)
    nngp = jnp.einsum("chw,abchw->abhw", x, windows, precision="highest") / x.shape[0]
    ntk = jnp.zeros((), nngp.dtype)
    own = []
    for i, (inside, pooled) in enumerate(layers):
        nngp = jnp.where(inside, w * _patch_mean(nngp) + b, 0.0)
        ntk = nngp + jnp.where(inside, w * _patch_mean(ntk), 0.0) if i else nngp
        centre = (inside.shape[0] // 2, inside.shape[1] // 2)
        own.append(nngp[centre])
        q1, q2 = variances[i] if variances else (own[-1], own[-1])
        value, slope = between(nngp, q1[None, None], _windows(q2, inside))
        if variances is None:
            same = np.zeros((*inside.shape[:2], 1, 1), bool)
            same[centre] = True
            value, slope = (
                jnp.where(same, exact[None, None], k) for exact, k in zip(coincident(q1), (value, slope), strict=True)
            )
        nngp, ntk = value, ntk * slope
        if pooled is not None:
            nngp, ntk = (jnp.where(pooled, _pool(k), 0.0) for k in (nngp, ntk))
    nngp, ntk = (w * jnp.sum(k) / readout.sum() for k in (nngp, ntk))
    return Kernels(nngp + b, nngp + b + ntk), own


def _windows(x, inside):
    """Pixel p + o of x at `[o, ..., p]`, 0 where there is none: from `(..., h, w)` to `(2r + 1, 2r + 1, ..., h, w)`."""
    for offsets in (inside.shape[1], inside.shape[0]):
        n = x.shape[-1]
        padded = n + offsets - 1
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(offsets // 2,) * 2])
        # Rows of `padded`, again and again, cut into rows one longer: each begins one pixel after the one before.
        x = jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], offsets + 1, padded))
        x = x.reshape(*x.shape[:-2], -1)[..., : offsets * (padded + 1)]
        x = x.reshape(*x.shape[:-1], offsets, padded + 1)[..., :n]
        # The offsets in front, and the other axis of pixels last.
        x = jnp.swapaxes(jnp.moveaxis(x, -2, 0), -1, -2)
    return x


def _patch_mean(k):
    """Mean over the 3 x 3 patches of pixels, which moves both pixels of a pair alike; zeros beyond the edges."""
    zero = np.zeros((), k.dtype)
    return jax.lax.reduce_window(k, zero, jax.lax.add, (1, 1, 3, 3), (1,) * 4, ((0, 0), (0, 0), (1, 1), (1, 1))) / 9


def _pool(k):
    """Means over 2 x 2 pixels of both images: offsets of 2o - 1, twice 2o and 2o + 1 become o."""
    for offset, pixel in ((0, 2), (1, 3)):
        offsets, pixels = (k.shape[offset] - 1) // 2, k.shape[pixel] // 2

        def part(a, b, k=k, offset=offset, pixel=pixel, offsets=offsets, pixels=pixels):
            """Pixel 2p + a of one image and 2(p + o) + b of the other."""
            k = jax.lax.slice_in_dim(k, 1 + b - a, 2 * offsets + b - a, stride=2, axis=offset)
            return jax.lax.slice_in_dim(k, a, 2 * pixels, stride=2, axis=pixel)

        k = (part(0, 0) + part(0, 1) + part(1, 0) + part(1, 1)) / 4
    return k
