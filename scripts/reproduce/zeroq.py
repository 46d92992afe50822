"""ZeroQ's claims on the two published CIFAR-10 ResNets, full test set."""

from __future__ import annotations

from typing import Any

from jaxdd import workflows
from jaxdd.data.sources import data_dir
from jaxdd.errors import JaxddError

ROWS = {"zeroq_resnet20": "resnet20", "zeroq_resnet56": "resnet56"}
_KEYS = ("float", "w8a8_distilled", "w8a8_real", "w4a4_distilled", "w4a4_real", "w4a4_gaussian")


def measured(row: str) -> dict[str, Any]:
    """Shares of 1, one seed; `spearman` is of layers at four bits.

    Raises:
      JaxddError: if the weights are not among the data, under `weights`.
    """
    model = ROWS[row]
    weights = data_dir() / "weights" / f"cifar10_{model}.npz"
    if not weights.is_file():
        raise JaxddError(f"{weights} is not there: PyTorch's arrays of the network, by name.")
    found = workflows.quantize_network(weights, model=model, name="cifar10")
    return {name: found[name] for name in _KEYS} | {"spearman": found["spearman"]["4"], "seconds": found["seconds"]}
