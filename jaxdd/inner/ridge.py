"""Kernel ridge regression on a support that the devices of a run share."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdd.inner.networks import mesh_of_run, on_one_device, shared
from jaxdd.kernels import kernel_ridge_solve, sharded_kernel_ridge_solve
from jaxdd.kernels.sharded import WIDTH
from jaxdd.types import Array

# With fewer steps of a blocked factorisation each device alone is as fast.
_STEPS = 4


def kernel_ridge_solve_over_devices(
    kernel: Callable[..., Array],
    x_s: Array,
    y_s: Array,
    *,
    ridge: float = 1e-6,
    float64: bool = False,
    block: int | None = None,
    width: int = WIDTH,
) -> Array:
    """`kernels.kernel_ridge_solve(kernel(x_s), y_s)`, in a run of the engine with its devices sharing the kernel.

    From a support of `4 * width` on, 2,048 images, they share the factorisation, too, and none of them holds an array
    `(s, s)`, see `kernels.sharded_kernel_ridge_solve`. With fewer they share the kernel's rows, and each factorises the
    whole, which is then as fast. Where there is one device, and in somebody's `pmap`, it is `kernel_ridge_solve`.

    Args:
      kernel: as of `kernels.sharded_kernel_ridge_solve`.
      x_s, y_s, ridge, float64: as in `kernels.kernel_ridge_solve`.
      block, width: as of `kernels.sharded_kernel_ridge_solve`.

    Returns:
      `(s, classes)`, whole on every device.

    Raises:
      ValueError: as `kernels.sharded_kernel_ridge_solve`.
    """
    mesh = mesh_of_run()
    if mesh is not None and len(x_s) >= _STEPS * width:
        return sharded_kernel_ridge_solve(
            on_one_device(kernel), x_s, y_s, mesh, ridge=ridge, float64=float64, block=block, width=width
        )
    diagonal = jax.vmap(lambda x: kernel(x[None])[0, 0])(x_s)
    rows = shared(lambda rows: kernel(rows, x_s), x_s)
    index = jnp.arange(len(x_s))
    k_ss = jnp.where(index[:, None] == index[None], diagonal[:, None], rows)
    return kernel_ridge_solve(k_ss, y_s, ridge=ridge, float64=float64)
