"""DWA (Du, Zhang, Hu, Huang & Zhou, NeurIPS 2024, "Diversity-Driven Synthesis: Enhancing Dataset Distillation through
Directed Weight Adjustment", arXiv:2409.17612)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from jaxdd import losses, models
from jaxdd.methods._hyper import at_least, field, one_of
from jaxdd.methods._registry import method
from jaxdd.methods.decoupled import _recovery as family
from jaxdd.methods.decoupled._taught import TEACHER
from jaxdd.methods.decoupled.sre2l import SRe2L
from jaxdd.types import Array, Key, NetworkState, PyTree, RealData, Recipe, Spec


@dataclasses.dataclass(frozen=True)
class DWA(SRe2L):
    """Hyper-parameters of DWA; by default the authors' for CIFAR.

    Attributes:
      adjustment_steps: K, of the teacher, before each block; 0 for none.
      adjustment: ρ, how far it goes in all of them.
      direction: "ascent", up the cross-entropy of the images that a block begins with; "random", as far, by chance, to
        compare.
      variance_weight: of the variances' distance beside the means'.
    """

    adjustment_steps: int = field(12, at_least(0))
    adjustment: float = field(0.015, at_least(0))
    direction: str = field("ascent", one_of(("ascent", "random")))
    variance_weight: float = field(11.0, at_least(0))


@method(DWA)
def dwa(config: DWA) -> Recipe:
    """DWA: SRe2L from real images, and each block by a teacher of its own, moved away from what the block shows.

    Before the first update of a block `θ ← θ + (ρ / K) g / |g|`, K times, where g is the gradient of the cross-entropy
    of the images that it begins with; the norm is of all parameters. Every block starts from the teacher as it was
    trained, as in the authors' code for CIFAR and Tiny ImageNet; for ImageNet theirs goes on from block to block.
    """

    def start(key: Key, data: RealData, block: family.Block) -> family.Begun:
        return family.Begun({"images": family.real(data, block)}, {"theta": data.assets[TEACHER].theta})

    def before(spec: Spec) -> Callable[..., family.Recovered]:
        network = models.build(config.model, spec.image_shape, spec.num_classes)
        augment = config.views(0.0)

        def moved(key: Key, stats: PyTree, state: family.Recovered) -> family.Recovered:
            def step(theta: PyTree, key: Key) -> tuple[PyTree, None]:
                def loss(theta: PyTree) -> Array:
                    views = augment.apply(state.images, augment.draw(key, 1))
                    each = losses.cross_entropy(network.apply(theta, views, stats)[0], state.block.labels)
                    return jnp.where(state.block.inside, each, 0).sum() / state.block.inside.sum()

                way = jax.grad(loss)(theta)
                if config.direction == "random":
                    way = optax.tree.random_like(key, theta, jax.random.normal)
                length = config.adjustment / config.adjustment_steps / (optax.tree.norm(way) + 1e-12)
                return jax.tree.map(lambda leaf, along: leaf + length * along, theta, way), None

            keys = jax.random.split(jax.random.fold_in(key, 1), config.adjustment_steps)
            return state._replace(given={"theta": jax.lax.scan(step, state.given["theta"], keys)[0]})

        def prepare(key: Key, assets: Mapping[str, PyTree], state: family.Recovered) -> family.Recovered:
            stats = assets[TEACHER].stats
            return jax.lax.cond(state.step == 0, lambda state: moved(key, stats, state), lambda state: state, state)

        return prepare

    def objective(spec: Spec) -> family.Objective:
        network = models.build(config.model, spec.image_shape, spec.num_classes)
        return lambda assets, views, state: family.inversion(
            config,
            network,
            NetworkState(state.given["theta"], assets[TEACHER].stats),
            views,
            state.block,
            variance_weight=config.variance_weight,
        )

    return family.recovering(
        config,
        config.blocks,
        start=start,
        before=before if config.adjustment_steps else None,
        objective=objective,
        one_by_one=True,
    )
