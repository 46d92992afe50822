"""NRR-DD (Tran, Le, Le, Do & Phung, CVPR 2025, "Enhancing Dataset Distillation via Non-Critical Region Refinement",
arXiv:2503.18267). A reconstruction: there is no code, and several numbers are not known."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxdd import models
from jaxdd.methods._hyper import between, field, more_than, require
from jaxdd.methods._registry import method
from jaxdd.methods.decoupled import _recovery as family
from jaxdd.methods.decoupled._patches import Candidates, Patched, crop_of, of_block, patches_stage
from jaxdd.methods.decoupled._taught import TEACHER, teachers
from jaxdd.selection import scores
from jaxdd.types import Array, Key, NetworkState, PyTree, RealData, Recipe, Spec


@dataclasses.dataclass(frozen=True)
class NRRDD(family.Across, Patched):
    """Hyper-parameters of NRR-DD; all but the weights of SRe2L are guesses.

    Attributes:
      critical_share: t, of the real images whose crops are candidates: those of the largest share of the class
        activation map; of these the ones that the teacher is least sure of are taken.
      refined_below: ε: where the map, at most 1, is below it, pixels are refined, and the more the smaller it is; 0 for
        nowhere.
      everywhere: refine all pixels alike instead, to compare.
    """

    learning_rate: float = 0.05
    critical_share: float = field(0.5, more_than(0))
    refined_below: float = field(0.5, between(0, 1))
    everywhere: bool = False

    def check(self):
        super().check()
        require(self, critical_share=(self.critical_share <= 1, "at most 1"))


@method(NRRDD)
def nrr_dd(config: NRRDD) -> Recipe:
    """NRR-DD: crops of critical regions that a teacher is unsure of, whose other pixels are refined by recovery.

    `x <- x - η M ⊙ ∇(CE + α BN)`, `M = max(0, ε - C)` with C the class activation map of the crop, at most 1; here by
    Adam, whose step M scales. C is `selection.scores.grad_cam` of the class. The labels of two numbers that the paper
    has are not here. A reconstruction from its abstract and notes of others.
    """

    def candidates(spec: Spec) -> Candidates:
        network = models.build(config.model, spec.image_shape, spec.num_classes)
        crop = crop_of(config)

        def choose(
            teacher: NetworkState, images: Array, labels: Array, doubts: Array, draws: PyTree
        ) -> tuple[Array, Array]:
            maps = scores.grad_cam(network, teacher.theta, teacher.stats, images, labels)[..., None]
            of_crops = jax.lax.map(lambda drawn: crop.apply(maps, drawn).mean((1, 2, 3)), draws)
            ratio = of_crops / jnp.maximum(maps.mean((1, 2, 3)), 1e-12)[None]
            which, most = ratio.argmax(0), ratio.max(0)
            critical = jnp.argsort(jnp.argsort(-most)) < round(config.critical_share * len(images))
            sure = -jnp.take_along_axis(doubts, which[None], 0)[0]
            return which, jnp.where(critical, sure, jnp.inf)

        return choose

    def start(key: Key, data: RealData, block: family.Block) -> family.Begun:
        images, teacher = of_block(data, block), data.assets[TEACHER]
        network = models.build(config.model, images.shape[1:], data.labels.num_classes)
        maps = scores.grad_cam(network, teacher.theta, teacher.stats, images, block.labels)
        maps = maps / jnp.maximum(maps.max((1, 2), keepdims=True), 1e-12)
        mask = jnp.ones_like(maps) if config.everywhere else jnp.maximum(config.refined_below - maps, 0)
        return family.Begun({"change": jnp.zeros_like(images)}, {"images": images, "mask": mask[..., None]})

    def render(state: family.Recovered) -> Array:
        return state.given["images"] + state.given["mask"] * state.params["change"]

    def project(params: dict[str, Array], state: family.Recovered) -> dict[str, Array]:
        images, mask = state.given["images"], state.given["mask"]
        moved = state.block.clipped(render(state._replace(params=params))) - images
        return {"change": jnp.where(mask > 0, moved / jnp.where(mask > 0, mask, 1), 0)}

    return family.recovering(
        config,
        config.blocks,
        start=start,
        render=render,
        project=project,
        product=render,
        stages=lambda spec: (
            *teachers(config, spec),
            patches_stage(config, spec, candidates, chosen="critical", critical_share=config.critical_share),
        ),
    )
