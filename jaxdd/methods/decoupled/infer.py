"""INFER (Zhang, Du, Liu & Zhou, ICLR 2025, "Breaking Class Barriers: Efficient Dataset Distillation via Inter-Class
Feature Compensator", arXiv:2408.06927)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp

from jaxdd.errors import JaxddError
from jaxdd.methods._registry import method
from jaxdd.methods.decoupled import _recovery as family
from jaxdd.methods.decoupled._taught import Committee, labelled
from jaxdd.types import Array, Content, Cost, Distilled, Indices, Key, PyTree, RealData, Recipe, Spec

COMPENSATED = "compensated"
"""What `Content.decoder` says of such a set."""


@dataclasses.dataclass(frozen=True)
class INFER(family.Recovery, Committee):
    """Hyper-parameters of INFER; by default the authors' for CIFAR.

    Attributes:
      ipc: images per class whose bits real images and compensators have together, the labels not counted.
      others: teachers beside `model`: each real image has a compensator of every one.
    """

    statistics_weight: float = 1.0
    labels: str = "image"

    def real(self, num_classes: int) -> int:
        """Real images of each class: M compensators of each number take M / classes of an image a class."""
        count = int(self.ipc / (1 + len(self.teachers()) / num_classes))
        if not count:
            raise JaxddError(
                f"{self.ipc} images per class of {num_classes} classes have no room for a real image and "
                f"{len(self.teachers())} compensators: take more images or fewer teachers."
            )
        return count


@method(INFER)
def infer(config: INFER) -> Recipe:
    """INFER: what is added to one real image of every class, the same to all, and recovered by one of several teachers.

    The set has the real images, and each of them again with the compensator of each teacher, clipped to the range of
    real pixels. Labels are of the teachers' mean logits. The authors train networks on batches of 64, the protocol
    "sre2l" on 128.
    """

    def blocks(spec: Spec) -> family.Blocks:
        count, classes = len(config.teachers()), spec.num_classes

        def of(part: Array) -> tuple[Indices, Indices, Array]:
            return jnp.arange(classes), jnp.broadcast_to(part // count, (classes,)), jnp.ones(classes, bool)

        def arranged(images: Array) -> Array:
            return images.swapaxes(0, 1).reshape(-1, *images.shape[2:])

        return family.Blocks(config.real(classes) * count, of, arranged)

    def start(key: Key, data: RealData, block: family.Block) -> family.Begun:
        images = family.real(data, block)
        return family.Begun({"compensator": jnp.zeros((1, *images.shape[1:]))}, {"images": images})

    def render(state: family.Recovered) -> Array:
        return state.given["images"] + state.params["compensator"]

    def product(state: family.Recovered) -> dict[str, Array]:
        return {**state.given, **state.params, "compensated": state.block.clipped(render(state))}

    def join(spec: Spec, products: dict[str, Array], assets: Mapping[str, PyTree]) -> Distilled:
        arranged, count = blocks(spec).arranged, len(config.teachers())
        real, compensators = products["images"][::count], products["compensator"][:, 0]
        distilled = labelled(config, spec, arranged(jnp.concatenate([real, products["compensated"]])), assets)
        params = {"images": arranged(real), "compensators": compensators}
        bits = {name: 32 * leaf.size for name, leaf in params.items()} | {"labels": distilled.cost.labels or 0}
        content = Content(distilled.images, params, COMPENSATED)
        return dataclasses.replace(distilled, content=content, cost=Cost.of(bits))

    def objective(spec: Spec) -> family.Objective:
        count = len(config.teachers())
        return family.committee(config, spec, [{k: 1.0} for k in range(count)], lambda state: state.block.part % count)

    return family.recovering(
        config,
        blocks,
        start=start,
        objective=objective,
        render=render,
        project=lambda params, state: params,
        product=product,
        join=join,
        one_by_one=len(config.teachers()) > 1,
    )
