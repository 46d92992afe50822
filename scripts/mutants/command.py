"""The command line."""

from __future__ import annotations

import argparse
import pathlib
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence

from mutants.campaign import BaselineFailed, Campaign
from mutants.draw import check, drawn, generated, wanted
from mutants.judged import unjudged
from mutants.listed import LISTED, listed
from mutants.source import Mutant, Unappliable

ROOT = pathlib.Path(__file__).resolve().parents[2]


def chosen(arguments: argparse.Namespace, root: pathlib.Path) -> list[Mutant]:
    """What the flags ask for.

    Raises:
      Unappliable: if a listed mutant does not fit the tree, or nothing is asked for that exists.
    """
    by_hand = listed(root)
    if arguments.mutant:
        found = [mutant for mutant in (*by_hand, *generated(root)) if mutant.id in arguments.mutant]
        if lost := set(arguments.mutant) - {mutant.id for mutant in found}:
            raise Unappliable(f"no such mutant in this tree: {', '.join(sorted(lost))}; --list shows those drawn.")
        return found
    found = wanted(by_hand, arguments.only)
    if not arguments.listed:
        found += drawn(wanted(unjudged(generated(root)), arguments.only), arguments.sample, arguments.seed)
    if not found:
        raise Unappliable(f"no mutant of this tree is any of {', '.join(arguments.only)}.")
    return found


def shown(mutant: Mutant) -> str:
    """A mutant for people: where it is, and the lines before and after."""
    wrong = f"  ({LISTED[mutant.id].wrong})" if mutant.operator == "listed" else ""
    before, after = (textwrap.indent(textwrap.dedent(text), "  ") for text in (mutant.before, mutant.after))
    marked = [f"  -{line[1:]}" for line in before.splitlines()] + [f"  +{line[1:]}" for line in after.splitlines()]
    return "\n".join([f"{mutant.id}{wrong}", *marked])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mutants.py",
        description="Make jaxdd wrong in one place, run the tests of that file, and see whether they notice. "
        "docs/testing.md says more.",
    )
    parser.add_argument("--sample", type=int, default=100, metavar="N", help="mutants to draw beside those listed")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the draw")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the report here, after every mutant")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only mutants of this operator or file, with wildcards: drop_term, methods/dc.py, 'inner/*'; repeatable",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="mutants tried side by side")
    parser.add_argument("--list", action="store_true", help="show what is drawn and run nothing")
    parser.add_argument("--listed", action="store_true", help="only the listed mutants")
    parser.add_argument("--mutant", action="append", metavar="ID", help="this one, by the id in a report; repeatable")
    return parser


def main(argv: Sequence[str] | None = None, root: pathlib.Path = ROOT) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.sample < 0 or arguments.jobs < 1:
        parser.error("--sample must be at least 0 and --jobs at least 1")
    if arguments.json is not None and not arguments.json.absolute().parent.is_dir():
        parser.error(f"there is no folder for {arguments.json}")
    try:
        mutants = chosen(arguments, root)
        for mutant in mutants:
            check(mutant, root)
    except Unappliable as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    if arguments.list:
        print("\n".join(map(shown, mutants)))
        counts = Counter(mutant.operator for mutant in mutants)
        print(f"{len(mutants)} mutants: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
        return 0
    about = {"sample": arguments.sample, "seed": arguments.seed, "only": arguments.only}
    campaign = Campaign(root, mutants, arguments.jobs, _say, arguments.json, about)
    status = 0
    try:
        campaign.run()
    except (BaselineFailed, Unappliable) as error:
        print(f"mutants: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("mutants: interrupted.", file=sys.stderr)
        status = 130
    if status != 2:
        campaign.write()
    summary = campaign.summary()
    for survivor in summary["survivors"]:
        print("survived: " + shown(next(mutant for mutant in mutants if mutant.id == survivor["id"])))
    print(f"{summary['killed']} of {summary['mutants']} mutants killed.")
    return status


def _say(line: str) -> None:
    print(line, flush=True)
