"""FADRM (Cui, Bi, Luo, Zhao, Liu & Shen, NeurIPS 2025, "FADRM: Fast and Accurate Data Residual Matching for Dataset
Distillation", arXiv:2506.24125)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax

from jaxdd.methods._hyper import at_least, between, elements, field, require
from jaxdd.methods._registry import method
from jaxdd.methods.decoupled import _recovery as family
from jaxdd.methods.decoupled._patches import Patched, of_block, patches_stage
from jaxdd.methods.decoupled._taught import Committee, teachers
from jaxdd.types import Key, PyTree, RealData, Recipe, Spec


@dataclasses.dataclass(frozen=True)
class FADRM(family.Across, Patched, Committee):
    """Hyper-parameters of FADRM; by default the authors' for CIFAR-100.

    Attributes:
      others: teachers that take turns with `model`, step by step, as FADRM+ has it.
      segments: of equal length that the steps are cut into, `decay_steps` in all.
      share: of the images themselves where the crops that they began with are mixed in: after each segment but the
        last.
    """

    by_batch: bool = True
    confidence: str = "medium"
    decay_steps: int = 2000
    crop: tuple[float, float] | None = field((0.08, 1.0), elements(between(0, 1)))
    segments: int = field(4, at_least(1))
    share: float = field(0.5, between(0, 1))

    def check(self):
        super().check()
        require(self, segments=(self.decay_steps % self.segments == 0, f"a divisor of decay_steps, {self.decay_steps}"))


@method(FADRM)
def fadrm(config: FADRM) -> Recipe:
    """FADRM: recovery from crops of real images, which are mixed in again after each segment of the steps.

    `x <- a x + (1 - a) crop`, and Adam begins anew, along one cosine. Which crops are of medium confidence the authors'
    code does not say, it reads them from files: here they are those in the middle of RDED's order. Images have one size
    throughout, as the authors' for CIFAR-100; for larger ones theirs begin smaller. They train networks for 1,000
    epochs on what comes of it, the protocol "cv-dd" for 300.
    """
    length = config.decay_steps // config.segments

    def start(key: Key, data: RealData, block: family.Block) -> family.Begun:
        crops = of_block(data, block)
        return family.Begun({"images": crops}, {"crops": crops})

    def before(spec: Spec) -> Callable[..., family.Recovered]:
        def mixed(state: family.Recovered) -> family.Recovered:
            images = config.share * state.images + (1 - config.share) * state.given["crops"]
            return state._replace(params={"images": images}, moments=family.ADAM.init({"images": images}))

        def prepare(key: Key, assets: Mapping[str, PyTree], state: family.Recovered) -> family.Recovered:
            ended = (state.step > 0) & (state.step % length == 0) & (state.step < config.decay_steps)
            return jax.lax.cond(ended, mixed, lambda state: state, state)

        return prepare

    count = len(config.teachers())
    return family.recovering(
        config,
        config.blocks,
        start=start,
        before=before,
        objective=lambda spec: family.committee(
            config, spec, [{k: 1.0} for k in range(count)], lambda state: state.step % count
        ),
        stages=lambda spec: (*teachers(config, spec), patches_stage(config, spec)),
        one_by_one=len(config.teachers()) > 1,
    )
