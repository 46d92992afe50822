"""Where `jaxdd.workflows` was before: its names still lead there, with a DeprecationWarning, for a release."""

from __future__ import annotations

import warnings
from typing import Any

_MOVED = (
    "BEST",
    "EVALUATIONS",
    "FILE",
    "RESULTS",
    "Outcome",
    "Real",
    "check_seed",
    "complete",
    "distill",
    "distilled_file",
    "evaluate",
    "told",
)


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module 'jaxdd.cli.pipeline' has no attribute {name!r}")
    warnings.warn(f"jaxdd.cli.pipeline.{name} is now jaxdd.workflows.{name}.", DeprecationWarning, stacklevel=2)
    from jaxdd import workflows

    return getattr(workflows, name)


def __dir__() -> list[str]:
    return list(_MOVED)
