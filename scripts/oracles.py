#!/usr/bin/env python3
"""What matching methods minimise, ours against the authors' own PyTorch code: the figures of docs/matching.md.

    python scripts/oracles.py --json rows.json
    python scripts/oracles.py --file matching.npz --json rows.json

A file holds inputs, and for each method the loss and the image gradient that the authors' code gives for them, summed
over classes: a ConvNet-3 of width 8 on 32x32x3 images of ten classes, without augmentation. Ours are those of the
methods' own `objective`s with their default weights. Both are printed as relative differences, |ours - theirs| /
|theirs|, and --json writes them as a list of rows `name`, `loss`, `gradient`.

The default, tests/oracles/matching.npz, is a cut of such a file: all inputs and losses, and of each gradient the same
tenth of its entries, a random choice that is kept in the cut. `--file WHOLE --cut FILE` makes it.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import pathlib
import sys
import zipfile
import zlib

import jax
import numpy as np

from jaxdd import models
from jaxdd._files import disk_errors, write_atomically
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.methods import CAFE, DC, DM, IDC, NCFM, Classes, DataDAM
from jaxdd.methods.match._matching import Match, see_real
from jaxdd.methods.match.cafe import objective as cafe
from jaxdd.methods.match.datadam import objective as datadam
from jaxdd.methods.match.dc import objective as dc
from jaxdd.methods.match.dm import objective as dm
from jaxdd.methods.match.idc import objective as idc
from jaxdd.methods.match.ncfm import objectives as ncfm
from jaxdd.types import Array, NetworkState, PyTree, leaves_by_path

CUT = pathlib.Path(__file__).resolve().parents[1] / "tests" / "oracles" / "matching.npz"
NAMES = ("dc", "dm", "datadam_exponent_1", "datadam_exponent_4", "cafe", "idc_mse", "idc_l1", "ncfm")
IMAGES = (10, 2, 32, 32, 3)
NETWORK = models.build("convnet(width=8)", IMAGES[2:], IMAGES[0])
# So that all methods share one trace of it.
NETWORK = NETWORK._replace(**{f: jax.jit(getattr(NETWORK, f), static_argnames="mode") for f in ("apply", "layers")})

# Of a program that runs once, and small arrays: optimising it would take longer than it does.
ONCE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

Arrays = dict[str, np.ndarray]


def objectives(frequencies: Array) -> dict[str, Match]:
    """What each method minimises, by name; NCFM at these frequencies."""
    plain = {"augmentation": "none"}
    return {
        "dc": dc(DC(**plain)),
        "dm": dm(DM(**plain)),
        "datadam_exponent_1": datadam(DataDAM(**plain, exponent=1.0)),
        "datadam_exponent_4": datadam(DataDAM(**plain, exponent=4.0)),
        "cafe": cafe(CAFE(**plain)),
        "idc_mse": idc(IDC(**plain, distance="mse")),
        "idc_l1": idc(IDC(**plain, distance="l1")),
        "ncfm": _of_all_classes(NCFM(**plain, frequencies=len(frequencies)), frequencies),
    }


def _of_all_classes(config: NCFM, frequencies: Array) -> Match:
    """Both losses of NCFM, summed over classes, at networks `(between, trained)`."""
    match, calibrate = ncfm(config, lambda key, shape: frequencies)

    def whole(network, starts, classes, key):
        between, trained = starts
        drawn = jax.vmap(lambda key: augmentation.named("none").draw(key, 1))(
            jax.random.split(key, len(classes.images))
        )
        real = see_real(config, match.see, network, between, classes.real, drawn, None)

        def one(of_class):
            label, images, theirs = of_class
            return match(network, between, theirs, images, frequencies) + calibrate(network, trained, images, label)

        def loss(images):
            return jax.lax.map(one, (np.arange(len(images)), images, real)).sum()

        return jax.value_and_grad(loss)(classes.images)

    return whole


@functools.partial(jax.jit, compiler_options=ONCE)
def ours(inputs: PyTree) -> dict[str, tuple[Array, Array]]:
    """The loss of each method and its gradient at the synthetic images; one program, since they share most of it.

    Args:
      inputs: the arrays of a file but for losses and gradients.
    """
    between, trained = (NetworkState(_nested(inputs, network), {}) for network in ("theta", "theta_final"))
    classes, key = Classes(inputs["synthetic"], inputs["real"]), jax.random.key(0)
    return {
        name: match(NETWORK, (between, trained) if name == "ncfm" else between, classes, key)
        for name, match in objectives(inputs["frequencies"]).items()
    }


def differences(arrays: Arrays) -> list[dict[str, str | float]]:
    """Relative differences between ours and theirs, both in float64, a row for each method."""
    with jax.enable_x64(True):
        found = ours({key: np.asarray(arrays[key], np.float64) for key in _inputs()})
    entries = arrays.get("entries", slice(None))
    return [
        {
            "name": name,
            "loss": _relative(np.asarray(found[name][0]), arrays[f"{name}/loss"]),
            "gradient": _relative(np.ravel(found[name][1])[entries], arrays[f"{name}/gradient"].ravel()),
        }
        for name in NAMES
    ]


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def _nested(inputs: PyTree, network: str) -> PyTree:
    theta: PyTree = {}
    for key, leaf in inputs.items():
        if key.startswith(f"{network}/"):
            _, layer, parameter = key.split("/")
            theta.setdefault(layer, {})[parameter] = leaf
    return theta


def _inputs() -> dict[str, tuple[int, ...]]:
    """Names and shapes."""
    theta = leaves_by_path(jax.eval_shape(NETWORK.init, jax.random.key(0))[0])
    return {
        "real": (10, 8, 32, 32, 3),
        "synthetic": IMAGES,
        "frequencies": (256, theta["head/kernel"].shape[0]),
        **{f"{network}/{path}": leaf.shape for network in ("theta", "theta_final") for path, leaf in theta.items()},
    }


def read(file: pathlib.Path) -> Arrays:
    """The arrays of a whole file, or those and the `entries` of a cut.

    Raises:
      JaxddError: if it is neither.
    """
    try:
        with disk_errors(file), np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
    except JaxddError:
        raise
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise JaxddError(f"{file} is no .npz file of arrays, or a broken one.") from error
    entries, size = arrays.get("entries"), int(np.prod(IMAGES))
    if entries is not None and not (
        entries.ndim == 1 and entries.dtype.kind in "iu" and len(entries) and 0 <= entries.min() <= entries.max() < size
    ):
        raise JaxddError(f"{file}: entries must be a list of places in a gradient of {size} entries.")
    shapes = _inputs()
    for name in NAMES:
        shapes |= {f"{name}/loss": (), f"{name}/gradient": IMAGES if entries is None else entries.shape}
    for key, shape in shapes.items():
        found = arrays.get(key)
        if found is None or found.shape != shape or found.dtype.kind != "f" or not np.isfinite(found).all():
            what = "is missing" if found is None else f"is {found.dtype} {found.shape}"
            raise JaxddError(
                f"{file} is no such file and no cut of one: {key} must be finite floats {shape}, it {what}."
            )
    return {key: arrays[key] for key in (*shapes, "entries") if key in arrays}


def cut(arrays: Arrays) -> Arrays:
    """Of each gradient of a whole file the same tenth, drawn once with seed 0; all else whole."""
    if "entries" in arrays:
        raise JaxddError("this file is a cut already.")
    size = int(np.prod(IMAGES))
    entries = np.sort(np.random.default_rng(0).choice(size, size // 10, replace=False)).astype(np.int32)
    return {
        "entries": entries,
        **{key: leaf.ravel()[entries] if key.endswith("/gradient") else leaf for key, leaf in arrays.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=pathlib.Path, metavar="NPZ", default=CUT, help="a whole file or a cut")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--cut", type=pathlib.Path, metavar="FILE", help="write a cut of --file here, and compare it")
    arguments = parser.parse_args()
    try:
        arrays = read(arguments.file)
        if arguments.cut:
            arrays, stored = cut(arrays), io.BytesIO()
            np.savez_compressed(stored, **arrays)
            write_atomically(arguments.cut, stored.getvalue())
        rows = differences(arrays)
        for row in rows:
            print("{name:<20} loss {loss:.1e}  gradient {gradient:.1e}".format(**row))
        if arguments.json:
            write_atomically(arguments.json, json.dumps(rows, indent=2) + "\n")
    except JaxddError as error:
        print(f"oracles: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
