"""Kernels by name, so that a config or a distilled file can carry one."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax

from jaxdd.errors import unknown
from jaxdd.kernels.fully_connected import nngp, ntk

_KERNELS = {"nngp": nngp, "ntk": ntk}


def build(name: str, **options) -> Callable[..., jax.Array]:
    """`kernel(x1, x2=None) -> (n, m)` from its name, "nngp" or "ntk", and the options of `nngp_and_ntk`."""
    if name not in _KERNELS:
        raise unknown("kernel", name, _KERNELS)
    return functools.partial(_KERNELS[name], **options)
