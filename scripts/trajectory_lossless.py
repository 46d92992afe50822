#!/usr/bin/env python3
"""DATM's accuracy by images a class beside random real images and all of the data, one picture.

    python scripts/trajectory_claims.py --folder FOLDER --json FILE --runs datm random --ipc 1 10 50 200 [..]
    python scripts/trajectory_claims.py --folder FOLDER --json FILE --runs random --ipc 330
    python scripts/trajectory_lossless.py FILE docs/results/lossless.svg

The second curve is what its paper reports on CIFAR-10 (Guo et al. 2024), which a GPU would have to show.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import numpy as np

PAPER, PAPER_ALL = {1: 46.9, 10: 66.8, 50: 76.1, 500: 83.5, 1000: 85.5}, 84.8
NEARLY_ALL = 330  # of 336 at least in each class


def main() -> None:
    import matplotlib.pyplot as plt  # the extra "viz"

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=pathlib.Path)
    parser.add_argument("picture", type=pathlib.Path)
    options = parser.parse_args()
    found = json.loads(options.json.read_text())

    def mean(run: str, ipc: int) -> float:
        return 100 * float(np.mean([said["accuracy"] for said in found[run][str(ipc)].values()]))

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for run, mark in (("datm", "o-"), ("random", "s-")):
        ipcs = sorted(int(ipc) for ipc in found[run] if int(ipc) < NEARLY_ALL)
        axes.plot(ipcs, [mean(run, ipc) for ipc in ipcs], mark, label=f"{run}, Fashion-MNIST, 4,000 images")
    axes.axhline(mean("random", NEARLY_ALL), linestyle=":", color="C2", label="nearly all of these")
    axes.plot(list(PAPER), list(PAPER.values()), "^--", color="C3", label="DATM, CIFAR-10, as reported")
    axes.axhline(PAPER_ALL, linestyle=":", color="C3", label="all of CIFAR-10, as reported")
    axes.set(xscale="log", xlabel="images a class", ylabel="test accuracy, %")
    axes.legend(fontsize="small")
    figure.savefig(options.picture, metadata={"Date": None})


if __name__ == "__main__":
    main()
