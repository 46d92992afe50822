"""Random changes of files: each is read right, or refused in one sentence."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from jaxdd import data
from jaxdd.cli.main import main as command_line
from jaxdd.engine import checkpoints
from jaxdd.engine.log import read_metrics
from jaxdd.errors import JaxddError
from jaxdd.report import curves_svg
from jaxdd.synthetic import DistilledDataset
from reliability.bench import FILE, Bench, require, smoke


def changed_distilled_file(bench: Bench) -> tuple[str, str]:
    """1,000 random changes of a distilled file"""
    return mutate_distilled(bench, 1000), "only the file itself"


def changed_data_file(bench: Bench) -> tuple[str, str]:
    """200 random changes of an `.npz` data file"""
    path, content = bench.folder / "changed.npz", bench.data.read_bytes()
    whole = data.load(bench.data)

    def read(changed: bytes) -> bool:
        path.write_bytes(changed)
        return data.load(path).source_hash == whole.source_hash

    return _counted(_all_read_or_refused(mutations(content, 200, bench.rng("npz")), read)), "nothing"


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


def mutate_distilled(bench: Bench, count: int) -> str:
    workdir = bench.folder / "run"
    require(command_line([*bench.command("kip", workdir, steps=2), "--resume"]) == 0, "the run failed")
    content, path = (workdir / FILE).read_bytes(), bench.folder / "changed.safetensors"

    def read(changed: bytes) -> bool:
        path.write_bytes(changed)
        return DistilledDataset.read(path).to_bytes() == content

    return _counted(_all_read_or_refused(mutations(content, count, bench.rng("distilled")), read))


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


def _set(tree: Any) -> Any:
    """A tree of dicts without what is None: in an identity that is the same as absent."""
    return {name: _set(value) for name, value in tree.items() if value is not None} if isinstance(tree, dict) else tree
