"""One convolution for every network of the library, fast on CPU in any loop and to any order of differentiation.

`conv2d` has the signature of `jax.lax.conv_general_dilated`, so `flax.linen.Conv(conv_general_dilated=conv2d)` and its
nnx namesake take it as it is. docs/convolutions.md has the measurements behind the choices made here.

A convolution is linear in its images and in its kernel, so three operations are closed under differentiation and
transposition:

    conv(images, kernel) -> maps;  input_grad(maps, kernel) -> images;  weight_grad(images, maps) -> kernel

Each is a JAX primitive whose derivatives are these three again. An `Implementation` is three functions, and none of
them is ever differentiated.
"""

from jaxdd.models.conv.implementations import IMPLEMENTATIONS
from jaxdd.models.conv.onednn import advice
from jaxdd.models.conv.primitives import conv2d

__all__ = ["IMPLEMENTATIONS", "advice", "conv2d"]
