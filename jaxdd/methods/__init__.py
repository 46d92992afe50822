"""Published distillation methods, one file each. `build(name, **hyperparameters)` makes one by name."""

from jaxdd.methods._registry import available, build
from jaxdd.methods.kip import KIP, kip

__all__ = ["KIP", "available", "build", "kip"]
