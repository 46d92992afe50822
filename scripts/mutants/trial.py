"""A copy of the tree, one change in it, and what its tests say."""

from __future__ import annotations

import compileall
import contextlib
import os
import pathlib
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mutants.draw import check
from mutants.source import Mutant, Unappliable

# Of the tree, what tests need.
_COPIED = ("jaxdd", "tests", "configs", "scripts", "docs", "notebooks", "pyproject.toml", "README.md")
_NOT_COPIED = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "results", "images")
# One process, no files beside the tests, and an end at the first failure; with what the quick suite leaves to the long
# one since another method of the same body shows it.
_PYTEST = (
    *("-m", "pytest", "-m", "sibling or not endurance", "-x", "-q", "-n", "0"),
    *("-p", "no:cacheprovider", "--no-header", "--tb=line"),
)
_PASSED, _FAILED = 0, 1

TESTS, COLLECTION, CRASH, TIMEOUT, SURVIVED = "tests", "collection", "crash", "timeout", "survived"


class Outcome(NamedTuple):
    """What became of some tests."""

    how: str
    """"tests": one failed; "collection": they could not be imported; "crash": their process died; "timeout"; or
    "survived": all passed."""
    by: str
    """The first test that failed, or what else is known."""
    seconds: float
    output: str
    code: int

    @property
    def killed(self) -> bool:
        return self.how != SURVIVED


class Scratch:
    """A copy of a tree in which files may be changed, and in which tests import the copy and nothing else."""

    def __init__(self, root: pathlib.Path, folder: pathlib.Path):
        self.tree, self._temporary = folder / "tree", folder / "tmp"
        self.tree.mkdir(parents=True)
        for name in _COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, self.tree / name, ignore=_NOT_COPIED)
            elif (root / name).exists():
                shutil.copy(root / name, self.tree / name)
        # Compiled once. Python looks at the hashes, not at the times, of which two changes within a second have one.
        hashes = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(self.tree / "jaxdd", quiet=2, invalidation_mode=hashes)
        self._running: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self._stopped = False

    @property
    def _environment(self) -> dict[str, str]:
        before = os.environ.get("PYTHONPATH")
        cache = pathlib.Path(tempfile.gettempdir()) / "jaxdd-mutants-xla"
        return {
            # Programs that a mutant leaves as they are are compiled once for all of them.
            "JAXDD_TESTS_CACHE": str(cache),
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.tree), *([before] if before else [])]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def require_own_package(self) -> None:
        """Make sure that tests see the copy, wherever `jaxdd` is installed.

        Raises:
          Unappliable: if they would see another one.
        """
        asked = "import importlib.util; print(importlib.util.find_spec('jaxdd').origin)"
        command = [sys.executable, "-c", asked]
        said = subprocess.run(command, cwd=self.tree, env=self._environment, capture_output=True, text=True, check=True)
        found, expected = pathlib.Path(said.stdout.strip()), self.tree / "jaxdd" / "__init__.py"
        if found.resolve() != expected.resolve():
            raise Unappliable(f"tests would import {found} and not the copy in {self.tree}.")

    @contextlib.contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        path = self.tree / mutant.path
        before, after = path.read_bytes(), check(mutant, self.tree)
        try:
            path.write_bytes(after)
            yield
        finally:
            path.write_bytes(before)

    def run(self, files: Sequence[str], limit: float) -> Outcome:
        """Run test files in their order until one fails, for so many seconds at most."""
        command = [sys.executable, *_PYTEST, f"--basetemp={self._temporary}", *files]
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as output:
            with self._lock:
                if self._stopped:
                    raise KeyboardInterrupt
                process = self._running = subprocess.Popen(
                    command,
                    cwd=self.tree,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # so that the processes which tests start end with them
                )
            try:
                code, late = process.wait(limit), False
            except subprocess.TimeoutExpired:
                code, late = _FAILED, True
            finally:
                with self._lock:
                    self._end(process)
                    self._running = None
            if self._stopped:
                raise KeyboardInterrupt
            seconds = time.monotonic() - began
            output.seek(0)
            text = output.read()
        return Outcome(*_judged(code, late, text, limit), seconds, text, code)

    def stop(self) -> None:
        """End what runs, and let nothing else begin."""
        with self._lock:
            self._stopped = True
            if self._running is not None:
                self._end(self._running)

    def _end(self, process: subprocess.Popen) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _judged(code: int, late: bool, text: str, limit: float) -> tuple[str, str]:
    """How tests ended, and by what."""
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    by = failed[0] if failed else next((line for line in reversed(text.splitlines()) if line.strip()), "")
    if late:
        return TIMEOUT, f"not done after {limit:.0f} seconds"
    if code == _PASSED:
        return SURVIVED, ""
    if code == _FAILED:
        return TESTS, by
    return (CRASH if code < 0 else COLLECTION), by
