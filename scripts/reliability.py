#!/usr/bin/env python3
"""Break runs on purpose and say what was lost: the figures of docs/reliability.md.

    python scripts/reliability.py kills [METHOD ..] [--count 200] [--jobs 2]
    python scripts/reliability.py faults [FAULT ..]

Both take --json FILE and --markdown, and end with status 1 if anything was lost that should not be. A kill is a SIGKILL
at a random moment; the run goes on with --resume, and what it ends in must be, byte for byte, that of a run never
killed. Faults that fill a disk make a small one of their own, for which Linux must allow tmpfs or user namespaces.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import ctypes
import dataclasses
import json
import logging
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import jaxdd
from jaxdd import data, methods
from jaxdd._files import digest
from jaxdd.cli import config as configs
from jaxdd.cli.main import main as command_line
from jaxdd.engine import checkpoints
from jaxdd.engine.log import read_metrics
from jaxdd.errors import JaxddError
from jaxdd.report import curves_svg
from jaxdd.synthetic import DistilledDataset
from jaxdd.workflows import Real

FILE = "distilled.safetensors"
ROOT = pathlib.Path(jaxdd.__file__).parents[1]


def smoke(method: str) -> dict[str, Any]:
    """A method's name and hyper-parameters in its smallest example."""
    return configs.read(method, "smoke")["method"]


class Lost(Exception):
    """Something that a fault must not cost."""


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Lost(otherwise)


def refusal(function: Callable[[], Any], *words: str) -> str:
    """The one sentence with which jaxdd refuses; it must hold these words."""
    try:
        function()
    except JaxddError as error:
        require("\n" not in str(error), f"not one sentence: {error}")
        require(all(word in str(error) for word in words), f"not what was expected: {error}")
        return str(error)
    raise Lost("nothing was noticed")


@dataclasses.dataclass(frozen=True)
class Bench:
    """560 real digits, and a folder for runs on them.

    Attributes:
      data: the digits, an `.npz` file.
      folder: where everything else goes.
      seed: of everything random here.
    """

    data: pathlib.Path
    folder: pathlib.Path
    seed: int

    @classmethod
    @contextlib.contextmanager
    def open(cls, seed: int) -> Iterator[Bench]:
        with tempfile.TemporaryDirectory(prefix="jaxdd-reliability-") as root:
            for name, value in (
                ("compilation_cache_dir", f"{root}/xla"),
                ("persistent_cache_min_compile_time_secs", 0),
            ):
                jax.config.update(f"jax_{name}", value)
                os.environ[f"JAX_{name.upper()}"] = str(value)  # of the processes that are started
            path = pathlib.Path(root) / "digits.npz"
            few_digits(path)
            yield cls(path, pathlib.Path(root), seed)

    def within(self, name: str) -> Bench:
        """The same with an empty folder."""
        folder = self.folder / name
        folder.mkdir()
        return dataclasses.replace(self, folder=folder)

    def rng(self, *what: object) -> random.Random:
        return random.Random(f"{self.seed} {what}")

    def command(self, method: str, workdir: pathlib.Path, **run: Any) -> list[str]:
        """Arguments of `jaxdd` that distil with a tiny method; every step is logged and every chunk is saved."""
        options = {"steps": 40, "log_every": 1, "checkpoint_seconds": 0, **run}
        config = self.folder / f"{method}.py"
        fields = {"data": {"name": str(self.data)}, "method": smoke(method), "run": options}
        config.write_text(f"from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({fields!r})\n")
        return ["distill", f"--config={config}", f"--workdir={workdir}", "--evaluate=none"] + [
            f"--config.run.{name}={value}" for name, value in options.items()
        ]

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "jaxdd", *arguments, "--resume"],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, *arguments: str) -> None:
        process = self.start(*arguments)
        _, said = process.communicate()
        require(process.returncode == 0, said.strip())

    def run(self, workdir: pathlib.Path, steps: int, *, stream: pathlib.Path | None = None, **options: Any) -> str:
        """KIP in this process, resumed where it can be; a digest of the state that it ends in."""
        chosen = {"transform": "standardize", "zca_ridge": 0.1}
        real = Real.load(str(stream or self.data), chosen, validation=0.1, seed=0, stream=stream is not None)
        hyper = smoke("kip")
        result = jaxdd.run(
            real.method(hyper.pop("name"), hyper),
            real.stored,
            **{"log_every": 1, "checkpoint_seconds": 0, "progress": False, **options},
            steps=steps,
            workdir=workdir,
            resume=True,
        )
        return fingerprint(result.state)


def few_digits(path: pathlib.Path) -> None:
    """Write every eighth digit."""
    mnist, arrays = data.load("mnist_5k"), {}
    for name, split in (("train", mnist.train), ("test", mnist.test)):
        arrays |= {f"x_{name}": split.images[::8], f"y_{name}": split.labels[::8]}
    np.savez(path, allow_pickle=False, **arrays)


def fingerprint(state: Any) -> str:
    is_key = [jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state)]
    leaves = zip(jax.tree.leaves(state), is_key, strict=True)
    return digest(jax.random.key_data(leaf) if key else leaf for leaf, key in leaves)


# Kills.


@dataclasses.dataclass
class Kills:
    """What became of the kills of one method.

    Attributes:
      before: kills before the first checkpoint was whole.
      within: kills that left a half-written checkpoint.
      between: all others.
      runs, resumes: how often a run was begun, and how often one was gone on with.
      identical: whether every run ended in the bytes of the run that was not killed.
      problem: what went wrong, if anything did.
    """

    method: str
    before: int = 0
    within: int = 0
    between: int = 0
    runs: int = 0
    resumes: int = 0
    identical: bool = True
    problem: str = ""

    @property
    def kills(self) -> int:
        return self.before + self.within + self.between


def kill_method(bench: Bench, method: str, count: int) -> Kills:
    """Kill runs of a method `count` times in all, each at a random moment, and compare what they end in."""
    row, rng = Kills(method), bench.rng("kills", method)
    try:
        whole = bench.folder / method / "whole"
        bench.finish(*bench.command(method, whole, checkpoint_seconds=30))
        while row.kills < count or not row.runs:
            row.runs += 1
            workdir = bench.folder / method / str(row.runs)
            arguments = bench.command(method, workdir)
            while row.kills < count:
                row.resumes += (workdir / "run.json").exists()
                if not _kill(bench, arguments, workdir, row, rng):
                    break  # it was faster
            else:
                row.resumes += (workdir / "run.json").exists()
                bench.finish(*arguments)
            row.identical &= _ends(workdir) == _ends(whole)
            shutil.rmtree(workdir)
    except (Lost, JaxddError) as error:
        row.problem, row.identical = str(error), False
    return row


def _kill(bench: Bench, arguments: list[str], workdir: pathlib.Path, row: Kills, rng: random.Random) -> bool:
    """Whether a process was killed: one of four in its first six seconds, the others within a second of its steps."""
    log, saves = workdir / "metrics.jsonl", workdir / "checkpoints"
    at_start, delay = rng.random() < 0.25, rng.random()
    opened, half_written = _changed(log), _half_written(saves)
    process = bench.start(*arguments)
    began = time.monotonic()
    while not at_start and _changed(log) == opened and process.poll() is None and time.monotonic() - began < 300:
        time.sleep(0.005)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=6 * delay if at_start else delay)
    process.kill()
    _, said = process.communicate()
    if process.returncode != -signal.SIGKILL:
        require(process.returncode == 0, said.strip())
        return False
    if (workdir / FILE).exists():
        DistilledDataset.read(workdir / FILE)
    if _half_written(saves) - half_written:
        row.within += 1
    elif saves.exists() and any(path.name.isdigit() for path in saves.iterdir()):
        row.between += 1
    else:
        row.before += 1
    return True


def _changed(path: pathlib.Path) -> tuple[int, int] | None:
    """Differs once a run has written the file anew."""
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns
    return None


def _half_written(saves: pathlib.Path) -> set[str]:
    return {path.name for path in saves.glob("*.orbax-checkpoint-tmp*")}


def _ends(workdir: pathlib.Path) -> tuple[bytes, ...]:
    """The distilled file, the checksums of the last state, and the log of a finished run."""
    last = max((path for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()), key=lambda p: int(p.name))
    return tuple(path.read_bytes() for path in (workdir / FILE, last / "meta" / "metadata", workdir / "metrics.jsonl"))


def kills(bench: Bench, names: list[str], count: int, jobs: int) -> list[Kills]:
    shares = [count // len(names) + (index < count % len(names)) for index in range(len(names))]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        rows = []
        for row in pool.map(lambda name, share: kill_method(bench, name, share), names, shares):
            rows.append(row)
            print(dataclasses.asdict(row), file=sys.stderr)
    return rows


# Faults: each returns what happened and what was lost.

Fault = Callable[[Bench], tuple[str, str]]
FAULTS: dict[str, Fault] = {}


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


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


@fault
def full_disk_before_a_save(bench: Bench) -> tuple[str, str]:
    """the disk is full when a checkpoint is due"""
    with small_disk(bench, 4) as disk:
        bench.run(disk / "run", 3)
        filler = fill(disk, leave=64 * 2**10)
        said = refusal(lambda: bench.run(disk / "run", 6), "the disk is full", "step 3")
        filler.unlink()
        require(bench.run(disk / "run", 6) == bench.run(bench.folder / "whole", 6), "other bits afterwards")
    return said.replace(str(bench.folder), "…"), "nothing: with space again, `--resume` gives the same bits"


@fault
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


@fault
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


def _flip(path: pathlib.Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _truncate(path: pathlib.Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def _delete(path: pathlib.Path, rng: random.Random) -> None:
    path.unlink()


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


@fault
def flipped_bit_in_a_checkpoint(bench: Bench) -> tuple[str, str]:
    """a bit is flipped in the newest checkpoint, in each of its files in turn"""
    return _each_file(bench, _flip)


@fault
def truncated_checkpoint(bench: Bench) -> tuple[str, str]:
    """each file of the newest checkpoint in turn is cut short"""
    return _each_file(bench, _truncate)


@fault
def deleted_file_of_a_checkpoint(bench: Bench) -> tuple[str, str]:
    """each file of the newest checkpoint in turn is deleted"""
    return _each_file(bench, _delete)


@fault
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


@fault
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


@fault
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


def _tree(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@fault
def sigterm(bench: Bench) -> tuple[str, str]:
    """SIGTERM, and SIGKILL 10 seconds later"""
    workdir = bench.folder / "run"
    process = bench.start(*bench.command("dm", workdir, steps=10**6, checkpoint_seconds=1000))
    while not (workdir / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(2)
    said = _terminate(process)
    (step,) = (int(path.name) for path in (workdir / "checkpoints").iterdir())
    done = read_metrics(workdir / "metrics.jsonl")[-1]["step"]
    require(done == step, f"step {done} was done, step {step} is saved")
    bench.finish(*bench.command("dm", workdir, steps=step + 5))
    bench.finish(*bench.command("dm", bench.folder / "whole", steps=step + 5))
    require(_ends(workdir)[:2] == _ends(bench.folder / "whole")[:2], "other bits afterwards")
    return said.replace(str(bench.folder), "…"), "nothing, not one step"


def _terminate(process: subprocess.Popen) -> str:
    """What became of a process after SIGTERM."""
    process.terminate()
    began = time.monotonic()
    try:
        _, said = process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Lost("it took more than 10 seconds") from None
    seconds, sentence = time.monotonic() - began, said.strip().splitlines()[-1]
    require(process.returncode > 128 and sentence.startswith("jaxdd: "), f"status {process.returncode}: {said}")
    return f"status {process.returncode} after {seconds:.1f} s: “{sentence}”"


@fault
def sigterm_during_compilation(bench: Bench) -> tuple[str, str]:
    """SIGTERM while the step is being compiled"""
    workdir = bench.folder / "run"
    arguments = bench.command("rat_bptt", workdir, steps=5)
    process = bench.start(*arguments, JAX_ENABLE_COMPILATION_CACHE="false", JAX_LOG_COMPILES="1")
    assert process.stderr is not None
    for line in process.stderr:
        if "Compiling jit(chunk)" in line:
            break
    said = _terminate(process)
    require(not workdir.exists(), "it had begun")
    bench.finish(*arguments)
    return said, "nothing: no step had been done"


@fault
def killed_while_writing(bench: Bench) -> tuple[str, str]:
    """50 SIGKILLs while `distilled.safetensors` is being written over another one"""
    workdir, path, rng = bench.folder / "run", bench.folder / FILE, bench.rng("writing")
    contents = []
    for ipc in (20, 30):
        arguments = bench.command("kip", workdir / str(ipc), steps=1)
        require(command_line([*arguments, "--resume", f"--config.method.ipc={ipc}"]) == 0, "the run failed")
        contents.append(workdir / str(ipc) / FILE)
    program = (
        "import pathlib, sys; from jaxdd._files import write_atomically\n"
        "contents = [pathlib.Path(name).read_bytes() for name in sys.argv[2:]]; print(flush=True)\n"
        "while True: [write_atomically(sys.argv[1], content) for content in contents]\n"
    )
    command = [sys.executable, "-c", program, str(path), *map(str, contents)]
    whole, left = {each.read_bytes() for each in contents}, 0
    for _ in range(50):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.1 * rng.random())
            process.kill()
        require(not path.exists() or path.read_bytes() in whole, "half a file")
        left = len(list(bench.folder.glob(f".{FILE}.*")))
    happened = f"each time the old file or the new one, whole; {left} kills left a hidden file of the writing beside it"
    return happened, "nothing"


@fault
def vanished_data(bench: Bench) -> tuple[str, str]:
    """the data file vanishes during a streamed run"""
    return _spoilt_data(bench, pathlib.Path.unlink, "vanished")


@fault
def truncated_data(bench: Bench) -> tuple[str, str]:
    """the data file is cut short during a streamed run"""
    return _spoilt_data(bench, lambda path: os.truncate(path, path.stat().st_size // 2), "bytes")


@fault
def nan_in_the_data(bench: Bench) -> tuple[str, str]:
    """a pixel of every image becomes NaN during a streamed run"""

    def spoil(path: pathlib.Path) -> None:
        images = np.load(path, mmap_mode="r+")
        images[:, 3, 3] = np.nan
        images.flush()

    return _spoilt_data(bench, spoil, "NaN")


def _spoilt_data(bench: Bench, spoil: Callable[[pathlib.Path], None], word: str) -> tuple[str, str]:
    folder, workdir, steps = bench.folder / "digits", bench.folder / "run", 400
    folder.mkdir()
    for name, array in np.load(bench.data).items():
        np.save(folder / f"{name}.npy", np.float32(array) / 255 if name.startswith("x") else array)
    images = folder / "x_train.npy"
    content = images.read_bytes()
    expected = bench.run(bench.folder / "whole", steps, stream=folder, log_every=20)

    def callback(step: int, *_: Any) -> None:
        if step == 20:
            spoil(images)

    said = refusal(lambda: bench.run(workdir, steps, stream=folder, log_every=20, callback=callback), word, "saved")
    images.unlink(missing_ok=True)
    images.write_bytes(content)
    require(bench.run(workdir, steps, stream=folder, log_every=20) == expected, "other bits afterwards")
    return said.replace(str(bench.folder), "…"), "nothing: with the file put back, `--resume` gives the same bits"


# Random changes of files.


def mutations(content: bytes, count: int, rng: random.Random) -> Iterator[bytes]:
    """Bits flipped, cut short, something inserted, two pieces swapped, zeros, and changes in the first kilobyte."""
    for index in range(count):
        kind, size = index % 6, len(content)
        changed, at = bytearray(content), rng.randrange(size)
        length = rng.choice([1, 8, 64, 4096])
        if kind == 0:
            for _ in range(rng.randint(1, 8)):
                changed[rng.randrange(size)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            changed[at:at] = rng.randbytes(length)
        elif kind == 3:
            other = rng.randrange(size)
            changed[at : at + length], changed[other : other + length] = (
                content[other : other + length],
                content[at : at + length],
            )
        elif kind == 4:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        else:
            for _ in range(rng.randint(1, 4)):
                changed[rng.randrange(min(1024, size))] = rng.choice(b'0123456789{}[]",:-e\xff\x00')
        yield bytes(changed)


def _all_read_or_refused(contents: Iterator[bytes], read: Callable[[bytes], bool]) -> tuple[int, int, float]:
    """How many were read right and how many refused in a sentence, and the seconds of the slowest."""
    right = refused = 0
    slowest = 0.0
    for content in contents:
        began = time.monotonic()
        signal.alarm(30)  # kills this process if it hangs
        try:
            require(read(content), "something wrong was read")
            right += 1
        except JaxddError as error:
            require("\n" not in str(error), f"not one sentence: {error}")
            refused += 1
        finally:
            signal.alarm(0)
        slowest = max(slowest, time.monotonic() - began)
    return right, refused, slowest


def _counted(counts: tuple[int, int, float]) -> str:
    right, refused, slowest = counts
    return f"{refused} refused in one sentence, {right} read right, 0 wrong; the slowest took {slowest * 1e3:.0f} ms"


def mutate_distilled(bench: Bench, count: int) -> str:
    workdir = bench.folder / "run"
    require(command_line([*bench.command("kip", workdir, steps=2), "--resume"]) == 0, "the run failed")
    content, path = (workdir / FILE).read_bytes(), bench.folder / "changed.safetensors"

    def read(changed: bytes) -> bool:
        path.write_bytes(changed)
        return DistilledDataset.read(path).to_bytes() == content

    return _counted(_all_read_or_refused(mutations(content, count, bench.rng("distilled")), read))


@fault
def changed_distilled_file(bench: Bench) -> tuple[str, str]:
    """1,000 random changes of a distilled file"""
    return mutate_distilled(bench, 1000), "only the file itself"


@fault
def changed_data_file(bench: Bench) -> tuple[str, str]:
    """200 random changes of an `.npz` data file"""
    path, content = bench.folder / "changed.npz", bench.data.read_bytes()
    whole = data.load(bench.data)

    def read(changed: bytes) -> bool:
        path.write_bytes(changed)
        return data.load(path).source_hash == whole.source_hash

    return _counted(_all_read_or_refused(mutations(content, 200, bench.rng("npz")), read)), "nothing"


@fault
def changed_run_json(bench: Bench) -> tuple[str, str]:
    """200 random changes of `run.json`"""
    workdir = bench.folder / "run"
    bench.run(workdir, 2, config={"method": smoke("kip")})
    path = workdir / "run.json"
    content = path.read_bytes()
    identity = {name: value for name, value in json.loads(content).items() if name != "format_version"}

    def read(changed: bytes) -> bool:
        path.write_bytes(changed)
        checkpoints.check(workdir, identity, resume=True)
        return _set({**json.loads(changed), "format_version": 1}) == _set({**identity, "format_version": 1})

    return _counted(_all_read_or_refused(mutations(content, 200, bench.rng("run.json")), read)), "only the file itself"


def _set(tree: Any) -> Any:
    """A tree of dicts without what is None: in an identity that is the same as absent."""
    return {name: _set(value) for name, value in tree.items() if value is not None} if isinstance(tree, dict) else tree


@fault
def changed_log(bench: Bench) -> tuple[str, str]:
    """200 random changes of `metrics.jsonl`"""
    workdir = bench.folder / "run"
    expected = bench.run(workdir, 60)
    path = workdir / "metrics.jsonl"
    content = path.read_bytes()

    def read(changed: bytes) -> bool:
        path.write_bytes(changed)
        curves_svg(read_metrics(path))
        return True

    _, refused, _ = _all_read_or_refused(mutations(content, 200, bench.rng("log")), read)
    require(not refused, "a log must not stop a run")
    require(bench.run(workdir, 60) == expected, "other bits afterwards")
    return "rows that are no longer rows are left out; the run goes on, the same bits", "those rows of the log"


@dataclasses.dataclass(frozen=True)
class Broken:
    """What a fault did.

    Attributes:
      fault: what was injected.
      happened, lost: in words.
      passed: whether nothing was lost but what is said.
      name: by which `faults` injects it.
    """

    fault: str
    happened: str
    lost: str
    passed: bool
    name: str


def inject(bench: Bench, name: str) -> Broken:
    function = FAULTS[name]
    what = (function.__doc__ or "").strip()
    with quiet():
        try:
            happened, lost = function(bench.within(name))
        except (Lost, JaxddError) as error:
            return Broken(what, str(error), "see what happened", False, name)
    return Broken(what, happened, lost, True, name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the command line prints in this process, and what orbax logs, off the terminal."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def markdown(rows: list[Any]) -> str:
    """A table of dataclasses."""
    shown = {True: "yes", False: "no"}
    names = [field.name for field in dataclasses.fields(rows[0])]
    lines = [names, ["---"] * len(names)]
    for row in rows:
        values = [getattr(row, name) for name in names]
        lines.append([shown[value] if isinstance(value, bool) else str(value).replace("|", "\\|") for value in values])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    killing = commands.add_parser("kills", help="SIGKILLs at random moments")
    killing.add_argument("methods", nargs="*", metavar="METHOD", choices=[*methods.available(), []])
    killing.add_argument("--count", type=int, default=200, help="over all methods")
    killing.add_argument("--jobs", type=int, default=1, help="methods at a time")
    breaking = commands.add_parser("faults", help="everything else")
    breaking.add_argument("faults", nargs="*", metavar="FAULT", choices=[*FAULTS, []])
    for each in (killing, breaking):
        each.add_argument("--seed", type=int, default=0)
        each.add_argument("--json", type=pathlib.Path, help="write the results here")
        each.add_argument("--markdown", action="store_true", help="print a table")
    chosen = parser.parse_args()
    if chosen.command == "kills":
        with Bench.open(chosen.seed) as bench:
            rows: list[Any] = kills(bench, chosen.methods or list(methods.available()), chosen.count, chosen.jobs)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        total = sum(row.kills for row in rows)
        print(f"{total} kills, {(used.ru_utime + used.ru_stime) / max(1, total):.1f} CPU-seconds a kill")
        good = all(row.identical and (row.resumes or not row.kills) for row in rows)
    else:
        in_a_namespace()
        rows = []
        with Bench.open(chosen.seed) as bench:
            for name in chosen.faults or FAULTS:
                rows.append(inject(bench, name))
                print(f"{'passed' if rows[-1].passed else 'FAILED'} {name}: {rows[-1].happened}", file=sys.stderr)
        good = all(row.passed for row in rows)
    if chosen.json:
        chosen.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")
    if chosen.markdown:
        print(markdown(rows))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
