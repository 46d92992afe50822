"""Policies of precision, by name."""

from __future__ import annotations

import contextlib

import jax

from jaxdd.errors import unknown
from jaxdd.types import PRECISIONS


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
