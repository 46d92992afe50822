"""LPLD (Xiao & He, NeurIPS 2024, "Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?",
arXiv:2410.15919)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp

from jaxdd import models, training
from jaxdd.methods._registry import method
from jaxdd.methods.decoupled import _recovery as family
from jaxdd.methods.decoupled._taught import TEACHER, teachers
from jaxdd.types import Array, Metrics, Moments, PyTree, Recipe, Spec, Stage

BY_CLASS = "class_statistics"


@dataclasses.dataclass(frozen=True)
class LPLD(family.Recovery):
    """Hyper-parameters of LPLD's images; by default those of SRe2L, which the authors take for ImageNet, with 4,000
    steps."""


@method(LPLD)
def lpld(config: LPLD) -> Recipe:
    """LPLD: all images of a class are recovered together, by what the teacher sees of that class alone.

    So they have to differ from each other, and fewer labels do (which are thrown away at random, and not here). The
    statistics of a class are exact, where the authors' are moving averages over the batches that have some of it; and
    images are rolled by 0 to `jitter` pixels as SRe2L's, where theirs go as far to either side.
    """

    def objective(spec: Spec) -> family.Objective:
        network = models.build(config.model, spec.image_shape, spec.num_classes)

        def minimised(assets: Mapping[str, PyTree], views: Array, state: family.Recovered) -> tuple[Array, Metrics]:
            label = state.block.labels[0]
            own = [Moments(jnp.asarray(m)[label], jnp.asarray(v)[label]) for m, v in assets[BY_CLASS]]
            return family.inversion(config, network, assets[TEACHER], views, state.block, running=own)

        return minimised

    def stages(spec: Spec) -> tuple[Stage, ...]:
        (teacher,) = teachers(config, spec)
        by_class = training.class_statistics(
            BY_CLASS,
            TEACHER,
            config.model,
            spec,
            batch_size=min(config.teacher_batch, spec.length()),
            config=teacher.config,
        )
        return teacher, by_class

    return family.recovering(
        config, lambda spec: family.within(config.ipc, spec.num_classes), objective=objective, stages=stages
    )
