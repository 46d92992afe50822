"""The run: compile, shard, checkpoint, resume, log. Knows the `Method` contract and no method."""

from jaxdd.engine.run import RunResult, run

__all__ = ["RunResult", "run"]
