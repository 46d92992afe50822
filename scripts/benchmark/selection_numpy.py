"""The greedy rules in plain NumPy, as fast as we could write them: what the suite `selection` compares with.

"plain" takes one matrix-vector product for every choice. "ahead" foretells the next choices among the most promising
points and computes their columns by one matrix product, "lazy" keeps bounds of gains and columns of promising points:
the algorithms of `jaxdd.selection.choose`, with NumPy's products.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

PROMISING = 512
BLOCK, KEPT, SAMPLE = 256, 8, 2048


def herding_plain(points: np.ndarray, k: int) -> np.ndarray:
    z = points - points.mean(0)
    fixed, total, rows = np.einsum("nd,nd->n", z, z), np.zeros_like(z[0]), []
    for _ in range(k):
        scores = fixed + 2 * (z @ total)
        rows.append(int(scores.argmin()))
        fixed[rows[-1]] = np.inf
        total += z[rows[-1]]
    return np.array(rows)


def k_center_plain(points: np.ndarray, k: int) -> np.ndarray:
    z = points - points.mean(0)
    squares, rows = np.einsum("nd,nd->n", z, z), [0]
    nearest = np.full(len(z), np.inf, np.float32)
    for _ in range(k - 1):
        nearest = np.minimum(nearest, squares + squares[rows[-1]] - 2 * (z @ z[rows[-1]]))
        nearest[rows[-1]] = -np.inf
        rows.append(int(nearest.argmax()))
    return np.array(rows)


def ahead(
    pairs: Callable[[np.ndarray, np.ndarray | slice], np.ndarray],
    update: Callable[[np.ndarray, np.ndarray], np.ndarray],
    criterion: np.ndarray,
    k: int,
    columns: int,
) -> np.ndarray:
    """The greedy loop for the largest criterion, with columns of the choices that are foretold, so many at a time."""
    rows: list[int] = []
    following = int(criterion.argmax())
    while len(rows) < k:
        some = np.argpartition(-criterion, PROMISING)[:PROMISING]
        between, of_some, foretold = pairs(some, some), criterion[some], []
        for _ in range(columns):
            best = int(of_some.argmax())
            foretold.append(int(some[best]))
            of_some = update(of_some, between[best])
            of_some[best] = -np.inf
        block = pairs(np.array(foretold), slice(None))
        slots = {row: slot for slot, row in enumerate(foretold)}
        while len(rows) < k and following in slots:
            criterion = update(criterion, block[slots[following]])
            criterion[following] = -np.inf
            rows.append(following)
            following = int(criterion.argmax())
    return np.array(rows)


def herding_ahead(points: np.ndarray, k: int) -> np.ndarray:
    z = points - points.mean(0)
    start = -np.einsum("nd,nd->n", z, z)
    return ahead(lambda a, b: z[a] @ z[b].T, lambda criterion, column: criterion - 2 * column, start, k, 16)


def k_center_ahead(points: np.ndarray, k: int) -> np.ndarray:
    z = points - points.mean(0)
    squares = np.einsum("nd,nd->n", z, z)

    def pairs(a: np.ndarray, b: np.ndarray | slice) -> np.ndarray:
        products = z[a] @ z[b].T
        products *= -2
        products += squares[a][:, None]
        products += squares[b][None]
        return products

    start = np.full(len(z), np.finfo(np.float32).max, np.float32)
    start[0] = np.inf
    return ahead(pairs, np.minimum, start, k, 64)


def facility_lazy(points: np.ndarray, k: int) -> np.ndarray:
    """Lazy greedy, with the columns of the most promising points kept, block by block."""
    z = points - points.mean(0)
    n, squares = len(z), np.einsum("nd,nd->n", z, z)

    def columns(rows: np.ndarray, among: np.ndarray | slice = slice(None)) -> np.ndarray:
        found = z[rows] @ z[among].T
        found *= -2
        found += squares[rows][:, None]
        found += squares[among][None]
        np.maximum(found, 0, out=found)
        return np.sqrt(found, out=found)

    def gains(cover: np.ndarray, found: np.ndarray) -> np.ndarray:
        nearer = cover - found
        return np.maximum(nearer, 0, out=nearer).sum(-1)

    blocks = np.array_split(np.arange(n), -(-n // BLOCK))
    sample = np.arange(min(SAMPLE, n)) * n // min(SAMPLE, n)
    near = np.concatenate([columns(rows, sample).sum(1) for rows in blocks])
    few = np.argsort(near)[:128]
    first, foretold = -1, int(few[columns(few).sum(1).argmin()])
    while first != foretold:  # mostly once: the first choice was foretold
        cover, first = columns(np.array([foretold]))[0], foretold
        sums, bounds = np.empty(n), np.empty(n)
        for rows in blocks:
            found = columns(rows)
            sums[rows], bounds[rows] = found.sum(1), gains(cover, found)
        foretold = int(sums.argmin())
    bounds[first] = -np.inf
    chosen, kept, exact = [first], [], np.zeros(n, int)
    while len(chosen) < k:
        missing = bounds.copy()
        for rows, _ in kept:
            missing[rows] = -np.inf
        new = np.argpartition(-missing, BLOCK)[:BLOCK]
        found = columns(new)
        bounds[new], exact[new] = gains(cover, found), len(chosen)
        if len(kept) == KEPT:
            kept.pop(int(np.argmin([bounds[rows].max() for rows, _ in kept])))
        kept.append((new, found))
        missing[new] = -np.inf
        other, known = missing.max(), np.concatenate([rows for rows, _ in kept])
        places = {int(row): (block, slot) for block, (rows, _) in enumerate(kept) for slot, row in enumerate(rows)}
        while len(chosen) < k:
            best = int(known[bounds[known].argmax()])
            if bounds[best] < other:
                break
            block, slot = places[best]
            column = kept[block][1][slot]
            if exact[best] == len(chosen):
                chosen.append(best)
                cover, bounds[best] = np.minimum(cover, column), -np.inf
            else:
                bounds[best], exact[best] = gains(cover, column), len(chosen)
    return np.array(chosen)


RULES: dict[tuple[str, str], Callable[[np.ndarray, int], np.ndarray]] = {
    ("facility_50k", "lazy"): facility_lazy,
    ("kcenter_50k", "plain"): k_center_plain,
    ("kcenter_50k", "ahead"): k_center_ahead,
    ("herding_50k", "plain"): herding_plain,
    ("herding_50k", "ahead"): herding_ahead,
}
