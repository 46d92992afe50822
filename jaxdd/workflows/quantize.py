"""A trained network with few bits: what it loses, and what its activations' ranges are best taken from."""

from __future__ import annotations

import io
import os
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import _progress, data, models, quantize
from jaxdd._files import expanded, write_atomically
from jaxdd._numbers import whole
from jaxdd.data import Standardize
from jaxdd.errors import JaxddError
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Array, Network, NetworkState, RealData

IMAGENET = Standardize.published("imagenet", 3)
NORMALISATIONS = ("imagenet", "data")
BITS = ((8, 8), (4, 8), (4, 4))
_AT_ONCE = 500
_TRIED = (2, 4, 8)
_REAL = 512  # real images that layers are looked at by: of 64 two draws have rank correlations of 0.6 to 0.9


def quantize_network(
    weights: str | os.PathLike,
    *,
    model: str,
    name: str,
    calibration: str | os.PathLike | None = None,
    normalisation: str = "imagenet",
    count: int = 64,
    steps: int = 500,
    seed: int = 0,
    front: bool = True,
    write: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """What a network is worth with few bits, on all test images, by what its activations' ranges are taken from.

        quantize_network("cifar10_resnet20.npz", model="resnet20", name="cifar10")["w4a4_distilled"]

    Args:
      weights: a file of PyTorch's arrays by name, `.npz`, see `models.from_torch`.
      model: see `models.build`.
      name: of the data, see `data.load`.
      calibration: images in place of those that `quantize.zeroq` makes: `.npy`, or `.npz` with "images", float, `(n, h,
        w, c)`, as the network sees them; or a distilled set, `.safetensors`.
      normalisation: of pixels from 0 to 1: "imagenet", by that data set's mean and deviation, or "data", by its own.
      count: images of the calibration set, of noise, and of the real ones beside.
      steps: updates of ZeroQ.
      seed: of the calibration set, of noise, and of which real images.
      front: whether to look at the sensitivity of each layer, and at mixed precision, too.
      write: where the calibration set goes, `.npz`.

    Returns:
      Shares of 1: `float`, and `w8a8_distilled`, `_real`, `_gaussian`, likewise `w4a8_`, `w4a4_`; `seconds`, of making
      the calibration set and its ranges, compilation too; and with `front` `sensitivity`, by layer and bits, in nats,
      `spearman`, by bits, the rank correlation of layers with their sensitivity by 512 real images, and
      `mixed_precision`, the front by bits of all weights.

    Raises:
      JaxddError: before anything is computed, for files that cannot be read or do not fit, an unknown model, data set
        or normalisation, and for numbers that are none.
    """
    count, steps = whole(count, "count"), whole(steps, "steps")
    if normalisation not in NORMALISATIONS:
        raise JaxddError(f"normalisation must be one of {', '.join(NORMALISATIONS)}, got {normalisation!r}.")
    arrays = _arrays(weights)
    with _progress.phase(f"reading {name}"):
        dataset = data.load(name, validation=0.0)
    train, test = _as_seen(dataset, normalisation)
    shape, classes = tuple(int(size) for size in test.images.shape[1:]), dataset.num_classes
    assert len(shape) == 3
    network, state = models.build(model, shape, classes), models.from_torch(arrays, model, shape, classes)
    given = None if calibration is None else _calibration(calibration, dataset, normalisation, shape)

    key_images, key_noise, key_real = jax.random.split(jax.random.key(seed), 3)
    began = time.monotonic()
    with _progress.phase("making a calibration set"):
        if given is None:
            given = quantize.zeroq(key_images, network, state, shape, count=count, steps=steps)
        ranges = {"distilled": jax.block_until_ready(quantize.activation_ranges(network, state, given))}
    seconds = time.monotonic() - began
    if write is not None:
        _write(write, given)
    order = jax.random.permutation(key_real, len(train.images))
    beside = {"real": train.images[order[: len(given)]], "gaussian": jax.random.normal(key_noise, given.shape)}
    ranges |= {of: quantize.activation_ranges(network, state, images) for of, images in beside.items()}

    found: dict[str, Any] = {"float": accuracy(network, state, test), "seconds": seconds}
    with _progress.phase("measuring"):
        for weight_bits, activation_bits in BITS:
            for of, some in ranges.items():
                few = quantize.quantized(
                    network, shape, weight_bits=weight_bits, activation_bits=activation_bits, ranges=some
                )
                found[f"w{weight_bits}a{activation_bits}_{of}"] = accuracy(few, state, test)
    if front:
        with _progress.phase("looking at layers"):
            found |= _by_layer(network, state, given, train.images[order[:_REAL]])
    return found


def accuracy(network: Network, state: NetworkState, test: RealData) -> float:
    """The share of test images that a network is right about."""
    of = jax.jit(lambda state, images: network.apply(state.theta, images, state.stats)[0].argmax(1))
    labels, right = np.asarray(test.labels.values), 0
    for first in range(0, len(labels), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        right += int((np.asarray(of(state, jnp.asarray(test.images[some]))) == labels[some]).sum())
    return right / len(labels)


def _by_layer(network: Network, state: NetworkState, images: Array, real: Array) -> dict[str, Any]:
    layers = quantize.layers_of(network, (images.shape[1], images.shape[2], images.shape[3]))
    ours, theirs = (quantize.sensitivity(network, state, some, _TRIED) for some in (images, real))
    ranks = {
        bits: np.argsort(np.argsort([[of[layer.name][bits] for layer in layers] for of in (ours, theirs)]))
        for bits in _TRIED
    }
    choices = quantize.mixed_precision(layers, ours, points=200)
    return {
        "sensitivity": {name: {str(bits): value for bits, value in of.items()} for name, of in ours.items()},
        "spearman": {str(bits): float(np.corrcoef(both[0], both[1])[0, 1]) for bits, both in ranks.items()},
        "mixed_precision": [choice._asdict() for choice in choices],
    }


def _arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    file = expanded(path)
    if not file.is_file():
        raise JaxddError(f"there is no file {path}.")
    try:
        with np.load(file, allow_pickle=False) as found:
            return dict(found)
    except (ValueError, OSError, TypeError, AttributeError) as error:
        raise JaxddError(f"{path} is no .npz of arrays by name: {error}") from None


def _as_seen(dataset: data.Dataset, normalisation: str) -> tuple[RealData, RealData]:
    """Training and test images as the network sees them."""
    channels = dataset.train.images.shape[-1]
    if normalisation == "imagenet" and channels != 3:
        raise JaxddError(
            f"{dataset.name} has images of {channels} channels, which ImageNet's mean and deviation are not of: "
            "--normalisation=data."
        )
    own = normalisation == "data"
    transform = data.fit_transform("standardize", dataset.train.pixels()) if own else IMAGENET
    train, test = (data.real_data(split, transform, dataset.num_classes) for split in (dataset.train, dataset.test))
    return train, test


def _calibration(path: str | os.PathLike, dataset: data.Dataset, normalisation: str, shape: tuple[int, ...]) -> Array:
    file = expanded(path)
    if not file.is_file():
        raise JaxddError(f"there is no file {path}.")
    if file.suffix == ".safetensors":
        pixels = DistilledDataset.read(file).pixels()
        low, high = dataset.pixel_range
        pixels = (np.asarray(pixels, np.float32) - low) / (high - low)
        own = normalisation == "data"
        transform = data.fit_transform("standardize", dataset.train.pixels()) if own else IMAGENET
        images = transform.apply(pixels)
    else:
        try:
            found = np.load(file, allow_pickle=False)
            images = found if isinstance(found, np.ndarray) else found["images"]
        except (ValueError, OSError, KeyError) as error:
            raise JaxddError(f"{path} is no calibration set: a .npy, or a .npz with 'images': {error}") from None
    images = np.asarray(images)
    if images.shape[1:] != shape or not len(images) or not np.issubdtype(images.dtype, np.floating):
        raise JaxddError(f"{path} has images {images.dtype}{images.shape}, and the network sees float ones of {shape}.")
    return jnp.asarray(images, jnp.float32)


def _write(path: str | os.PathLike, images: Array) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.asarray(images))
    write_atomically(pathlib.Path(expanded(path)), buffer.getvalue())
