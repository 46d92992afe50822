#!/usr/bin/env python3
"""How fast the kernel of random networks comes near the exact one: the picture in docs/images/random_features.png.

    python scripts/random_features.py --data=cifar10 [--out FILE]

The mean conjugate kernel of M ConvNets with random weights (RFAD; Loo et al. 2022) beside the NNGP kernel of an
infinitely wide one, on real images with three channels.
"""

from __future__ import annotations

import argparse
import pathlib

import jax
import numpy as np
from matplotlib.figure import Figure

from jaxdd import data, kernels, models
from jaxdd.types import Array, Key

READOUT = {"w_std": 2**0.5, "b_std": 0.1}
COUNTS = [1, 2, 4, 8, 16, 32, 64]


def errors(images: Array, exact: Array, width: int, repeats: int) -> np.ndarray:
    """Relative error in the Frobenius norm `(len(COUNTS),)`, root mean square over `repeats` draws of each M."""
    model = f"convnet(width={width}, norm='none', initializer='he')"
    network = models.build(model, images.shape[1:], 10)

    def kernel(key: Key) -> Array:
        theta, stats = network.init(key)
        return kernels.feature_kernel(network.features(theta, images, stats)[0], **READOUT)

    keys = jax.random.split(jax.random.key(width), COUNTS[-1] * repeats)
    drawn = np.asarray(jax.jit(lambda keys: jax.lax.map(kernel, keys))(keys)) - np.asarray(exact)
    squares = [np.mean(drawn.reshape(-1, m, *exact.shape).mean(1) ** 2) for m in COUNTS]
    return np.sqrt(squares / np.mean(np.square(exact)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="a data set of images with three channels")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/images/random_features.png"))
    arguments = parser.parse_args()
    train = data.load(arguments.data).train
    images = jax.numpy.asarray(data.fit_transform("standardize", train.pixels()).apply(train.pixels()[:10]))
    exact = jax.jit(lambda x: kernels.conv_nngp(x, depth=3, **READOUT))(images)
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for width in (16, 64):
        found = errors(images, exact, width, arguments.repeats)
        slope = np.polyfit(np.log(COUNTS), np.log(found), 1)[0]
        print(f"width {width}: slope {slope:.3f}, errors {[round(float(e), 4) for e in found]}")
        axes.loglog(COUNTS, found, "o-", label=f"width {width}, slope {slope:.2f}")
    axes.loglog(COUNTS, found[0] / np.sqrt(COUNTS), "k:", label=r"$1/\sqrt{M}$")
    axes.set(xlabel="networks M", ylabel="relative error of the kernel", xticks=COUNTS, xticklabels=COUNTS)
    axes.legend(frameon=False)
    figure.savefig(arguments.out)


if __name__ == "__main__":
    main()
