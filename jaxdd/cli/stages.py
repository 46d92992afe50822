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
    flags.DEFINE_bool("json", False, "print them as one JSON list on the last line", flag_values=values)


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """List what stages and decoded images have left in the cache (JAXDD_CACHE_DIR), or make room there.

    jaxdd stages [--prune=GIB]
    """
    from jaxdd import _cache
    from jaxdd._files import cache_folder
    from jaxdd.report import stages_table

    no_arguments(positional)
    gone = [] if values.prune is None else _cache.make_room(0, bound=values.prune * 2**30)
    for entry in gone:
        print(f"deleted {entry.directory}", file=sys.stderr)
    there = _cache.entries()
    show(stages_table(there, str(cache_folder())), to_stderr=values.json)
    if values.json:
        print(json.dumps([{**entry._asdict(), "directory": str(entry.directory)} for entry in there]))
