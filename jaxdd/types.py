"""The contracts that every room may import: jax and NumPy, no flax, no optax.

Shapes follow one convention throughout the library: images `(n, height, width, channels)` float32, labels int32
`(n,)` (hard) or float32 `(n, classes)`. A `key` is a typed `jax.random.key`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._jax import Tracer
from jaxdd.errors import JaxddError

Array = jax.Array
Key = jax.Array
PyTree = Any
State = PyTree
Metrics = Mapping[str, Array]
Indices = Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Labels:
    """Hard labels of a real set, with the index by class that balanced samplers need.

    Attributes:
      values: int32 `(n,)`, each in `[0, num_classes)`.
      order: int32 `(n,)`, the positions of all examples sorted by class (stable).
      counts: examples of each class; static, so a method can check it while it is traced.
    """

    values: Array
    order: Array
    counts: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    @classmethod
    def index(cls, values: Any, num_classes: int | None = None) -> Labels:
        """Build the index on the host from integer labels `(n,)`."""
        values = np.asarray(values)
        if values.ndim != 1 or values.size == 0 or not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"labels must be a non-empty integer vector, got {values.dtype} of shape {values.shape}")
        counts = np.bincount(values, minlength=num_classes or 0)
        if num_classes is not None and len(counts) > num_classes:
            raise ValueError(f"label {values.max()} is out of range for {num_classes} classes")
        order = np.argsort(values, kind="stable")
        return cls(jnp.asarray(values, jnp.int32), jnp.asarray(order, jnp.int32), tuple(int(c) for c in counts))

    @property
    def num_classes(self) -> int:
        return len(self.counts)

    @property
    def starts(self) -> np.ndarray:
        """Where each class begins in `order`, int32 `(num_classes,)`."""
        return np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class HostImages:
    """Images that stay on the host, or on its disk, because they are more than a device holds.

    Indexed by rows they behave as an array does, also while that is traced; they are never one array.

    Attributes:
      shape: `(n, h, w, c)`.
      stored: the dtype of their pixels, NumPy's.
      read: from rows, integers `(b,)`, to these images, a NumPy array `(b, h, w, c)`. Called from several threads;
        raises a JaxddError that says which image cannot be read.
      fingerprint: of the content, hex: part of a run's identity.
      decode: what is made of images that were read, on a device; pure.
    """

    shape: tuple[int, int, int, int]
    stored: Any
    read: Callable[[np.ndarray], np.ndarray]
    fingerprint: str
    decode: Callable[[Array], Array] | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        """Of images that were indexed."""
        return jax.eval_shape(self.__getitem__, jax.ShapeDtypeStruct((1,), jnp.int32)).dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Array:
        if isinstance(rows, Tracer):
            shape = jax.ShapeDtypeStruct((*rows.shape, *self.shape[1:]), self.stored)
            images = jax.pure_callback(lambda rows: self.read(np.asarray(rows)), shape, rows, vmap_method="sequential")
        else:
            images = jnp.asarray(self.read(np.arange(len(self))[rows]))
        return images if self.decode is None else self.decode(images)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise JaxddError(
            f"{len(self)} images that stay on the host cannot be taken as one array; index them by rows, or load the "
            "data without streaming."
        )


class RealData(NamedTuple):
    """What a method learns from: transformed images float32 `(n, h, w, c)` and their labels.

    An engine may hold images as their source has them, uint8, for a method that decodes them (`engine.decoding`), or
    leave them on the host (`HostImages`); a method need not know.
    """

    images: Array
    labels: Labels

    @property
    def batch(self) -> Batch:
        """All of it, without the index by class."""
        return Batch(self.images, self.labels.values)


class Batch(NamedTuple):
    """Some real examples: images float32 `(b, h, w, c)`, hard labels int32 `(b,)`."""

    images: Array
    labels: Array


TRAINED_FEATURES, RANDOM_FEATURES = "trained_features", "random_features"
"""Names in `Distilled.kernel` of conjugate kernels of networks: trained on the set, or with random weights."""

LABEL_CONVENTIONS = ("hard", "probability", "raw", "centred")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Distilled:
    """What a method has learned, rendered, in the space the method saw (after the data's transform).

    Attributes:
      images: float32 `(m, h, w, c)`.
      labels: int32 `(m,)` if `label_convention` is "hard", else float32 `(m, classes)`.
      learning_rates: float32 `(steps,)`, learned learning rates of gradient descent on this set, or None.
      plan: int32 `(steps, b)`, the rows of the set that each of these steps sees, or None.
      theta0: the one initialisation that the set was distilled for, its leaves by path (see `leaves_by_path`), or None
        if it is for any.
      params: the stored parameters that `decoder` renders into the above.
      label_convention: "hard"; "probability" (rows sum to one); "raw" (any vectors, used in cross-entropy as they are);
        "centred" (one-hot minus 1/classes is the origin of learning, squared error is the loss they are meant for).
      label_regime: "hard" or "learned": what a fair baseline is allowed to do with its labels.
      kernel: of a kernel method, pairs of option and value: what `evaluation.Predictor` needs: the options of
        `kernels.build` (or `TRAINED_FEATURES`, or `RANDOM_FEATURES` with `model`, `networks`, `seed`, `w_std` and
        `b_std`), `ridge` and `float64`.
      iterate: "last", or "average" if it is a moving average of the iterates up to the last.
      decoder: name of the parameterisation.
      num_bits: what storing `params` costs.
    """

    images: Array
    labels: Array
    learning_rates: Array | None = None
    plan: Array | None = None
    theta0: Mapping[str, Array] | None = None
    params: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    label_convention: str = dataclasses.field(default="hard", metadata={"static": True})
    label_regime: str = dataclasses.field(default="hard", metadata={"static": True})
    kernel: tuple[tuple[str, Any], ...] | None = dataclasses.field(default=None, metadata={"static": True})
    iterate: str = dataclasses.field(default="last", metadata={"static": True})
    decoder: str = dataclasses.field(default="pixels", metadata={"static": True})
    num_bits: int = dataclasses.field(default=0, metadata={"static": True})


class Method(NamedTuple):
    """A distillation method: what `optax.GradientTransformation` is to optimisers.

    All four are pure. `update` is called with `key_t = fold_in(root, step)`, so a run is a function of
    (method, data, seed), whatever its interruptions.
    """

    init: Callable[[Key, RealData], State]
    """The first state, from a key and the real data."""
    sample: Callable[[Key, Labels], Indices]
    """Which real examples one update sees, int32 `(batch,)`; the engine gathers them."""
    update: Callable[..., tuple[State, Metrics]]
    """`update(key, state, batch) -> (state, metrics)`: one smallest sensible step. The metrics are scalars; "loss" is
    always among them.

    Those of this library also take `axis_name=None`, which the engine never gives: the name of the axis of a `jax.pmap`
    (or a `vmap`, but not a `shard_map` that checks its types) around the call. Key and state are then the same
    everywhere, each device has a batch of its own as `sample` draws them, and the new state is that of all the batches
    together, again the same everywhere:

        jax.pmap(functools.partial(method.update, axis_name="i"), axis_name="i", in_axes=(None, None, 0), out_axes=None)
    """
    distilled: Callable[[State], Distilled]
    """Render the state into a synthetic set."""


def leaves_by_path(tree: PyTree) -> dict[str, Array]:
    """The leaves of a pytree by name, "conv_0/kernel"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def missing(method: str) -> Callable[..., Any]:
    """What stands in a `Network` for something that it cannot do: raises a JaxddError that says so."""

    def call(*args, **kwargs):
        raise JaxddError(f"this network does not say what its {method} are; give its module a `{method}` method.")

    return call


class Network(NamedTuple):
    """A network as pure functions over plain dicts of arrays.

    `stats` holds what is not trained by gradients (BatchNorm's running statistics); it is `{}` for most networks.
    """

    init: Callable[[Key], tuple[PyTree, PyTree]]
    """`init(key) -> (theta, stats)`."""
    apply: Callable[..., tuple[Array, PyTree]]
    """`apply(theta, images, stats, *, train=False, key=None) -> (logits (n, classes), stats)`."""
    features: Callable[..., tuple[Array, PyTree]]
    """Same arguments; the penultimate features `(n, d)` instead of logits."""
    layers: Callable[..., tuple[tuple[Array, ...], PyTree]] = missing("layers")
    """Same arguments; what every nonlinearity gives, in order, then the features, then the logits."""
