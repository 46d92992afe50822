"""oneDNN's convolutions for jaxdd on CPUs: a handler for XLA, which `jaxdd.models.conv2d` finds if it is installed."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import pathlib

import jax

__version__ = "0.1.0"
TARGET = "jaxdd_onednn_convolution"
_INTERFACE = 1
_LIBRARY, _SHARED_OBJECT = "onednn-cpu-gomp", "libdnnl.so.3"


def register(interface: int) -> str:
    """Make the handler known to JAX and return its name.

    Args:
      interface: version of the handler's operands and attributes that the caller speaks.

    Raises:
      ImportError: if this is not that version, or something of the installation is missing.
      OSError: if a library cannot be loaded.
    """
    if interface != _INTERFACE:
        raise ImportError(f"jaxdd-onednn {__version__} and this jaxdd do not fit each other: install both anew")
    # By its path, since it lies where no loader looks, so that the handler's library finds it loaded. Not for all to
    # see: PyTorch, which has a oneDNN of its own inside, would take some of its classes from this one.
    ctypes.CDLL(str(_onednn()))
    extension = importlib.util.find_spec("jaxdd_onednn._convolution")
    if extension is None or extension.origin is None:
        raise ImportError("jaxdd_onednn was not compiled: pip install it, instead of importing it from its source")
    handler = ctypes.CDLL(extension.origin).jaxdd_onednn_convolution
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(handler), platform="cpu")
    return TARGET


def _onednn() -> pathlib.Path:
    try:
        files = importlib.metadata.files(_LIBRARY) or ()
    except importlib.metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.name == _SHARED_OBJECT:
            return pathlib.Path(str(file.locate()))
    raise ImportError(f"{_SHARED_OBJECT} is missing: pip install {_LIBRARY}")
