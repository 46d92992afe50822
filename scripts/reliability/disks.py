"""Faults of the disk: it is full."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest.mock
from collections.abc import Iterator

from jaxdd.cli.main import main as command_line
from jaxdd.engine import checkpoints
from reliability.bench import FILE, Bench, refusal, require


def full_disk_before_a_save(bench: Bench) -> tuple[str, str]:
    """the disk is full when a checkpoint is due"""
    with small_disk(bench, 4) as disk:
        bench.run(disk / "run", 3)
        filler = fill(disk, leave=64 * 2**10)
        said = refusal(lambda: bench.run(disk / "run", 6), "the disk is full", "step 3")
        filler.unlink()
        require(bench.run(disk / "run", 6) == bench.run(bench.folder / "whole", 6), "other bits afterwards")
    return said.replace(str(bench.folder), "…"), "nothing: with space again, `--resume` gives the same bits"


def full_disk_within_a_save(bench: Bench) -> tuple[str, str]:
    """another program fills the disk while a checkpoint is being written"""
    enough = checkpoints.Checkpoints._require_free
    with small_disk(bench, 4) as disk:
        bench.run(disk / "run", 3)

        def then_full(saved: checkpoints.Checkpoints, needed: int) -> None:
            enough(saved, needed)
            fill(disk)

        with unittest.mock.patch.object(checkpoints.Checkpoints, "_require_free", then_full):
            said = refusal(lambda: bench.run(disk / "run", 6), "the disk is full", "step 3")
        (disk / "filler").unlink()
        require(bench.run(disk / "run", 6) == bench.run(bench.folder / "whole", 6), "other bits afterwards")
    return said.replace(str(bench.folder), "…"), "nothing: with space again, `--resume` gives the same bits"


def full_disk_at_the_distilled_file(bench: Bench) -> tuple[str, str]:
    """the disk is full when `distilled.safetensors` is written, once over an older one"""
    with small_disk(bench, 32) as disk:
        workdir, path = disk / "run", disk / "run" / FILE
        arguments = [*bench.command("kip", workdir, steps=2), "--resume", "--config.method.ipc=30"]
        require(command_line(arguments) == 0, "the run before failed")
        content, names = path.read_bytes(), set(os.listdir(workdir))
        for before in (content, None):
            filler = fill(disk, leave=len(content) // 2)
            status = command_line(arguments)
            require(status == 2, f"status {status}")
            require((path.read_bytes() if path.exists() else None) == before, "the file was touched")
            require(set(os.listdir(workdir)) <= names, "something was left behind")
            filler.unlink()
            path.unlink(missing_ok=True)
        require(command_line(arguments) == 0 and path.read_bytes() == content, "other bytes afterwards")
    return "one sentence and status 2; the older file is whole, or there is none", "nothing: `--resume` writes it"


@contextlib.contextmanager
def small_disk(bench: Bench, megabytes: int) -> Iterator[pathlib.Path]:
    """A disk that can be filled."""
    folder, libc = bench.folder / "disk", ctypes.CDLL(None, use_errno=True)
    folder.mkdir()
    require(may_mount(folder, megabytes), "not tried: this system lets nobody make a small disk")
    try:
        yield folder
    finally:
        libc.umount2(str(folder).encode(), 2)  # lazily
        folder.rmdir()


def may_mount(folder: pathlib.Path, megabytes: int = 1) -> bool:
    if not hasattr(ctypes.CDLL(None), "mount"):
        return False
    size = f"size={megabytes}m".encode()
    return ctypes.CDLL(None).mount(b"jaxdd", str(folder).encode(), b"tmpfs", 0, size) == 0


def fill(disk: pathlib.Path, leave: int = 0) -> pathlib.Path:
    filler = disk / "filler"
    filler.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - leave)))
    return filler


def in_a_namespace() -> None:
    """Start again where this process may mount a disk, if it may not here and Linux lets it."""
    with tempfile.TemporaryDirectory() as folder:
        if may_mount(pathlib.Path(folder)):
            ctypes.CDLL(None).umount2(folder.encode(), 2)
            return
    enter = ["unshare", "--user", "--map-root-user", "--mount"]
    works = shutil.which("unshare") and subprocess.run([*enter, "true"], capture_output=True).returncode == 0
    if works and "JAXDD_IN_NAMESPACE" not in os.environ:
        os.environ["JAXDD_IN_NAMESPACE"] = "1"
        os.execvp(enter[0], [*enter, sys.executable, *sys.argv])
