"""The matrix product of dense layers, at the precision of `matmul_precision` on every backend."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxdd.models.conv.geometry import BFLOAT16
from jaxdd.models.conv.primitives import asked_for, conv2d
from jaxdd.types import Array


def dot_general(lhs: Array, rhs: Array, dimension_numbers: Any, precision: Any = None, **options: Any) -> Array:
    """`jax.lax.dot_general`, for `flax.linen.Dense(dot_general=..)` and its nnx namesake.

    For float32 activations `(n, d)` and weights `(d, o)` at the precision "bfloat16" the operands, also those of the
    gradients, are rounded to bfloat16 and their products added in float32, where JAX's own would be TF32 on GPUs and
    float32 on CPUs.
    """
    layer = lhs.ndim == rhs.ndim == 2 and _pairs(dimension_numbers) == (((1,), (0,)), ((), ()))
    float32 = lhs.dtype == rhs.dtype == jnp.float32
    if not (layer and float32 and asked_for(precision) in BFLOAT16):
        return lax.dot_general(lhs, rhs, dimension_numbers, precision, **options)
    # A convolution of n pixels: closed under differentiation in the very same way.
    pixels = conv2d(lhs[None, :, None], rhs[None, None], padding="VALID", precision=precision, impl="im2col")
    return pixels[0, :, 0]


def _pairs(dimension_numbers: Any) -> tuple:
    return tuple(tuple(tuple(axes) for axes in pair) for pair in dimension_numbers)
