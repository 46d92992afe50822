"""Policies of precision, by name."""

from __future__ import annotations

import contextlib

import jax

from jaxdd.errors import unknown

PRECISIONS = {
    "default": "the backend's own: float32 on CPUs, TF32 on newer GPUs, bfloat16 on TPUs",
    "float32": "float32 everywhere",
    "bfloat16": "operands of products and convolutions in bfloat16, their sums in float32; on CPUs only with oneDNN",
}


def matmul_precision(name: str) -> contextlib.AbstractContextManager:
    """What is traced inside computes its products and convolutions so, also their gradients. Storage stays float32.

    It is `jax.default_matmul_precision`: what names its own precision keeps it, as kernels, solves and rendering do.

    Args:
      name: of `PRECISIONS`.

    Raises:
      JaxddError: for an unknown name.
    """
    if name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    return contextlib.nullcontext() if name == "default" else jax.default_matmul_precision(name)
