"""All mutants, one after the other or a few at a time, and the report of what survived."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import queue
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mutants.source import Mutant
from mutants.suite import tests_of
from mutants.trial import SURVIVED, Outcome, Scratch

# A mutant may take so many times as long as its tests did unchanged, and so many seconds more: it shares the machine.
_PATIENCE, _GRACE = 6.0, 60.0
_BASELINE_LIMIT = 7200.0  # against what never ends; a cold compile cache is slow
_NO_TESTS = 5


class BaselineFailed(Exception):
    """Tests that do not pass on the tree as it is would kill every mutant."""


@dataclasses.dataclass
class Campaign:
    """Mutants of a tree, and what became of those that were tried.

    Attributes:
      root: of the tree, which is only read.
      mutants: all that are to be tried.
      jobs: how many at a time.
      say: takes a line of progress.
      report: where the results are written after every mutant; None for nowhere.
      about: further entries of the report.
    """

    root: pathlib.Path
    mutants: Sequence[Mutant]
    jobs: int
    say: Callable[[str], None]
    report: pathlib.Path | None = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    outcomes: dict[str, Outcome] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """Of each test file on the tree as it is."""

    def run(self) -> None:
        """The tests unchanged, then every mutant.

        Raises:
          BaselineFailed: for the first test file that fails twice without any change.
          Unappliable: for a mutant that does not fit, or a copy that tests would not see.
        """
        with _scratches(self.root, self.jobs) as scratches:
            files = dict.fromkeys(
                file for mutant in self.mutants for file in tests_of(mutant.path, self.root, mutant.operator)
            )
            self._each(scratches, list(files), self._baseline)
            self._each(scratches, self.mutants, self._try)

    def _each(self, scratches: Sequence[Scratch], items: Sequence, work: Callable) -> None:
        """`work(scratch, item)` of all items; whatever it raises, or Ctrl-C, ends everything."""
        free: queue.SimpleQueue[Scratch] = queue.SimpleQueue()
        for scratch in scratches:
            free.put(scratch)

        def one(item: Any) -> None:
            scratch = free.get()
            try:
                work(scratch, item)
            finally:
                free.put(scratch)

        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(one, item) for item in items]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                for scratch in scratches:
                    scratch.stop()
                raise

    def _baseline(self, scratch: Scratch, file: str) -> None:
        outcome = scratch.run([file], _BASELINE_LIMIT)
        if outcome.killed and outcome.code != _NO_TESTS:  # once more: on a busy machine processes miss each other
            self.say(f"unchanged  {outcome.seconds:6.1f} s  {file}  failed ({outcome.by}), once more")
            outcome = scratch.run([file], _BASELINE_LIMIT)
        if outcome.killed and outcome.code != _NO_TESTS:
            last = "\n".join(outcome.output.splitlines()[-30:])
            raise BaselineFailed(f"{file} fails without any change ({outcome.how}: {outcome.by}):\n{last}")
        self.seconds[file] = outcome.seconds
        self.say(f"unchanged  {outcome.seconds:6.1f} s  {file}")

    def _try(self, scratch: Scratch, mutant: Mutant) -> None:
        files = tests_of(mutant.path, self.root, mutant.operator)
        limit = _GRACE + _PATIENCE * sum(self.seconds[file] for file in files)
        with scratch.changed(mutant):
            outcome = scratch.run(files, limit)
        self.outcomes[mutant.id] = outcome
        verdict = "survived" if not outcome.killed else "killed"
        count = f"[{len(self.outcomes):3d}/{len(self.mutants)}]"
        self.say(f"{count} {verdict:8s} {outcome.seconds:6.1f} s  {mutant.id}  {_killer(outcome)}".rstrip())
        self.write()

    def write(self) -> None:
        """Write the report, whole or not at all."""
        if self.report is None:
            return
        beside = self.report.with_name(f".{self.report.name}.part")
        beside.write_text(json.dumps(self.summary(), indent=2) + "\n")
        os.replace(beside, self.report)

    def summary(self) -> dict[str, Any]:
        """The report: `mutants` tried, how many were `killed`, and all `survivors`."""
        tried = [mutant for mutant in self.mutants if mutant.id in self.outcomes]
        survivors = [mutant for mutant in tried if not self.outcomes[mutant.id].killed]
        return {
            "mutants": len(tried),
            "killed": len(tried) - len(survivors),
            "survivors": [self._described(mutant) for mutant in survivors],
            **self.about,
            "planned": len(self.mutants),
            "drawn": self._counted(tried, lambda mutant: mutant.operator != "listed"),
            "listed": self._counted(tried, lambda mutant: mutant.operator == "listed"),
            "how": Counter(self.outcomes[mutant.id].how for mutant in tried),
            "by_room": self._grouped(tried, lambda mutant: mutant.room),
            "by_operator": self._grouped(tried, lambda mutant: mutant.operator),
            "all": [
                {"id": mutant.id, "how": outcome.how, "by": outcome.by, "seconds": round(outcome.seconds, 1)}
                for mutant in tried
                for outcome in [self.outcomes[mutant.id]]
            ],
        }

    def _described(self, mutant: Mutant) -> dict[str, Any]:
        return {
            "id": mutant.id,
            "file": mutant.path,
            "line": mutant.line,
            "operator": mutant.operator,
            "before": mutant.before,
            "after": mutant.after,
            "tests": list(tests_of(mutant.path, self.root, mutant.operator)),
        }

    def _counted(self, tried: Sequence[Mutant], of: Callable[[Mutant], bool]) -> dict[str, int]:
        chosen = [mutant for mutant in tried if of(mutant)]
        return {"mutants": len(chosen), "killed": sum(self.outcomes[mutant.id].killed for mutant in chosen)}

    def _grouped(self, tried: Sequence[Mutant], key: Callable[[Mutant], str]) -> dict[str, dict[str, int]]:
        groups = sorted({key(mutant) for mutant in tried})
        return {group: self._counted(tried, lambda mutant, group=group: key(mutant) == group) for group in groups}


def _killer(outcome: Outcome) -> str:
    if outcome.how == SURVIVED:
        return ""
    return outcome.by if outcome.how == "tests" else f"({outcome.how}) {outcome.by}"


@contextmanager
def _scratches(root: pathlib.Path, jobs: int) -> Iterator[list[Scratch]]:
    with tempfile.TemporaryDirectory(prefix="jaxdd-mutants-") as folder:
        scratches = [Scratch(root, pathlib.Path(folder) / str(k)) for k in range(jobs)]
        scratches[0].require_own_package()
        yield scratches
