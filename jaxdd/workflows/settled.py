"""Hyper-parameters of a config that are settled by what it points to: a budget in bytes, and a set to go on with."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdd import _progress, engine, methods
from jaxdd._numbers import whole
from jaxdd.data.sources import located
from jaxdd.errors import JaxddError, printable
from jaxdd.selection import Selection
from jaxdd.synthetic import Continued, DistilledDataset, continued
from jaxdd.synthetic.continued import INITS
from jaxdd.workflows.data import Real
from jaxdd.workflows.evaluate import SETS, distilled_file

BYTES = "bytes"
"""Of the section `method` in a config: what the stored set may take, in place of `ipc`."""
_LOG = logging.getLogger("jaxdd")
_TRIED = 200  # numbers of images per class, of which a method may take some only
_ASKED = 20  # of those that it takes, for what they cost


class Settled(NamedTuple):
    """Hyper-parameters of a method, once the data are known."""

    hyper: dict[str, Any]
    """What the method is built with."""
    told: dict[str, Any]
    """What a run's identity and its file say: files by the hash of their content, never by their path."""


def check(name: str, hyper: Mapping[str, Any]) -> None:
    """Refuse hyper-parameters that cannot be built, and files that are no set, before the data are loaded.

    Raises:
      JaxddError: as `methods.build`; for a budget that is no number, or of a method without `ipc`; for a file that is
        not whole.
    """
    own, hyper = methods.fields(name), dict(hyper)
    if hyper.get(BYTES) is not None and BYTES not in own:
        if "ipc" not in own:
            raise JaxddError(f"config.method.{BYTES} stands in place of ipc, and {name} has no ipc.")
        whole(hyper[BYTES], f"config.method.{BYTES}")
        hyper.pop("ipc", None)
    if BYTES not in own:
        hyper.pop(BYTES, None)
    if named := _named(hyper.get("init")):
        _opened(named[0])
        hyper["init"] = own["init"]
    methods.build(name, **hyper)


def settle(name: str, hyper: Mapping[str, Any], real: Real) -> Settled:
    """What a config says of a method, for these data.

    Args:
      name: of the method.
      hyper: its hyper-parameters as configured: `bytes` may stand in place of `ipc`, and `init` may be a distilled
        file, its run's directory or a set of `jaxdd.sets`, with "+real", "+noise" or "+unit" for the images that it
        lacks; by default these begin as the method's do.

    Raises:
      JaxddError: for a budget that does not buy an image of each class, or a set that does not fit the data.
    """
    own, made = methods.fields(name), dict(hyper)
    told = dict(made)
    if named := _named(made.get("init")):
        begun = _begun(*named, usual=own["init"], real=real)
        made["init"], told["init"] = begun, f"set:{begun.source}+{begun.rest}"
    if BYTES not in own:
        budget = made.pop(BYTES, None)
        told.pop(BYTES, None)
        if budget is not None:
            made["ipc"] = told["ipc"] = _within(budget, name, made, real)
    return Settled(made, told)


def _named(init: Any) -> tuple[str, str | None] | None:
    """The set that an `init` names, and what the rest is to be; None if it names none."""
    if not isinstance(init, str) or init in INITS:
        return None
    path, plus, rest = init.rpartition("+")
    if not plus or rest not in INITS:
        path, rest = init, None
    is_set = path.endswith(".safetensors") or path.startswith(SETS) or located(path) is not None
    return (path, rest) if is_set else None


def _opened(path: str) -> DistilledDataset | Selection:
    """The set or the selection of a file."""
    return Selection.read(path) if Selection.is_one(path) else DistilledDataset.read(distilled_file(path))


def _begun(path: str, rest: str | None, *, usual: Any, real: Real) -> Continued:
    """The set of a file, as a run on these data begins from it; what is not to be seen in it is said."""
    dataset = _opened(path)
    about = dataset.header["data"]
    _check_range(path, about.get("pixel_range"), real.dataset.pixel_range)
    rest = rest or (usual if usual in INITS else "real")
    if isinstance(dataset, Selection):
        return _chosen(dataset, path, rest, real)
    begun = continued(dataset, real.transform, rest=rest)
    known = about.get("class_names") or []
    for k, (there, here) in enumerate(zip(known, real.dataset.class_names, strict=False)):
        if there != here:
            _LOG.warning("class %d is %r in %s and %r here.", k, printable(str(there)), path, here)
            break
    if begun.vectors.shape[1] < real.dataset.num_classes:
        _LOG.warning(
            "%s has %d of the %d classes; the others begin with real images.",
            path,
            begun.vectors.shape[1],
            real.dataset.num_classes,
        )
    return begun


def _chosen(selection: Selection, path: str, rest: str, real: Real) -> Continued:
    """Real images that were chosen, as what a run begins from."""
    try:
        rows = selection.places(real.dataset)
    except JaxddError as error:
        raise JaxddError(f"{path}: {error}") from error
    vectors = np.eye(real.dataset.num_classes, dtype=np.float32)[real.dataset.train.labels[rows]]
    images = np.asarray(real.train.images[rows])
    return Continued(images, vectors, learned=False, mosaics=None, rest=rest, source=selection.content)


def _check_range(path: str, there: Any, here: tuple[float, float]) -> None:
    """Pixels in [0, 1] are no beginning among such in [0, 255]."""
    try:
        sizes = sorted(max(map(abs, map(float, each))) for each in (there, here))
    except (TypeError, ValueError):  # it does not say
        return
    if 0 < 10 * sizes[0] < sizes[1]:
        raise JaxddError(
            f"the pixels of {path} lie in {list(there)} and those of the data in {list(here)}: scale both alike."
        )


def _within(budget: int, name: str, hyper: Mapping[str, Any], real: Real) -> int:
    """The most images per class whose stored set takes so many bytes at most."""

    def cost(ipc: int) -> int:
        product = engine.shape_of_product(real.method(name, {**hyper, "ipc": ipc}), real.stored)
        return math.ceil(product.num_bits / 8)

    first, least, step = _least(name, hyper, cost)
    if least > budget:
        of = f"{name} on {real.dataset.name}"
        raise JaxddError(f"config.method.{BYTES}={budget} is too little: ipc={first} of {of} costs {least} bytes.")
    try:
        slope = max(1, cost(first + step) - least)
        ipc = first + (budget - least) // slope * step  # exact where a set costs so much an image, and near it else
        while (size := cost(ipc)) > budget:
            ipc -= step
    except JaxddError as error:
        raise JaxddError(f"config.method.{BYTES}={budget} is more than there is: {error}") from error
    with contextlib.suppress(JaxddError):  # more images than there are
        while (more := cost(ipc + step)) <= budget:
            ipc, size = ipc + step, more
    _progress.say(f"config.method.{BYTES}={budget} comes to ipc={ipc}, which costs {size} bytes")
    return ipc


def _least(name: str, hyper: Mapping[str, Any], cost: Callable[[int], int]) -> tuple[int, int, int]:
    """The smallest number of images per class that a method takes, what that costs, and the step to the next one."""
    taken = []
    for ipc in range(1, _TRIED + 1):
        with contextlib.suppress(JaxddError):  # as of one that must divide by another number
            methods.build(name, **{**hyper, "ipc": ipc})
            taken.append(ipc)
    if len(taken) < 2:
        raise JaxddError(f"{name} takes no small number of images per class: give ipc in place of {BYTES}.")
    reason = JaxddError()
    for ipc in taken[:_ASKED]:
        try:
            return ipc, cost(ipc), taken[1] - taken[0]
        except JaxddError as error:  # too few for what they are made of
            reason = error
    raise reason
