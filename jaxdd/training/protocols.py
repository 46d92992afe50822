"""How fresh networks are trained on a small set, by name.

The papers' protocols are here as published but for these: the last iterate counts, where IDC, NCFM and RaT-BPTT report
the best epoch (RaT-BPTT: of lengths from 300 to 3000, here 1000) on test data; a last incomplete batch is left out of
an epoch, so sets between one and two batches take one step an epoch, not two; NCFM's and IDC's sets are trained on as
they are rendered; RCIG's are not doubled by their mirror images. FRePo's networks are scored by the moving average of
their weights that its authors' code keeps while it evaluates a run (decay 0.995); in the code as it was released that
evaluation and the final script score the last weights, as RCIG's does. EDC's is without RandAugment, in batches of 50
where the authors' for one image a class are of 10, of one teacher's or a committee's logits around their means, and its
moving average is begun with the first step's weights, not with the initial ones. GIFT's loss stands on RDED's schedule
without CutMix; its authors put it on each method's own. RFAD's protocol is not here: it stops early and
takes its learning rate and the scale of its labels from a table by data set.
"""

from __future__ import annotations

import dataclasses
import math

from jaxdd._numbers import is_whole, whole
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError, unknown

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine", "multistep")
TAUGHT = ("taught", "logit_regression", "smoothed_cosine")
"""Losses that learn from labels and from a teacher beside them."""
LOSSES = ("auto", "squared_error", "mean_squared_error", "cross_entropy", "distillation", *TAUGHT)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Everything about training a network for evaluation, except the network and the data.

    The last iterate counts, or the average of all that `weight_average` says.

    Attributes:
      name: how outputs call it.
      description: one line.
      learning_rates: peak rates; with more than one, the best on validation is chosen.
      fallback: the rate where there are several and no validation data; None if such a choice cannot do without.
      as_distilled: train as the set says: gradient descent with its learned learning rates, times one of
        `learning_rates`, on its plan, from its initialisation if it is for one. Nothing else of the training below
        plays a part then, and there are neither steps nor epochs.
      steps, epochs: length of training; exactly one of them is given. `steps` may depend on the size of the set:
        `(size, steps)` pairs, sizes increasing, of which the first that is not smaller than the set holds, or the last.
      batch_size: examples a step, drawn without replacement within an epoch (a last incomplete batch is left out); a
        set that is not larger is used whole at every step.
      optimizer: "adam" or "sgd".
      momentum: of "sgd".
      weight_decay: added to the gradient for "sgd", decoupled (AdamW) for "adam".
      schedule: "cosine" (down to `final` of the peak), "multistep" (times `factor` at each milestone) or "constant".
      final: of "cosine".
      stretch: of "cosine": it is that of so many times as many steps, of which the first are taken.
      milestones: of "multistep": fractions of the steps or epochs, rounded down to whole ones.
      factor: of "multistep".
      warmup: steps of linear warm-up before it; milestones count from the start all the same.
      loss: "squared_error", "cross_entropy", or "auto": what the set's label convention is meant for, squared error
        for "centred" and "features", cross-entropy for all others. "mean_squared_error" is the squared error divided by
        half the number of outputs, as PyTorch has it. "distillation" learns from labels that are a teacher's
        probabilities; "taught", "logit_regression" and "smoothed_cosine" from labels and from a teacher beside them,
        see those of `jaxdd.losses`. A teacher's labels of views are probabilities: its logits are their logarithms,
        around their mean.
      augmentation: of every batch, with parameters for each image, see `data.augmentation.named`; "none" by default.
      cutmix: probability that a batch is mixed by `data.cutmix`, after the augmentation.
      mixup: of the Beta distribution by which a batch is mixed by `augmentation.mixup` instead; 0 for none. With the
        loss "distillation" one label an image is mixed by its logits (Zhang et al. 2025, arXiv:2408.06927).
      temperature: of the losses "distillation" and "taught".
      squared: multiply "distillation" by the square of the temperature, so that its gradient does not fall with it.
      sub_batches: equal parts of a batch that go through the network one after the other, each normalised by itself,
        for one step on their mean; 1 for whole batches.
      teacher_share: of the loss "taught": 0 for labels alone, 1 for the teacher alone.
      label_weight: of the losses "logit_regression" and "smoothed_cosine": of what labels add to the teacher.
      weight_average: decay of an exponential moving average of the weights after each step, which is scored in place of
        the last ones: of T steps, `sum_t d^(T-t) theta_t / sum_t d^(T-t)`, so the initialisation is not in it. What is
        not trained by gradients, BatchNorm's statistics, stays that of the last step. 0 for the last weights.
      selection_networks: networks trained for each learning rate to choose among several.
    """

    name: str
    description: str
    learning_rates: tuple[float, ...]
    fallback: float | None = None
    as_distilled: bool = False
    steps: int | tuple[tuple[int, int], ...] | None = None
    epochs: int | None = None
    batch_size: int = 256
    optimizer: str = "adam"
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "cosine"
    final: float = 0.0
    stretch: float = 1.0
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    warmup: int = 0
    loss: str = "auto"
    augmentation: str = "none"
    cutmix: float = 0.0
    mixup: float = 0.0
    temperature: float = 1.0
    squared: bool = False
    sub_batches: int = 1
    teacher_share: float = 0.5
    label_weight: float = 0.1
    weight_average: float = 0.0
    selection_networks: int = 2

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("loss", self.loss, LOSSES),
        ):
            if value not in known:
                raise unknown(kind, value, known)
        rates = (*self.learning_rates, *(() if self.fallback is None else (self.fallback,)))
        if not self.learning_rates or not all(0 < rate < math.inf for rate in rates):
            raise JaxddError(f"protocol {self.name!r} needs positive, finite learning rates, got {rates}.")
        table = self.steps if isinstance(self.steps, tuple) else ((0, self.steps),)
        sizes = [size for size, _ in table]
        if not table or sizes != sorted(set(sizes)):
            raise JaxddError(f"protocol {self.name!r} needs steps for increasing sizes of the set, got {self.steps}.")
        given = (self.steps is not None) + (self.epochs is not None)
        lengths = [length for length in (*(steps for _, steps in table), self.epochs) if length is not None]
        if given != (0 if self.as_distilled else 1) or not all(is_whole(length) and length > 0 for length in lengths):
            raise JaxddError(
                f"protocol {self.name!r} needs a positive number of either steps or epochs, and neither as distilled."
            )
        if (self.schedule == "multistep") != bool(self.milestones) or not all(0 < m < 1 for m in self.milestones):
            raise JaxddError(
                f"protocol {self.name!r} needs milestones between 0 and 1 with a multistep schedule and none with "
                f"another, got {self.milestones} with {self.schedule!r}."
            )
        if not (self.factor > 0 and 0 <= self.final <= 1 and 0 <= self.cutmix <= 1):
            raise JaxddError(
                f"protocol {self.name!r} needs a positive factor, and a final share and a probability of CutMix within "
                f"0..1, got {self.factor}, {self.final} and {self.cutmix}."
            )
        if not 0 <= self.mixup < math.inf or not 0 < self.temperature < math.inf or (self.mixup and self.cutmix):
            raise JaxddError(
                f"protocol {self.name!r} needs a finite mixup of at least 0, none beside CutMix, and a positive "
                f"temperature, got {self.mixup}, {self.cutmix} and {self.temperature}."
            )
        if not 0 <= self.teacher_share <= 1:
            raise JaxddError(f"protocol {self.name!r} needs a teacher's share within 0..1, got {self.teacher_share}.")
        if not 0 <= self.label_weight < math.inf:
            raise JaxddError(
                f"protocol {self.name!r} needs a finite weight of labels of at least 0, got {self.label_weight}."
            )
        if not 0 <= self.weight_average < 1:
            raise JaxddError(
                f"protocol {self.name!r} needs a decay of its weights' average of at least 0 and under 1, "
                f"got {self.weight_average}."
            )
        augmentation.named(self.augmentation)
        for what in ("batch_size", "sub_batches", "selection_networks"):
            whole(getattr(self, what), f"the {what.replace('_', ' ')} of protocol {self.name!r}")
        if not 1 <= self.stretch < math.inf or self.batch_size % self.sub_batches:
            raise JaxddError(
                f"protocol {self.name!r} needs a stretch of at least 1, and parts that divide a batch of "
                f"{self.batch_size}, got {self.stretch} and {self.sub_batches}."
            )

    def without_validation(self) -> Protocol:
        """The protocol where no data are held out: with one learning rate, whatever is measured.

        Raises:
          JaxddError: if it has several and no `fallback`.
        """
        if len(self.learning_rates) == 1:
            return self
        if self.fallback is None:
            raise JaxddError(
                f"protocol {self.name!r} chooses its learning rate on validation data, of which there are none: hold "
                "some out (data.validation=0.1), fix the rate, or take a protocol that has one, 'dc' for one"
            )
        return dataclasses.replace(self, learning_rates=(self.fallback,))

    def num_steps(self, num_examples: int) -> int:
        """Training steps on a set of this size."""
        if isinstance(self.steps, tuple):
            return next((steps for size, steps in self.steps if num_examples <= size), self.steps[-1][1])
        return self.steps or (self.epochs or 0) * self._batches(num_examples)

    def milestone_steps(self, num_examples: int) -> tuple[int, ...]:
        """The first step after each milestone, on a set of this size."""
        unit = 1 if self.epochs is None else self._batches(num_examples)
        length = self.num_steps(num_examples) // unit
        return tuple(int(fraction * length + 1e-6) * unit for fraction in self.milestones)

    def _batches(self, num_examples: int) -> int:
        return max(1, num_examples // self.batch_size)


def _classic(name: str, description: str, epochs: int, augmentation: str = "none") -> Protocol:
    """The protocol of Zhao, Mopuri & Bilen (2021). Their loop runs one epoch more than it is told, and the rate falls
    after epoch `epochs // 2 + 1`, counted from zero. Theirs also forgets the momentum there; ours goes on."""
    return Protocol(
        name,
        description,
        learning_rates=(0.01,),
        epochs=epochs + 1,
        optimizer="sgd",
        momentum=0.9,
        weight_decay=5e-4,
        schedule="multistep",
        milestones=((epochs // 2 + 2) / (epochs + 1),),
        augmentation=augmentation,
    )


# Each has a twin "-digits" without flips, for data that must not be mirrored; a network knows nothing of that.
_MIRRORING = (
    _classic("dsa", "SGD at 0.01, x0.1 halfway, 1000 epochs, DSA (Zhao & Bilen 2021, 2023: DSA and DM)", 1000, "dsa"),
    Protocol(
        "idc",
        "SGD at 0.01, x0.2 at 2/3 and 5/6 of 1000 epochs, augmentation and CutMix (Kim et al. 2022), last epoch",
        learning_rates=(0.01,),
        epochs=1000,
        batch_size=64,
        optimizer="sgd",
        momentum=0.9,
        weight_decay=5e-4,
        schedule="multistep",
        milestones=(2 / 3, 5 / 6),
        factor=0.2,
        augmentation="idc",
        cutmix=0.5,
    ),
    Protocol(
        "ncfm",
        "AdamW at 1e-3, x0.5 at each fifth of 2000 epochs, augmentation and CutMix (Wang et al. 2025), last epoch",
        learning_rates=(1e-3,),
        epochs=2000,
        batch_size=128,
        weight_decay=0.01,
        schedule="multistep",
        milestones=(0.2, 0.4, 0.6, 0.8),
        factor=0.5,
        augmentation="idc",
        cutmix=0.5,
    ),
    Protocol(
        "sre2l",
        "AdamW at 1e-3, cosine, 400 epochs, crops, flips, Mixup, a teacher's labels, T = 30 (Yin et al. 2023)",
        learning_rates=(1e-3,),
        epochs=400,
        batch_size=128,
        weight_decay=0.01,
        loss="distillation",
        temperature=30.0,
        augmentation="crop-flip",
        mixup=0.8,
    ),
    Protocol(
        "rded",
        "AdamW at 1e-3, half a cosine, 300 epochs, flips, CutMix, a teacher's labels, T = 20 (Sun et al. 2024)",
        learning_rates=(1e-3,),
        epochs=300,
        batch_size=50,
        weight_decay=0.01,
        stretch=2.0,
        loss="distillation",
        temperature=20.0,
        augmentation="flip",
        cutmix=1.0,
    ),
    Protocol(
        "rded-mosaics",
        "AdamW at 1e-3, half a cosine, 300 epochs, parts shuffled, crops, CutMix, a teacher's labels (Sun et al. 2024)",
        learning_rates=(1e-3,),
        epochs=300,
        batch_size=50,
        weight_decay=0.01,
        stretch=2.0,
        loss="distillation",
        temperature=20.0,
        augmentation="shuffle-crop",
        cutmix=1.0,
    ),
    Protocol(
        "cv-dd",
        "AdamW at 1e-3, cosine, 300 epochs, batches of 2 times 8, crops, CutMix, teachers' labels (Cui et al. 2025)",
        learning_rates=(1e-3,),
        epochs=300,
        batch_size=16,
        sub_batches=2,
        weight_decay=0.01,
        loss="distillation",
        temperature=20.0,
        augmentation="resized-crop",
        cutmix=1.0,
    ),
    Protocol(
        "tiny-sgd",
        "SGD at 0.2, cosine, 100 epochs, crops, a teacher's labels, T = 20 (Yin et al. 2023, for Tiny ImageNet)",
        learning_rates=(0.2,),
        epochs=100,
        batch_size=64,
        optimizer="sgd",
        momentum=0.9,
        weight_decay=1e-4,
        loss="distillation",
        temperature=20.0,
        squared=True,
        augmentation="resized-crop",
    ),
    Protocol(
        "edc",
        "AdamW at 1e-3, x0.5 at 80, 90 and 95 % of 1000 epochs, crops, CutMix, logits, average (Shao et al. 2024)",
        learning_rates=(1e-3,),
        epochs=1000,
        batch_size=50,
        weight_decay=0.01,
        schedule="multistep",
        milestones=(0.8, 0.9, 0.95),
        factor=0.5,
        loss="logit_regression",
        label_weight=0.025,
        augmentation="resized-crop",
        cutmix=1.0,
        weight_average=0.99,
    ),
    Protocol(
        "gift",
        "AdamW at 1e-3, half a cosine, 300 epochs, flips, the cosine with a teacher and labels (Shang et al. 2025)",
        learning_rates=(1e-3,),
        epochs=300,
        batch_size=50,
        weight_decay=0.01,
        stretch=2.0,
        loss="smoothed_cosine",
        augmentation="flip",
    ),
    Protocol(
        "hard",
        "AdamW at 1e-3, cosine, 300 epochs, crops, cross-entropy (Xiao et al. 2025: soft labels left out)",
        learning_rates=(1e-3,),
        epochs=300,
        batch_size=128,
        weight_decay=0.01,
        loss="cross_entropy",
        augmentation="resized-crop",
    ),
    Protocol(
        "fine-tuning",
        "SGD at 0.01, cosine, 10,000 steps, crops, flips (Lee et al. 2024): of networks that were pretrained",
        learning_rates=(0.01,),
        steps=10_000,
        optimizer="sgd",
        momentum=0.9,
        weight_decay=5e-4,
        augmentation="crop-flip",
    ),
    Protocol(
        "frepo",
        "Adam at 3e-4, warm-up, cosine to 1 %, squared error, steps by size, augmentation, average (Zhou et al. 2022)",
        learning_rates=(3e-4,),
        steps=((10, 1000), (100, 2000), (200, 20_000), (500, 5000), (1000, 10_000), (2000, 40_000)),
        batch_size=500,
        final=0.01,
        warmup=500,
        loss="squared_error",
        augmentation="frepo",
        weight_average=0.995,
    ),
    Protocol(
        "rcig",
        "Adam at 1e-4, warm-up, cosine to 1 %, squared error, 1000 or 2000 steps, augmentation (Loo et al. 2023)",
        learning_rates=(1e-4,),
        steps=((10, 1000), (100, 2000)),
        final=0.01,
        warmup=500,
        loss="squared_error",
        augmentation="frepo",
    ),
)

_NAMED = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "default",
            "Adam, cosine, 300 steps, rate selected on validation",
            learning_rates=(1e-4, 3e-4, 1e-3),
            steps=300,
        ),
        Protocol(
            "quick",
            "Adam, cosine, 200 steps, rate selected on validation, 1e-3 without: seconds with an MLP",
            learning_rates=(3e-4, 1e-3, 3e-3),
            fallback=1e-3,
            steps=200,
        ),
        Protocol(
            "as-distilled",
            "the set's own plan, learned rates (times a factor selected on validation, 1 without) and initialisation",
            learning_rates=(0.1, 0.3, 1.0),
            fallback=1.0,
            as_distilled=True,
        ),
        Protocol(
            "linba",
            "SGD at 0.01, momentum 0.9, constant, 300 epochs (Deng & Russakovsky 2022)",
            learning_rates=(0.01,),
            epochs=300,
            optimizer="sgd",
            momentum=0.9,
            schedule="constant",
        ),
        _classic("dc", "SGD at 0.01, x0.1 halfway, 300 epochs, no augmentation (Zhao, Mopuri & Bilen 2021)", 300),
        _classic("cafe", "SGD at 0.01, x0.1 halfway, 600 epochs, no augmentation (Wang et al. 2022)", 600),
        *_MIRRORING,
        *(
            dataclasses.replace(
                protocol,
                name=f"{protocol.name}-digits",
                description=f"{protocol.description}; no flips",
                augmentation=f"{protocol.augmentation}-digits",
            )
            for protocol in _MIRRORING
        ),
        Protocol(
            "krr-st",
            "SGD at 0.1, constant, 1000 epochs, mean squared error to target features (Lee et al. 2024): pretraining",
            learning_rates=(0.1,),
            epochs=1000,
            optimizer="sgd",
            momentum=0.9,
            weight_decay=1e-3,
            schedule="constant",
            loss="mean_squared_error",
        ),
        Protocol(
            "rat",
            "Adam at 1e-3, constant, 1000 steps, flips or rotations (Feng, Vedantam & Kempe 2024), last step",
            learning_rates=(1e-3,),
            steps=1000,
            batch_size=100,
            schedule="constant",
            augmentation="flip_rotate",
        ),
        Protocol(
            "teacher",
            "Adam at 1e-3, cosine, 500 steps on all real data: the network that labels the baseline of learned labels",
            learning_rates=(1e-3,),
            steps=500,
        ),
        Protocol(
            "short-fine-tuning",
            "SGD at 0.01, momentum 0.9, cosine, 200 steps, no augmentation: of networks that were pretrained",
            learning_rates=(0.01,),
            steps=200,
            optimizer="sgd",
            momentum=0.9,
            weight_decay=5e-4,
        ),
        Protocol(
            "full-data",
            "Adam at 1e-3, cosine, 10 epochs: the reference on all real data",
            learning_rates=(1e-3,),
            epochs=10,
        ),
    )
}


def available() -> dict[str, str]:
    """The named protocols, each with one line about it."""
    return {name: protocol.description for name, protocol in _NAMED.items()}


def get(protocol: str | Protocol) -> Protocol:
    """A protocol by name; a Protocol passes through. Raises JaxddError for an unknown name, suggesting the nearest."""
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in _NAMED:
        raise unknown("protocol", protocol, _NAMED)
    return _NAMED[protocol]
