"""Real examples that stand for all: coresets."""

from jaxdd.selection.herding import herding

__all__ = ["herding"]
