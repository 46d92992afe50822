"""The run: compile, shard, checkpoint, resume, log. Knows the `Method` contract and no method."""

from jaxdd.engine.chunk import decoding
from jaxdd.engine.plan import Plan, plan
from jaxdd.engine.run import RunResult, one_blas_thread, run

__all__ = ["Plan", "RunResult", "decoding", "one_blas_thread", "plan", "run"]
