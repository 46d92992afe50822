"""Dataset Quantization (Zhou et al., ICCV 2023, arXiv:2308.10524), and its adaptive form (Li et al., AAAI 2025,
arXiv:2412.16895)."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdd import inner, models, training
from jaxdd.data import uniform_sampler
from jaxdd.data.augmentation import named
from jaxdd.errors import JaxddError
from jaxdd.methods._hyper import HyperParameters, accepted_by, at_least, field, one_of, positive
from jaxdd.methods._ipc import ALIKE
from jaxdd.methods._registry import method
from jaxdd.selection import LastLayer, bins, of_every_class, scores
from jaxdd.selection.patches import Patches, drop_patches, grid, num_dropped, patch_scores
from jaxdd.synthetic import label_bits
from jaxdd.synthetic.patches import DECODER, Inpainter, filled, patch_cost, stored
from jaxdd.training import TrainingState
from jaxdd.types import (
    Array,
    Batch,
    Content,
    Distilled,
    Execution,
    Indices,
    Key,
    Labelling,
    Method,
    Metrics,
    Network,
    NetworkState,
    RealData,
    Recipe,
    Spec,
    Stage,
)

NETWORK = "network"


@dataclasses.dataclass(frozen=True)
class DQ(HyperParameters):
    """Hyper-parameters of Dataset Quantization; bins, drop and patches are the authors', a network is trained here.

    Attributes:
      ipc: images per class, at most as many as the smallest class has.
      by: what bins are made by, of each class by itself: a network's "gradients" in its last layer, its "features", or
        "pixels".
      bins: of each class, see `selection.bins.graph_cut_bins`.
      penalty: of graph cut, likewise.
      adaptive: sample bins by their importance, see `selection.bins.bin_importance`, and not evenly.
      patch: side of a patch; sides of images must divide by it.
      drop: share of each image's patches that is dropped, those where the network looks least; 0 for none.
      model: of the network, see `models.build`; to drop patches it needs maps, see `scores.grad_cam`.
      network_epochs, network_batch, network_learning_rate, network_weight_decay, network_augmentation: of its training
        in a stage before, see `training.teacher`.
      inpainter_width, inpainter_reach: of what fills dropped patches in, see `synthetic.patches.Inpainter`.
      inpainter_batch, inpainter_learning_rate: of its training by Adam, which is what updates do.
    """

    ipc: int = field(500, ALIKE)
    by: str = field("gradients", one_of(("gradients", "features", "pixels")))
    bins: int = field(10, at_least(1))
    penalty: float = field(1.0, positive)
    adaptive: bool = False
    patch: int = field(2, at_least(1))
    drop: float = field(0.2, at_least(0, under=1))
    model: str | Network = "resnet18"
    network_epochs: int = field(20, at_least(1))
    network_batch: int = field(128, at_least(1))
    network_learning_rate: float = field(0.1, positive)
    network_weight_decay: float = field(5e-4, at_least(0))
    network_augmentation: str = field("crop-flip", accepted_by(named))
    inpainter_width: int = field(64, at_least(1))
    inpainter_reach: int = field(1, at_least(1))
    inpainter_batch: int = field(256, at_least(1))
    inpainter_learning_rate: float = field(3e-3, positive)


class DQState(NamedTuple):
    patches: Patches
    """Of the chosen images, class after class; they never change."""
    labels: Indices
    inpainter: TrainingState


@method(DQ)
def dq(config: DQ) -> Recipe:
    """DQ: real images evenly from graph-cut bins, without the patches that matter least, which are filled in.

    Bins, samples and patches are chosen before the first update, by a network that a stage has trained; updates train
    the inpainter (`training.inpainting_step`) on all real images. So a run goes on and resumes as every other, and what
    it leaves has the rendered images and what they are rendered from. Where ours differs from the authors' code (magic-
    research/Dataset_Quantization): their network and their masked autoencoder were trained on ImageNet; ours on these
    data, and the inpainter is a small one that a file can hold. Their patches are of images enlarged to 224 pixels.
    """
    optimizer = optax.adam(config.inpainter_learning_rate)

    def bind(spec: Spec) -> Method:
        _check(config, spec)
        network = models.build(config.model, spec.image_shape, spec.num_classes)
        inpainter = Inpainter(config.patch, spec.image_shape[-1], config.inpainter_width, config.inpainter_reach)
        step = training.inpainting_step(inpainter, optimizer, config.drop)

        def init(key: Key, data: RealData) -> DQState:
            key_choice, key_inpainter = jax.random.split(key)
            state: NetworkState | None = data.assets.get(NETWORK)
            block = spec.execution.block
            looked = None if config.by == "pixels" else state
            rows = chosen(config, network, looked, data, key_choice, block)
            images = data.images[rows]
            saliency = jnp.zeros(images.shape[:3])
            if state is not None and config.drop:
                theta, stats = state
                saliency = inner.map_blocks(lambda some: scores.grad_cam(network, theta, stats, some), images, block)
            patches = drop_patches(images, patch_scores(saliency, config.patch), config.patch, config.drop)
            first = TrainingState.first(NetworkState(inpainter.init(key_inpainter), {}), optimizer)
            return DQState(patches, data.labels.values[rows], first)

        def update(key: Key, state: DQState, batch: Batch, *, axis_name: str | None = None) -> tuple[DQState, Metrics]:
            trained, loss = step(key, state.inpainter, batch.images, axis_name=axis_name)
            return state._replace(inpainter=trained), {"loss": loss}

        def product(state: DQState) -> Distilled:
            theta = state.inpainter.network.theta
            params = stored(state.patches, theta)
            vectors = jax.ShapeDtypeStruct((len(state.labels), spec.num_classes), np.float32)
            cost, _ = patch_cost(params, label_bits("hard", vectors))
            images = filled(state.patches, inpainter, theta, spec.image_shape)
            return Distilled(Content(images, params, DECODER), Labelling(state.labels), cost=cost)

        return Method(init, uniform_sampler(config.inpainter_batch), update, product)

    return Recipe(
        bind,
        stages=lambda spec: (stage(config, spec),) if config.drop or config.by != "pixels" else (),
        lean=Execution(block=500),
        most=lambda spec: Execution(block=spec.length()),
    )


def stage(config: DQ, spec: Spec) -> Stage:
    """The one that trains the network."""
    return training.teacher(
        NETWORK,
        config.model,
        spec,
        epochs=config.network_epochs,
        batch_size=config.network_batch,
        learning_rate=config.network_learning_rate,
        weight_decay=config.network_weight_decay,
        augment=config.network_augmentation,
    )


def chosen(
    config: DQ, network: Network, state: NetworkState | None, data: RealData, key: Key, block: int | None = None
) -> Indices:
    """The rows of the chosen images, class after class, int32 `(classes * ipc,)`; may be traced.

    Args:
      state: of the network; None for pixels.
      block: images that are looked at at once; None for all.
    """

    def described(rows: Indices) -> tuple[LastLayer | Array, Array]:
        """Of some examples: what their bins are made by, and their texture."""
        images = data.images[rows]
        points, texture = images.reshape(len(images), -1), scores.texture(images)
        if state is not None:
            points, _ = network.features(state.theta, images, state.stats)
        if state is not None and config.by == "gradients":
            logits, _ = network.apply(state.theta, images, state.stats)
            points = LastLayer.of(points, logits, data.labels.values[rows])
        return points, texture

    def rule(described: tuple[LastLayer | Array, Array], mask: Array, key: Key) -> Indices:
        points, texture = described
        points = points.gradients() if isinstance(points, LastLayer) else points
        numbers = bins.graph_cut_bins(points, config.bins, penalty=config.penalty, mask=mask)
        of_bins = bins.bin_importance(points, texture, numbers, config.bins) if config.adaptive else None
        return bins.from_bins(numbers, config.ipc, key, bins=config.bins, importance=of_bins)

    looked = inner.map_blocks(described, jnp.arange(len(data.labels.values)), block)
    return of_every_class(rule, looked, data.labels, key)


def _check(config: DQ, spec: Spec) -> None:
    smallest, needed = min(spec.counts), max(config.ipc, config.bins)
    if smallest < needed:
        raise JaxddError(
            f"{config.ipc} images of each class from {config.bins} bins need classes of at least {needed}, and the "
            f"smallest has {smallest}."
        )
    rows, columns = grid(spec.image_shape, config.patch)
    num_dropped(rows * columns, config.drop)
