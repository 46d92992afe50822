"""Somebody's own function that is told of a run, found by its name."""

from __future__ import annotations

import contextlib
import functools
import inspect
import traceback
from collections.abc import Mapping
from typing import Any

from jaxdd import _dotted, engine
from jaxdd.errors import JaxddError


def named(name: str) -> engine.Callback:
    """The function of a dotted path, as `callback` of `engine.run`.

        named("wandb_hook:log")  # of wandb_hook.py in the current directory

    Where it fails, the run ends with what was done saved, and a sentence that says in which line.

    Raises:
      JaxddError: if it is no such path, not there, or no function.
    """
    if not _dotted.is_dotted(name):
        raise JaxddError(f"--callback must be package.module:function, got {name!r}.")
    function = _dotted.resolve(name)
    if not callable(function):
        raise JaxddError(f"--callback={name} is a {type(function).__name__}, not a function of (step, metrics, state).")
    signature = None
    with contextlib.suppress(ValueError):  # what is written in C has none
        signature = inspect.signature(function)
    try:
        _ = signature and signature.bind(0, {}, None)
    except TypeError as error:
        raise JaxddError(f"--callback={name} must take (step, metrics, state): {error}.") from error

    @functools.wraps(function)
    def told(step: int, metrics: Mapping[str, float], state: Any) -> None:
        try:
            function(step, metrics, state)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
            raise JaxddError(f"--callback={name} failed, {frame.filename}:{frame.lineno}: {what}") from error

    return told
