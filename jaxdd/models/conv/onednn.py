"""oneDNN's convolutions, through the optional package jaxdd-onednn."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import platform
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.errors import JaxddError
from jaxdd.models.conv.geometry import Geometry
from jaxdd.types import Array

_INSTALL = "`pip install ./native` in the repository"
_INTERFACE = 1
_OPERATIONS = {"conv": 0, "input_grad": 1, "weight_grad": 2}


@functools.cache
def target() -> str | None:
    """The name of oneDNN's convolution among XLA's custom calls; None if there is none to be had."""
    if importlib.util.find_spec("jaxdd_onednn") is None:
        return None
    try:
        return importlib.import_module("jaxdd_onednn").register(_INTERFACE)
    except (ImportError, OSError) as error:
        warnings.warn(f"jaxdd-onednn cannot be used, so that convolutions are XLA's own: {error}", stacklevel=2)
        return None


def obstacle(dtype: Any, geometry: Geometry) -> str | None:
    """Why oneDNN cannot compute this convolution, or None."""
    if dtype != jnp.float32:
        return f"computes in float32, not in {dtype}"
    if min(itertools.chain.from_iterable(geometry.pads)) < 0:
        return f"has no negative padding, as in {geometry.pads}"
    if target() is None:
        return f"is not installed: {_INSTALL}"
    return None


def advice() -> str | None:
    """One line for a user whose convolutions have been slower than they need be, else None."""
    computed = target.cache_info().currsize > 0
    supported = (platform.system(), platform.machine()) == ("Linux", "x86_64")
    if computed and supported and importlib.util.find_spec("jaxdd_onednn") is None:
        return f"Convolutions on this CPU are faster with the optional package jaxdd-onednn: {_INSTALL}."
    return None


def operation(name: str) -> Callable[[Array, Array, Geometry, str], Array]:
    """One of the three operations; an axis of networks in front of both operands is part of the one call."""

    def compute(a: Array, b: Array, geometry: Geometry, platform: str) -> Array:
        if platform != "cpu":
            raise JaxddError(f'convolution "onednn" is for CPUs, and this is compiled for a {platform.upper()}.')
        shape = geometry.result(name, a, b)
        if a.ndim == 4:
            a, b = a[None], b[None]
        name_of_call = target()
        assert name_of_call is not None  # `obstacle` has said that there is none
        call = jax.ffi.ffi_call(name_of_call, jax.ShapeDtypeStruct((len(a), *shape[-4:]), a.dtype))
        pads = itertools.chain.from_iterable(geometry.pads)
        return call(
            a,
            b,
            operation=np.int64(_OPERATIONS[name]),
            bfloat16=geometry.rounds,
            geometry=np.array([*geometry.strides, *geometry.dilation, *pads, geometry.groups], np.int64),
        ).reshape(shape)

    return compute
