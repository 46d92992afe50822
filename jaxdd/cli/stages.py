"""`jaxdd stages`."""

from __future__ import annotations

import json
import sys

from absl import flags

from jaxdd.cli.common import no_arguments, show

flags.disclaim_key_flags()


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    flags.DEFINE_float(
        "prune", None, "delete those used longest ago, until so many GiB are left", lower_bound=0.0, flag_values=values
    )
    flags.DEFINE_bool("json", False, "print the stages as one JSON list on the last line", flag_values=values)


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """List what stages have left in the cache (JAXDD_CACHE_DIR), or make room there.

    jaxdd stages [--prune=GIB]
    """
    from jaxdd.engine import cache
    from jaxdd.report import stages_table

    no_arguments(positional)
    gone = [] if values.prune is None else cache.make_room(0, bound=values.prune * 2**30)
    for entry in gone:
        print(f"deleted {entry.directory}", file=sys.stderr)
    there = cache.entries()
    show(stages_table(there, str(cache.folder())), to_stderr=values.json)
    if values.json:
        print(json.dumps([{**entry._asdict(), "directory": str(entry.directory)} for entry in there]))
