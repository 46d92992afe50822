"""Which mutants of a tree are tried."""

from __future__ import annotations

import ast
import fnmatch
import pathlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from mutants.operators import mutants_of
from mutants.source import Mutant, Unappliable

ROOMS = ("methods", "inner", "training", "synthetic", "evaluation", "engine", "data", "losses", "kernels")
"""Packages with mutants. What they compute is what a distilled set depends on; others only ask for it and show it."""


def generated(root: pathlib.Path) -> list[Mutant]:
    """All that the operators make of a tree, by room, file and place."""
    found = []
    for room in ROOMS:
        for file in sorted((root / "jaxdd" / room).rglob("*.py")):
            if file.name != "__init__.py":  # these only import
                found += mutants_of(file.relative_to(root).as_posix(), file.read_bytes())
    return found


def wanted(mutants: Sequence[Mutant], only: Sequence[str]) -> list[Mutant]:
    """Those whose operator, identity or path (from within `jaxdd` or the tree) fits one of some patterns, or all."""

    def fits(mutant: Mutant) -> bool:
        seen = mutant.operator, mutant.id, mutant.path, mutant.path.removeprefix("jaxdd/")
        return any(fnmatch.fnmatchcase(name, pattern) for name in seen for pattern in only)

    return [mutant for mutant in mutants if not only or fits(mutant)]


def drawn(mutants: Sequence[Mutant], sample: int, seed: int) -> list[Mutant]:
    """So many different mutants, the same ones for the same tree and seed; a smaller sample is the start of a larger.

    Some operators find fifty places where another finds one, and some packages are ten times as long as others. So
    rooms take turns, in an order drawn anew for each round. A room's turn goes to the operator that was drawn least so
    far, of all that still have mutants in this room (of equals to any), then to any of the files in which it has some,
    then to any of its mutants there.
    """
    rng = random.Random(seed)
    left: dict[str, dict[str, dict[str, list[Mutant]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for mutant in mutants:
        left[mutant.room][mutant.operator][mutant.path].append(mutant)
    times: Counter[str] = Counter()
    found: list[Mutant] = []
    while left and len(found) < sample:
        rooms = list(left)
        rng.shuffle(rooms)
        for room in rooms[: sample - len(found)]:
            operators = left[room]
            fewest = min(times[name] for name in operators)
            name = rng.choice([name for name in operators if times[name] == fewest])
            path = rng.choice(list(operators[name]))
            places = operators[name][path]
            found.append(places.pop(rng.randrange(len(places))))
            times[name] += 1
            if not places:
                del operators[name][path]
            if not operators[name]:
                del operators[name]
            if not operators:
                del left[room]
    return found


def check(mutant: Mutant, root: pathlib.Path) -> bytes:
    """The mutant's file with its change.

    Raises:
      Unappliable: if that is no Python, or the same program.
    """
    content = (root / mutant.path).read_bytes()
    changed = mutant.applied(content)
    try:
        compile(changed, mutant.path, "exec", dont_inherit=True)
        same = ast.dump(ast.parse(changed)) == ast.dump(ast.parse(content))
    except SyntaxError as error:
        raise Unappliable(f"{mutant.id} is no Python: {error}.") from error
    if same:
        raise Unappliable(f"{mutant.id} changes nothing.")
    return changed
