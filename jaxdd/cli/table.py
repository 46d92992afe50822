"""`jaxdd table`."""

from __future__ import annotations

import json

from absl import flags

from jaxdd.cli.common import show, under
from jaxdd.errors import JaxddError

flags.disclaim_key_flags()
FORMATS = ("text", "csv", "markdown", "json")


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    flags.DEFINE_enum("format", "text", FORMATS, "what is printed", flag_values=values)


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Print runs as one table: a row for each config, mean ± std over its seeds.

    jaxdd table DIR [DIR ..] [--format=text|csv|markdown|json]
    """
    if not positional:
        raise JaxddError("give at least one directory of runs: jaxdd table DIR.")
    from jaxdd import report, workflows

    table = workflows.table(positional)
    if values.format == "json":
        print(json.dumps(table))
    elif values.format == "csv":
        print(report.runs.as_csv(table), end="")
    elif values.format == "markdown":
        print(report.runs.as_markdown(table), end="")
    else:
        show(report.tables.terminal(report.runs.content(table), report.runs.title(table)))
        under(report.runs.sentences(table))
