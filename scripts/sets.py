#!/usr/bin/env python3
"""Makes the sets of `jaxdd.sets` anew, each by the command of its row, and prints the row as it should be.

    python scripts/sets.py [NAME ..]
    python scripts/sets.py NAME --command='jaxdd distill --config=kip --config.data.name=mnist --evaluate=kernel'

What a decoder renders images from is left out of the file, since the images are there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pathlib
import shlex
import sys
import tempfile

from jaxdd import evaluation, sets, workflows
from jaxdd._files import write_atomically
from jaxdd.cli.main import main as command_line
from jaxdd.sets.table import Row
from jaxdd.synthetic import DistilledDataset

AT_HAND = "mnist_5k"
FOLDER = pathlib.Path(sets.__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="these instead of all")
    parser.add_argument("--command", help="of a new set")
    arguments = parser.parse_args()
    for name in arguments.names or sets.SETS:
        command = arguments.command or sets.SETS[name].command
        with tempfile.TemporaryDirectory() as folder:
            line = shlex.split(command.removeprefix("jaxdd "))
            if status := command_line([*line, f"--workdir={folder}/run"]):
                return status
            row = shelve(name, command, pathlib.Path(folder) / "run", folder=FOLDER)
        print(f"    {name!r}: {row!r},")
    return 0


def shelve(name: str, command: str, run: pathlib.Path, *, folder: pathlib.Path) -> Row:
    """Put the set of a finished run into a folder, and say what its row is; `about` is to be written by hand."""
    found, result = (
        DistilledDataset.read(run / workflows.FILE),
        json.loads((run / workflows.RESULTS).read_text())["result"],
    )
    kept = {key: leaf for key, leaf in found.more.items() if not key.startswith("params.")}
    dataset = DistilledDataset(found.images, found.labels, found.transform, found.header, kept)
    write_atomically(folder / f"{name}.safetensors", dataset.to_bytes())
    networks = "accuracy_mean" in result
    about = sets.SETS[name].about if name in sets.SETS else ""
    measured = f"{result['networks']} × {result['model']}, {result['protocol']}" if networks else "its kernel"
    return Row(
        about=about,
        command=command,
        accuracy=round(result["accuracy_mean" if networks else "kernel_accuracy"], 4),
        measured=measured,
        license=found.header["data"]["license"],
        source_hash=found.header["data"]["source_hash"],
        sha256=hashlib.sha256(dataset.to_bytes()).hexdigest(),
        seen=seen(dataset),
    )


def seen(dataset: DistilledDataset) -> tuple[str, float] | None:
    """The accuracy of a set's kernel on data that are at hand, if it has one and they are of its kind."""
    real = workflows.Real.load(AT_HAND, dataset.transform, validation=0.0, seed=0, stream=False)
    distilled = dataset.distilled()
    predictor = evaluation.Predictor.of(dict(distilled.kernel or ()) or None, real.dataset.image_shape, 10)
    if predictor is None or not dataset.header["data"]["name"].startswith("mnist"):
        return None
    return AT_HAND, round(evaluation.kernel_accuracy(predictor, distilled, real.test.examples), 4)


if __name__ == "__main__":
    sys.exit(main())
