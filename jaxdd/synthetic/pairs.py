"""Images with target vectors, which know no classes."""

from __future__ import annotations

import jax

from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.synthetic.codecs import label_bits
from jaxdd.synthetic.parameterisation import Params, Rendered, SyntheticSet
from jaxdd.types import Key, RealData


def pairs(images: int, *, targets: str) -> SyntheticSet:
    """Free pixels and a free target vector for each image, at first those of different real examples.

    These are drawn uniformly from all examples: labels play no part. Params are `images` `(images, h, w, c)` and
    `labels` `(images, d)`, the targets.

    Args:
      images: how many pairs.
      targets: the table whose row i is the target vector `(d,)` of example i; it may have more rows than there are
        examples.

    Raises:
      JaxddError: for a bad number; (in `init`) more pairs than there are examples.
    """
    whole(images, "pairs")

    def init(key: Key, data: RealData) -> Params:
        count = len(data.labels.values)
        if images > count:
            raise JaxddError(f"{images} pairs were asked for, but the data have {count} examples.")
        rows = jax.random.choice(key, count, (images,), replace=False)
        return {"images": data.images[rows], "labels": data.tables[targets][rows]}

    def num_bits(params: Params) -> dict[str, int]:
        return {"images": 32 * params["images"].size, "labels": label_bits("learned", params["labels"])}

    return SyntheticSet(
        init=init,
        render=lambda params: Rendered(params["images"], params["labels"]),
        project=lambda params: params,
        num_bits=num_bits,
        decoder="pixels",
        label_convention="features",
        label_regime="learned",
        learned=("images", "labels"),
    )
