"""The tables of docs/benchmarks.md, from a report."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdd.errors import JaxddError

# Heading, field, and what makes a cell of it.
COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("", "name", "`{}`".format),
    ("ipc", "ipc", str),
    ("network", "model", lambda model: "" if model is None else f"`{model}`"),
    ("batch", "batch", "{:,}".format),
    ("compile, s", "compile_seconds", "{:.1f}".format),
    ("steps/s", "steps_per_second", "{:.3g}".format),
    ("CPU-s/step", "cpu_seconds", "{:.3g}".format),
    ("GFLOP/step", "flops", lambda flops: f"{flops / 1e9:.3g}"),
    ("GFLOP/s", "flops_per_second", lambda rate: f"{rate / 1e9:,.0f}"),
    ("matmul share", "matmul_share", "{:.0%}".format),
    ("by CPU-s", "cpu_share", "{:.0%}".format),
    ("peak, MiB", "peak_bytes", lambda size: f"{size / 2**20:,.0f}"),
    ("convolution", "convolution", str),
)


def markdown(report: dict[str, Any]) -> str:
    """The rows of the suites `all` and `choices` as a table, under a line about the machine."""
    rows = report["rows"]
    ceiling = np.median([row["matmul_flops_per_second"] for row in rows]) / 1e9
    about = (
        f"{report['devices']} × {report['device']}, {report['cpus']} CPU cores, JAX {report['jax']}, "
        f"{rows[0]['data']}; a float32 matrix product: {ceiling:,.0f} GFLOP/s (median over the rows)."
    )
    columns = [column for column in COLUMNS if any(column[1] in row for row in rows)]
    lines = ["| " + " | ".join(heading for heading, _, _ in columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(cell(row.get(field)) for _, field, cell in columns) + " |" for row in rows]
    return "\n".join([about, "", *lines])


def write_markdown(report: dict[str, Any], file: pathlib.Path) -> None:
    """Put the table of a suite where the file has its marks."""
    put(markdown(report), report["suite"], file)


def put(table: str, name: str, file: pathlib.Path) -> None:
    """Put a table where a file has its marks, `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises:
      JaxddError: if it has none.
    """
    start, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    text = file.read_text()
    before, found, rest = text.partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise JaxddError(f"{file} has no place for this table: {start.strip()} and {end.strip()}, each on a line.")
    file.write_text(f"{before}{start}{table}{end}{after}")
