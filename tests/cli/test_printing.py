"""Printing never decides how a command ends."""

import io
import os
import sys

import pytest

from jaxdd.cli.main import main
from jaxdd.cli.printing import printing


class Full(io.StringIO):
    """A disk that is full."""

    def write(self, text=""):
        raise OSError(28, "No space left on device")

    flush = write


@pytest.mark.parametrize("line, status", [(["--version"], 0), (["nothing"], 2)])
def test_nobody_listens(line, status, monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, Full()):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        assert main(line) == status


def test_a_terminal_of_few_letters(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with printing():
        print("90.5 ± 1.6")
    assert stream.buffer.getvalue() == b"90.5 ? 1.6\n"


def test_who_reads_may_leave(monkeypatch):
    """`jaxdd list | head -1`: no error, and nothing is left that could still fail."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["--version"]) == 0
        stream.flush()
