"""Errors made for people: one sentence that says what is wrong, where, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class JaxddError(ValueError):
    """Bad input from a person. The command line prints its one sentence and exits with status 2."""

    def __init__(self, sentence: object = ""):
        super().__init__(printable(str(sentence)))


class RunInterrupted(KeyboardInterrupt):
    """A run was asked to stop (SIGINT, SIGTERM); its state is saved and the message says how to go on."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum


def printable(text: str) -> str:
    """With escapes for what no file or terminal takes: lone surrogates, as in paths that are not UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def unknown(kind: str, name: object, known: Iterable[str], listed: Iterable[str] | None = None) -> JaxddError:
    """The error for an unknown `name`, with the nearest known one suggested.

    Args:
      listed: those that are named where none is near; by default all.
    """
    known = sorted(known)
    listed = known if listed is None else sorted(listed)
    by_case = {each.casefold(): each for each in known}  # of names that differ only in their case the last
    near = difflib.get_close_matches(str(name).casefold(), by_case, n=1, cutoff=0.5)
    hint = f"did you mean {by_case[near[0]]!r}?" if near else f"known: {', '.join(listed)}."
    return JaxddError(f"unknown {kind} {name!r}; {hint}")
