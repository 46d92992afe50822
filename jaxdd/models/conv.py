"""One convolution for every network of the library, with the fastest implementation chosen by backend.

`conv2d` has the signature of `jax.lax.conv_general_dilated`, so `flax.linen.Conv(conv_general_dilated=conv2d)` and its
nnx namesake take it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxdd.errors import unknown
from jaxdd.types import Array

IMPLEMENTATIONS = ("auto", "xla", "im2col")
_NHWC = ("NHWC", "HWIO", "NHWC")


def conv2d(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int] = (1, 1),
    padding: str | Sequence[tuple[int, int]] = "SAME",
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = _NHWC,
    feature_group_count: int = 1,
    precision: Any = None,
    *,
    impl: str = "auto",
) -> Array:
    """Convolve images `(n, h, w, c)` with a kernel `(kh, kw, c, o)` into `(n, h', w', o)`.

    On XLA:CPU the weight gradient of the native convolution is 10 to 75 times slower inside `scan`, `fori_loop` and
    `lax.map` than outside, and im2col (shifted slices and one matrix product) cures it; the native forward pass is the
    faster one. So on a CPU "auto" computes a value natively and everything differentiated, in either mode and to any
    order, with im2col. Elsewhere "auto" is "xla".

    Args:
      impl: "auto", "xla" (`lax.conv_general_dilated`) or "im2col". Grouped convolutions, dilated inputs and other
        layouts than NHWC/HWIO have no im2col form here and always run natively.

    Raises:
      JaxddError: for an unknown `impl`.
    """
    if impl not in IMPLEMENTATIONS:
        raise unknown("convolution", impl, IMPLEMENTATIONS)
    if lhs_dilation is not None and all(d == 1 for d in lhs_dilation):
        lhs_dilation = None
    if lhs.ndim != 4:
        has_columns = False
    else:
        layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
        has_columns = (
            layout == lax.conv_dimension_numbers(lhs.shape, rhs.shape, _NHWC)
            and lhs_dilation is None
            and feature_group_count == 1
        )
    if impl == "xla" or not has_columns or (impl == "auto" and jax.default_backend() != "cpu"):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            precision=precision,
        )
    strides, dilation = tuple(window_strides), tuple(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        extent = [(k - 1) * d + 1 for k, d in zip(rhs.shape[:2], dilation, strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:3], extent, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    convolve = _im2col if impl == "im2col" else _native_value
    return convolve(lhs, rhs, strides, pads, dilation, precision)


def _im2col(images, kernel, strides, pads, dilation, precision):
    """Gather the shifted slices of every kernel position as columns `(n, h', w', kh·kw·c)`; one matrix product."""
    kh, kw, c, o = kernel.shape
    padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    height, width = (
        (size - (k - 1) * d - 1) // s + 1
        for size, k, d, s in zip(padded.shape[1:3], (kh, kw), dilation, strides, strict=True)
    )
    columns = [
        padded[
            :,
            i * dilation[0] : i * dilation[0] + (height - 1) * strides[0] + 1 : strides[0],
            j * dilation[1] : j * dilation[1] + (width - 1) * strides[1] + 1 : strides[1],
        ]
        for i in range(kh)
        for j in range(kw)
    ]
    return jnp.dot(jnp.concatenate(columns, -1), kernel.reshape(kh * kw * c, o), precision=precision)


def _native_value_impl(images, kernel, strides, pads, dilation, precision):
    return lax.conv_general_dilated(
        images, kernel, strides, pads, rhs_dilation=dilation, dimension_numbers=_NHWC, precision=precision
    )


_native_value = jax.custom_jvp(_native_value_impl, nondiff_argnums=(2, 3, 4, 5))


@_native_value.defjvp
def _(strides, pads, dilation, precision, primals, tangents):
    """The derivative of im2col, value included: what is differentiated again is im2col all the way down."""
    return jax.jvp(lambda x, w: _im2col(x, w, strides, pads, dilation, precision), primals, tangents)
