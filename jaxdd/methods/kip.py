"""Kernel Inducing Points (Nguyen, Chen & Lee 2021, "Dataset Meta-Learning from Kernel Ridge-Regression")."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import kernels
from jaxdd.data import balanced_sampler
from jaxdd.losses import centred_one_hot, squared_error
from jaxdd.methods._registry import method, positive, require
from jaxdd.synthetic import corrupted, descend, learned_labels, moving_average, per_leaf, pixels, render
from jaxdd.types import Batch, Distilled, Key, Method, Metrics, RealData


@dataclasses.dataclass(frozen=True)
class KIP:
    """Hyper-parameters of KIP; the paper's for fully-connected kernels, except that labels are learned.

    Attributes:
      ipc: images per class in the support.
      init: "real" images of each class, or "noise".
      labels: "fixed" (one-hot minus 1/classes), "learned" with the images, or "solve": the images stay real and only
        the labels are chosen, in closed form (Label Solve).
      learning_rate: Adam's, for images.
      label_learning_rate: Adam's, for learned labels, times sqrt(ipc): the more images share a class, the less each
        label matters. At the images' rate labels grow several times larger than one-hot ones, which kernel regression
        does not mind and finite networks do (10 images, MNIST, MLP on validation: 59 % with 0.04, 72 % with 0.004).
      ema: decay of the exponential moving average of the iterates that is the result (Loo et al. 2023 use 0.99; the
        paper none); 0 gives the bare last iterate.
      target_batch: real examples a step, class-balanced.
      corruption: ρ, the share of each image's pixels that is noise and stays so.
      kernel, depth, activation, w_std, b_std: the kernel, see `kernels.nngp_and_ntk`, or `kernels.conv_nngp_and_ntk`
        for "conv_nngp" and "conv_ntk", which are for GPUs: some 20 ms an entry and update on a CPU.
      stem: of a convolutional kernel: a convolution and activation before its blocks, as the paper's "ConvNet" has.
      kernel_block: of a convolutional kernel: images of each set evaluated at once, which bounds the memory.
      ridge: relative to the mean diagonal of the support's kernel.
      float64: solve in float64.
    """

    ipc: int = 1
    init: str = "real"
    labels: str = "learned"
    learning_rate: float = 0.04
    label_learning_rate: float = 0.003
    ema: float = 0.99
    target_batch: int = 2500
    corruption: float = 0.0
    kernel: str = "ntk"
    depth: int = 1
    activation: str = "relu"
    w_std: float = math.sqrt(2)
    b_std: float = 0.1
    stem: bool = False
    kernel_block: int = 4
    ridge: float = 1e-6
    float64: bool = False

    def __post_init__(self):
        require(
            self,
            ipc=(self.ipc >= 1, "at least 1"),
            labels=(self.labels in ("fixed", "learned", "solve"), '"fixed", "learned" or "solve"'),
            init=(self.init in ("real", "noise"), '"real" or "noise"'),
            target_batch=(self.target_batch >= 1, "at least 1"),
            corruption=(0 <= self.corruption < 1, "at least 0 and under 1"),
            learning_rate=positive(self.learning_rate),
            label_learning_rate=positive(self.label_learning_rate),
            ema=(0 <= self.ema < 1, "at least 0 and under 1"),
            ridge=(self.ridge >= 0, "at least 0"),
            depth=(self.depth >= 0, "at least 0"),
            kernel=(self.kernel in kernels.NAMES, f"one of {', '.join(kernels.NAMES)}"),
            stem=(not self.stem or self.convolutional, "False for a fully-connected kernel"),
            kernel_block=(self.kernel_block >= 1, "at least 1"),
            activation=(self.activation in ("relu", "erf"), '"relu" or "erf"'),
        )

    @property
    def convolutional(self) -> bool:
        """Whether the kernel is of convolutional networks."""
        return self.kernel.startswith("conv_")

    @property
    def kernel_options(self) -> dict[str, Any]:
        """What `jaxdd.kernels.build` needs to make this kernel again."""
        names = ("depth", "activation", "w_std", "b_std", *(("stem",) if self.convolutional else ()))
        return {"name": self.kernel, **{name: getattr(self, name) for name in names}}


class KIPState(NamedTuple):
    params: dict[str, jax.Array]
    """`images` (m, h, w, c), `labels` (m, classes), and the `mask` of a corrupted set."""
    average: dict[str, jax.Array]
    """Of the iterates of `params`; what is rendered in the end."""
    opt_state: optax.OptState
    step: jax.Array


@method(KIP)
def kip(config: KIP) -> Method:
    """Kernel Inducing Points: images (and labels) from which kernel ridge regression predicts the training set.

    Minimises `mean 0.5 |K_ts (K_ss + λI)^-1 y_s - y_t|^2` over the support by Adam (Nguyen et al. 2021, eq. 3).
    """
    block: dict[str, Any] = {"block": config.kernel_block} if config.convolutional else {}
    kernel = kernels.build(**config.kernel_options, **block)
    solver = {"ridge": config.ridge, "float64": config.float64}
    synthetic = pixels(config.ipc, init=config.init, labels="centred")
    if config.labels != "fixed":
        synthetic = learned_labels(synthetic, "centred")
    if config.corruption:
        synthetic = corrupted(synthetic, config.corruption)
    optimizers = {
        "images": optax.adam(config.learning_rate),
        "labels": optax.adam(config.label_learning_rate * math.sqrt(config.ipc)),
    }
    if config.labels == "fixed":
        del optimizers["labels"]
    optimizer = per_leaf(optimizers)
    predict = functools.partial(kernels.kernel_ridge_predict, **solver)

    def init(key: Key, data: RealData) -> KIPState:
        params = synthetic.init(key, data)
        return KIPState(params, params, optimizer.init(params), jnp.int32(0))

    def targets_of(batch: Batch, params) -> jax.Array:
        return centred_one_hot(batch.labels, params["labels"].shape[1])

    def objective(params, batch: Batch) -> tuple[jax.Array, jax.Array]:
        images, labels, _ = synthetic.render(params)
        predictions = predict(kernel(batch.images, images), kernel(images), labels)
        accuracy = jnp.mean(jnp.argmax(predictions, axis=1) == batch.labels)
        return jnp.mean(squared_error(predictions, targets_of(batch, params))), accuracy

    def descended(state: KIPState, batch: Batch):
        outcome, grads = jax.value_and_grad(objective, has_aux=True)(state.params, batch)
        return *descend(synthetic, optimizer, grads, state.opt_state, state.params), outcome

    def solved(state: KIPState, batch: Batch):
        images, targets = synthetic.render(state.params).images, targets_of(batch, state.params)
        labels = kernels.label_solve(kernel, images, batch.images, targets, ridge=config.ridge)
        params = {**state.params, "labels": labels}
        return params, state.opt_state, objective(params, batch)

    learn = solved if config.labels == "solve" else descended

    def update(key: Key, state: KIPState, batch: Batch) -> tuple[KIPState, Metrics]:
        del key
        params, opt_state, (loss, accuracy) = learn(state, batch)
        average = moving_average(state.average, params, config.ema, state.step)
        return KIPState(params, average, opt_state, state.step + 1), {"loss": loss, "batch_accuracy": accuracy}

    def distilled(state: KIPState) -> Distilled:
        facts = tuple(sorted({**config.kernel_options, **solver}.items()))
        return render(synthetic, state.average, kernel=facts, iterate="average" if config.ema else "last")

    return Method(init=init, sample=balanced_sampler(config.target_batch), update=update, distilled=distilled)
