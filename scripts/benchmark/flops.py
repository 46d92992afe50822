"""How many floating-point operations the products of a function take, counted from its jaxpr.

XLA's own count takes the body of a loop once and knows nothing of what is behind a custom call. Here every product is
counted as often as it is executed, what the way back computes again included: matrix products, convolutions (with the
zeros of their padding, as usual), and the leading terms of factorisations and triangular solves. A multiplication and
its addition are two operations. What no result needs is not executed. Nothing else is counted, nor what a callback or
a custom call does.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxdd._jax import JaxprEqn, Literal, Traced, called, evaluate, live, one_equation, scan_lengths
from jaxdd.models.conv.implementations import Implementation
from jaxdd.types import Array


class Flops(NamedTuple):
    """What a function takes, as far as it is known before it runs."""

    count: int
    """Floating-point operations. A loop whose length only a run tells is counted once, of a choice the larger part."""
    exact: bool
    """Whether there are neither."""


def count_flops(function: Callable, *args: Any) -> Flops:
    """The operations of `function(*args)`; shapes and dtypes are enough for the arguments.

    On several devices they are those of all of them together.
    """
    return _count(live(jax.make_jaxpr(function)(*args)))


def executed_flops(function: Callable) -> Callable[..., Array]:
    """`flops(*args)`: the operations that `function(*args)` executes, float32, its loops and choices as they come out.

    Under `jax.jit` nothing is computed but what decides over loops and choices. Those inside of a `jax.shard_map` are
    counted as `count_flops` does.
    """

    def flops(*args: Any) -> Array:
        _, count = _run(live(jax.make_jaxpr(function)(*args)), jax.tree.leaves(args))
        return jnp.asarray(count, jnp.float32)

    return flops


def of_each_step(step: Callable, *args: Any) -> float | Callable[..., float]:
    """For `engine.plan(count=…)`: the operations of `step(*args)`, or what counts them where only a run knows them."""
    known = count_flops(step, *args)
    if known.exact:
        return known.count
    executed = jax.jit(executed_flops(step))
    return lambda *args: float(executed(*args))


# Before a run.


def _count(traced: Traced) -> Flops:
    parts = [_of_equation(eqn) for eqn in traced.eqns]
    return Flops(sum(part.count for part in parts), all(part.exact for part in parts))


def _of_equation(eqn: JaxprEqn) -> Flops:
    name, params = eqn.primitive.name, eqn.params
    if name in _PRODUCTS:
        return Flops(_PRODUCTS[name](params, eqn.outvars[0].aval, *(var.aval for var in eqn.invars)), True)
    parts = [_count(function) for function in _called(eqn)]
    count, exact = sum(part.count for part in parts), all(part.exact for part in parts)
    if name == "scan":
        return Flops(params["length"] * count, exact)
    if name == "shard_map":
        return Flops(params["mesh"].size * count, exact)
    if name == "while":
        return Flops(count, count == 0)
    if name == "cond":
        counts = {part.count for part in parts}
        return Flops(max(counts), exact and len(counts) == 1)
    return Flops(count, exact)


def _called(eqn: JaxprEqn) -> list[Traced]:
    """The functions that an equation executes."""
    if eqn.primitive.name == "custom_linear_solve":
        return [live(eqn.params["jaxprs"].solve)]  # the others are for derivatives
    return [live(function) for function in called(eqn)]


def _dot(params: dict, out: Any, a: Any, b: Any) -> int:
    (contracted, _), _ = params["dimension_numbers"]
    return 2 * out.size * math.prod(a.shape[axis] for axis in contracted)


def _convolution(params: dict, out: Any, images: Any, kernel: Any) -> int:
    outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
    # Of a dilated input, as in the derivative of a strided convolution, nobody multiplies the zeros.
    return 2 * out.size * (kernel.size // outputs) // math.prod(params["lhs_dilation"])


def _convolution_of_ours(operation: str, params: dict, out: Any, a: Any, b: Any) -> int:
    """Those of `jaxdd.models.conv`: a convolution and its two gradients take the same."""
    geometry = params["geometry"]
    kernel = math.prod(geometry.kernel) * geometry.channels(operation, a, b) // geometry.groups
    return 2 * math.prod(a.shape[:-3]) * math.prod(geometry.maps) * kernel * b.shape[-1]


def _factorisation(of_size: Callable[[int, int], float], params: dict, out: Any, a: Any, *others: Any) -> int:
    """Of matrices whose sides are `of_size`'s two arguments, the smaller first."""
    *batch, rows, columns = a.shape
    return math.prod(batch) * round(of_size(*sorted((rows, columns))))


_PRODUCTS: dict[str, Callable[..., int]] = {
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    **{f"jaxdd_{name}": functools.partial(_convolution_of_ours, name) for name in Implementation._fields},
    # Golub & Van Loan, Matrix Computations: by Householder's reflections with the orthogonal factor, by symmetric QR
    # with vectors, by Golub & Reinsch with vectors.
    "cholesky": functools.partial(_factorisation, lambda n, m: n**3 / 3),
    "lu": functools.partial(_factorisation, lambda n, m: n**2 * (m - n / 3)),
    "qr": functools.partial(_factorisation, lambda n, m: 4 * n**2 * (m - n / 3)),
    "eigh": functools.partial(_factorisation, lambda n, m: 9 * n**3),
    "svd": functools.partial(_factorisation, lambda n, m: 14 * m * n**2 + 8 * n**3),
    "triangular_solve": lambda params, out, a, b: a.shape[-1] * b.size,
}


# In a run.


def _run(traced: Traced, args: Sequence[Any]) -> tuple[list[Any], Any]:
    """The results of a function, and the operations that it has executed."""
    values = dict(zip([*traced.constvars, *traced.invars], [*traced.consts, *args], strict=True))

    def read(var: Any) -> Any:
        return var.val if isinstance(var, Literal) else values[var]

    total: Any = 0.0
    for eqn in traced.eqns:
        known, operands = _of_equation(eqn), list(map(read, eqn.invars))
        if known.exact or eqn.primitive.name not in _RUN:
            results, count = one_equation(traced, eqn, operands), float(known.count)
        else:
            results, count = _RUN[eqn.primitive.name](eqn, operands)
        total += count
        values |= zip(eqn.outvars, results, strict=True)
    return list(map(read, traced.outvars)), total


def _run_call(eqn: JaxprEqn, operands: list[Any]) -> tuple[list[Any], Any]:
    (function,) = _called(eqn)
    return _run(function, operands)


def _run_solve(eqn: JaxprEqn, operands: list[Any]) -> tuple[list[Any], Any]:
    lengths = eqn.params["const_lengths"]
    before = lengths.matvec + lengths.vecmat
    (function,) = _called(eqn)
    return _run(function, operands[before : before + lengths.solve] + operands[sum(lengths) :])


def _run_scan(eqn: JaxprEqn, operands: list[Any]) -> tuple[list[Any], Any]:
    (function,) = _called(eqn)
    first, carried = scan_lengths(eqn)
    consts, start, rows = operands[:first], operands[first : first + carried], operands[first + carried :]

    def step(carry: tuple[Any, list[Any]], row: list[Any]) -> tuple[tuple[Any, list[Any]], list[Any]]:
        total, now = carry
        results, count = _run(function, [*consts, *now, *row])
        return (total + count, results[:carried]), results[carried:]

    options = {name: eqn.params[name] for name in ("length", "reverse")}
    (total, end), stacked = lax.scan(step, (jnp.float32(0), start), rows, **options)
    return [*end, *stacked], total


def _run_while(eqn: JaxprEqn, operands: list[Any]) -> tuple[list[Any], Any]:
    condition, body = (live(eqn.params[name]) for name in ("cond_jaxpr", "body_jaxpr"))
    first, second = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    of_condition, of_body, start = operands[:first], operands[first : first + second], operands[first + second :]
    deciding = _count(condition).count

    def goes_on(now: list[Any]) -> Any:
        return evaluate(condition, *of_condition, *now)[0]

    def step(carry: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
        total, now = carry
        results, count = _run(body, [*of_body, *now])
        going = goes_on(now)
        if going.ndim:  # loops side by side: those that are done stay as they are
            going = [going.reshape(going.shape + (1,) * (jnp.ndim(leaf) - going.ndim)) for leaf in now]
            results = [jnp.where(on, new, old) for on, new, old in zip(going, results, now, strict=True)]
        return total + count + deciding, results

    start = (jnp.float32(deciding), start)
    total, end = lax.while_loop(lambda carry: jnp.any(goes_on(carry[1])), step, start)
    return end, total


def _run_choice(eqn: JaxprEqn, operands: list[Any]) -> tuple[list[Any], Any]:
    def run(function: Traced, *operands: Any) -> tuple[list[Any], Array]:
        results, count = _run(function, operands)
        return results, jnp.asarray(count, jnp.float32)

    index, *rest = operands
    return lax.switch(index, [functools.partial(run, function) for function in _called(eqn)], *rest)


_RUN: dict[str, Callable[[JaxprEqn, list[Any]], tuple[list[Any], Any]]] = {
    **dict.fromkeys(
        ("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call"),
        _run_call,
    ),
    "custom_linear_solve": _run_solve,
    "scan": _run_scan,
    "while": _run_while,
    "cond": _run_choice,
}
