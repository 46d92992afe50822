"""What several commands do: count their arguments, share flags, show tables and results."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from jaxdd.errors import JaxddError

if TYPE_CHECKING:
    from jaxdd.workflows import Outcome

_AS_WIDE_AS_IT_IS = 10_000  # a file has no edge at which a table would have to be folded

# The flags of a command are listed under the module that asked for them all, `jaxdd.cli.main`.
flags.disclaim_key_flags()


def one_argument(positional: list[str], what: str) -> str:
    """The only positional argument; JaxddError if there is none or another."""
    if len(positional) != 1:
        raise JaxddError(f"give exactly one {what}, got {len(positional)}.")
    return positional[0]


def no_arguments(positional: list[str]) -> None:
    """JaxddError if there are positional arguments."""
    if positional:
        raise JaxddError(f"unexpected argument {positional[0]!r}; options are written --name=VALUE.")


def no_flags(values: flags.FlagValues) -> None:
    """Of a command without any."""
    del values


def evaluation_flags(values: flags.FlagValues) -> None:
    """Of the commands that measure."""
    flags.DEFINE_bool(
        "full_data",
        None,
        "also measure networks trained on all real data (slow once, then cached)",
        flag_values=values,
    )
    flags.DEFINE_string(
        "baselines",
        None,
        "rules by which real images are chosen that stand beside random ones: herding,facility,k_center,..",
        flag_values=values,
    )
    flags.DEFINE_bool("json", False, "print the result as one JSON object on the last line", flag_values=values)


def configured(values: flags.FlagValues) -> dict[str, Any]:
    """The config that was typed, with what the flags of `evaluation_flags` say in it."""
    config = values.config.to_dict()
    if values.baselines is not None and "evaluation" in config:
        config["evaluation"]["baselines"] = values.baselines
    return config


def show(renderable: Any, *, to_stderr: bool = False) -> None:
    """Print what rich can; where nobody looks at it, as wide as it is."""
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    Console(file=stream, width=None if stream.isatty() else _AS_WIDE_AS_IT_IS).print(renderable)


def under(sentences: Sequence[str], *, to_stderr: bool = False) -> None:
    """What stands under a table, a line each."""
    for sentence in sentences:
        print(sentence, file=sys.stderr if to_stderr else sys.stdout)


def finish(values: flags.FlagValues, outcome: Outcome, title: str, *, classes: bool = False) -> None:
    """Show a comparison, and with --json the result with its record.

    Args:
      classes: show what is known of these, too; of a run that is in its `results.json`.
    """
    from jaxdd.report import classes_table, comparison_table

    if outcome.rows:
        show(comparison_table(outcome.rows, title), to_stderr=values.json)
        if classes:
            show(classes_table(outcome.rows), to_stderr=values.json)
    if values.json:
        ours = outcome.rows[0] if classes and outcome.rows else {}
        more = {"by_class": ours["by_class"]} if "by_class" in ours else {}
        more |= {} if outcome.architectures is None else {"architectures": outcome.architectures}
        print(json.dumps({**outcome.result, **more, "record": outcome.record}))
