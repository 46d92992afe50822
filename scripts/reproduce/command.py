"""The command line."""

from __future__ import annotations

import argparse
import json
import pathlib

from reproduce.pages import RESULTS, markdown
from reproduce.running import run_row
from reproduce.tables import PAGES, ROWS


def main(about: str | None) -> int:
    """The command line; `about` is what --help says of it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", choices=[*ROWS, []])
    parser.add_argument("--list", action="store_true", help="list the rows and their commands")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=pathlib.Path, help="keep the runs here; a run that was cut short goes on")
    arguments = parser.parse_args()
    if arguments.list:
        for name, (_, command) in ROWS.items():
            print(f"{name:<32} {' '.join(command)}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in arguments.rows:
        row = run_row(name, arguments.seeds, arguments.keep)
        (RESULTS / f"{name}.json").write_text(json.dumps(row, indent=2) + "\n")
        on = PAGES[ROWS[name][0]]
        page = markdown(on)
        (RESULTS / f"{on}.md").write_text(page)
        print(page)
    return 0
