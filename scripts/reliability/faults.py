"""All faults, in the order of the table in docs/reliability.md, and how one is injected."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator

from jaxdd.errors import JaxddError
from reliability import changes, checkpoints, disks, signals, streams
from reliability.bench import Bench, Lost

Fault = Callable[[Bench], tuple[str, str]]
"""Injects one; returns what happened and what was lost. Its docstring says what is injected."""

FAULTS: dict[str, Fault] = {
    function.__name__: function
    for function in (
        disks.full_disk_before_a_save,
        disks.full_disk_within_a_save,
        disks.full_disk_at_the_distilled_file,
        checkpoints.flipped_bit_in_a_checkpoint,
        checkpoints.truncated_checkpoint,
        checkpoints.deleted_file_of_a_checkpoint,
        checkpoints.every_checkpoint_damaged,
        checkpoints.newer_format,
        checkpoints.state_of_another_structure,
        signals.sigterm,
        signals.sigterm_during_compilation,
        signals.killed_while_writing,
        streams.vanished_data,
        streams.truncated_data,
        streams.nan_in_the_data,
        changes.changed_distilled_file,
        changes.changed_data_file,
        changes.changed_run_json,
        changes.changed_log,
    )
}


@dataclasses.dataclass(frozen=True)
class Broken:
    """What a fault did.

    Attributes:
      fault: what was injected.
      happened, lost: in words.
      passed: whether nothing was lost but what is said.
      name: by which `faults` injects it.
    """

    fault: str
    happened: str
    lost: str
    passed: bool
    name: str


def inject(bench: Bench, name: str) -> Broken:
    function = FAULTS[name]
    what = (function.__doc__ or "").strip()
    with quiet():
        try:
            happened, lost = function(bench.within(name))
        except (Lost, JaxddError) as error:
            return Broken(what, str(error), "see what happened", False, name)
    return Broken(what, happened, lost, True, name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the command line prints in this process, and what orbax logs, off the terminal."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield
