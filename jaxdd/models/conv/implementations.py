"""The ways to compute the three operations of a convolution, by name."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxdd.models.conv import onednn
from jaxdd.models.conv.geometry import Geometry
from jaxdd.types import Array

NHWC = ("NHWC", "HWIO", "NHWC")
_CALLS = 32  # of networks side by side off CPUs; more are in a loop
_BLOCK = 8  # images of a weight gradient at a time, so that what they are gathered into stays in cache


Operation = Callable[[Array, Array, Geometry, str], Array]
"""Of two operands, the geometry, and the platform that it is compiled for, "cpu", "gpu" or "tpu"."""


class Implementation(NamedTuple):
    """One way to compute the three operations."""

    conv: Operation
    input_grad: Operation
    weight_grad: Operation


# XLA's own convolution, where its own derivatives are as fast: off CPUs.


def _native_conv(x: Array, w: Array, geometry: Geometry, platform: str) -> Array:
    return lax.conv_general_dilated(
        x,
        w,
        geometry.strides,
        geometry.pads,
        rhs_dilation=geometry.dilation,
        dimension_numbers=NHWC,
        feature_group_count=geometry.groups,
        # The result of operands in bfloat16 is, too: NVIDIA's library has fast code for that alone. Sums are float32.
        precision=lax.Precision.DEFAULT if x.dtype == jnp.bfloat16 else geometry.precision,
    )


def _native_input_grad(g: Array, w: Array, geometry: Geometry, platform: str) -> Array:
    shape = geometry.result("input_grad", g, w)
    images = jax.ShapeDtypeStruct(shape, g.dtype)
    return jax.linear_transpose(lambda x: _native_conv(x, w, geometry, platform), images)(g)[0]


def _native_weight_grad(x: Array, g: Array, geometry: Geometry, platform: str) -> Array:
    shape = geometry.result("weight_grad", x, g)
    kernel = jax.ShapeDtypeStruct(shape, g.dtype)
    return jax.linear_transpose(lambda w: _native_conv(x, w, geometry, platform), kernel)(g)[0]


# XLA's own convolution on CPUs. XLA:CPU brings a convolution to the one form its fast code takes (channels last, no
# reversed kernel) only outside of loops, and elsewhere computes derivatives 10 to 75 times slower: so they are written
# in that form here.


def _canonical(images, kernel, strides, pads, dilation, precision, spread=(1, 1), **groups: Any) -> Array:
    # XLA:CPU reads beyond its arrays, or aborts, in some convolutions that crop or spread their images, and takes slow
    # code where the kernel is larger than they are.
    larger = any(k > size for k, size in zip(kernel.shape[:2], images.shape[1:3], strict=True))
    if min(*pads[0], *pads[1]) < 0 or spread != (1, 1) or larger:
        images, pads = _padded(images, pads, spread), ((0, 0), (0, 0))
    return lax.conv_general_dilated(
        images,
        kernel,
        strides,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=NHWC,
        precision=precision,
        preferred_element_type=_sums(images),
        **groups,
    )


def _padded(images: Array, pads, spread=(1, 1)) -> Array:
    """Zeros around and between the pixels, negative ones cropped, kept from being folded into a convolution."""
    spatial = [(*pad, gap - 1) for pad, gap in zip(pads, spread, strict=True)]
    return lax.optimization_barrier(lax.pad(images, images.dtype.type(0), [(0, 0, 0), *spatial, (0, 0, 0)]))


def _xla_conv(x: Array, w: Array, geometry: Geometry, platform: str) -> Array:
    if platform != "cpu":
        return _native_conv(x, w, geometry, platform)
    groups = {"feature_group_count": geometry.groups}
    return _canonical(x, w, geometry.strides, geometry.pads, geometry.dilation, geometry.precision, **groups)


def _xla_input_grad(g: Array, w: Array, geometry: Geometry, platform: str) -> Array:
    """A convolution of the spread maps with the kernel turned round, inputs and outputs exchanged."""
    if platform != "cpu":
        return _native_input_grad(g, w, geometry, platform)
    pads = []
    for k, d, s, size, pad, maps in zip(
        geometry.kernel, geometry.dilation, geometry.strides, geometry.image, geometry.pads, g.shape[1:3], strict=True
    ):
        low = (k - 1) * d - pad[0]
        pads.append((low, size + (k - 1) * d - (maps - 1) * s - 1 - low))
    kh, kw, inputs, outputs = w.shape
    turned = w[::-1, ::-1].reshape(kh, kw, inputs, geometry.groups, outputs // geometry.groups)
    turned = turned.transpose(0, 1, 4, 3, 2).reshape(kh, kw, outputs // geometry.groups, inputs * geometry.groups)
    groups = {"feature_group_count": geometry.groups}
    return _canonical(g, turned, (1, 1), pads, geometry.dilation, geometry.precision, geometry.strides, **groups)


def _xla_weight_grad(x: Array, g: Array, geometry: Geometry, platform: str) -> Array:
    """The sum over blocks of images; the first takes the rest of the division."""
    if platform != "cpu":
        return _native_weight_grad(x, g, geometry, platform)
    n = len(x)
    first = n if n < 2 * _BLOCK else _BLOCK + n % _BLOCK
    total = _xla_weight_grad_block(x[:first], g[:first], geometry)
    if first == n:
        return total

    def add(i: Array, total: Array) -> Array:
        images, maps = (lax.dynamic_slice_in_dim(operand, first + i * _BLOCK, _BLOCK) for operand in (x, g))
        return total + _xla_weight_grad_block(images, maps, geometry)

    return lax.fori_loop(0, (n - first) // _BLOCK, add, total)


def _xla_weight_grad_block(x: Array, g: Array, geometry: Geometry) -> Array:
    """A convolution of the images with the maps as its kernel: channels are its batch, images its channels."""
    pads = [
        (pad[0], (maps - 1) * s + (k - 1) * d + 1 - size - pad[0])
        for k, d, s, size, pad, maps in zip(
            geometry.kernel,
            geometry.dilation,
            geometry.strides,
            geometry.image,
            geometry.pads,
            g.shape[1:3],
            strict=True,
        )
    ]
    weights = _canonical(
        x.transpose(3, 1, 2, 0),
        g.transpose(1, 2, 0, 3),
        geometry.dilation,
        pads,
        geometry.strides,
        geometry.precision,
        batch_group_count=geometry.groups,
    )
    return weights.transpose(1, 2, 0, 3)


# im2col: the shifted slices of every kernel position side by side, and one matrix product.


def _columns(x: Array, geometry: Geometry) -> Array:
    """`(n, h, w, c)` to `(n, h', w', kh * kw * c)`."""
    padded = lax.pad(x, x.dtype.type(0), [(0, 0, 0), *((*pad, 0) for pad in geometry.pads), (0, 0, 0)])
    (kh, kw), (down, right), (sh, sw) = geometry.kernel, geometry.dilation, geometry.strides
    height, width = geometry.maps
    rows, cols = (height - 1) * sh + 1, (width - 1) * sw + 1
    return jnp.concatenate(
        [
            padded[:, i * down : i * down + rows : sh, j * right : j * right + cols : sw]
            for i in range(kh)
            for j in range(kw)
        ],
        -1,
    )


def _dot(a: Array, b: Array, geometry: Geometry) -> Array:
    return jnp.dot(a, b, precision=geometry.precision, preferred_element_type=_sums(a))


def _im2col_conv(x: Array, w: Array, geometry: Geometry, platform: str) -> Array:
    return _dot(_columns(x, geometry), w.reshape(-1, w.shape[-1]), geometry)


def _im2col_input_grad(g: Array, w: Array, geometry: Geometry, platform: str) -> Array:
    """Every kernel position's part of the columns, spread and shifted back to where it came from."""
    columns = _dot(g, w.reshape(-1, w.shape[-1]).T, geometry)
    positions = list(itertools.product(*map(range, geometry.kernel)))
    parts = jnp.split(columns, len(positions), -1)

    def back(part: Array, position: tuple[int, ...]) -> Array:
        spatial = []
        for i, d, s, size, pad, maps in zip(
            position, geometry.dilation, geometry.strides, geometry.image, geometry.pads, geometry.maps, strict=True
        ):
            low = i * d - pad[0]
            spatial.append((low, size - low - (maps - 1) * s - 1, s - 1))
        return lax.pad(part, part.dtype.type(0), [(0, 0, 0), *spatial, (0, 0, 0)])

    return functools.reduce(operator.add, map(back, parts, positions))


def _im2col_weight_grad(x: Array, g: Array, geometry: Geometry, platform: str) -> Array:
    columns, maps = (operand.reshape(-1, operand.shape[-1]) for operand in (_columns(x, geometry), g))
    weights = _dot(columns.T, maps, geometry)
    return weights.reshape(*geometry.kernel, x.shape[3], g.shape[3])


def _sums(operand: Array) -> Any:
    """The type in which products of such operands are added."""
    return jnp.float32 if operand.dtype == jnp.bfloat16 else None


def _rounded(operand: Array, dtype: Any) -> Array:
    # Not by a conversion alone: XLA leaves out a conversion and the one back.
    return lax.reduce_precision(operand, exponent_bits=8, mantissa_bits=7).astype(dtype)


def _complete(operation: Operation, type_on_cpu: Any) -> Operation:
    """The operation with operands as the precision has them, perhaps with an axis of networks in front.

    Args:
      type_on_cpu: in which operands that are rounded to bfloat16 are multiplied faster there.
    """

    def compute(a: Array, b: Array, geometry: Geometry, platform: str) -> Array:
        cpu, result = platform == "cpu", jnp.result_type(a, b)
        # TPUs round by themselves. For GPUs "bfloat16" is a lower bound, and they compute in TF32.
        if geometry.rounds and result == jnp.float32 and platform != "tpu":
            a, b = (_rounded(operand, type_on_cpu if cpu else jnp.bfloat16) for operand in (a, b))
        if a.ndim == 4:
            return operation(a, b, geometry, platform).astype(result)
        # One network after the other: together they would be a grouped convolution, for which XLA:CPU has slow code
        # only (off CPUs nobody has timed it here). A few have a call each there, without a loop.
        if not cpu and len(a) <= _CALLS:
            return jnp.stack([operation(*pair, geometry, platform) for pair in zip(a, b, strict=True)]).astype(result)
        return lax.map(lambda pair: operation(pair[0], pair[1], geometry, platform), (a, b)).astype(result)

    return compute


_XLA = Implementation(*(_complete(f, jnp.float32) for f in (_xla_conv, _xla_input_grad, _xla_weight_grad)))
_IM2COL = Implementation(*(_complete(f, jnp.bfloat16) for f in (_im2col_conv, _im2col_input_grad, _im2col_weight_grad)))


def _fastest(operation: str) -> Operation:
    """What is fastest on a CPU; elsewhere XLA's own."""

    def compute(a: Array, b: Array, geometry: Geometry, platform: str) -> Array:
        cpu = platform == "cpu"
        one_channel = cpu and geometry.channels(operation, a, b) == 1
        # XLA's goes over the zeros between the maps, and takes six to twelve times as long with strides of 2.
        spread = cpu and operation == "input_grad" and max(geometry.strides) > 1
        if not cpu:
            best = _XLA
        elif one_channel and operation == "input_grad":
            best = _IM2COL
        elif onednn.obstacle(a.dtype, geometry) is None:
            best = _ONEDNN
        elif geometry.groups == 1 and (geometry.kernel == (1, 1) or spread or (one_channel and operation == "conv")):
            best = _IM2COL
        else:
            best = _XLA
        return getattr(best, operation)(a, b, geometry, platform)

    return compute


_ONEDNN = Implementation(*map(onednn.operation, Implementation._fields))
_AUTO = Implementation(*map(_fastest, Implementation._fields))
IMPLEMENTATIONS = {"auto": _AUTO, "xla": _XLA, "im2col": _IM2COL, "onednn": _ONEDNN}
