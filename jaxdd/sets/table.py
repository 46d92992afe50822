"""How the sets were made and what they reach. Rows are written by `scripts/sets.py`."""

from __future__ import annotations

from typing import NamedTuple

MOST = 200_000
"""Bytes of all files together."""


class Row(NamedTuple):
    """A set of this folder."""

    about: str
    """A line for people."""
    command: str
    """What made it, but for the directory; of its file the set has all but the decoder's parameters."""
    accuracy: float
    """On the test split of its data, a fraction; nothing was selected there."""
    measured: str
    """How, in words."""
    license: str
    """Of its data."""
    source_hash: str
    """SHA-256 of the arrays of its data."""
    sha256: str
    """Of the file."""
    seen: tuple[str, float] | None = None
    """Data that are at hand in tests, and the accuracy of the set's kernel on their test split: it tells whether file
    and kernel are what they were. The images may be among those that the set was made from."""


SETS: dict[str, Row] = {
    "mnist_10": Row(
        about="MNIST in 10 images with learned labels, by KIP: 89.6 % by its kernel",
        command="jaxdd distill --config=kip --config.data.name=mnist --evaluate=kernel",
        accuracy=0.8957,
        measured="its kernel",
        license="CC BY-SA 3.0 (MNIST, Y. LeCun, C. Cortes, C. J. C. Burges)",
        source_hash="ceda791d3e53beaf95f8e213c414aa4d975006504eff93f785d685ecea3e892c",
        sha256="a493579edd335ad98bc1866ed99d119f69dfc0b4c7d4f282a03e1c01e25b2c8c",
        seen=("mnist_5k", 0.915),
    ),
    "fashion_mnist_10": Row(
        about="Fashion-MNIST in 10 images with learned labels, by KIP: 82.3 % by its kernel",
        command="jaxdd distill --config=kip --config.data.name=fashion_mnist --evaluate=kernel",
        accuracy=0.8234,
        measured="its kernel",
        license="MIT (Fashion-MNIST, Zalando SE)",
        source_hash="5f06bd0df99ad3dc904134efe2e620e96a51dc83af7575151eb993b975560d7a",
        sha256="b83741242d57e897cbf529c21092f8b08baac31b4e907843932625d0ab46c052",
    ),
}
