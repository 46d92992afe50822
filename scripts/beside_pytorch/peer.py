"""What PyTorch computes for the same arrays, and whether it is the same."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from measuring import Row

from jaxdd.errors import JaxddError
from jaxdd.types import Array, PyTree

PEERS = pathlib.Path(__file__).resolve().parents[1] / "peers.py"
# Gradients of a float32 network differ by a few ReLUs that switch, losses do not.
SAME_LOSS = {"loss": 1e-3, "gradient": np.inf}


def has_torch() -> bool:
    """Whether there are peers: PyTorch here, or in the interpreter that `$JAXDD_TORCH_PYTHON` names."""
    return bool(os.environ.get("JAXDD_TORCH_PYTHON")) or importlib.util.find_spec("torch") is not None


def peer(task: str, theta: PyTree, arrays: dict[str, Any], repeats: int) -> tuple[Row, dict[str, np.ndarray]]:
    """What PyTorch took for the same, and its results; nothing without PyTorch."""
    if not has_torch():
        return {}, {}
    weights = {
        "theta/" + jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(theta)
    }
    with tempfile.TemporaryDirectory() as folder:
        given, got = (os.path.join(folder, name) for name in ("given.npz", "got.npz"))
        np.savez(given, **weights, **arrays)
        python = os.environ.get("JAXDD_TORCH_PYTHON", sys.executable)
        command = [python, str(PEERS), task, given, got, "--repeats", str(repeats)]
        line = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
        with np.load(got) as results:
            return json.loads(line), dict(results)


def compared(row: Row, ours: dict[str, Array], theirs: dict[str, np.ndarray], tolerances: Mapping[str, float]) -> Row:
    """The row with how far PyTorch's results are at most, of those that have a tolerance.

    Raises:
      JaxddError: if it did not compute the same thing.
    """
    if not theirs:
        return row
    differences = {name: difference(ours[name], theirs[name]) for name in tolerances}
    for name, tolerance in tolerances.items():
        if not differences[name] <= tolerance:
            raise JaxddError(f"{row['name']} is not what its peer computes: {name} differs by {differences[name]:.2g}.")
    return row | {"peer_difference": max(differences.values())}


def difference(ours: Any, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
