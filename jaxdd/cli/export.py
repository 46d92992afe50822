"""`jaxdd export`."""

from __future__ import annotations

from absl import flags

from jaxdd.cli.common import one_argument
from jaxdd.errors import JaxddError

flags.disclaim_key_flags()


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    flags.DEFINE_string("npz", None, "write a NumPy file here", flag_values=values)
    flags.DEFINE_string("png", None, "write a folder of PNG files and labels.csv here", flag_values=values)


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Write a distilled file as .npz or as a folder of pictures.

    jaxdd export FILE [--npz=OUT.npz] [--png=FOLDER]
    """
    from jaxdd.report import to_npz, to_png_folder
    from jaxdd.synthetic import DistilledDataset
    from jaxdd.workflows import distilled_file

    if not (values.npz or values.png):
        raise JaxddError("say where to: --npz=OUT.npz, --png=FOLDER, or both.")
    dataset = DistilledDataset.read(distilled_file(one_argument(positional, "directory or distilled file")))
    if values.npz:
        to_npz(dataset, values.npz)
        print(values.npz)
    if values.png:
        clipped = to_png_folder(dataset, values.png)
        print(f"{values.png} ({clipped:.1%} of the pixels lay outside the range of a picture and were clipped)")
