"""Kernels of infinitely wide networks, feature kernels, and kernel ridge regression; jax is all they need."""

from jaxdd.kernels.conjugate import conjugate_kernel
from jaxdd.kernels.fully_connected import nngp, nngp_and_ntk, ntk
from jaxdd.kernels.ridge import kernel_ridge_predict, kernel_ridge_solve, label_solve
from jaxdd.kernels.spec import build

__all__ = [
    "build",
    "conjugate_kernel",
    "kernel_ridge_predict",
    "kernel_ridge_solve",
    "label_solve",
    "nngp",
    "nngp_and_ntk",
    "ntk",
]
