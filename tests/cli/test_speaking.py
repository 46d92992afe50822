"""What goes on is said on standard error: a line that moves on a terminal, lines that stay in a file."""

import io
import os
import pty
import re
import sys
import time

import pytest
from rich.console import Console
from rich.table import Table

from jaxdd import _progress
from jaxdd.cli.common import show
from jaxdd.cli.speaking import Speaker


def work(seconds=0.0):
    with _progress.phase("outer"):
        for number in (1, 2):
            with _progress.phase(f"network {number} of 2"), _progress.phase("training"):
                time.sleep(seconds)
    _progress.say("resuming from step 3")


def speaker(terminal):
    stream = io.StringIO()
    return Speaker(Console(file=stream, force_terminal=terminal, width=40, color_system=None)), stream


def test_nobody_listens_and_nothing_is_said(capsys):
    work()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_what_goes_on_and_what_it_took(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    told, stream = speaker(True)
    with _progress.listening(told):
        work(0.3)
    assert told.draws
    *moving, outer, resuming, end = stream.getvalue().split("\n")
    assert "network 1 of 2: training" in "".join(moving)
    assert re.search(r"outer, \d+\.\d s$", outer) and (resuming, end) == ("resuming from step 3", "")


def test_a_line_never_passes_the_edge():
    told, _ = speaker(True)
    told._phases = [("evaluating random real, hard labels", time.perf_counter()), ("network 1 of 3", 0.0)]
    text = told._now()
    with told._console.capture() as capture:
        told._console.print(text)
    assert len(capture.get().rstrip("\n")) == 40 and capture.get()[1:].startswith(" 0 s, evaluating")


def test_a_file_gets_what_has_taken_long(monkeypatch):
    told, stream = speaker(False)
    with _progress.listening(told):
        work()
        monkeypatch.setattr("jaxdd.cli.speaking._LEAST", {False: 0.0})
        work()
    assert not told.draws
    assert stream.getvalue().splitlines() == ["resuming from step 3", "outer, 0.0 s", "resuming from step 3"]


def test_what_fails_leaves_no_line_and_clears_the_terminal():
    told, stream = speaker(True)
    with pytest.raises(KeyError), _progress.listening(told), _progress.phase("outer"), _progress.phase("inner"):
        raise KeyError
    assert told._live is None and "outer, " not in stream.getvalue().split("\n")[-1]
    assert _progress.listener() is None


def test_a_listener_may_hush():
    told, stream = speaker(False)
    with _progress.listening(told):
        _progress.hush()
        _progress.say("this")
    assert stream.getvalue() == ""


def test_tables_fold_on_a_terminal_only(monkeypatch):
    table = Table(*(f"a column with a long heading {n}" for n in range(9)))
    piped = io.StringIO()
    monkeypatch.setattr(sys, "stdout", piped)
    show(table)
    assert any("heading 8" in line and "heading 0" in line for line in piped.getvalue().splitlines())

    main, side = pty.openpty()
    with os.fdopen(side, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("TERM", "dumb")
        show(table)
    assert all(len(line.rstrip()) <= 80 for line in os.read(main, 2**16).decode().splitlines())
    os.close(main)
