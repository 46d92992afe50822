"""Where runs are broken: a folder with real digits, runs on them, and what must hold."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import jaxdd
from jaxdd import data
from jaxdd._files import digest
from jaxdd.cli import config as configs
from jaxdd.errors import JaxddError
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


def ends(workdir: pathlib.Path) -> tuple[bytes, ...]:
    """The distilled file, the checksums of the last state, and the log of a finished run."""
    last = max((path for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()), key=lambda p: int(p.name))
    return tuple(path.read_bytes() for path in (workdir / FILE, last / "meta" / "metadata", workdir / "metrics.jsonl"))
