"""Policies of precision, by name."""

from __future__ import annotations

import contextlib

import jax

from jaxdd.errors import unknown

PRECISIONS = {
    "default": "the backend's own: float32 on CPUs, TF32 on newer GPUs, bfloat16 on TPUs",
    "float32": "float32 everywhere",
    "bfloat16": "at least bfloat16: on TPUs bfloat16, on newer GPUs TF32, on CPUs bfloat16 in oneDNN's convolutions, "
    "summed in float32, and else float32",
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
