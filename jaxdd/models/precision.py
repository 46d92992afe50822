"""Policies of precision, by name."""

from __future__ import annotations

import contextlib

import jax

from jaxdd.errors import unknown

PRECISIONS = {
    "default": "the backend's own: float32 on CPUs, TF32 on newer GPUs, bfloat16 on TPUs",
    "float32": "float32 everywhere",
    "bfloat16": "in the products and convolutions of networks, also of their gradients, operands rounded to bfloat16 "
    "and sums in float32, on every backend; all else float32",
}


def matmul_precision(name: str) -> contextlib.AbstractContextManager:
    """What is traced inside computes its products and convolutions so, also their gradients. Storage stays float32.

    It is `jax.default_matmul_precision`: what names its own precision keeps it, as kernels, solves and rendering do,
    and so do elementwise operations: normalisation, losses, optimisers. Where JAX takes "bfloat16" for a lower bound
    (TF32 on GPUs, float32 on CPUs), the networks of the zoo round their operands themselves; a network of your own does
    with `conv_general_dilated=models.conv2d` and `dot_general=models.dot_general` in its flax layers.

    Args:
      name: of `PRECISIONS`.

    Raises:
      JaxddError: for an unknown name.
    """
    if name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    return contextlib.nullcontext() if name == "default" else jax.default_matmul_precision(name)
