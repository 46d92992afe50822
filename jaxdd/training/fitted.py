"""The first parameters of a set, fitted to images: a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd.data import uniform_sampler
from jaxdd.synthetic import FITTED, Fit, Params, SyntheticSet, descend, per_leaf
from jaxdd.types import Array, Batch, Key, Method, Metrics, RealData, Recipe, Spec, Stage


class FittingState(NamedTuple):
    """A set on its way to images."""

    params: Params
    opt_state: optax.OptState
    target: Array
    """`(m, h, w, c)`, what its images are to be."""


def fitted(synthetic: SyntheticSet, *, config: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stage that makes the first parameters of a set; none where `init` alone makes them.

        stages = training.fitted(synthetic.named("neural_fields(width=6)")(1), config={"ipc": 1, ..})

    By Adam on the sum over images of their mean squared errors: so each image that has parameters of its own is fitted
    as if by itself, all at once (Shin et al. 2025, arXiv:2503.04835, fit one after the other). The metric "loss" is the
    mean error of a pixel. The product are the learned leaves of the params.

    Args:
      synthetic: whose `fit` says how, see `synthetic.fitted`.
      config: everything that the parameters depend on beside data and seed, see `Stage`.
    """
    if synthetic.fit is None:
        return ()
    return (Stage(FITTED, Recipe(_fitting(synthetic, synthetic.fit)), steps=synthetic.fit.steps, config=config),)


def _fitting(synthetic: SyntheticSet, fit: Fit) -> Callable[[Spec], Method]:
    optimizer = per_leaf({leaf: optax.adam(fit.learning_rate) for leaf in synthetic.learned})

    def bind(spec: Spec) -> Method:
        def init(key: Key, data: RealData) -> FittingState:
            key_params, key_target = jax.random.split(key)
            params = synthetic.init(key_params, data)
            return FittingState(params, optimizer.init(params), fit.target(key_target, data))

        def update(
            key: Key, state: FittingState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[FittingState, Metrics]:
            def error(params: Params) -> Array:
                return jnp.square(synthetic.render(params).images - state.target).mean((1, 2, 3)).sum()

            total, grads = jax.value_and_grad(error)(state.params)
            params, opt_state = descend(synthetic, optimizer, grads, state.opt_state, state.params)
            return state._replace(params=params, opt_state=opt_state), {"loss": total / len(state.target)}

        def product(state: FittingState) -> Params:
            return {leaf: state.params[leaf] for leaf in synthetic.learned}

        # The images lie in the state; an update draws one only because it must draw something.
        return Method(init, uniform_sampler(1), update, product)

    return bind
