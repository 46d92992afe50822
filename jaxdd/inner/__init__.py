"""Training a network inside the computation, and differentiating through it."""

from jaxdd.inner.gradients import forward_gradient, fwdrev_grad, implicit_gradient
from jaxdd.inner.networks import map_networks
from jaxdd.inner.optimizers import InnerOptimizer, adam, sgd
from jaxdd.inner.plans import balanced_plan, epoch_plan
from jaxdd.inner.unroll import Trained, unroll

__all__ = [
    "InnerOptimizer",
    "Trained",
    "adam",
    "balanced_plan",
    "epoch_plan",
    "forward_gradient",
    "fwdrev_grad",
    "implicit_gradient",
    "map_networks",
    "sgd",
    "unroll",
]
