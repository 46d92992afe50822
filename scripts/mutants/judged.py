"""Survivors that a person has judged: no result can differ, or none that anybody should care about. Not drawn again.

A test says so when an entry fits no mutant any more; then it is to be judged anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mutants.source import Mutant


class Judged(NamedTuple):
    """A mutant by its file, its operator and what it makes of a line; `why` nobody need notice it."""

    path: str
    operator: str
    after: str
    why: str


_UNUSED_KEY = "the other key is not used where this one is"
_STOPPED_TWICE = "gradients are stopped again, around it; here it saves work"
_SCALE_CANCELS = "a minimum, and the gradient through it, do not know the scale of what is minimised"

JUDGED: tuple[Judged, ...] = (
    Judged(
        "losses/distribution.py",
        "forget_stop_gradient",
        "centre = _mean(real)[None]  # distances do not depend on it, their rounding does",
        "distances do not depend on it, their slopes neither",
    ),
    Judged(
        "synthetic/bases.py",
        "forget_stop_gradient",
        'sides = (params["upsample_height"], params["upsample_width"])',
        "they are not learned; here it saves work",
    ),
    Judged(
        "evaluation/comparison.py",
        "reuse_key",
        "teacher = own_teacher(distilled) or teach(network, train, key=key_draw)",
        "a teacher's first weights beside a choice of images: nobody compares the two",
    ),
    Judged(
        "kernels/ridge.py",
        "forget_stop_gradient",
        "k, diagonal = (a.astype(dtype) for a in (k_ss, shift))",
        "a linear solve is differentiated by its own rule, which never looks at the factor",
    ),
    Judged(
        "inner/unroll.py",
        "forget_stop_gradient",
        "start = start",
        _STOPPED_TWICE,
    ),
    Judged(
        "inner/unroll.py",
        "forget_stop_gradient",
        "batch, learning_rate = feed(t)",
        _STOPPED_TWICE,
    ),
    Judged(
        "synthetic/pixels.py",
        "reuse_key",
        "images = jax.random.normal(key_choice, (sum(counts), *data.images.shape[1:]), data.images.dtype)",
        _UNUSED_KEY,
    ),
    Judged(
        "methods/kernel/rcig.py",
        "scale_constant",
        "return 0.25 * (jnp.vdot(rest, solve(head_kernel(features), rest)) + optax.tree.vdot(body, body))",
        _SCALE_CANCELS,
    ),
    Judged(
        "evaluation/kernel.py",
        "swap_extremes",
        "num_classes = labels.shape[1] if labels.ndim == 2 else int(max(labels.max(), np.min(test.labels))) + 1",
        "a class without any support is never predicted, with a column of its own or without",
    ),
    Judged(
        "engine/store.py",
        "scale_constant",
        'best = stack.enter_context(contextlib.closing(Checkpoints(directory / "best", keep=4)))',
        "older best states, which nobody reads, take some disk",
    ),
    Judged(
        "engine/checkpoints.py",
        "scale_constant",
        "needed = int(2.2 * sum(leaf.nbytes for leaf in jax.tree.leaves(state))) + _OVERHEAD",
        "a margin of free disk",
    ),
    Judged(
        "kernels/fully_connected.py",
        "off_by_one",
        "return jax.tree.map(lambda kernel: kernel[1], rows(x[None], index[None]))",
        "JAX clamps an index: of one row each is the first",
    ),
    Judged(
        "kernels/convolutional.py",
        "off_by_one",
        "radius = (sizes[-2][0] - 1, sizes[-1][1] - 1) if global_average_pooling else (0, 0)",
        "offsets further than any two pixels, which nothing reads",
    ),
)


def fits(judged: Judged, mutant: Mutant) -> bool:
    """Whether it is this one."""
    seen = mutant.path.removeprefix("jaxdd/"), mutant.operator, mutant.after.strip()
    return seen == (judged.path, judged.operator, judged.after)


def unjudged(mutants: Sequence[Mutant]) -> list[Mutant]:
    """All but those that were judged."""
    by_file: dict[str, list[Judged]] = {}
    for judged in JUDGED:
        by_file.setdefault(judged.path, []).append(judged)
    return [m for m in mutants if not any(fits(j, m) for j in by_file.get(m.path.removeprefix("jaxdd/"), ()))]
