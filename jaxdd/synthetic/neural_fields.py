"""Images as small networks from the place of a pixel to its value, one network an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._numbers import by_class, positive, whole
from jaxdd.synthetic.parameterisation import Params, Rendered, SyntheticSet
from jaxdd.synthetic.pixels import pixels
from jaxdd.types import Array, Key, RealData


def neural_fields(
    ipc: int | Sequence[int],
    width: int,
    layers: int = 2,
    *,
    first_scale: float = 30.0,
    scale: float = 10.0,
    labels: str = "hard",
) -> SyntheticSet:
    """Each image is a coordinate network of its own (Shin et al. 2025, DDiF, arXiv:2503.04835).

    It takes a pixel's row and column, each from -1 to 1, to the values of its channels: `layers` layers
    `x -> sin(s (x W + b))`, where s is `first_scale` in the first and `scale` in the others, and a linear one (SIREN,
    Sitzmann et al. 2020, arXiv:2006.09661). So an image costs the same however large it is.

        synthetic = neural_fields(11, width=6)  # 67 numbers an image of one channel: no more than one of 28x28 a class

    Params are `weights_0` `(m, 2, width)`, `weights_1` `(m, width, width)`, .. and `biases_0` `(m, width)`, ..; the
    last ones end in the channels `c`. Frozen, but stored, are `scales` `(layers,)`; and frozen, which need not be
    stored, `rows` `(h,)` and `columns` `(w,)`, the coordinates. They begin at random, as a SIREN does; `fitted` begins
    as images. The ledger: 32 bits a weight, a bias and a scale, and labels as in `pixels`.

    Where sides are unequal, the authors' code divides both coordinates by the height, and here each goes to 1.

    Args:
      ipc: images per class, as in `pixels`.
      width: of the layers.
      layers: with a sine, at least 1.
      first_scale, scale: how fast an image may change; positive.
      labels: as in `pixels`.

    Raises:
      JaxddError: for a bad argument.
    """
    whole(width, "the width of neural fields")
    whole(layers, "the layers of neural fields")
    scales = [positive(first_scale, "the first scale of neural fields")]
    scales += [positive(scale, "the scale of neural fields")] * (layers - 1)
    base = pixels(by_class(ipc, "images per class"), init="noise", labels=labels)
    names = [(f"weights_{k}", f"biases_{k}") for k in range(layers + 1)]

    def init(key: Key, data: RealData) -> Params:
        _, height, width_of_images, channels = data.images.shape
        start, dtype = base.init(key, data), data.images.dtype
        params: Params = {
            "labels": start["labels"],
            "scales": jnp.asarray(scales, dtype),
            "rows": jnp.asarray(np.linspace(-1, 1, height), dtype),
            "columns": jnp.asarray(np.linspace(-1, 1, width_of_images), dtype),
        }
        sizes = [2, *[width] * layers, channels]
        for k, key_layer in enumerate(jax.random.split(key, layers + 1)):
            bound = 1 / sizes[0] if k == 0 else math.sqrt(6 / width) / scale
            shapes = ((len(start["labels"]), *sizes[k : k + 2]), (len(start["labels"]), sizes[k + 1]))
            for name, key_leaf, shape in zip(names[k], jax.random.split(key_layer), shapes, strict=True):
                params[name] = jax.random.uniform(key_leaf, shape, dtype, -bound, bound)
        return params

    def render(params: Params) -> Rendered:
        rows, columns, scales = (jax.lax.stop_gradient(params[name]) for name in ("rows", "columns", "scales"))
        grid = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
        values = _layer("pi,mio->mpo", grid, *(params[name] for name in names[0]))
        for k, layer in enumerate(names[1:]):
            values = _layer("mpi,mio->mpo", jnp.sin(scales[k] * values), *(params[name] for name in layer))
        return Rendered(values.reshape(len(values), len(rows), len(columns), -1), params["labels"])

    def num_bits(params: Params) -> dict[str, int]:
        stored = ("scales", *(name for layer in names for name in layer))
        of_labels = base.num_bits({"images": params["scales"], "labels": params["labels"]})["labels"]
        return {**{name: 32 * params[name].size for name in stored}, "labels": of_labels}

    return base._replace(
        init=init,
        render=render,
        num_bits=num_bits,
        decoder="neural_fields",
        learned=tuple(name for layer in names for name in layer),
    )


def _layer(subscripts: str, values: Array, weights: Array, biases: Array) -> Array:
    return jnp.einsum(subscripts, values, weights, precision="highest") + biases[:, None]
