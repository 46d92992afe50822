"""Kernel ridge regression on a support whose kernel no device holds whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec

from jaxdd._labels import label_vectors
from jaxdd.errors import JaxddError
from jaxdd.kernels import cholesky
from jaxdd.kernels.blocked import check_block

WIDTH = 512


def sharded_kernel_ridge_solve(
    kernel: Callable[..., jax.Array],
    x_s: jax.Array,
    y_s: jax.Array,
    mesh: Mesh,
    *,
    ridge: float = 1e-6,
    float64: bool = False,
    block: int | None = None,
    width: int = WIDTH,
) -> jax.Array:
    """`kernel_ridge_solve(kernel(x_s), y_s)` with the kernel's rows and its factor shared by the devices of a mesh.

        mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        solve = jax.jit(lambda x, y: kernels.sharded_kernel_ridge_solve(kernels.ntk, x, y, mesh))

    Each device evaluates its part of one half of the kernel, tile by tile, and factorises it together with the others
    (`kernels.cholesky`): `s² / (2 D)` numbers, and no array `(s, s)` anywhere. For gradients its rows are evaluated
    again, `block` of them at a time, and meet the coefficients at once. Inputs, labels and result are whole on every
    device.

    Args:
      kernel: `kernel(x1, x2=None) -> (n, m)`, symmetric and positive. Its diagonal is taken of `kernel(x[None])`. It
        must hold no collectives and no shardings.
      x_s: `(s, ...)` inputs.
      y_s, ridge, float64: as in `kernel_ridge_solve`.
      mesh: all of its axes share the rows; they are of the type Auto.
      block: rows of the kernel that are evaluated at once for gradients; None: all of a device.
      width: of the tiles, and rows of all devices together in a step; at least so many, and for large supports more.

    Returns:
      `(s, classes)`. Not finite where the matrix is not positive definite at this precision.

    Raises:
      ValueError: for a block or width less than 1; (as JaxddError) for labels that do not fit, class numbers, or a mesh
        with axes of another type.
    """
    check_block(block)
    check_block(width, "width")
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise JaxddError(
            f"the axes of mesh must be Auto, got {mesh.axis_types}; `jax.make_mesh(.., axis_types=(AxisType.Auto,))`."
        )
    size, kind = len(x_s), jax.eval_shape(kernel, x_s[:1]).dtype
    y_s = label_vectors(y_s, (size, None), "y_s", kind)
    layout = cholesky.layout_of(size, mesh.size, mesh.axis_names, width=width)
    whole, rows = PartitionSpec(), PartitionSpec(None, mesh.axis_names)
    diagonal = jax.vmap(lambda x: kernel(x[None])[0, 0])(x_s)
    dtype = jnp.dtype("float64") if float64 else kind
    shift = ridge * jnp.mean(diagonal)

    def precisely():
        return jax.enable_x64(True) if float64 else contextlib.nullcontext()

    def over_devices(function, in_specs, out_specs):
        return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False))

    def factorised(x, diagonal, shift):
        def tile(row, column):
            entries = kernel(x[jnp.minimum(row, size - 1)], x[jnp.minimum(column, size - 1)]).astype(dtype)
            shifted = diagonal[jnp.minimum(row, size - 1)].astype(dtype) + shift.astype(dtype)
            row, column = row[:, None], column[None]
            entries = jnp.where(row == column, shifted[:, None], entries)
            return jnp.where((row < size) & (column < size), entries, (row == column).astype(dtype))

        return cholesky.factorise(layout, cholesky.tiles(layout, tile))

    with precisely():
        fixed = jax.lax.stop_gradient((x_s, diagonal, shift))
        lower = over_devices(factorised, whole, rows)(*fixed)

    def solve(_, right):
        with precisely():
            padded = jnp.pad(right.astype(dtype), ((0, layout.padded - size), (0, 0)))
            solved = over_devices(lambda *given: cholesky.solve(layout, *given), (rows, whole), whole)
            return solved(lower, padded)[:size].astype(right.dtype)

    def times(vectors):
        """The kernel times `(s, classes)`, by rows, which are dropped at once."""

        def on_device(examples, x, vectors):
            @jax.checkpoint
            def one(example):
                x_row, exact, index = example
                row = kernel(x_row[None], x)[0]
                row = jnp.where(jnp.arange(size) == index, exact, row)
                return jnp.matmul(row, vectors, precision="highest")

            if block is None or block >= len(examples[0]):
                return jax.vmap(one)(examples)
            return jax.lax.map(one, examples, batch_size=block)

        fill, split = -size % mesh.size, PartitionSpec(mesh.axis_names)

        def padded(leaf):
            return jnp.concatenate([leaf, leaf[:1].repeat(fill, axis=0)]) if fill else leaf

        examples = jax.tree.map(padded, (x_s, diagonal, jnp.arange(size)))
        return over_devices(on_device, (split, whole, whole), split)(examples, x_s, vectors)[:size]

    return jax.lax.custom_linear_solve(lambda v: times(v) + shift * v, y_s, solve, symmetric=True)
