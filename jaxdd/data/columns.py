"""Columns of tables: which holds images and which labels, and what is in them. Tables are pyarrow's."""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxdd.data.splits import some
from jaxdd.errors import JaxddError

_IMAGE_COLUMNS = ("image", "images", "img", "pixels", "x")
_LABEL_COLUMNS = ("label", "labels", "class", "target", "cls", "y")


@dataclasses.dataclass(frozen=True)
class Table:
    """A file's table.

    Attributes:
      file: its path.
      content: of pyarrow, the columns that are asked for.
    """

    file: Path
    content: Any


@dataclasses.dataclass(frozen=True, eq=False)
class _Cell:
    """An encoded image in a row of a table."""

    file: Path
    row: int
    content: Any  # a pyarrow buffer, which may be mapped

    def open(self) -> BinaryIO:
        return io.BytesIO(self.content)

    @property
    def within(self) -> tuple[Path, int, int]:
        return self.file, self.row, len(self.content)

    def __str__(self) -> str:
        return f"{self.file}, row {self.row},"


def pyarrow(module: str = "pyarrow") -> Any:
    """The library, or a module of it; a sentence if it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise JaxddError("Parquet and Arrow files are read by pyarrow: pip install 'jaxdd[parquet]'") from error


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a table that are read.

    Attributes:
      image, label: their names.
      class_names: of the labels, where the schema has them.
    """

    image: str
    label: str
    class_names: list[str] | None

    @property
    def names(self) -> tuple[str, str]:
        return self.image, self.label

    @classmethod
    def of(cls, what: str, schema: Any) -> Columns:
        features = _features(schema)

        def typed(kind: str) -> list[str]:
            return [name for name, feature in features.items() if feature.get("_type") == kind and name in schema.names]

        image = _one(what, "images", typed("Image") or _named(schema, _IMAGE_COLUMNS), schema, _IMAGE_COLUMNS)
        label = _one(what, "labels", typed("ClassLabel") or _named(schema, _LABEL_COLUMNS), schema, _LABEL_COLUMNS)
        names = features.get(label, {}).get("names")
        return cls(image, label, names if isinstance(names, list) and names else None)


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What `datasets` has written of each column into a schema."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _named(schema: Any, known: Sequence[str]) -> list[str]:
    return [name for name in schema.names if name.casefold() in known]


def _one(what: str, kind: str, found: list[str], schema: Any, known: Sequence[str]) -> str:
    if not found:
        raise JaxddError(
            f"{what} has no column of {kind} by a name that is known ({', '.join(known)}), only "
            f"{some(schema.names)}: rename the one that is meant"
        )
    if len(found) > 1:
        raise JaxddError(
            f"{what} has several columns of {kind}, {some(found)}, and an example has one: leave out all but one "
            "(table.drop_columns of pyarrow, remove_columns of datasets)"
        )
    return found[0]


def labels_in(table: Table, chosen: Columns) -> list[int | str]:
    """Numbers of classes, or their names."""
    pa = pyarrow()
    column = table.content.column(chosen.label)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        raise JaxddError(
            f"{table.file}: the labels in column {chosen.label!r} are lists; an image has one class here, so tasks "
            "with several labels an image cannot be distilled as they are"
        )
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise JaxddError(f"{table.file}: the labels in column {chosen.label!r} are of type {kind}, not whole numbers")
    _refuse_missing(table, column, "label")
    return column.to_pylist()


def _refuse_missing(table: Table, column: Any, what: str) -> None:
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise JaxddError(f"{table.file}, row {row}, has no {what}")


def is_encoded(table: Table, chosen: Columns) -> bool:
    """Whether images are files within a table, as bytes or as `datasets` has them, and not arrays."""
    pa = pyarrow()
    kind = table.content.schema.field(chosen.image).type
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def cells_in(table: Table, chosen: Columns) -> Iterator[_Cell]:
    """The encoded images of a table, in order."""
    column = table.content.column(chosen.image)
    if pyarrow().types.is_struct(column.type):
        column = pyarrow("pyarrow.compute").struct_field(column, "bytes")
    _refuse_missing(table, column, "bytes of an image: embed the files that it names")
    row = 0
    for chunk in column.chunks:
        for value in chunk:
            yield _Cell(table.file, row, value.as_buffer())
            row += 1


def arrays_in(table: Table, chosen: Columns) -> np.ndarray:
    """Images `(n, ..)` that are lists of numbers, however deep."""
    column, row, parts = table.content.column(chosen.image), 0, []
    for chunk in column.chunks:
        parts.append(_dense(table, chosen, chunk, row))
        row += len(chunk)
    return _square(table, chosen, same_size(str(table.file), parts))


def _dense(table: Table, chosen: Columns, values: Any, row: int) -> np.ndarray:
    """Some of the images; `row` is that of the first."""
    pa, compute = pyarrow(), pyarrow("pyarrow.compute")
    if hasattr(values, "to_numpy_ndarray"):  # tensors of one shape
        return values.to_numpy_ndarray()
    shape, outer = [len(values)], values.type
    while True:
        values = values.storage if isinstance(values, pa.ExtensionArray) else values
        if values.null_count:
            raise JaxddError(f"{table.file}: the images in column {chosen.image!r} have numbers that are missing")
        if not hasattr(values.type, "value_type") or pa.types.is_dictionary(values.type):
            break
        sizes = compute.list_value_length(values).to_numpy(zero_copy_only=False)
        if len(sizes) and (sizes != sizes[0]).any():
            at = row + int(np.argmax(sizes != sizes[0])) // max(1, math.prod(shape[1:]))
            raise JaxddError(
                f"{table.file}, row {at}, has an image of another size than those before it; all images must have one "
                "size, resize them first"
            )
        shape.append(int(sizes[0]) if len(sizes) else 0)
        values = values.flatten()
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise JaxddError(
            f"{table.file}: column {chosen.image!r} holds {outer}, and images are bytes of PNG or JPEG files, or lists "
            "of numbers"
        )
    return values.to_numpy(zero_copy_only=False).reshape(shape)


def same_size(what: str, parts: list[np.ndarray]) -> np.ndarray:
    """Images `(n, ..)` from several files or chunks; JaxddError if their shapes differ."""
    parts = [part for part in parts if len(part)]
    for part in parts[1:]:
        if part.shape[1:] != parts[0].shape[1:]:
            raise JaxddError(
                f"{what} has images of {'x'.join(map(str, parts[0].shape[1:]))} numbers and of "
                f"{'x'.join(map(str, part.shape[1:]))}; all images must have one size, resize them first"
            )
    return np.concatenate(parts) if parts else np.zeros((0, 0, 0, 1))


def _square(table: Table, chosen: Columns, images: np.ndarray) -> np.ndarray:
    """Images that are vectors, as grey squares; others do not say their sides."""
    if images.ndim != 2:
        return images
    side = math.isqrt(images.shape[1])
    if side * side != images.shape[1]:
        raise JaxddError(
            f"{table.file}: the images in column {chosen.image!r} are vectors of {images.shape[1]} numbers, which are "
            "no grey square and do not say their sides: reshape them, and give data.from_arrays (n, height, width, "
            "channels)"
        )
    return images.reshape(-1, side, side, 1)
