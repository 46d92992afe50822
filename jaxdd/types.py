"""The contracts that every room may import: jax and NumPy, no flax, no optax.

Shapes follow one convention throughout the library: images `(n, height, width, channels)` float32, labels int32
`(n,)` (hard) or float32 `(n, classes)`. A `key` is a typed `jax.random.key`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._jax import Tracer
from jaxdd._numbers import rising, whole
from jaxdd.errors import JaxddError, unknown

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


def _of_rows(function: Callable[[Array], Array], found: Array, ndim: int) -> Array:
    """`function` of rows `(b, ..)`, each of so many axes, where there are several axes of rows, or one."""
    rows = found.shape[: found.ndim - ndim]
    made = function(found.reshape(-1, *found.shape[len(rows) :]))
    return made.reshape(*rows, *made.shape[1:])


@dataclasses.dataclass(frozen=True, eq=False)
class HostArray:
    """An array that stays on the host, or on its disk, because it is more than a device holds.

    Indexed by rows it behaves as an array does, also while that is traced; it is never one array.

    Attributes:
      shape: `(n, ..)`.
      stored: the dtype of what is read, NumPy's.
      read: from rows, integers `(b,)`, to these, a NumPy array `(b, ..)`. Called from several threads; raises a
        JaxddError that says what cannot be read.
      fingerprint: of the content, hex: part of a run's identity.
      decode: what is made of rows that were read, on a device; pure.
      fill: as `read`, into an array `(b, ..)` that is given; None where only `read` can.
      counts: of uint8 images, how often each channel has each value in all rows, int64 `(channels, 256)`; None where
        nobody has counted.
    """

    shape: tuple[int, ...]
    stored: Any
    read: Callable[[np.ndarray], np.ndarray]
    fingerprint: str
    decode: Callable[[Array], Array] | None = None
    fill: Callable[[np.ndarray, np.ndarray], None] | None = None
    counts: np.ndarray | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        """Of rows that were indexed."""
        return jax.eval_shape(self.__getitem__, jax.ShapeDtypeStruct((1,), jnp.int32)).dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Array:
        if isinstance(rows, Tracer):
            shape = jax.ShapeDtypeStruct((*rows.shape, *self.shape[1:]), self.stored)
            found = jax.pure_callback(lambda rows: self.rows(np.asarray(rows)), shape, rows, vmap_method="sequential")
        else:
            found = jnp.asarray(self.rows(np.arange(len(self))[rows]))
        return self.decoded(found)

    def take(self, rows: np.ndarray) -> HostArray:
        """Some of the rows, in that order, which stay where they are."""
        rows = np.asarray(rows)
        content = hashlib.sha256(self.fingerprint.encode() + rows.astype("<i8").tobytes()).hexdigest()
        read, fill = self.read, self.fill
        return dataclasses.replace(
            self,
            shape=(len(rows), *self.shape[1:]),
            read=lambda some: read(rows[some]),
            fingerprint=content,
            fill=None if fill is None else lambda some, out: fill(rows[some], out),
            counts=None,
        )

    def decoded(self, found: Array) -> Array:
        """What is made of rows that were read, of rows of any shape, on a device."""
        return found if self.decode is None else _of_rows(self.decode, found, self.ndim - 1)

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """What is stored in rows of any shape, `(*rows.shape, ..)`."""
        return self.read(rows.ravel()).reshape(*rows.shape, *self.shape[1:])

    def rows_into(self, rows: np.ndarray, out: np.ndarray) -> None:
        """The same, into an array `(*rows.shape, ..)` in C order: with `fill` without a copy on the way."""
        if self.fill is None:
            out[:] = self.rows(rows)
        else:
            self.fill(rows.ravel(), out.reshape(-1, *self.shape[1:]))

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise JaxddError(
            f"{len(self)} rows that stay on the host cannot be taken as one array; index them by rows, or load the "
            "data without streaming."
        )


EXAMPLES = "examples"
"""The table that most methods learn from."""


class Examples(NamedTuple):
    """Labelled images, the usual rows of the table "examples": images float32 `(n, h, w, c)`, hard labels int32
    `(n,)`."""

    images: Array
    labels: Array


def _images_of(tables: Mapping[str, PyTree]) -> Examples:
    found = tables.get(EXAMPLES)
    if not isinstance(found, Examples):
        there = ", ".join(sorted(tables)) or "none"
        raise JaxddError(f"there is no table of labelled images called {EXAMPLES!r} here (tables: {there}).")
    return found


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RealData:
    """What a method learns from: named tables. Images and their labels are `RealData.of(images, labels)`.

    Attributes:
      tables: each a pytree whose leaves share their first axis, the rows of the table; those of different tables may
        differ in number. A leaf may stay on the host (`HostArray`). "examples" is the table that `labels` are of,
        `Examples` or whatever else an example is: token ids and target vectors, for one.
      labels: of the examples, with the index by class; without classes all of them are of one,
        `Labels.index(np.zeros(n, int))`.
      assets: whole pytrees that every update sees, such as a teacher's parameters, by name.

    An engine may hold images as their source has them, uint8, for a method that decodes them (`engine.decoding`); a
    method need not know.
    """

    tables: Mapping[str, PyTree]
    labels: Labels
    assets: Mapping[str, PyTree] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, images: Any, labels: Labels) -> RealData:
        """Transformed images `(n, h, w, c)`, which may stay on the host, and their labels."""
        return cls({EXAMPLES: Examples(images, labels.values)}, labels)

    @property
    def examples(self) -> PyTree:
        """The table of that name."""
        return self.tables[EXAMPLES]

    @property
    def images(self) -> Any:
        return _images_of(self.tables).images

    def with_images(self, images: Any) -> RealData:
        """The same examples with other images."""
        tables = {**self.tables, EXAMPLES: _images_of(self.tables)._replace(images=images)}
        return RealData(tables, self.labels, self.assets)


class Batch(NamedTuple):
    """What an update sees of the real data.

    `batch.images` and `batch.labels` are those of the usual table, images float32 `(b, h, w, c)` and hard labels int32
    `(b,)`.
    """

    tables: Mapping[str, PyTree]
    """The rows that `Method.sample` drew, by the name of the draw, "examples" or "examples/query": leaves
    `(*rows.shape, ..)`."""
    rows: Mapping[str, Indices]
    """Their numbers in the whole table, by the same names."""
    assets: Mapping[str, PyTree]
    """What the stages of a recipe have left, by their names: whole pytrees, the same at every step."""

    @classmethod
    def of(cls, images: Array, labels: Array) -> Batch:
        """Some images and labels, for a call of one's own; their rows are not known."""
        return cls({EXAMPLES: Examples(images, labels)}, {}, {})

    @property
    def examples(self) -> Examples:
        """The labelled images."""
        return _images_of(self.tables)

    @property
    def images(self) -> Array:
        return _images_of(self.tables).images

    @property
    def labels(self) -> Array:
        return _images_of(self.tables).labels

    def map_images(self, function: Callable[[Array], Array]) -> Batch:
        """The same rows with `function` of their images `(b, h, w, c)`, in every draw of images."""
        changed = {
            name: table._replace(images=_of_rows(function, table.images, 3)) if isinstance(table, Examples) else table
            for name, table in self.tables.items()
        }
        return self._replace(tables=changed)


TRAINED_FEATURES, RANDOM_FEATURES = "trained_features", "random_features"
"""Names in `Training.kernel` of conjugate kernels of networks: trained on the set, or with random weights."""

LABEL_CONVENTIONS = ("hard", "probability", "raw", "centred", "features")
"""What labels are, see `Labelling`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Content:
    """The images of a distilled set, and what they are rendered from.

    Attributes:
      images: float32 `(m, h, w, c)`, rendered, in the space the method saw (after the data's transform). uint8 ones are
        pixels as their source has them, before any transform: only a file takes those (`DistilledDataset.create`).
      params: the stored parameters that `decoder` renders into images, labels and rates.
      decoder: name of the parameterisation.
      iterate: "last", or "average" if it is a moving average of the iterates up to the last.
    """

    images: Array
    params: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    decoder: str = dataclasses.field(default="pixels", metadata={"static": True})
    iterate: str = dataclasses.field(default="last", metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Labelling:
    """The labels of a distilled set: one an image, and where a codec says so, one a view.

    Attributes:
      values: one an image: int32 `(m,)` if `convention` is "hard", else float32 `(m, classes)`, or `(m, d)` for
        "features".
      convention: of the values. "hard": class numbers; "probability": rows sum to one; "raw": any vectors, used in
        cross-entropy as they are; "centred": one-hot minus 1/classes is the origin of learning, squared error is the
        loss they are meant for; "features": targets of an encoder, trained by squared error, which know no classes.
      regime: "hard" or "learned": what a fair baseline is allowed to do with its labels.
      codec: name of the `LabelCodec` of `stored`, see `synthetic.label_codec`; None if the values are all there is.
      stored: what that codec decodes.
      counts: images of each class, where a method was given unequal numbers of them; its baselines have as many.
    """

    values: Array
    convention: str = dataclasses.field(default="hard", metadata={"static": True})
    regime: str = dataclasses.field(default="hard", metadata={"static": True})
    codec: str | None = dataclasses.field(default=None, metadata={"static": True})
    stored: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    counts: tuple[int, ...] | None = dataclasses.field(default=None, metadata={"static": True})


class Draws(NamedTuple):
    """What made the views of images that labels are asked for."""

    rows: Indices
    """int `(b,)`: the image of the set that each view is of."""
    drawn: PyTree = None
    """How it became that view, as a codec with one label a view knows it: an augmentation's draws `(b, ..)`, the number
    of an epoch."""


class LabelCodec(NamedTuple):
    """How labels are stored, and how they come back: pure functions.

    `stored = encode(fit(labels, images), labels, images)` is a flat dict of arrays, which goes into a file as it is, so
    a codec of one's own needs no other change. The package `synthetic` has those that are here.
    """

    fit: Callable[[Array, Array | None], PyTree]
    """`fit(labels (m, classes), images (m, h, w, c) or None) -> fitted`: what is learned of all labels at once, a
    codebook or a teacher; () if there is nothing."""
    encode: Callable[[PyTree, Array, Array | None], dict[str, Array]]
    """`encode(fitted, labels, images) -> stored`."""
    decode: Callable[[Mapping[str, Array], Array | None, Draws], Array]
    """`decode(stored, images, draws)`, the labels of views, `(b,)` or `(b, classes)`. The images are the views
    `(b, h, w, c)` as networks see them; None for a codec with one label an image."""
    num_bits: Callable[[Mapping[str, Array], int], int]
    """`num_bits(stored, classes)`, from shapes alone."""
    convention: str | None = None
    """Of what is decoded; None if it is that of the values."""
    per_view: bool = False
    """Whether there is one label a view and not one an image."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Training:
    """How networks or kernels are meant to be trained on a distilled set, as far as that was learned or fixed.

    Attributes:
      learning_rates: float32 `(steps,)`, learned learning rates of gradient descent on this set, or None.
      schedule: int32 `(steps, b)`, the rows of the set that each of these steps sees, or None.
      theta0: the one initialisation that the set was distilled for, its leaves by path (see `leaves_by_path`), or None
        if it is for any.
      kernel: of a kernel method, pairs of option and value: what `evaluation.Predictor` needs: the options of
        `kernels.build` (or `TRAINED_FEATURES`, or `RANDOM_FEATURES` with `model`, `networks`, `seed`, `w_std` and
        `b_std`), `ridge` and `float64`.
    """

    learning_rates: Array | None = None
    schedule: Array | None = None
    theta0: Mapping[str, Array] | None = None
    kernel: tuple[tuple[str, Any], ...] | None = dataclasses.field(default=None, metadata={"static": True})

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways that the set prescribes: "descent" (its schedule, by its learned rates), "kernel" (kernel ridge
        regression), both, or () where it may be trained on by any protocol."""
        descent = self.schedule is not None and self.learning_rates is not None
        return ("descent",) * descent + ("kernel",) * (self.kernel is not None)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cost:
    """What storing a distilled set costs, in bits. `theta0` is not counted.

    Attributes:
      total: all of it; 0 if it is not known.
      images: of it what images are made of, None if only the total is known, as of a set that was read from a file.
      labels: of it the labels, None likewise.
    """

    total: int = dataclasses.field(default=0, metadata={"static": True})
    images: int | None = dataclasses.field(default=None, metadata={"static": True})
    labels: int | None = dataclasses.field(default=None, metadata={"static": True})

    @classmethod
    def of(cls, ledger: Mapping[str, int]) -> Cost:
        """From the bits of each leaf, see `SyntheticSet.num_bits`. Images are made of all leaves but "labels" and
        "learning_rates"."""
        images = sum(bits for name, bits in ledger.items() if name not in ("labels", "learning_rates"))
        return cls(sum(ledger.values()), images, ledger.get("labels", 0))

    @property
    def other(self) -> int | None:
        """Everything else: learning rates."""
        return None if self.images is None or self.labels is None else self.total - self.images - self.labels


class _Short(property):
    """A field of a part, under a short name."""

    def __init__(self, part: str, field: str):
        super().__init__(lambda distilled: getattr(getattr(distilled, part), field), doc=f"`{part}.{field}`.")
        self.where = part, field


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, init=False)
class Distilled:
    """What a method has learned, rendered, in the space the method saw (after the data's transform).

        Distilled(Content(images), Labelling(labels), Training(kernel=facts), Cost(bits))
        Distilled(images, labels, label_convention="raw", num_bits=bits)  # the same by the fields of the parts

    Attributes:
      content: images, and what they are rendered from.
      labelling: labels. It is not called `labels`, since that is, as ever, the array `labelling.values`, which users
        index, stack and compare as they do `images`; a part that only looked like an array would not bear all of that.
      training: how the set is meant to be trained on.
      cost: bits.

    The first two may be images and labels themselves, and the keywords `images`, `labels`, `learning_rates`, `theta0`,
    `params`, `kernel`, `iterate`, `decoder`, `label_convention`, `label_regime`, `num_bits` and `plan` (the older name
    of `schedule`) fill the parts or replace what is in them, also in `dataclasses.replace`. They are read under the
    same names.
    """

    content: Content
    labelling: Labelling
    training: Training
    cost: Cost

    def __init__(
        self, content: Any = None, labelling: Any = None, training: Any = None, cost: Any = None, **fields: Any
    ) -> None:
        if content is not None and not isinstance(content, Content):
            content, fields = None, {"images": content, **fields}
        if labelling is not None and not isinstance(labelling, Labelling):
            labelling, fields = None, {"labels": labelling, **fields}
        changes: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
        for name, value in fields.items():
            if name not in _FIELDS:
                raise TypeError(f"Distilled has no {name!r}; it has {', '.join((*changes, *_FIELDS))}")
            part, field = _FIELDS[name]
            changes[part][field] = value
        if changes["cost"]:
            cost = None  # what was known of its parts is not of another total
        for part, kind, given in (
            ("content", Content, content),
            ("labelling", Labelling, labelling),
            ("training", Training, training),
            ("cost", Cost, cost),
        ):
            if given is None:
                given = kind(**changes[part])
            elif changes[part]:
                given = dataclasses.replace(given, **changes[part])
            object.__setattr__(self, part, given)

    def tree_flatten_with_keys(self) -> Any:
        return [(jax.tree_util.GetAttrKey(part), getattr(self, part)) for part in _PARTS], None

    @classmethod
    def tree_unflatten(cls, _: None, parts: Any) -> Distilled:
        made = object.__new__(cls)  # its leaves may be anything here, which the constructor would read as images
        for part, value in zip(_PARTS, parts, strict=True):
            object.__setattr__(made, part, value)
        return made

    images = _Short("content", "images")
    params = _Short("content", "params")
    decoder = _Short("content", "decoder")
    iterate = _Short("content", "iterate")
    labels = _Short("labelling", "values")
    label_convention = _Short("labelling", "convention")
    label_regime = _Short("labelling", "regime")
    learning_rates = _Short("training", "learning_rates")
    schedule = _Short("training", "schedule")
    plan = _Short("training", "schedule")
    theta0 = _Short("training", "theta0")
    kernel = _Short("training", "kernel")
    num_bits = _Short("cost", "total")


_PARTS = ("content", "labelling", "training", "cost")
_FIELDS = {name: short.where for name, short in vars(Distilled).items() if isinstance(short, _Short)}


class _Method(NamedTuple):
    init: Callable[..., State]
    """`init(key, data)`, the first state, from a key and the real data; `init(key, data, part)` of a run that is made
    of parts, see `Parts`."""
    sample: Callable[..., Indices | Mapping[str, Indices]]
    """`sample(key, labels)`, from a key of the step, or `sample(key, labels, step)`, from one that is the same at every
    step, so that there can be epochs: which rows one update sees. Either rows of "examples", int32 `(batch,)`, or
    `{name: rows}` with a draw for each name: a table's, or "table/whatever" for a further draw from it. Rows are
    integers of any rank, whose first axis devices share: `(k, 2)` keeps pairs of rows together. Drawn ahead, so they
    cannot depend on the state; the engine gathers them."""
    update: Callable[..., tuple[State, Metrics]]
    """`update(key, state, batch) -> (state, metrics)`: one smallest sensible step. The metrics are scalars; "loss" is
    always among them.

    Those of this library also take `axis_name=None`, which the engine never gives: the name of the axis of a `jax.pmap`
    (or a `vmap`, but not a `shard_map` that checks its types) around the call. Key and state are then the same
    everywhere, each device has a batch of its own as `sample` draws them, and the new state is that of all the batches
    together, again the same everywhere:

        jax.pmap(functools.partial(method.update, axis_name="i"), axis_name="i", in_axes=(None, None, 0), out_axes=None)
    """
    product: Callable[[State], Any]
    """What a state leaves: of a distillation the synthetic set, a `Distilled`."""


class Method(_Method):
    """A distillation method: what `optax.GradientTransformation` is to optimisers.

    All four are pure. `update` is called with `key_t = fold_in(root, step)`, so a run is a function of
    (method, data, seed), whatever its interruptions.

    Its last function was called `distilled` once, and still may be: `Method(.., distilled=f)` and `method.distilled`.
    """

    __slots__ = ()

    def __new__(
        cls,
        init: Callable[..., State],
        sample: Callable[..., Indices | Mapping[str, Indices]],
        update: Callable[..., tuple[State, Metrics]],
        product: Callable[[State], Any] | None = None,
        *,
        distilled: Callable[[State], Distilled] | None = None,
    ) -> Method:
        given = [leaves for leaves in (product, distilled) if leaves is not None]
        if len(given) != 1:
            raise TypeError("a Method needs product, what a state leaves (or distilled, its older name), and not both")
        return super().__new__(cls, init, sample, update, *given)

    def _replace(self, **fields: Any) -> Method:
        if "distilled" in fields:
            fields["product"] = fields.pop("distilled")
        return super()._replace(**fields)

    @property
    def distilled(self) -> Callable[[State], Distilled]:
        """`product`, of a distillation."""
        return self.product


AUTO = "auto"
"""What a field of `Execution` is that nobody has named."""

REMATS = ("step", "sqrt", "none")
"""What the backward pass of an unroll recomputes, see `inner.unroll`; the leanest is "sqrt"."""

PRECISIONS = {
    "default": "the backend's own: float32 on CPUs, TF32 on newer GPUs, bfloat16 on TPUs",
    "float32": "float32 everywhere",
    "bfloat16": "in the products and convolutions of networks, also of their gradients, operands rounded to bfloat16 "
    "and sums in float32, on every backend; all else float32",
}
"""Policies of precision, by name, see `models.matmul_precision`."""

_AUTO: Any = AUTO
_NAMES_OF_EXECUTION = {"remat": REMATS, "precision": PRECISIONS, "target_precision": PRECISIONS}


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a machine does what a method says: the numbers that change what an update costs, and at most its last bits.

        Execution(block=16, side_by_side=1)  # in passes of 16 examples, one network after the other

    Every field is "auto" by default, which an engine decides, see `Recipe.lean`. No method sees that: what
    `Recipe.bind` is given has numbers and names only. A method looks at the fields that it has a use for.

    Attributes:
      block: real examples, images of a student's step, or rows of a kernel, in one pass, where a sum or a map over them
        can be cut; at least 1, or None for all at once.
      side_by_side: networks, classes, experts or parts at the same time on a device; at least 1, or None for all.
      remat: what the backward pass of an unroll recomputes, one of `REMATS`.
      precision: of all products and convolutions of networks, one of `PRECISIONS`.
      target_precision: of the passes of real examples that nothing is learned through, in methods that have such
        passes; "default" is `precision`.

    Raises:
      JaxddError: for a value that a field cannot have.
    """

    block: int | None = _AUTO
    side_by_side: int | None = _AUTO
    remat: str = _AUTO
    precision: str = _AUTO
    target_precision: str = _AUTO

    def __post_init__(self):
        for name, value in vars(self).items():
            if value == AUTO:
                continue
            known = _NAMES_OF_EXECUTION.get(name)
            if known is not None and (not isinstance(value, str) or value not in known):
                raise JaxddError(f"{name} of Execution must be one of {', '.join((AUTO, *known))}, got {value!r}.")
            if known is None and value is not None:
                try:
                    object.__setattr__(self, name, whole(value, name))
                except JaxddError:
                    raise JaxddError(
                        f"{name} of Execution must be at least 1, None or {AUTO}, got {value!r}."
                    ) from None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Execution:
        """From a config's section or a file. Raises JaxddError for an unknown field, the nearest one named."""
        for name in fields:
            if name not in cls.__dataclass_fields__:
                raise unknown("field of the execution", name, cls.__dataclass_fields__)
        return cls(**fields)

    def named(self) -> dict[str, Any]:
        """The fields that are not "auto"."""
        return {name: value for name, value in vars(self).items() if value != AUTO}

    def over(self, *others: Execution) -> Execution:
        """These fields, and where they are "auto" those of the first other one that names them."""
        found: dict[str, Any] = {}
        for each in (self, *others):
            found = {**each.named(), **found}
        return Execution(**found)


UNNAMED = Execution()
"""Nobody has said how: every field is "auto"."""

AT_ONCE = Execution(block=None, side_by_side=None, remat="step", precision="default", target_precision="default")
"""Everything in one pass: what a field is that neither somebody has named nor a method has a lean setting for."""

RETIRED = {
    "target_block": "block",
    "kernel_block": "block",
    "classes_per_batch": "side_by_side",
    "networks_per_batch": "side_by_side",
    "remat": "remat",
    "precision": "target_precision",
}
"""Hyper-parameters that methods once had, and the fields of `Execution` that they are now.

A run's identity no longer has them, nor its own `precision`, which is the field of that name: runs that began with
them are gone on with, by the values that they had. A method's builder takes them for one more release.
"""


def renamed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `Execution` from hyper-parameters that are `RETIRED`; of several for one the first that is a number."""
    found: dict[str, Any] = {}
    for old, new in RETIRED.items():
        if old in fields and found.get(new) is None:
            found[new] = fields[old]
    return found


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known before data are read: their shapes, dtypes, lengths, examples of each class; and how they are
    gone about.

    Attributes:
      tables, assets: as those of `RealData`, of `jax.ShapeDtypeStruct`.
      counts: examples of each class.
      execution: how. Of one that a `Recipe` binds a method to, no field is "auto".
    """

    tables: Mapping[str, PyTree]
    counts: tuple[int, ...]
    assets: Mapping[str, PyTree] = dataclasses.field(default_factory=dict)
    execution: Execution = UNNAMED

    @classmethod
    def of(cls, data: RealData) -> Spec:
        def shape(leaf: Any) -> jax.ShapeDtypeStruct:
            leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)

        tables, assets = jax.tree.map(shape, (dict(data.tables), dict(data.assets)))
        return cls(tables, data.labels.counts, assets)

    def __hash__(self) -> int:
        leaves, structure = jax.tree.flatten((self.tables, self.assets))
        return hash((structure, tuple(leaves), self.counts, self.execution))

    @property
    def num_classes(self) -> int:
        return len(self.counts)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(h, w, c)`, of the usual table."""
        _, height, width, channels = _images_of(self.tables).images.shape
        return height, width, channels

    def length(self, table: str = EXAMPLES) -> int:
        """Rows of a table."""
        return len(jax.tree.leaves(self.tables[table])[0])


@dataclasses.dataclass(frozen=True)
class Record:
    """What training writes down on its way: a stage, as rows of a table that the run after it draws from.

        Record(1, lambda state: state.features, first=False, block=500)  # of 500 examples at every step

    Attributes:
      every: steps between two rows, at least 1. The first row, of each part of a stage, is of its first state, before
        any step.
      of: a row, from a state; pure.
      first: whether there is that first row. Without it the first is of the state after `every` steps.
      block: so many rows each time instead of one, one after the other: `of` gives leaves `(block, ..)`.
      kept: which multiples of `every` have a row, rising, 0 for the first state; all by default. `first` plays no part
        then.

    Raises:
      JaxddError: if `every` or `block` is not a whole number of at least 1, or `kept` no whole numbers that rise.
    """

    every: int
    of: Callable[[State], PyTree]
    first: bool = True
    block: int | None = None
    kept: tuple[int, ...] | None = None

    def __post_init__(self):
        object.__setattr__(self, "every", whole(self.every, "a record's every"))
        if self.block is not None:
            object.__setattr__(self, "block", whole(self.block, "a record's block"))
        if self.kept is not None:
            object.__setattr__(self, "kept", rising(self.kept, "what a record keeps"))

    def multiples(self, steps: int) -> tuple[int, ...]:
        """Those of `every` that have rows in a training of so many steps, rising.

        Raises:
          JaxddError: if one that is kept lies behind the last step.
        """
        last = steps // self.every
        if self.kept is None:
            return tuple(range(not self.first, last + 1))
        if self.kept[-1] > last:
            raise JaxddError(f"a record keeps row {self.kept[-1]}, but {steps} steps have {last} times {self.every}.")
        return self.kept


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """Independent short runs of equal length that one run is made of: experts, blocks of images, seeds.

    Devices take parts side by side, processes share them, and one program serves all of them. A part starts from a
    state of its own: `Method.init(key, data)` with a key of its own, or `init(key, data, part)` where it depends on the
    number of the part, a traced int32. Blocks of equal size that do not divide what they cover are padded, and what is
    too much is left out by `join`.

    Attributes:
      count: how many.
      join: `join(products, assets)`, the product of the whole run, from those of all parts, leaves `(count, ..)`, and
        the assets of the stages before; pure. None for the product of the last part.

    Raises:
      JaxddError: if the count is not a whole number of at least 1.
    """

    count: int = 1
    join: Callable[[PyTree, Mapping[str, PyTree]], Any] | None = None

    def __post_init__(self):
        object.__setattr__(self, "count", whole(self.count, "the parts of a run"))


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """A run that another one needs: experts, teachers, networks trained on the real data.

    It goes the same way as any run: it shows progress, answers signals, resumes, is shared by devices. What it leaves
    lies in a cache, and serves every run that needs the same. Its rows arrive there as the table of its name, the
    product of its last state as `batch.assets[name]`.

    Attributes:
      name: of the stage, of its table and of its asset.
      recipe: what is run, on the same real data.
      steps: updates of each part.
      config: everything that its results depend on beside data and seed, JSON-able.
      parts: independent runs that it is made of, see `Parts`; one is what the recipe itself says.
      record: the rows, if any.
      join: as of `Parts`.
      revision: of its code: what an older one left is not used.

    Raises:
      JaxddError: if steps or parts are no whole numbers of at least 1.
    """

    name: str
    recipe: Method | Recipe
    steps: int
    config: Mapping[str, Any]
    parts: int = 1
    record: Record | None = None
    join: Callable[[PyTree, Mapping[str, PyTree]], Any] | None = None
    revision: int = 1

    def __post_init__(self):
        object.__setattr__(self, "steps", whole(self.steps, f"the steps of the stage {self.name!r}"))
        object.__setattr__(self, "parts", whole(self.parts, f"the parts of the stage {self.name!r}"))

    @property
    def rows_of_part(self) -> int:
        """Rows that each part writes down."""
        if self.record is None:
            return 0
        return len(self.record.multiples(self.steps)) * (self.record.block or 1)

    def parts_for(self, spec: Spec) -> Parts:
        """What it is made of."""
        if self.parts == 1 and self.join is None:
            return parts_of(self.recipe, spec)
        return Parts(self.parts, self.join)


def _no_stages(spec: Spec) -> tuple[Stage, ...]:
    return ()


def _whole(spec: Spec) -> Parts:
    return Parts()


def _unknown(spec: Spec) -> Execution:
    return UNNAMED


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """A method that does not know its data yet: `recipe.bind(Spec.of(data))` is a `Method`.

    So what depends on the data's shape, a network for one, is made once, and not at every trace.

    Attributes:
      bind: the method for data of a `Spec`, in which the tables and assets of its stages are.
      identity: something hashable, if there is any: recipes of equal identities are equal, and an engine that has
        compiled one for a spec need not do it again.
      stages: the runs that it needs first, for data of a `Spec` without their tables.
      parts: what a run of it is made of, for data of a `Spec` with the tables of its stages.
      lean: the execution that is best on a CPU, where what stays in the cache is fastest: what "auto" is there, and
        what an accelerator steps down to. A field that it leaves "auto" means nothing to the method.
      most: how many examples one pass has at most, and how many networks there are side by side, for data of a `Spec`:
        where an engine begins to step down. "auto" where a method does not know.
      asked: what the method itself was given of an execution; stands before `lean`.
    """

    bind: Callable[[Spec], Method]
    identity: Any = None
    stages: Callable[[Spec], tuple[Stage, ...]] = _no_stages
    parts: Callable[[Spec], Parts] = _whole
    lean: Execution = UNNAMED
    most: Callable[[Spec], Execution] = _unknown
    asked: Execution = UNNAMED

    def __post_init__(self):
        given, lean = self.bind, self.asked.over(self.lean, AT_ONCE)

        def bind(spec: Spec) -> Method:
            return given(dataclasses.replace(spec, execution=spec.execution.over(lean)))

        object.__setattr__(self, "bind", bind)

    def __eq__(self, other: object) -> bool:
        if self.identity is None or not isinstance(other, Recipe):
            return self is other
        return self.identity == other.identity

    def __hash__(self) -> int:
        return id(self) if self.identity is None else hash(self.identity)


def bound(method: Method | Recipe, data: RealData | Spec, execution: Execution | None = None) -> Method:
    """A method for some data; one that is bound already passes through.

    Args:
      execution: how it is carried out; what is "auto" in it, or all of it by default, is the method's lean setting.
    """
    if isinstance(method, Method):
        return method
    spec = data if isinstance(data, Spec) else Spec.of(data)
    try:
        return method.bind(spec if execution is None else dataclasses.replace(spec, execution=execution))
    except JaxddError:
        raise
    except Exception as error:  # a method of somebody's own may fail as any program
        place, what = traceback.extract_tb(error.__traceback__)[-1], f"{type(error).__name__}: {error}"
        raise JaxddError(
            f"the method cannot be bound to these data: {what} ({place.filename}:{place.lineno})."
        ) from error


def as_recipe(method: Method | Recipe) -> Recipe:
    """A method as what says how it is carried out: one that is bound already says nothing."""
    return method if isinstance(method, Recipe) else Recipe(lambda spec: method)


def parts_of(method: Method | Recipe, spec: Spec) -> Parts:
    """What a run of a method is made of."""
    return method.parts(spec) if isinstance(method, Recipe) else Parts()


def leaves_by_path(tree: PyTree) -> dict[str, Array]:
    """The leaves of a pytree by name, "conv_0/kernel"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


MODES = ("train", "eval", "batch")
"""How a network is called.

"eval" normalises by the running statistics and drops nothing out. "train" normalises by the batch at hand, moves the
running statistics, and drops out if there is a key. "batch" normalises by the batch at hand and changes nothing: the
statistics come back as they went in, and nothing is dropped out.
"""


@dataclasses.dataclass(frozen=True)
class _Missing:
    method: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise JaxddError(f"this network does not say what {_MISSING[self.method]}.")


_MISSING = {
    "features": "its features are: models.from_functions(init, apply, features=..) takes features(theta, images) -> "
    "(n, d), and a module gives them by a method `features`",
    "layers": "its layers are: models.from_functions(init, apply, layers=..) takes layers(theta, images) -> a tuple of "
    "what each nonlinearity gives, the features (n, d) and the logits, and a module gives them by a method `layers`; "
    "where there are features, these and the logits are its layers",
    "norms": "its normalisations see; one from flax.linen does",
}


def missing(method: str) -> Callable[..., Any]:
    """What stands in a `Network` for something that it cannot do: raises a JaxddError that says so."""
    return _Missing(method)


_NO_LAYERS, _NO_NORMS = missing("layers"), missing("norms")


class Moments(NamedTuple):
    """Of one normalisation, each `(channels,)`, or `(n, channels)` by example."""

    mean: Array
    variance: Array
    """Biased: the mean squared distance from the mean."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Norms:
    """What the batch normalisations of a network see, in the order in which they are applied.

    Attributes:
      batch: moments of the input of each, over images, height and width, or by example over height and width. Where
        convolutions feed normalisations that is what these convolutions give.
      running: its running statistics.
      names: where these lie in `stats`, "batch_stats/norm_0"; static.
      places: of each, how many places of an image there are, height times width; static.
    """

    batch: tuple[Moments, ...]
    running: tuple[Moments, ...]
    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    places: tuple[int, ...] = dataclasses.field(default=(), metadata={"static": True})


class _Network(NamedTuple):
    init: Callable[[Key], tuple[PyTree, PyTree]]
    """`init(key) -> (theta, stats)`."""
    apply: Callable[..., tuple[Array, PyTree]]
    """`apply(theta, images, stats, *, mode="eval", key=None) -> (logits (n, classes), stats)`, see `MODES`."""
    features: Callable[..., tuple[Array, PyTree]]
    """Same arguments; the penultimate features `(n, d)` instead of logits."""
    layers: Callable[..., tuple[tuple[Array, ...], PyTree]] = _NO_LAYERS
    """Same arguments; what every nonlinearity gives, in order, then the features, then the logits. Where nothing is
    given but features, these and the logits."""
    norms: Callable[..., tuple[Array, Norms]] = _NO_NORMS
    """`norms(theta, images, stats, *, mask=None, mode="eval", by_example=False) -> (logits, Norms)`, with moments over
    the images of a `mask`, bool or weights `(n,)`, or of every image by itself. Differentiable in images and theta. In
    the mode "batch" each normalisation sees what those before it made of this batch."""


class Network(_Network):
    """A network as pure functions over plain dicts of arrays.

    `stats` holds what is not trained by gradients (BatchNorm's running statistics); it is `{}` for most networks.

    A function that is given may take `train: bool` in place of `mode`, or neither. `network.apply(.., train=True)`,
    which was the way to call one once, still is `mode="train"`, and `train=False` is "eval".
    """

    __slots__ = ()

    def __new__(
        cls,
        init: Callable[[Key], tuple[PyTree, PyTree]],
        apply: Callable[..., tuple[Array, PyTree]],
        features: Callable[..., tuple[Array, PyTree]],
        layers: Callable[..., tuple[tuple[Array, ...], PyTree]] = _NO_LAYERS,
        norms: Callable[..., tuple[Array, Norms]] = _NO_NORMS,
    ) -> Network:
        apply, features = _in_modes(apply), _in_modes(features)
        if isinstance(layers, _Missing) and not isinstance(features, _Missing):
            layers = _LastLayers(apply, features)
        return super().__new__(cls, init, apply, features, _in_modes(layers), norms)

    def _replace(self, **fields: Any) -> Network:
        return Network(**{**self._asdict(), **fields})


@dataclasses.dataclass(frozen=True)
class _InModes:
    """A network's function, called in a mode. Equal ones are equal, so that compiled programs are reused."""

    function: Callable[..., tuple[Any, PyTree]]
    takes: frozenset[str]

    def __call__(
        self,
        theta: PyTree,
        images: Array,
        stats: PyTree,
        *,
        mode: str | None = None,
        key: Key | None = None,
        train: bool | None = None,
    ) -> tuple[Any, PyTree]:
        if mode is not None and train is not None:
            raise JaxddError("a network is called in a mode or with train, which is older, and not with both.")
        if mode is None:
            mode = "train" if train else "eval"
        if mode not in MODES:
            raise unknown("mode of a network", mode, MODES)
        given = {"mode": mode, "key": None if mode == "batch" else key, "train": mode != "eval"}
        out, after = self.function(theta, images, stats, **{name: given[name] for name in self.takes})
        return out, after if mode == "train" else stats


def _in_modes(function: Callable[..., Any]) -> Callable[..., Any]:
    if isinstance(function, _InModes | _Missing):
        return function
    parameters = inspect.signature(function).parameters
    takes = {"mode", "key", "train"} & set(parameters)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        takes |= {"key"} if "train" in takes else {"mode", "key"}
    return _InModes(function, frozenset(takes - ({"train"} if "mode" in takes else set())))


@dataclasses.dataclass(frozen=True)
class _LastLayers:
    """The features and the logits, as layers."""

    apply: Callable[..., tuple[Array, PyTree]]
    features: Callable[..., tuple[Array, PyTree]]

    def __call__(self, theta: PyTree, images: Array, stats: PyTree, *, mode: str, key: Key | None) -> Any:
        features, _ = self.features(theta, images, stats, mode=mode, key=key)
        logits, stats = self.apply(theta, images, stats, mode=mode, key=key)
        return (features, logits), stats


class NetworkState(NamedTuple):
    """A network's numbers."""

    theta: PyTree
    stats: PyTree


def _unchanged(kept: PyTree, tickets: PyTree, key: Key, shown: PyTree) -> PyTree:
    return kept


class Networks(NamedTuple):
    """Where the networks of a method come from, and how they go on from update to update.

    What they keep is part of the method's state. An update chooses some, each by a *ticket* (a key, a slot of a pool,
    a row of a table), starts each of them where it is used, one device the one and another the other, and in the end
    lets those that it chose go on.
    """

    init: Callable[[Key], PyTree]
    """`init(key) -> kept`."""
    choose: Callable[..., PyTree]
    """`choose(key, count) -> tickets`, leaves `(count, ..)`; the count is static."""
    start: Callable[[PyTree, PyTree], Any]
    """`start(kept, ticket) -> NetworkState`, or several of them for a method that wants more than one."""
    advance: Callable[[PyTree, PyTree, Key, PyTree], PyTree] = _unchanged
    """`advance(kept, tickets, key, shown) -> kept`, from what an update has to show: the set as it is now, real
    examples."""

    def one(self, kept: PyTree, key: Key) -> Any:
        """A single network, by a key."""
        return self.start(kept, jax.tree.map(lambda leaf: leaf[0], self.choose(key, 1)))
