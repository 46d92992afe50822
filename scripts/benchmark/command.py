"""The command line."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

import jax
from beside_pytorch.convolutions import convolutions
from beside_pytorch.decoupled import decoupled
from beside_pytorch.inner_loops import inner_loops
from beside_pytorch.matching import matching
from beside_pytorch.peer import has_torch
from beside_pytorch.trajectories import trajectories
from measuring import Row, Suite

from benchmark.every_method import choices, every_method
from benchmark.kernel_methods import features, kernels
from benchmark.selection import selection
from benchmark.tables import write_markdown
from jaxdd import engine
from jaxdd.errors import unknown

# Each with how often it repeats, of the first two for how many seconds.
SUITES: dict[str, tuple[Callable[..., Suite], int]] = {
    "all": (every_method, 8),
    "choices": (choices, 4),
    "conv": (convolutions, 20),
    "decoupled": (decoupled, 3),
    "features": (features, 5),
    "inner": (inner_loops, 10),
    "kernels": (kernels, 20),
    "matching": (matching, 3),
    "selection": (selection, 3),
    "trajectories": (trajectories, 3),
}
SMALL = ("all", "choices")


def main(about: str | None) -> int:
    """The command line; `about` is what --help says of it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--suite", choices=sorted(SUITES))
    source.add_argument("--read", type=pathlib.Path, metavar="FILE", help="an earlier report instead, as --json wrote")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows here as well")
    parser.add_argument(
        "--markdown", type=pathlib.Path, metavar="FILE", help="put their table in this file (all, choices)"
    )
    parser.add_argument("--repeats", type=int, help="how often each is timed, of all and choices for how many seconds")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows of the suite")
    parser.add_argument("--smoke", action="store_true", help="tiny settings, two steps: does it run? (all, choices)")
    arguments = parser.parse_args()
    if (arguments.smoke or arguments.markdown) and arguments.suite not in (*SMALL, None):
        parser.error(f"--smoke and --markdown are for the suites {' and '.join(SMALL)}")
    if arguments.markdown and not arguments.markdown.is_file():
        parser.error(f"{arguments.markdown} is no file: --markdown puts a table where an existing one has its marks")
    if arguments.read:
        report = json.loads(arguments.read.read_text())
    else:
        suite, repeats = SUITES[arguments.suite]
        if suite in (convolutions, decoupled, inner_loops, matching, selection, trajectories) and not has_torch():
            print('No peers: PyTorch is not installed (pip install "jaxdd[bench]").', file=sys.stderr)
        options = {"smoke": True} if arguments.smoke else {}
        report = {
            "suite": arguments.suite,
            "backend": jax.default_backend(),
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "cpus": os.cpu_count(),
            "jax": jax.__version__,
            "rows": measured(suite(arguments.repeats or repeats, **options), arguments.rows),
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.markdown:
        write_markdown(report, arguments.markdown)
    return 0


def measured(suite: Suite, names: list[str] | None) -> list[Row]:
    """The rows, each printed as soon as it is there."""
    rows = []
    with engine.one_blas_thread():  # as in a run
        for row in wanted(suite, names):
            rows.append(row)
            print("  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
    return rows


def wanted(suite: Suite, names: list[str] | None) -> Iterator[Row]:
    """The rows of a suite, or those of these names.

    Raises:
      JaxddError: for a name that is none of them.
    """
    rows = dict(suite)
    for name in names or ():
        if name not in rows:
            raise unknown("row", name, rows)
    for name in names or rows:
        yield rows[name]()
