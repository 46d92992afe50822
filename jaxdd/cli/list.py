"""`jaxdd list`."""

from __future__ import annotations

from absl import flags

from jaxdd.cli import config as configs
from jaxdd.cli.common import no_arguments, show

flags.disclaim_key_flags()


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    flags.DEFINE_bool("methods", False, "only the names of the methods, one a line", flag_values=values)


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """List methods, data sets, distilled sets, models, protocols and configs."""
    if values.methods:
        from jaxdd import methods

        no_arguments(positional)
        print("\n".join(methods.available()))
        return
    from rich.table import Table
    from rich.text import Text

    from jaxdd import data, evaluation, methods, models, sets

    no_arguments(positional)
    known = {
        "methods": methods.available(),
        "data sets": data.available(),
        "sets": {f"sets:{name}": about for name, about in sets.available().items()},
        "models": models.available(),
        "protocols": evaluation.protocols.available(),
        "configs": {name: configs.describe(path) for name, path in configs.shipped().items()},
    }
    for title, entries in known.items():
        table = Table("name", "what", title=title, title_justify="left", box=None, pad_edge=False)
        for name, text in entries.items():
            table.add_row(Text(name), Text(text))
        show(table)
        print()
