"""`jaxdd quantize`."""

from __future__ import annotations

import json

from absl import flags

from jaxdd.cli.common import one_argument, show
from jaxdd.cli.speaking import awake
from jaxdd.errors import JaxddError

flags.disclaim_key_flags()
SPEAKS = True


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    flags.DEFINE_string("model", None, "the network, see jaxdd list", flag_values=values)
    flags.DEFINE_string("data", None, "data set to test on", flag_values=values)
    flags.DEFINE_string(
        "calibration", None, "images that ranges are taken from: .npy, .npz or a distilled set", flag_values=values
    )
    flags.DEFINE_enum(
        "normalisation", "imagenet", ("imagenet", "data"), "whose mean and deviation pixels have", flag_values=values
    )
    flags.DEFINE_integer("count", 64, "images of the calibration set", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("steps", 500, "updates of ZeroQ", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("seed", 0, "of the calibration set", flag_values=values)
    flags.DEFINE_bool("front", True, "also look at layers and at mixed precision", flag_values=values)
    flags.DEFINE_string("write", None, "file for the calibration set, .npz", flag_values=values)
    flags.DEFINE_bool("json", False, "print the result as one JSON object on the last line", flag_values=values)


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Measure a trained network with few bits, its ranges calibrated without data (ZeroQ).

    jaxdd quantize WEIGHTS.npz --model=resnet20 --data=cifar10 [--calibration=FILE] [--json]
    """
    weights = one_argument(positional, "file of weights")
    for name in ("model", "data"):
        if not getattr(values, name):
            raise JaxddError(f"--{name} is missing: jaxdd quantize WEIGHTS.npz --model=resnet20 --data=cifar10.")
    _, workflows = awake()
    found = workflows.quantize_network(
        weights,
        model=values.model,
        name=values.data,
        calibration=values.calibration,
        normalisation=values.normalisation,
        count=values.count,
        steps=values.steps,
        seed=values.seed,
        front=values.front,
        write=values.write,
    )
    if values.json:
        print(json.dumps(found))
        return
    show(_table(found))
    print(f"float {100 * found['float']:.2f} %; calibration set and ranges in {found['seconds']:.0f} s")
    for bits, value in found.get("spearman", {}).items():
        print(f"layers at {bits} bits: rank correlation of sensitivities with those by real images {value:.2f}")


def _table(found: dict[str, object]):
    from rich.table import Table

    ranges = ("distilled", "real", "gaussian")
    table = Table("weights, activations", *(f"ranges of {name} images" for name in ranges))
    rows = dict.fromkeys(name.partition("_")[0] for name in found if name.startswith("w"))
    for row in rows:
        cells = [found[f"{row}_{name}"] for name in ranges]
        table.add_row(row.upper(), *(f"{100 * float(str(cell)):.2f}" for cell in cells))
    return table
