"""Parameterisations by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from jaxdd import _named
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError, unknown
from jaxdd.synthetic.bases import linear_bases
from jaxdd.synthetic.budget import within_budget
from jaxdd.synthetic.continued import Continued
from jaxdd.synthetic.fitted import fitted
from jaxdd.synthetic.frequencies import frequencies
from jaxdd.synthetic.multi_formation import multi_formation
from jaxdd.synthetic.neural_fields import neural_fields
from jaxdd.synthetic.parameterisation import SyntheticSet
from jaxdd.synthetic.pixels import pixels


def named(parameterisation: str) -> Callable[..., SyntheticSet]:
    """A parameterisation by name: `make(ipc, *, init="real") -> SyntheticSet`, where `ipc` is always the budget.

        named("frequencies(coefficients=64)")(1)  # as many images as cost the bits of one plain image per class

    | name | options, with their defaults | images | begins as |
    |---|---|---|---|
    | "pixels" | | `ipc` per class | `init` of `pixels` |
    | "multi_formation" | factor=2 | `factor**2 * ipc` | mosaics of such |
    | "frequencies" | coefficients=64 | what the bits pay for, see `within_budget` | what it keeps of such |
    | "neural_fields" | width=6, layers=2, first_scale=30.0, scale=10.0, fit=5000, fit_learning_rate=5e-4 | likewise | \
such, as near as the fit is |
    | "linear_bases" | bases=16, scale=2, fit=0, fit_learning_rate=0.01 | likewise, see `rows_for_budget` | at random |

    `fit` are the steps of a stage before, which fits the first parameters to images, see `fitted`; without one (0) they
    begin at random. A set to go on with (`continued`), and images by class, are for the first two.

    Raises:
      JaxddError: for an unknown name or option (the nearest is suggested); `make` for a bad value, or an `init` or
        images by class that it cannot take.
    """
    name, options = _named.parse(parameterisation, "parameterisation")
    if name not in _MAKERS:
        raise unknown("parameterisation", name, _MAKERS)
    known = list(inspect.signature(_MAKERS[name]).parameters)[2:]
    for option in options:
        if option not in known:
            raise unknown(f"option of parameterisation {name!r}", option, known or ["none"])
    make = functools.partial(_MAKERS[name], **options)
    make(1, "real")  # or says which value is wrong

    def checked(ipc: int | Sequence[int], init: str | Continued = "real") -> SyntheticSet:
        if name not in _OF_PIXELS:
            plain = " and ".join(_OF_PIXELS)
            if isinstance(init, Continued):
                raise JaxddError(f"a set to go on with is for {plain}: {name} cannot begin as its images.")
            if isinstance(ipc, Sequence):
                raise JaxddError(f"images by class are for {plain}: of {name}, ipc is the budget, one whole number.")
        return make(ipc, init)

    return checked


def _pixels(ipc: Any, init: Any) -> SyntheticSet:
    return pixels(ipc, init=init)


def _multi_formation(ipc: Any, init: Any, factor: int = 2) -> SyntheticSet:
    whole(factor, "the factor of multi_formation", 2)
    return multi_formation(pixels(ipc, init=init, factor=factor), factor)


def _frequencies(ipc: Any, init: Any, coefficients: int = 64) -> SyntheticSet:
    return within_budget(lambda n: frequencies(n, coefficients, init=init), ipc)


def _neural_fields(
    ipc: Any,
    init: Any,
    width: int = 6,
    layers: int = 2,
    first_scale: float = 30.0,
    scale: float = 10.0,
    fit: int = 5_000,
    fit_learning_rate: float = 5e-4,
) -> SyntheticSet:
    def make(count: int) -> SyntheticSet:
        return neural_fields(count, width, layers, first_scale=first_scale, scale=scale)

    return _begun(within_budget(make, ipc), init, fit, fit_learning_rate)


def _linear_bases(
    ipc: Any, init: Any, bases: int = 16, scale: int = 2, fit: int = 0, fit_learning_rate: float = 0.01
) -> SyntheticSet:
    return _begun(linear_bases(bases, ipc=ipc, scale=scale), init, fit, fit_learning_rate)


def _begun(base: SyntheticSet, init: str, fit: int, learning_rate: float) -> SyntheticSet:
    if whole(fit, "fit", 0):
        return fitted(base, steps=fit, learning_rate=learning_rate, init=init)
    if init != "real":
        raise JaxddError(f"{base.decoder} without a fit begin at random: init {init!r} needs fit, its steps.")
    return base


_MAKERS: dict[str, Callable[..., SyntheticSet]] = {
    "pixels": _pixels,
    "multi_formation": _multi_formation,
    "frequencies": _frequencies,
    "neural_fields": _neural_fields,
    "linear_bases": _linear_bases,
}
_OF_PIXELS = ("pixels", "multi_formation")
