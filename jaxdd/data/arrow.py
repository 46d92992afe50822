"""Tables of images: Parquet files, and what `datasets` of Hugging Face saves to disk. Read by pyarrow alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jaxdd.data.columns import Columns, Table, arrays_in, cells_in, is_encoded, labels_in, pyarrow, same_size
from jaxdd.data.decoded import pictures_of
from jaxdd.data.splits import UNNAMED, arguments_of, files_by_split, known, name_of, numbered
from jaxdd.data.streaming import Reading, refusing
from jaxdd.errors import JaxddError

_STATE, _SPLITS, _INFO = "state.json", "dataset_dict.json", "dataset_info.json"


def is_saved(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` has made this folder."""
    return (folder / _STATE).is_file() or (folder / _SPLITS).is_file()


def read_parquet(path: Path, reading: Reading) -> dict[str, Any]:
    """A Parquet file, or a folder of them, as arguments of `from_arrays`.

    Words in the names of files, or else of their folders, say the splits: `train-00000-of-00002.parquet`,
    `test/0000.parquet`. Where none does, all files are one split.

    Raises:
      JaxddError: no column of images or of labels, or several; names that say a split in some places only; images of
        different sizes; pyarrow is not there.
    """
    files = files_by_split(path, ".parquet")
    pq = pyarrow("pyarrow.parquet")
    with refusing(f"{path} is not readable as Parquet"):
        chosen = Columns.of(str(path), pq.read_schema(next(iter(files.values()))[0]))
        tables = {
            split: [_table(file, pq.ParquetFile(file).read(columns=list(chosen.names)), chosen) for file in of_split]
            for split, of_split in files.items()
        }
        return {"name": name_of(path), **_source(str(path), tables, chosen, reading)}


def read_saved(folder: Path, reading: Reading) -> dict[str, Any]:
    """A folder that `datasets` has saved, as arguments of `from_arrays`; its files are mapped."""
    with refusing(f"{folder} cannot be read as what datasets.Dataset.save_to_disk leaves"):
        splits = {UNNAMED: folder}
        if (folder / _SPLITS).is_file():
            names = known(str(folder), _json(folder / _SPLITS)["splits"])
            splits = {name: folder / Path(name).name for name in names}
        files = {name: _arrow_files(path) for name, path in splits.items()}
        first = next(iter(files))
        chosen = Columns.of(str(folder), _mapped(files[first][0]).schema)
        tables = {
            split: [_table(file, _mapped(file), chosen) for file in of_split] for split, of_split in files.items()
        }
        source = {"name": folder.resolve().name, **_source(str(folder), tables, chosen, reading)}
        license = _json(splits[first] / _INFO).get("license") if (splits[first] / _INFO).is_file() else None
        return source | ({"license": license} if isinstance(license, str) and license else {})


def _json(file: Path) -> dict[str, Any]:
    found = json.loads(file.read_text())
    if not isinstance(found, dict):
        raise JaxddError(f"{file} is not what datasets writes")
    return found


def _arrow_files(folder: Path) -> list[Path]:
    state = _json(folder / _STATE)
    if state.get("_indices_data_files"):
        raise JaxddError(f"{folder} holds an index of rows beside its rows: save dataset.flatten_indices() instead")
    return [folder / Path(each["filename"]).name for each in state["_data_files"]]


def _mapped(file: Path) -> Any:
    pa = pyarrow()
    source = pa.memory_map(str(file))
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:  # the other of Arrow's two layouts
        source.seek(0)
        return pa.ipc.open_file(source).read_all()


def _table(file: Path, content: Any, chosen: Columns) -> Table:
    content = content.select(list(chosen.names))
    content.validate(full=True)  # what is damaged must not be read out of bounds
    return Table(file, content)


def _source(what: str, tables: dict[str, list[Table]], chosen: Columns, reading: Reading) -> dict[str, Any]:
    """Arguments of `from_arrays` from the tables of each split."""
    labels = {split: [label for each in of for label in labels_in(each, chosen)] for split, of in tables.items()}
    numbers, class_names = numbered(what, labels)
    if is_encoded(next(iter(tables.values()))[0], chosen):
        cells = {split: [cell for each in of for cell in cells_in(each, chosen)] for split, of in tables.items()}
        pairs = {split: list(zip(cells[split], map(int, numbers[split]), strict=True)) for split in tables}
        found = pictures_of(Path(what).name, pairs, reading)
    else:
        found = {
            split: {"x": same_size(what, [arrays_in(table, chosen) for table in of_split]), "y": numbers[split]}
            for split, of_split in tables.items()
        }
    names = chosen.class_names or class_names
    return arguments_of(what, found) | ({"class_names": names} if names else {})
