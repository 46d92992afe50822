"""Kernels by name, so that a config or a distilled file can carry one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

import jax

from jaxdd.errors import unknown
from jaxdd.kernels.convolutional import conv_nngp, conv_nngp_and_ntk, conv_ntk
from jaxdd.kernels.fully_connected import nngp, nngp_and_ntk, ntk

# By name, with each the function whose keywords are its options.
_KERNELS = {
    "conv_nngp": (conv_nngp, conv_nngp_and_ntk),
    "conv_ntk": (conv_ntk, conv_nngp_and_ntk),
    "nngp": (nngp, nngp_and_ntk),
    "ntk": (ntk, nngp_and_ntk),
}
NAMES = tuple(_KERNELS)
# So that what is compiled for a kernel serves the next run with an equal one.
_BUILT: dict[str, Callable[..., jax.Array]] = {}


def build(name: str, **options) -> Callable[..., jax.Array]:
    """`kernel(x1, x2=None) -> (n, m)` from its name and options. Of equal ones it is the same object.

    Args:
      name: "nngp" or "ntk" with the options of `nngp_and_ntk`; "conv_nngp" or "conv_ntk", for images, with those of
        `conv_nngp_and_ntk`.
      **options: what is left out has that function's default.

    Raises:
      JaxddError: for an unknown name or option. Bad values are refused when the kernel is first evaluated.
    """
    if name not in _KERNELS:
        raise unknown("kernel", name, _KERNELS)
    kernel, described = _KERNELS[name]
    parameters = inspect.signature(described).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise unknown(f"option of the kernel {name!r}:", option, known)
    made = functools.partial(kernel, **options)
    if not all(isinstance(value, int | float | str | None) for value in options.values()):
        return made
    return _BUILT.setdefault(repr((name, sorted(options.items()))), made)
