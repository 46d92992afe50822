"""Training a network inside the computation, and differentiating through it."""

from jaxdd.inner.axes import all_gather, own_part, pmean
from jaxdd.inner.feeds import augmented, classification, map_blocks, mean_over_blocks, planned, regression
from jaxdd.inner.gradients import detached_grad, forward_gradient, fwdrev_grad, implicit_gradient
from jaxdd.inner.linearised import Body, linearised_body, quadratic_minimum
from jaxdd.inner.networks import each_network, map_networks, shared
from jaxdd.inner.optimizers import InnerOptimizer, adam, sgd
from jaxdd.inner.plans import balanced_plan, epoch_plan, ordered_plan
from jaxdd.inner.pool import Loss, Slots, pool
from jaxdd.inner.ridge import kernel_ridge_solve_over_devices
from jaxdd.inner.sources import among, between, fixed, fresh, interpolated, tickets
from jaxdd.inner.unroll import GRADIENTS, REMATS, WINDOWS, Trained, gradient_norms, unroll, window_start
from jaxdd.inner.windows import ALL_STEPS, Adaptive, Windows, adaptive_windows, placed_windows

__all__ = [
    "ALL_STEPS",
    "GRADIENTS",
    "REMATS",
    "WINDOWS",
    "Adaptive",
    "Body",
    "InnerOptimizer",
    "Loss",
    "Slots",
    "Trained",
    "Windows",
    "adam",
    "adaptive_windows",
    "all_gather",
    "among",
    "augmented",
    "balanced_plan",
    "between",
    "classification",
    "detached_grad",
    "each_network",
    "epoch_plan",
    "fixed",
    "forward_gradient",
    "fresh",
    "fwdrev_grad",
    "gradient_norms",
    "implicit_gradient",
    "interpolated",
    "kernel_ridge_solve_over_devices",
    "linearised_body",
    "map_blocks",
    "map_networks",
    "mean_over_blocks",
    "ordered_plan",
    "own_part",
    "placed_windows",
    "planned",
    "pmean",
    "pool",
    "quadratic_minimum",
    "regression",
    "sgd",
    "shared",
    "tickets",
    "unroll",
    "window_start",
]
