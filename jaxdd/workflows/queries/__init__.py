"""Rounds of questions to a teacher: pick, ask, train, measure."""

from __future__ import annotations

from jaxdd.workflows.queries.asking import ask, complete
from jaxdd.workflows.queries.rounds import LOG
from jaxdd.workflows.queries.rules import RULES

__all__ = ["LOG", "RULES", "ask", "complete"]
