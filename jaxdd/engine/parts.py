"""Runs that are made of parts: independent short runs, as many side by side as there are devices, then the next."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError
from jaxdd.inner.networks import each_network
from jaxdd.types import (
    EXAMPLES,
    Array,
    Batch,
    Indices,
    Key,
    Labels,
    Method,
    Metrics,
    PyTree,
    RealData,
    Recipe,
    State,
    bound,
)


class Groups(NamedTuple):
    """How the parts of a run follow each other; what is static in its program."""

    count: int
    """Parts."""
    size: int
    """Of them side by side. In the last group the last part may be there several times, and counts once."""
    steps: int
    """Of each part."""
    at_once: int | None = 1
    """Of those of a device; None for all of them."""

    @property
    def number(self) -> int:
        """Groups, one after the other."""
        return -(-self.count // self.size)

    @property
    def total(self) -> int:
        """Steps of the run, in each of which every part of a group takes one."""
        return self.number * self.steps

    def parts(self, group: Any) -> Any:
        """The parts of a group `(size,)`."""
        return jnp.minimum(group * self.size + jnp.arange(self.size), self.count - 1)


class Compiled(NamedTuple):
    """What the engine compiles: a method, or several parts of it at once, with the step as an argument."""

    init: Callable[..., State]
    """`init(key, data, group)`."""
    sample: Callable[[Key, Labels, Any], dict[str, Indices]]
    """`sample(key, labels, step)`, as `sampling` gives it."""
    update: Callable[[Key, Any, State, Batch], tuple[State, Metrics]]
    """`update(key, step, state, batch)`, the key that of the run."""


def alone(method: Method) -> Compiled:
    """A method that is one run."""

    def init(key: Key, data: RealData, group: Any) -> State:
        return first_state(method, data, key, group)

    def update(key: Key, step: Any, state: State, batch: Batch) -> tuple[State, Metrics]:
        return method.update(jax.random.fold_in(key, step), state, batch)

    return Compiled(init, sampling(method), update)


def in_groups(method: Method, groups: Groups) -> Compiled:
    """The parts of a group as one run: every leaf of the state has a first axis `(size,)`, which devices share.

    A part draws and updates with keys of its own number and step, whatever is beside it.
    """
    draw = sampling(method)

    def counts(step: Any) -> Array:
        group, within = step // groups.steps, step % groups.steps
        return groups.parts(group) * groups.steps + within

    def init(key: Key, data: RealData, group: Any) -> State:
        def first(part: Array) -> State:
            return first_state(method, data, jax.random.fold_in(key, part), part)

        if groups.size == 1:
            return jax.tree.map(lambda leaf: leaf[None], first(groups.parts(group)[0]))
        return jax.lax.map(first, groups.parts(group))

    def sample(key: Key, labels: Labels, step: Any) -> dict[str, Indices]:
        return jax.vmap(lambda count: draw(key, labels, count))(counts(step))

    def update(key: Key, step: Any, state: State, batch: Batch) -> tuple[State, Metrics]:
        keys = jax.vmap(lambda count: jax.random.fold_in(key, count))(counts(step))

        def of_part(over: tuple[Key, State, Mapping[str, PyTree], Mapping[str, Indices]]) -> tuple[State, Metrics]:
            key, state, tables, rows = over
            return method.update(key, state, Batch(tables, rows, batch.assets))

        state, metrics = each_network(
            of_part, (keys, state, dict(batch.tables), dict(batch.rows)), batch_size=groups.at_once
        )
        once = step // groups.steps * groups.size + jnp.arange(groups.size) < groups.count
        return state, jax.tree.map(lambda leaf: jnp.where(once, leaf, 0).sum(0) / once.sum(), metrics)

    return Compiled(init, sample, update)


def first_state(method: Method | Recipe, data: RealData, key: Key, part: Any = 0) -> State:
    """`method.init(key, data)`, or `method.init(key, data, part)` of one that is made of parts. For a loop of one's
    own."""
    ready = bound(method, data)
    return ready.init(key, data, jnp.asarray(part, jnp.int32)) if takes_part(ready) else ready.init(key, data)


def takes_part(method: Method) -> bool:
    """Whether the first state depends on which part it is of."""
    try:
        return "part" in inspect.signature(method.init).parameters
    except (TypeError, ValueError):  # something callable that does not say
        return False


def sampling(method: Method) -> Callable[[Key, Labels, Any], dict[str, Indices]]:
    """A method's `sample(key, labels, step)` in its general form: from a run's key, `{name of the draw: rows}`."""
    try:
        knows_step = "step" in inspect.signature(method.sample).parameters
    except (TypeError, ValueError):  # something callable that does not say
        knows_step = False

    def sample(key: Key, labels: Labels, step: Any) -> dict[str, Indices]:
        if knows_step:
            rows = method.sample(key, labels, step=step)
        else:
            rows = method.sample(jax.random.fold_in(key, step), labels)
        draws = dict(rows) if isinstance(rows, Mapping) else {EXAMPLES: rows}
        for name, rows in draws.items():
            if not hasattr(rows, "dtype"):
                raise JaxddError(
                    "the method's sample must return the numbers of rows, an array of integers, or a dict of them by "
                    f"table; of {name!r} it returns a {type(rows).__name__}."
                )
        return draws

    return sample
