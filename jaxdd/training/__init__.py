"""Training that is not differentiated: networks on real data, as stages of what needs them."""

from jaxdd.training.supervised import TrainingState, supervised

__all__ = ["TrainingState", "supervised"]
