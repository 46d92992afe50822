"""The command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import resource
import sys
from typing import Any

from jaxdd import methods
from reliability.bench import Bench
from reliability.disks import in_a_namespace
from reliability.faults import FAULTS, inject
from reliability.kills import kills


def main(about: str | None) -> int:
    """The command line; `about` is what --help says of it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    killing = commands.add_parser("kills", help="SIGKILLs at random moments")
    killing.add_argument("methods", nargs="*", metavar="METHOD", choices=[*methods.available(), []])
    killing.add_argument("--count", type=int, default=200, help="over all methods")
    killing.add_argument("--jobs", type=int, default=1, help="methods at a time")
    breaking = commands.add_parser("faults", help="everything else")
    breaking.add_argument("faults", nargs="*", metavar="FAULT", choices=[*FAULTS, []])
    for each in (killing, breaking):
        each.add_argument("--seed", type=int, default=0)
        each.add_argument("--json", type=pathlib.Path, help="write the results here")
        each.add_argument("--markdown", action="store_true", help="print a table")
    chosen = parser.parse_args()
    if chosen.command == "kills":
        with Bench.open(chosen.seed) as bench:
            rows: list[Any] = kills(bench, chosen.methods or list(methods.available()), chosen.count, chosen.jobs)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        total = sum(row.kills for row in rows)
        print(f"{total} kills, {(used.ru_utime + used.ru_stime) / max(1, total):.1f} CPU-seconds a kill")
        good = all(row.identical and (row.resumes or not row.kills) for row in rows)
    else:
        in_a_namespace()
        rows = []
        with Bench.open(chosen.seed) as bench:
            for name in chosen.faults or FAULTS:
                rows.append(inject(bench, name))
                print(f"{'passed' if rows[-1].passed else 'FAILED'} {name}: {rows[-1].happened}", file=sys.stderr)
        good = all(row.passed for row in rows)
    if chosen.json:
        chosen.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")
    if chosen.markdown:
        print(markdown(rows))
    return 0 if good else 1


def markdown(rows: list[Any]) -> str:
    """A table of dataclasses."""
    shown = {True: "yes", False: "no"}
    names = [field.name for field in dataclasses.fields(rows[0])]
    lines = [names, ["---"] * len(names)]
    for row in rows:
        values = [getattr(row, name) for name in names]
        lines.append([shown[value] if isinstance(value, bool) else str(value).replace("|", "\\|") for value in values])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
