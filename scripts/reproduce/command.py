"""The command line."""

from __future__ import annotations

import argparse
import json
import pathlib

from reproduce.pages import RESULTS, markdown
from reproduce.running import run_row
from reproduce.tables import PAGES, ROWS
from reproduce.zeroq import ROWS as OF_ZEROQ
from reproduce.zeroq import measured


def main(about: str | None) -> int:
    """The command line; `about` is what --help says of it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", choices=[*ROWS, *OF_ZEROQ, []])
    parser.add_argument("--list", action="store_true", help="list the rows and their commands")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=pathlib.Path, help="keep the runs here; a run that was cut short goes on")
    parser.add_argument("--json", action="store_true", help="print a row as one JSON object on the last line")
    arguments = parser.parse_args()
    if arguments.list:
        for name, (_, command) in ROWS.items():
            print(f"{name:<32} {' '.join(command)}")
        for name, model in OF_ZEROQ.items():
            print(f"{name:<32} jaxdd quantize cifar10_{model}.npz --model={model} --data=cifar10 --json")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in arguments.rows:
        if name in OF_ZEROQ:
            row = measured(name)
            (RESULTS / f"{name}.json").write_text(json.dumps(row, indent=2) + "\n")
            print(json.dumps(row))
            continue
        row = run_row(name, arguments.seeds, arguments.keep)
        (RESULTS / f"{name}.json").write_text(json.dumps(row, indent=2) + "\n")
        on = PAGES[ROWS[name][0]]
        page = markdown(on)
        (RESULTS / f"{on}.md").write_text(page)
        print(json.dumps(row) if arguments.json else page)
    return 0
