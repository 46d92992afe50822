"""The Cholesky factorisation of a symmetric matrix whose rows lie on several devices, for inside of `jax.shard_map`.

The rows and columns go in steps. In each step every device has a block of `rows` rows, so that the work is shared to
the end as in a block-cyclic layout, while each device's rows are neighbours in the matrix. Of the matrix only the
tiles on and under the diagonal are in memory, packed column by column: `(tiles, rows, width)` on each device, some
`size² / (2 devices)` numbers, which the factor replaces.

The factor is made column by column of tiles ("left-looking"): what earlier columns explain is subtracted, one of them
after the other, for which the rows of a step are gathered; the tile on the diagonal, `(width, width)`, is gathered and
factorised by every device. Golub & Van Loan, Matrix Computations, 4th ed., sections 4.2 and 6.3.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.types import Array

_product = functools.partial(jax.lax.dot_general, precision="highest")
_LEFT, _RIGHT = (((1,), (0,)), ((), ())), (((1,), (1,)), ((), ()))  # A B and A Bᵀ


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the rows of a matrix lie.

    Attributes:
      size: rows of the matrix. After them those of an identity fill up the last devices.
      devices: that share them.
      steps: blocks of rows on each device.
      axis: of the mesh; one name or several.
    """

    size: int
    devices: int
    steps: int
    axis: str | tuple[str, ...]

    @property
    def rows(self) -> int:
        """Of a block."""
        return -(-self.size // (self.devices * self.steps))

    @property
    def width(self) -> int:
        """Rows of a step, those of all devices."""
        return self.devices * self.rows

    @property
    def padded(self) -> int:
        """The size with what fills up."""
        return self.steps * self.width

    def column(self, step: Array | int) -> Array | int:
        """Where the tiles of a column begin, which go from the diagonal down."""
        return step * self.steps - step * (step - 1) // 2

    def own(self, step: Array | int) -> Array:
        """The rows in the matrix of this device's block, `(rows,)`."""
        return (jax.lax.axis_index(self.axis) * self.steps + step) * self.rows + jnp.arange(self.rows)

    def of_all(self, step: Array | int) -> Array:
        """The rows in the matrix of a step, `(width,)`, as they are gathered."""
        blocks = jnp.arange(self.devices)[:, None] * self.steps + step
        return (blocks * self.rows + jnp.arange(self.rows)[None]).reshape(-1)

    def gathered(self, block: Array) -> Array:
        """The blocks `(rows, ...)` of all devices, `(width, ...)`."""
        return jax.lax.all_gather(block, self.axis, tiled=True)


def layout_of(size: int, devices: int, axis: str | tuple[str, ...], *, width: int) -> Layout:
    """In steps of some `width` rows, but of no more steps than 16, or 4 times the root of the number of devices.

    Every device factorises the tiles on the diagonal, `steps * width³ / 3` operations beside its share of `size³ / 3`.
    """
    most = max(16, 4 * math.isqrt(devices))
    return Layout(size, devices, max(1, min(most, size // width)), axis)


def tiles(layout: Layout, tile: Callable[[Array, Array], Array]) -> Array:
    """The lower triangle of a matrix, `(tiles, rows, width)` on each device.

    Args:
      tile: `tile(row, column) -> (rows, width)`, entries from their places in the matrix, `(rows,)` and `(width,)`;
        places from `size` on are of the identity that fills it up.
    """
    pairs = [(row, column) for column in range(layout.steps) for row in range(column, layout.steps)]

    def one(pair: Array) -> Array:
        return tile(layout.own(pair[0]), layout.of_all(pair[1]))

    return jax.lax.map(one, jnp.asarray(np.array(pairs, np.int32)))


def factorise(layout: Layout, lower: Array) -> Array:
    """`L` with `L Lᵀ = A`, in the place of the tiles of A. Not finite where A is not positive definite."""
    rows, width = layout.rows, layout.width
    first = jax.lax.axis_index(layout.axis) * rows
    for step in range(layout.steps):
        start, count = layout.column(step), layout.steps - step
        less = functools.partial(_less_earlier, layout, lower, step)
        column = jax.lax.fori_loop(0, step, less, lower[start : start + count])
        diagonal = jax.lax.linalg.cholesky(layout.gathered(column[0]), symmetrize_input=False)
        own = jax.lax.dynamic_slice_in_dim(diagonal, first, rows)[None]
        if count > 1:
            below = jax.lax.linalg.triangular_solve(
                diagonal, column[1:].reshape(-1, width), left_side=False, lower=True, transpose_a=True
            )
            own = jnp.concatenate([own, below.reshape(-1, rows, width)])
        lower = jax.lax.dynamic_update_slice_in_dim(lower, own, start, 0)
    return lower


def _less_earlier(layout: Layout, lower: Array, step: int, earlier: Array, column: Array) -> Array:
    """The tiles of a column without what one before it explains."""
    left = jax.lax.dynamic_slice_in_dim(lower, layout.column(earlier) + step - earlier, len(column))
    across = layout.gathered(left[0])
    return column - _product(left.reshape(-1, layout.width), across, _RIGHT).reshape(column.shape)


def solve(layout: Layout, lower: Array, right: Array) -> Array:
    """`A⁻¹ b` for the factor of A and `(padded, classes)`, which every device holds whole, as the result."""
    steps, rows, width = layout.steps, layout.rows, layout.width
    classes, device = right.shape[1], jax.lax.axis_index(layout.axis)
    dealt = right.reshape(layout.devices, steps, rows, classes)

    def below(step: int) -> Array:
        """What is under the diagonal in a column, `(rows of later steps, width)`."""
        start = layout.column(step)
        return lower[start + 1 : start + steps - step].reshape(-1, width)

    def on_diagonal(step: int, right: Array, transpose: bool) -> Array:
        return jax.lax.linalg.triangular_solve(
            layout.gathered(lower[layout.column(step)]), right, left_side=True, lower=True, transpose_a=transpose
        )

    def own(whole: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(whole, device * rows, rows)

    rest, forward = dealt[device].reshape(-1, classes), []
    for step in range(steps):
        found = on_diagonal(step, layout.gathered(rest[:rows]), transpose=False)
        rest = rest[rows:] - _product(below(step), found, _LEFT)
        forward.append(found)
    later, backward = rest, []  # of no rows
    for step in reversed(range(steps)):
        known = jax.lax.psum(_product(below(step), later, (((0,), (0,)), ((), ()))), layout.axis)
        found = on_diagonal(step, forward[step] - known, transpose=True)
        later = jnp.concatenate([own(found), later])
        backward.append(found)
    solved = jnp.stack(backward[::-1]).reshape(steps, layout.devices, rows, classes)
    return solved.swapaxes(0, 1).reshape(-1, classes)
