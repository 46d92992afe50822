"""The run: compile, shard, checkpoint, resume, log. Knows the `Method` contract and no method."""

from jaxdd.engine.chunk import decoding
from jaxdd.engine.execute import Callback, one_blas_thread
from jaxdd.engine.execution import memory
from jaxdd.engine.feed import draw
from jaxdd.engine.parts import first_state
from jaxdd.engine.plan import Fit, Plan, StagePlan, fit_to, plan, plan_stages
from jaxdd.engine.processes import connect, is_first, on_first
from jaxdd.engine.run import RunResult, run
from jaxdd.engine.snapshots import held_snapshots
from jaxdd.engine.stages import foretold, provide, shape_of_product

__all__ = [
    "Callback",
    "Fit",
    "Plan",
    "RunResult",
    "StagePlan",
    "connect",
    "decoding",
    "draw",
    "first_state",
    "fit_to",
    "foretold",
    "held_snapshots",
    "is_first",
    "memory",
    "on_first",
    "one_blas_thread",
    "plan",
    "plan_stages",
    "provide",
    "run",
    "shape_of_product",
]
