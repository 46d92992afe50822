"""`jaxdd show`."""

from __future__ import annotations

from absl import flags

from jaxdd.cli.common import no_flags as define
from jaxdd.cli.common import one_argument, show

__all__ = ["define", "run"]


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Say what is in a distilled file.

    jaxdd show FILE
    """
    from jaxdd.report import describe
    from jaxdd.synthetic import DistilledDataset
    from jaxdd.workflows import distilled_file

    show(describe(DistilledDataset.read(distilled_file(one_argument(positional, "directory or distilled file")))))
