"""What protocols say of rates and optimisers, as optax's."""

from __future__ import annotations

import collections

import optax

from jaxdd.training.protocols import Protocol
from jaxdd.types import Array


def schedule_of(protocol: Protocol, num_examples: int) -> optax.Schedule:
    """The learning rate at each step on a set of this size, as a share of its peak."""
    if protocol.schedule == "cosine":
        decay_steps = max(1, protocol.num_steps(num_examples) - protocol.warmup)
        schedule = optax.cosine_decay_schedule(1.0, round(protocol.stretch * decay_steps), protocol.final)
    elif protocol.schedule == "multistep":
        # On a small set two milestones may be one step.
        milestones = collections.Counter(step - protocol.warmup for step in protocol.milestone_steps(num_examples))
        falls = {step: protocol.factor**times for step, times in milestones.items()}
        schedule = optax.piecewise_constant_schedule(1.0, falls)
    else:
        schedule = optax.constant_schedule(1.0)
    if protocol.warmup:
        warmup = optax.linear_schedule(0.0, 1.0, protocol.warmup)
        schedule = optax.join_schedules([warmup, schedule], [protocol.warmup])
    return schedule


def optimizer_of(protocol: Protocol, learning_rate: Array | float, num_examples: int) -> optax.GradientTransformation:
    """The protocol's optimiser with this peak rate, which may be traced, on a set of this size."""
    schedule = schedule_of(protocol, num_examples)
    decay = optax.add_decayed_weights(protocol.weight_decay) if protocol.weight_decay else optax.identity()
    if protocol.optimizer == "adam":
        direction = optax.chain(optax.scale_by_adam(), decay)
    else:
        direction = optax.chain(decay, optax.trace(protocol.momentum) if protocol.momentum else optax.identity())
    return optax.chain(direction, optax.scale_by_schedule(lambda t: -learning_rate * schedule(t)))
