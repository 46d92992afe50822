"""Kernels of infinitely wide networks, feature kernels, and kernel ridge regression; jax is all they need."""

from jaxdd.kernels.conjugate import conjugate_kernel, feature_kernel
from jaxdd.kernels.convolutional import conv_nngp, conv_nngp_and_ntk, conv_ntk
from jaxdd.kernels.empirical import empirical_ntk
from jaxdd.kernels.fully_connected import nngp, nngp_and_ntk, ntk
from jaxdd.kernels.ridge import kernel_ridge_predict, kernel_ridge_solve, label_solve
from jaxdd.kernels.sharded import sharded_kernel_ridge_solve
from jaxdd.kernels.spec import NAMES, build

__all__ = [
    "NAMES",
    "build",
    "conjugate_kernel",
    "conv_nngp",
    "conv_nngp_and_ntk",
    "conv_ntk",
    "empirical_ntk",
    "feature_kernel",
    "kernel_ridge_predict",
    "kernel_ridge_solve",
    "label_solve",
    "nngp",
    "nngp_and_ntk",
    "ntk",
    "sharded_kernel_ridge_solve",
]
