"""`jaxdd push`."""

from __future__ import annotations

from absl import flags

from jaxdd.cli.common import one_argument
from jaxdd.errors import JaxddError

flags.disclaim_key_flags()


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    flags.DEFINE_string("to", None, "where to: hub:USER/NAME, a data set of the Hugging Face hub", flag_values=values)
    flags.DEFINE_bool("private", False, "if it is made: for its owner alone", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "only list what would go", flag_values=values)


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Publish a run's directory: the set, its data card, the report and Croissant metadata.

    jaxdd push DIR --to=hub:USER/NAME [--private] [--dry_run]
    """
    from jaxdd import workflows

    folder = one_argument(positional, "directory of a run")
    if not values.to:
        raise JaxddError("--to is missing: jaxdd push DIR --to=hub:USER/NAME.")
    pushed = workflows.push(folder, values.to, private=values.private, dry_run=values.dry_run)
    for name, size in pushed.files.items():
        print(f"{'made on the way' if size is None else f'{size:,} bytes':>16}  {name}")
    if pushed.stays:
        print(f"{'stays':>16}  {', '.join(pushed.stays)}")
    if pushed.url:
        print(pushed.url)
