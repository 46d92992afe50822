"""What JAX keeps for those who extend it, and moves from release to release, under names that stay (0.10 to 0.12).

A traced function (`Traced`) is what `jax.make_jaxpr` returns: equations, and values for its constants. Since JAX 0.11
one class is both that and what an equation holds of the functions that it calls; before they were two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.core import Tracer
from jax.extend.core import (
    ClosedJaxpr,  # pyright: ignore[reportPrivateImportUsage]  (since JAX 0.11 another name of Jaxpr)
    Jaxpr,
    JaxprEqn,
    Literal,
    Primitive,
    jaxpr_as_fun,
)
from jax.interpreters import ad, batching, mlir
from jax.interpreters.partial_eval import dce_jaxpr

__all__ = [
    "JaxprEqn",
    "Literal",
    "Primitive",
    "Traced",
    "Tracer",
    "ad",
    "batching",
    "called",
    "constants",
    "evaluate",
    "key_of",
    "live",
    "missing_platform",
    "mlir",
    "needed",
    "of_constants",
    "one_equation",
    "primitives",
    "scan_lengths",
    "told_to_jax",
]

Traced = ClosedJaxpr


def missing_platform() -> str | None:
    """If JAX finds no device of the kind that `JAX_PLATFORMS` asks for: a sentence that says so, and what there is."""
    wanted = getattr(jax.config, "jax_platforms")  # noqa: B009  (no checker knows it)
    try:
        jax.devices()
        return None
    except (RuntimeError, AssertionError):  # the latter where a plugin is not installed
        jax.config.update("jax_platforms", None)
        there = ", ".join(sorted({device.platform for device in jax.devices()}))
    return (
        f"JAX_PLATFORMS asks for {wanted!r}, and JAX finds no such device: there is {there}. Leave JAX_PLATFORMS out, "
        "or install what it takes: jaxdd[cuda] for NVIDIA's GPUs, jaxdd[tpu] for TPUs."
    )


def key_of(seed: int) -> jax.Array:
    """`jax.random.key(seed)` of the one kind that runs are made with, whatever `JAX_DEFAULT_PRNG_IMPL` says."""
    return jax.random.key(seed, impl="threefry2x32")


def told_to_jax() -> dict[str, Any]:
    """What JAX was told that changes every bit of a run, where it is not JAX's default: `{"JAX_ENABLE_X64": True}`."""
    defaults = {"jax_enable_x64": False, "jax_threefry_partitionable": True}
    now = {name: getattr(jax.config, name) for name in defaults}
    return {name.upper(): value for name, value in now.items() if value != defaults[name]}


def evaluate(traced: Traced, *args: Any) -> list[Any]:
    """The results of a traced function, flat as its arguments."""
    return jaxpr_as_fun(traced)(*args)


def of_constants(traced: Traced) -> Callable[..., list[Any]]:
    """A traced function as `function(constants, *args)`, of other constants than it was traced with."""
    return lambda constants, *args: evaluate(ClosedJaxpr(traced.jaxpr, constants), *args)


def live(traced: Traced) -> Traced:
    """Without what no result needs, as the compiler leaves it out; the arguments stay."""
    jaxpr, _ = dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars), instantiate=True)
    return ClosedJaxpr(jaxpr, traced.consts)


def needed(traced: Traced) -> list[bool]:
    """Which arguments the results depend on."""
    return dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))[1]


def called(equation: JaxprEqn) -> list[Traced]:
    """The functions that an equation holds, in the order of its parameters; not those with constants of no value."""
    found = []
    for value in equation.params.values():
        for function in value if isinstance(value, tuple | list) else (value,):
            if isinstance(function, ClosedJaxpr):
                found.append(function)
            elif isinstance(function, Jaxpr) and not function.constvars:
                found.append(ClosedJaxpr(function, ()))
    return found


def constants(traced: Traced) -> list[Any]:
    """Of a traced function and of all that it holds, in their order."""
    found = list(traced.consts)
    for equation in traced.jaxpr.eqns:
        for function in called(equation):
            found += constants(function)
    return found


def primitives(traced: Traced) -> set[str]:
    """The names of all that a traced function and what it holds do."""
    found = set()
    for equation in traced.jaxpr.eqns:
        found |= {equation.primitive.name, *(name for function in called(equation) for name in primitives(function))}
    return found


def one_equation(traced: Traced, equation: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """The results of an equation of a traced function, from all its operands."""
    pairs = [(var, value) for var, value in zip(equation.invars, operands, strict=True) if not isinstance(var, Literal)]
    alone = traced.jaxpr.replace(
        eqns=[equation],
        constvars=[],
        invars=[var for var, _ in pairs],
        outvars=equation.outvars,
        effects=equation.effects,
    )
    return evaluate(ClosedJaxpr(alone, ()), *(value for _, value in pairs))


def scan_lengths(equation: JaxprEqn) -> tuple[int, int]:
    """Of the operands of a `scan`, how many are constant and how many are carried; the others are its rows."""
    if "num_carry" in equation.params:
        return equation.params["num_consts"], equation.params["num_carry"]
    constants, carried, _ = equation.params["ft_in"].unpack()  # since JAX 0.11
    return len(constants), len(carried)
