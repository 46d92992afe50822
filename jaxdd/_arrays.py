"""What arrays from outside must be before anything is computed: of real numbers, whatever they are given as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.errors import JaxddError


def array(value: Any, what: str, make: Callable[[Any], Any] = jnp.asarray) -> jax.Array:
    """`make` of whatever becomes an array of real numbers.

        array([[1, 2], [3]], "features")  # JaxddError: lists of other lengths are none

    Raises:
      JaxddError: for what does not, such as texts, None, objects or complex numbers, by the name it is given.
    """
    found = None
    try:
        with np.errstate(over="ignore"):  # what is too large is infinite then, and for others to refuse
            found = None if value is None else make(value)
    except (TypeError, ValueError, OverflowError):
        pass
    if found is None or getattr(found.dtype, "kind", "") in "OSUMmc":
        given = str(found.dtype) if found is not None else f"a {type(value).__name__}"
        raise JaxddError(f"{what} must be an array of real numbers, got {given}.")
    return found


def images_of(value: Any, what: str = "images", *, side: int = 1) -> jax.Array:
    """Images `(n, h, w, c)`, one at least, with sides of at least so many pixels; JaxddError for anything else."""
    found = array(value, what)
    if found.ndim != 4 or not found.size or min(found.shape[1:3]) < side:
        sides = f" and sides of {side} pixels" if side > 1 else ""
        raise JaxddError(f"{what} must have the shape (n, h, w, c) with at least one{sides}, got {found.shape}.")
    return found


def num_rows(arrays: Any, what: str) -> int:
    """How many rows there are in an array, or in all leaves of a tree of them; JaxddError where they are no such."""
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(arrays)}
    if len(sizes) != 1 or sizes == {()}:
        found = ", ".join(sorted(f"{size[0]} rows" if size else "a number" for size in sizes)) or "nothing"
        raise JaxddError(f"{what} must be an array, or several, with a row for each point, got {found}.")
    return sizes.pop()[0]
