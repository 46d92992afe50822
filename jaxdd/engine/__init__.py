"""The run: compile, shard, checkpoint, resume, log. Knows the `Method` contract and no method."""

from jaxdd.engine.chunk import decoding
from jaxdd.engine.execute import one_blas_thread
from jaxdd.engine.feed import draw
from jaxdd.engine.plan import Plan, StagePlan, plan, plan_stages
from jaxdd.engine.processes import connect, is_first, on_first
from jaxdd.engine.run import RunResult, run
from jaxdd.engine.stages import foretold, provide

__all__ = [
    "Plan",
    "RunResult",
    "StagePlan",
    "connect",
    "decoding",
    "draw",
    "foretold",
    "is_first",
    "on_first",
    "one_blas_thread",
    "plan",
    "plan_stages",
    "provide",
    "run",
]
