"""The contract of selection, and what lifts a rule over one group of points to one over classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import _numbers
from jaxdd._arrays import array, num_rows
from jaxdd._numbers import of_each
from jaxdd.errors import JaxddError
from jaxdd.types import Array, Key, Labels, PyTree, RealData


class Chosen(NamedTuple):
    """What was chosen of a whole set."""

    rows: Array
    """int32 `(m,)`, numbers in the whole set, class after class, in each in order of choice."""
    weights: Array
    """float32 `(m,)`, how often each counts; ones where a rule gives none."""


class Selector(NamedTuple):
    """How some of the real data are chosen: what is known of each example, then which ones.

    selector = Selector(pixels, by_class(choose.herding))
    chosen = selector.choose(key, selector.describe(data, key), data.labels, 10)
    """

    describe: Callable[[RealData, Key], PyTree]
    """`describe(data, key) -> (n, ..)`: features, gradients or scores, an array or leaves with the same rows."""
    choose: Callable[[Key, PyTree, Labels, int | Sequence[int]], Chosen]
    """`choose(key, described, labels, k) -> Chosen`, k of each class, or a number for each."""


def pixels(data: RealData, key: Key | None = None) -> Array:
    """Images as they are, flat: float32 `(n, height * width * channels)`."""
    del key
    images = jnp.asarray(data.images, jnp.float32)
    return images.reshape(len(images), -1)


def by_class(rule: Callable[..., Any]) -> Callable[[Key, PyTree, Labels, int | Sequence[int]], Chosen]:
    """A rule over one group of points, as one that chooses from every class.

        chosen = by_class(functools.partial(choose.graph_cut, penalty=0.5))(key, features, labels, 10)

    A rule that takes `mask=`, as all of `choose` do, is given every class filled up to the largest one, so that it is
    compiled once; classes of half that size or less are filled up to half of it, and so on, so that not much more than
    half of what is computed is for nothing. A rule without is given the bare points of each class.

    Args:
      rule: `rule(points, k)` with rows `(k,)`, or rows and weights `(k,)`, for result; keywords `key` and `mask` are
        given if it has them and they are not bound by `functools.partial`. The key is the caller's with the number of
        the class folded in.

    Returns:
      `choose(key, described, labels, k) -> Chosen`, for a `Selector`; described: leaves `(n, ..)`.

    Raises:
      JaxddError: (the function) if k is not an integer of at least 1, or a sequence with one of at least 0 for each
        class; if a class has too few examples; if what is described are not as many as the labels; or if the rule
        gives other than so many rows.
    """
    if not callable(rule):
        raise JaxddError(f"a rule is a function of points and how many, got {rule!r}.")
    takes = set(inspect.signature(rule).parameters) - set(getattr(rule, "keywords", {}))

    def choose(key: Key, described: PyTree, labels: Labels, k: int | Sequence[int]) -> Chosen:
        if not isinstance(labels, Labels):
            raise JaxddError(
                f"labels must be those of `RealData`, or `Labels.index` of numbers, got {type(labels).__name__}."
            )
        numbers = _of_each(k, labels)
        if (size := num_rows(described, "what is described")) != len(labels.values):
            raise JaxddError(f"there are {len(labels.values)} labels, and what is described has {size} rows.")
        order, largest = np.asarray(labels.order), max(labels.counts)
        rows, weights = [], []
        for c, (start, count, many) in enumerate(zip(labels.starts, labels.counts, numbers, strict=True)):
            if not many:
                continue
            members, given = order[start : start + count], {}
            if "key" in takes:
                given["key"] = jax.random.fold_in(key, c)
            size = _filled(count, largest) if "mask" in takes else count
            if "mask" in takes:
                given["mask"] = np.arange(size) < count
            result = rule(_members(described, np.resize(members, size)), many, **given)
            found, counted = result if isinstance(result, tuple) else (result, np.ones(many))
            rows.append(members[_places(found, many, count)])
            weights.append(np.asarray(counted))
            if weights[-1].shape != (many,):
                raise JaxddError(f"a rule must give a weight for each of {many} rows, got {weights[-1].shape}.")
        return Chosen(jnp.asarray(np.concatenate(rows), jnp.int32), jnp.asarray(np.concatenate(weights), jnp.float32))

    return choose


def _places(found: Any, many: int, count: int) -> np.ndarray:
    """Rows as a rule gave them, if they are so many of the points it was given."""
    places = np.asarray(array(found, "the rows that a rule gives", np.asarray))
    integers = np.issubdtype(places.dtype, np.integer)
    if places.shape != (many,) or not integers or (places < 0).any() or (places >= count).any():
        raise JaxddError(
            f"a rule must give {many} rows, from 0 to {count - 1}, got {places.dtype} of shape {places.shape}"
            f"{f' up to {places.max()}' if integers and places.size else ''}."
        )
    return places


def _of_each(k: int | Sequence[int], labels: Labels) -> tuple[int, ...]:
    """How many of each class."""
    what = "numbers to choose"
    numbers = of_each(_numbers.by_class(k, what, least=0), labels.num_classes, what)
    if not any(numbers):
        raise JaxddError(f"{what} must be at least one for some class, got {k}.")
    for c, (count, many) in enumerate(zip(labels.counts, numbers, strict=True)):
        if many > count:
            raise JaxddError(f"class {c} has {count} examples, and {many} of it are to be chosen.")
    return numbers


def _filled(count: int, largest: int) -> int:
    """The largest size of a class, a little rounded up, halved as often as it holds this one.

    Rounded, so that other splits of the same set are not other programs.
    """
    eighth = max(1, (1 << (largest - 1).bit_length()) // 16)
    size = -(-largest // eighth) * eighth
    while -(-size // 2) >= count and size > 1:
        size = -(-size // 2)
    return size


@jax.jit
def _members(described: PyTree, rows: Array) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[rows], described)
