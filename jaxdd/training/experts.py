"""Experts: networks trained on the real data, and what they are at each epoch, rows of a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxdd.data import epoch_steps
from jaxdd.types import NetworkState, Recipe, Record, Spec, Stage


def experts(
    name: str,
    recipe: Recipe,
    spec: Spec,
    *,
    count: int,
    epochs: int,
    batch_size: int,
    config: Mapping[str, Any],
    network: Callable[[Any], NetworkState] = lambda state: state.network,
) -> Stage:
    """A stage that trains networks and keeps them at each epoch: what trajectory matching walks along.

    Its table `name` has `count * (epochs + 1)` rows, `NetworkState`s: of each network the initialisation, and one after
    every epoch (Cazenavette et al. 2022, arXiv:2203.11932).

        recipe = training.supervised("convnet", optax.sgd(0.01), batch_size=256, augment="dsa")
        stage = training.experts("experts", recipe, Spec.of(real), count=10, epochs=20, batch_size=256, config={..})

    Args:
      recipe: of the training of one, in batches of an epoch.
      spec: of the real data.
      count: networks, each from an initialisation and with an order of its own.
      epochs: a last batch that is not whole is left out of each.
      config: everything that they depend on beside data and seed, see `Stage`.
      network: of the recipe's state.
    """
    batches = epoch_steps(spec.length(), batch_size)
    return Stage(
        name,
        recipe,
        steps=epochs * batches,
        parts=count,
        config=config,
        record=Record(batches, network),
    )
