"""Kernel Inducing Points (Nguyen, Chen & Lee 2021, "Dataset Meta-Learning from Kernel Ridge-Regression")."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdd import inner, kernels
from jaxdd.data import balanced_sampler
from jaxdd.losses import centred_one_hot, squared_error
from jaxdd.methods._hyper import HyperParameters, at_least, field, one_of, or_a, positive, require
from jaxdd.methods._ipc import BY_CLASS
from jaxdd.methods._registry import method
from jaxdd.synthetic import Continued, corrupted, descend, learned_labels, moving_average, per_leaf, pixels, render
from jaxdd.types import Batch, Distilled, Examples, Execution, Key, Method, Metrics, RealData, Recipe, Spec


@dataclasses.dataclass(frozen=True)
class KIP(HyperParameters):
    """Hyper-parameters of KIP; the paper's for fully-connected kernels, except that labels are learned.

    Attributes:
      ipc: images per class in the support, one number or one for each class.
      init: "real" images of each class, "noise", or a set to go on with, see `synthetic.continued`.
      labels: "fixed" (one-hot minus 1/classes), "learned" with the images, or "solve": the images stay real and only
        the labels are chosen, in closed form (Label Solve).
      learning_rate: Adam's, for images.
      label_learning_rate: Adam's, for learned labels, times sqrt(ipc), each label's of its class: the more images share
        a class, the less each label matters. At the images' rate labels grow several times larger than one-hot ones,
        which kernel regression does not mind and finite networks do (10 images, MNIST, MLP on validation: 59 % with
        0.04, 72 % with 0.004).
      ema: decay of the exponential moving average of the iterates that is the result (Loo et al. 2023 use 0.99; the
        paper none); 0 gives the bare last iterate.
      target_batch: real examples a step, class-balanced.
      corruption: ρ, the share of each image's pixels that is noise and stays so.
      kernel, depth, activation, w_std, b_std: the kernel, see `kernels.nngp_and_ntk`, or `kernels.conv_nngp_and_ntk`
        for "conv_nngp" and "conv_ntk", which are for GPUs: some 20 ms an entry and update on a CPU.
      stem: of a convolutional kernel: a convolution and activation before its blocks, as the paper's "ConvNet" has.
      ridge: relative to the mean diagonal of the support's kernel.
      float64: solve in float64.
    """

    ipc: int | tuple[int, ...] = field(1, BY_CLASS)
    init: str | Continued = field("real", or_a(Continued, "a distilled set", one_of(("real", "noise"))))  # noqa: RUF009 (it is our own)
    labels: str = field("learned", one_of(("fixed", "learned", "solve")))
    learning_rate: float = field(0.04, positive)
    label_learning_rate: float = field(0.003, positive)
    ema: float = field(0.99, at_least(0, under=1))
    target_batch: int = field(2500, at_least(1))
    corruption: float = field(0.0, at_least(0, under=1))
    kernel: str = field("ntk", one_of(kernels.NAMES))
    depth: int = field(1, at_least(0))
    activation: str = field("relu", one_of(("relu", "erf")))
    w_std: float = math.sqrt(2)
    b_std: float = 0.1
    stem: bool = False
    ridge: float = field(1e-6, at_least(0))
    float64: bool = False

    def check(self):
        require(self, stem=(not self.stem or self.convolutional, "False for a fully-connected kernel"))

    @property
    def convolutional(self) -> bool:
        """Whether the kernel is of convolutional networks."""
        return self.kernel.startswith("conv_")

    @property
    def kernel_options(self) -> dict[str, Any]:
        """What `jaxdd.kernels.build` needs to make this kernel again."""
        names = ("depth", "activation", "w_std", "b_std", *(("stem",) if self.convolutional else ()))
        return {"name": self.kernel, **{name: getattr(self, name) for name in names}}


class Support(NamedTuple):
    """What predictions need of the synthetic set."""

    images: jax.Array
    coefficients: jax.Array
    """`(K_ss + λI)^-1 y_s`, `(s, classes)`."""


class KIPState(NamedTuple):
    params: dict[str, jax.Array]
    """`images` (m, h, w, c), `labels` (m, classes), and the `mask` of a corrupted set."""
    average: dict[str, jax.Array]
    """Of the iterates of `params`; what is rendered in the end."""
    opt_state: optax.OptState
    step: jax.Array


@method(KIP)
def kip(config: KIP) -> Recipe:
    """Kernel Inducing Points: images (and labels) from which kernel ridge regression predicts the training set.

    Minimises `mean 0.5 |K_ts (K_ss + λI)^-1 y_s - y_t|^2` over the support by Adam (Nguyen et al. 2021, eq. 3).

    The support is solved for once a step, and its coefficients serve every target: so the devices of a run share the
    targets, and each takes its own by the execution's blocks, of which one, `(block, s)`, is in memory at a time. They
    share the support's own kernel, too, and from 2,048 images on its factorisation, so that none holds it whole
    (`inner.kernel_ridge_solve_over_devices`). A device's bytes, beside a few dozen for each number of the support, for
    s images, t targets of d numbers, D devices and blocks of b:

        4 max(4 s², s² + 6 b s + t d / D)             one device, or fewer images: each factorises the kernel
        4 (s² / D + 6 b s + t d / D)                  several devices

    Of a convolutional kernel a block is of images of each set, all targets are taken at once, and each device evaluates
    and factorises the support's own kernel. Where labels are solved for, a device's blocks of targets become one
    triangular factor `(s, s)` (`kernels.label_solve`).
    """
    # So few images of each set are what a CPU's cache holds of a convolutional kernel.
    lean = Execution(block=4 if config.convolutional else None)
    return Recipe(functools.partial(_bind, config), lean=lean, most=lambda spec: Execution(block=config.target_batch))


def _bind(config: KIP, spec: Spec) -> Method:
    block = spec.execution.block
    if config.convolutional:
        in_kernel, of_targets = block or config.target_batch, None
    else:
        in_kernel, of_targets = block, _divisor(config.target_batch, block)
    kernel = kernels.build(**config.kernel_options, block=in_kernel)
    solver = {"ridge": config.ridge, "float64": config.float64}
    synthetic = pixels(config.ipc, init=config.init, labels="centred")
    if config.labels != "fixed":
        synthetic = learned_labels(synthetic, "centred")
    if config.corruption:
        synthetic = corrupted(synthetic, config.corruption)
    optimizers = {
        "images": optax.adam(config.learning_rate),
        "labels": optax.adam(label_rates(config)),
    }
    if config.labels == "fixed":
        del optimizers["labels"]
    optimizer = per_leaf(optimizers)

    def init(key: Key, data: RealData) -> KIPState:
        params = synthetic.init(key, data)
        return KIPState(params, params, optimizer.init(params), jnp.int32(0))

    def support_of(params) -> Support:
        images, labels, _ = synthetic.render(params)
        if config.convolutional:  # costs too much to be computed without its symmetry
            return Support(images, kernels.kernel_ridge_solve(kernel(images), labels, **solver))
        solved = inner.kernel_ridge_solve_over_devices(kernel, images, labels, **solver, block=block)
        return Support(images, solved)

    def objective(support: Support, examples: Examples) -> tuple[jax.Array, jax.Array]:
        predictions = jnp.matmul(kernel(examples.images, support.images), support.coefficients, precision="highest")
        targets = centred_one_hot(examples.labels, predictions.shape[1])
        accuracy = jnp.mean(jnp.argmax(predictions, axis=1) == examples.labels)
        return jnp.mean(squared_error(predictions, targets)), accuracy

    def descended(state: KIPState, examples: Examples, axis_name: str | None):
        support, pull = jax.vjp(support_of, state.params)
        on_targets = jax.value_and_grad(inner.mean_over_blocks, argnums=1, has_aux=True)
        result = on_targets(objective, support, examples, of_targets)
        outcome, cotangent = inner.pmean(result, axis_name)
        (grads,) = pull(cotangent)
        return *descend(synthetic, optimizer, grads, state.opt_state, state.params), outcome

    def solved(state: KIPState, examples: Examples, axis_name: str | None):
        examples, images = inner.all_gather(examples, axis_name), synthetic.render(state.params).images
        targets = centred_one_hot(examples.labels, state.params["labels"].shape[1])
        blocks = {"block": of_targets, "share": inner.shared}
        labels = kernels.label_solve(kernel, images, examples.images, targets, ridge=config.ridge, **blocks)
        params = {**state.params, "labels": labels}
        return params, state.opt_state, inner.mean_over_blocks(objective, support_of(params), examples, of_targets)

    learn = solved if config.labels == "solve" else descended

    def update(key: Key, state: KIPState, batch: Batch, *, axis_name: str | None = None) -> tuple[KIPState, Metrics]:
        del key
        params, opt_state, (loss, accuracy) = learn(state, batch.examples, axis_name)
        average = moving_average(state.average, params, config.ema, state.step)
        return KIPState(params, average, opt_state, state.step + 1), {"loss": loss, "batch_accuracy": accuracy}

    def product(state: KIPState) -> Distilled:
        facts = tuple(sorted({**config.kernel_options, **solver}.items()))
        return render(synthetic, state.average, kernel=facts, iterate="average" if config.ema else "last")

    return Method(init, balanced_sampler(config.target_batch), update, product)


def label_rates(config: KIP) -> Any:
    """One rate, or where classes have numbers of their own one for each label, `(m, 1)`."""
    if isinstance(config.ipc, tuple) and len(set(config.ipc)) > 1:
        counts = np.repeat(config.ipc, config.ipc)
        return (config.label_learning_rate * np.sqrt(counts)).astype(np.float32)[:, None]
    count = config.ipc[0] if isinstance(config.ipc, tuple) else config.ipc
    return config.label_learning_rate * math.sqrt(count)


def _divisor(count: int, block: int | None) -> int | None:
    """The largest block of targets up to this one that divides their number."""
    return None if block is None else next(size for size in range(min(block, count), 0, -1) if count % size == 0)
