"""A user's own object by dotted path, `package.module:name`."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from jaxdd.errors import JaxddError


def is_dotted(name: str) -> bool:
    """Whether `name` looks like `package.module:name` (and not like a file's path)."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def resolve(name: str) -> Any:
    """Import the object; the current directory counts as a place to import from.

    Raises:
      JaxddError: if the module or the attribute does not exist.
    """
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise JaxddError(f"cannot import {module_name!r} for {name!r}: {error}.") from error
    finally:
        sys.path.remove("")
    if not hasattr(module, attribute):
        raise JaxddError(f"module {module_name!r} has no {attribute!r}, asked for as {name!r}.")
    return getattr(module, attribute)
