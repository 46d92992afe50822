"""Faults of checkpoints: damaged, of another format, of another structure."""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import random
import shutil
from collections.abc import Callable, Iterator

from jaxdd.cli.main import main as command_line
from jaxdd.engine import checkpoints
from reliability.bench import Bench, refusal, require


def flipped_bit_in_a_checkpoint(bench: Bench) -> tuple[str, str]:
    """a bit is flipped in the newest checkpoint, in each of its files in turn"""
    return _each_file(bench, _flip)


def truncated_checkpoint(bench: Bench) -> tuple[str, str]:
    """each file of the newest checkpoint in turn is cut short"""
    return _each_file(bench, _truncate)


def deleted_file_of_a_checkpoint(bench: Bench) -> tuple[str, str]:
    """each file of the newest checkpoint in turn is deleted"""
    return _each_file(bench, _delete)


def every_checkpoint_damaged(bench: Bench) -> tuple[str, str]:
    """no checkpoint is whole"""
    workdir = bench.folder / "run"
    bench.run(workdir, 4)
    for path in (workdir / "checkpoints").glob("*/meta/metadata"):
        _truncate(path, bench.rng("all"))
    before = _tree(workdir)
    said = refusal(lambda: bench.run(workdir, 6), "no checkpoint in it is whole")
    require(_tree(workdir) == before, "something was changed")
    return said.replace(str(bench.folder), "…"), "the run, but nothing is overwritten: a copy put back goes on"


def newer_format(bench: Bench) -> tuple[str, str]:
    """a run, or one checkpoint, of a jaxdd newer than this one"""
    workdir = bench.folder / "run"
    bench.run(workdir, 4)
    before = _tree(workdir)
    for path in (workdir / "checkpoints" / "4" / "meta" / "metadata", workdir / "run.json"):
        old = path.read_text()
        record = json.loads(old) | {"format_version": 99}
        if record.pop("seal", None):
            record["seal"] = checkpoints._seal(record)
        path.write_text(json.dumps(record))
        said = refusal(lambda: bench.run(workdir, 6), "newer jaxdd", "update jaxdd")
        path.write_text(old)
        require(_tree(workdir) == before, "something was changed")
    return said.replace(str(bench.folder), "…"), "nothing: nothing is touched"


def state_of_another_structure(bench: Bench) -> tuple[str, str]:
    """checkpoints of a method whose state has another structure"""
    workdir, other = bench.folder / "run", bench.folder / "other"
    bench.run(workdir, 4)
    arguments = bench.command("kip", other, steps=4)
    require(command_line([*arguments, "--resume", "--config.method.ipc=2"]) == 0, "the other run failed")
    shutil.rmtree(workdir / "checkpoints")
    shutil.copytree(other / "checkpoints", workdir / "checkpoints")
    before = _tree(workdir)
    said = refusal(lambda: bench.run(workdir, 6), "another structure")
    require(_tree(workdir) == before, "something was changed")
    return said.replace(str(bench.folder), "…"), "nothing: nothing is touched"


def _each_file(bench: Bench, damage: Callable[[pathlib.Path, random.Random], None]) -> tuple[str, str]:
    """Damage each file of the newest checkpoint in turn and go on; what comes must be right to the bit."""
    kept, workdir, rng = bench.folder / "kept", bench.folder / "run", bench.rng(damage.__name__)
    bench.run(kept, 4)
    expected = bench.run(bench.folder / "whole", 6)
    files = [path for path in sorted((kept / "checkpoints" / "4").rglob("*")) if path.is_file()]
    said = []
    for path in files:
        shutil.copytree(kept, workdir)
        damage(workdir / path.relative_to(kept), rng)
        with warnings_of_jaxdd() as warnings:
            require(bench.run(workdir, 6) == expected, f"other bits after {path.name}")
        aside = workdir / "checkpoints" / "damaged-4"
        require(aside.exists() == bool(warnings), f"{path.name}: not said, or not set aside")
        said += warnings
        shutil.rmtree(workdir)
    require(bool(said), "not one file mattered")
    sentence = min(said, key=len).replace(str(workdir), "…")
    happened = f"{len(said)} of {len(files)} files: “{sentence}”; the state does not depend on the others"
    return happened, "nothing: the steps since the checkpoint before are done again, the same bits"


def _flip(path: pathlib.Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _truncate(path: pathlib.Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def _delete(path: pathlib.Path, rng: random.Random) -> None:
    path.unlink()


@contextlib.contextmanager
def warnings_of_jaxdd() -> Iterator[list[str]]:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    log = logging.getLogger("jaxdd")
    log.addHandler(handler)
    log.propagate = False
    try:
        yield said
    finally:
        log.removeHandler(handler)
        log.propagate = True


def _tree(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
