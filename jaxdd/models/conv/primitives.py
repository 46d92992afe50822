"""The three JAX primitives, closed under differentiation and transposition, and the convolution that binds them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxdd._jax import Primitive, ad, batching, mlir
from jaxdd.errors import JaxddError, unknown
from jaxdd.models.conv import onednn
from jaxdd.models.conv.geometry import Geometry
from jaxdd.models.conv.implementations import IMPLEMENTATIONS, NHWC
from jaxdd.types import Array


def _primitive(operation: str, free_axes: tuple[tuple[int, int], tuple[int, int]]) -> Primitive:
    """A primitive for one field of `Implementation`.

    Args:
      free_axes: for each operand the axis that the other one lacks, and where the result has it. A batch of one
        operand folds into it: more images, or a kernel with more outputs. A batch of both becomes an axis of networks
        in front of them.
    """
    primitive = Primitive(f"jaxdd_{operation}")
    of = operator.attrgetter(operation)

    def lowered(a, b, *, impl, geometry, platform):
        return of(IMPLEMENTATIONS[impl])(a, b, geometry, platform)

    def abstract(a, b, *, impl, geometry):
        # By tracing, so that types, meshes and errors are those of XLA's own convolution.
        own = functools.partial(of(IMPLEMENTATIONS["xla"]), geometry=geometry, platform="cpu")
        return jax.make_jaxpr(own)(a, b).out_avals[0]

    @functools.cache
    def compiled(**params):
        return jax.jit(functools.partial(primitive.bind, **params))

    def batch(operands, dims, **params):
        # Channels of several groups are not next to each other, images are.
        if None in dims and (params["geometry"].groups == 1 or free_axes[int(dims[0] is None)][0] == 0):
            return fold(operands, dims, **params)
        size = next(operand.shape[dim] for operand, dim in zip(operands, dims, strict=True) if dim is not None)
        fronted = [
            jnp.broadcast_to(operand, (size, *operand.shape)) if dim is None else jnp.moveaxis(operand, dim, 0)
            for operand, dim in zip(operands, dims, strict=True)
        ]
        networks = fronted[0].shape[:-4]
        result = primitive.bind(*(operand.reshape(-1, *operand.shape[-4:]) for operand in fronted), **params)
        return result.reshape(*networks, *result.shape[1:]), 0

    def fold(operands, dims, **params):
        which = int(dims[0] is None)
        axis, result_axis = (axis + operands[0 if which else 1].ndim - 4 for axis in free_axes[which])
        batched = jnp.moveaxis(operands[which], dims[which], axis)
        size, shape = batched.shape[axis], list(batched.shape)
        shape[axis : axis + 2] = [-1]
        operands = [operands[0], batched.reshape(shape)] if which else [batched.reshape(shape), operands[1]]
        result = primitive.bind(*operands, **params)
        shape = list(result.shape)
        shape[result_axis : result_axis + 1] = [size, shape[result_axis] // size]
        return result.reshape(shape), result_axis

    primitive.def_impl(lambda a, b, **params: compiled(**params)(a, b))
    primitive.def_abstract_eval(abstract)
    # What is best where it runs is chosen when it is lowered: a program may be for other devices than JAX's default.
    for name, platform in {"cpu": "cpu", "cuda": "gpu", "rocm": "gpu", "tpu": "tpu"}.items():
        rule = mlir.lower_fun(functools.partial(lowered, platform=platform), multiple_results=False)
        mlir.register_lowering(primitive, rule, platform=name)
    batching.primitive_batchers[primitive] = batch
    return primitive


_conv = _primitive("conv", ((0, 0), (3, 3)))
_input_grad = _primitive("input_grad", ((0, 0), (2, 3)))
_weight_grad = _primitive("weight_grad", ((3, 2), (3, 3)))

ad.defbilinear(
    _conv,
    lambda ct, x, w, **params: _input_grad.bind(ct, w, **params),
    lambda ct, x, w, **params: _weight_grad.bind(x, ct, **params),
)
ad.defbilinear(
    _input_grad,
    lambda ct, g, w, **params: _conv.bind(ct, w, **params),
    lambda ct, g, w, **params: _weight_grad.bind(ct, g, **params),
)
ad.defbilinear(
    _weight_grad,
    lambda ct, x, g, **params: _input_grad.bind(g, ct, **params),
    lambda ct, x, g, **params: _conv.bind(x, ct, **params),
)


def conv2d(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int] = (1, 1),
    padding: str | Sequence[tuple[int, int]] = "SAME",
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = NHWC,
    feature_group_count: int = 1,
    precision: Any = None,
    *,
    impl: str = "auto",
) -> Array:
    """Convolve images `(n, h, w, c)` with a kernel `(kh, kw, c, o)` into `(n, h', w', o)`.

    The rest of the signature is that of `lax.conv_general_dilated`. Dilated inputs, other layouts than NHWC/HWIO and
    empty results have no form of their own here and go to it. Off CPUs "auto" and "xla" are XLA's own convolution, with
    its own derivatives; which it is shows when a program is compiled, for whatever devices.

    Args:
      precision: as JAX has it, but "bfloat16" (also by `jax.default_matmul_precision`) keeps its word on every backend:
        operands, also those of the gradients, are rounded to bfloat16, their products added in float32. On a CPU
        nothing else differs from float32; on a GPU the sums are rounded to bfloat16, too.
      impl: on a CPU "onednn" is oneDNN's, which the package jaxdd-onednn brings; "xla" the native convolution, with
        both gradients in the form that is fast inside of loops too; "im2col" shifted slices and one matrix product,
        without groups; "auto" the fastest of these for each operation, oneDNN for nearly all if it is installed.

    Raises:
      JaxddError: for an unknown `impl`, and for "onednn" where there is none.
    """
    if impl not in IMPLEMENTATIONS:
        raise unknown("convolution", impl, IMPLEMENTATIONS)
    native = functools.partial(
        lax.conv_general_dilated,
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
    precision = asked_for(precision)
    if (
        lhs.ndim != 4
        or rhs.ndim != 4
        or (feature_group_count != 1 and impl == "im2col")
        or any(d != 1 for d in lhs_dilation or ())
    ):
        return native()
    layout, ours = (lax.conv_dimension_numbers(lhs.shape, rhs.shape, d) for d in (dimension_numbers, NHWC))
    strides, dilation = tuple(window_strides), tuple(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        extent = [(k - 1) * d + 1 for k, d in zip(rhs.shape[:2], dilation, strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:3], extent, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    precision = tuple(precision) if isinstance(precision, list) else precision
    geometry = Geometry(lhs.shape[1:3], rhs.shape[:2], strides, pads, dilation, feature_group_count, precision)
    if layout != ours or min(*geometry.maps, *lhs.shape, *rhs.shape) < 1:
        return native()
    if impl == "onednn" and (why := onednn.obstacle(jnp.result_type(lhs, rhs), geometry)):
        raise JaxddError(f'convolution "onednn" {why}.')
    return _conv.bind(*_alike(lhs, rhs), impl=impl, geometry=geometry)


def asked_for(precision: Any) -> Any:
    """The precision of an operation: its own or, where that is None, JAX's default as it is here."""
    return jax.config.jax_default_matmul_precision if precision is None else precision  # pyright: ignore[reportAttributeAccessIssue]


def _alike(*operands: Array) -> list[Array]:
    """Operands that vary over the same mesh axes inside `shard_map`: a replicated kernel's gradient is a sum."""
    varying = [jax.typeof(operand).manual_axis_type.varying for operand in operands]
    every = frozenset().union(*varying)
    return [
        lax.pcast(operand, tuple(every - own), to="varying") if every - own else operand
        for operand, own in zip(operands, varying, strict=True)
    ]
