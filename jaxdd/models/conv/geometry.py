"""What the operations of a convolution know of it beside their operands."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxdd.types import Array

# What JAX calls operands in bfloat16 and sums in float32.
BFLOAT16 = ("bfloat16", "BF16_BF16_F32")


class Geometry(NamedTuple):
    """What the three operations of one convolution share; a pair is (vertical, horizontal)."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    precision: Any

    @property
    def rounds(self) -> bool:
        """Whether operands are rounded to bfloat16, and their products added in float32."""
        return self.precision in BFLOAT16

    @property
    def maps(self) -> tuple[int, ...]:
        """Height and width of what `conv` returns; zero or less if the kernel does not fit."""
        return tuple(
            (size + sum(pad) - (k - 1) * d - 1) // s + 1
            for size, pad, k, d, s in zip(self.image, self.pads, self.kernel, self.dilation, self.strides, strict=True)
        )

    def channels(self, operation: str, a: Array, b: Array) -> int:
        """Those of the images."""
        return b.shape[-2] * self.groups if operation == "input_grad" else a.shape[-1]

    def result(self, operation: str, a: Array, b: Array) -> tuple[int, ...]:
        """The shape of what an operation returns, with the axes that lie in front of the operands' four."""
        channels = self.channels(operation, a, b)
        shape = {
            "conv": (a.shape[-4], *self.maps, b.shape[-1]),
            "input_grad": (a.shape[-4], *self.image, channels),
            "weight_grad": (*self.kernel, channels // self.groups, b.shape[-1]),
        }[operation]
        return (*a.shape[:-4], *shape)
