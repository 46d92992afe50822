"""The run: compile, shard, checkpoint, resume, log. Knows the `Method` contract and no method."""

from jaxdd.engine.chunk import decoding
from jaxdd.engine.feed import draw
from jaxdd.engine.plan import Plan, plan
from jaxdd.engine.processes import connect, is_first, on_first
from jaxdd.engine.run import RunResult, one_blas_thread, run

__all__ = [
    "Plan",
    "RunResult",
    "connect",
    "decoding",
    "draw",
    "is_first",
    "on_first",
    "one_blas_thread",
    "plan",
    "run",
]
