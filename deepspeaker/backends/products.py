"""Inner products of many pairs of rows, without the matrix of all pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Rows of a matrix product. More rows are hardly faster and need more memory.
BLOCK = 512
#: An entry of a matrix product costs about this fraction (1 / 16) of the inner product of two rows fetched for it.
_SPARSE = 16
#: Pairs that are looked up, and fetched, at a time: few enough to stay in the processor's cache.
_LOOKED_UP, _FETCHED = 1 << 18, 1 << 13


def pair_products(
    first: NDArray[np.floating[Any]],
    second: NDArray[np.floating[Any]],
    rows: NDArray[np.integer[Any]],
    columns: NDArray[np.integer[Any]],
) -> NDArray[Any]:
    """Return ``first[rows[k]] @ second[columns[k]]`` for every pair ``k``.

    Pairs are processed by blocks of the rows of ``first``. A block with many pairs takes one matrix product with the
    columns between the lowest and the highest that it needs; a block with few pairs takes one inner product each.
    Beyond the result, this needs memory for one block, and for an order of the pairs if ``rows`` do not ascend.

    Parameters
    ----------
    first, second
        Shapes ``(n, dim)`` and ``(m, dim)``, of one type.
    rows, columns
        Indices into ``first`` and ``second``, shape ``(pairs,)``.

    Returns
    -------
    Products in the precision of the matrices, shape ``(pairs,)``.

    Examples
    --------
    >>> pair_products(np.eye(3), np.arange(6.0).reshape(2, 3), np.array([0, 2, 2]), np.array([1, 0, 1]))
    array([3., 2., 5.])
    """
    products = np.empty(len(rows), dtype=first.dtype)
    order = None if _ascend(rows) else np.argsort(rows)
    bounds = np.arange(0, len(first) + BLOCK, BLOCK)
    ends = np.searchsorted(rows, bounds, sorter=order).tolist()
    buffer = np.empty(0, dtype=first.dtype)
    for top, begin, end in zip(bounds.tolist(), ends[:-1], ends[1:], strict=False):
        if begin == end:
            continue
        block = first[top : top + BLOCK]
        low = min(int(columns[pairs].min()) for pairs in _pieces(begin, end, _LOOKED_UP, order))
        width = max(int(columns[pairs].max()) for pairs in _pieces(begin, end, _LOOKED_UP, order)) + 1 - low
        if (end - begin) * _SPARSE < len(block) * width:
            for pairs in _pieces(begin, end, _FETCHED, order):
                products[pairs] = np.einsum("kd,kd->k", first[rows[pairs]], second[columns[pairs]])
            continue
        if len(buffer) < len(block) * width:
            buffer = np.empty(len(block) * width, dtype=first.dtype)
        flat = buffer[: len(block) * width]
        np.matmul(block, second[low : low + width].T, out=flat.reshape(len(block), width))
        for pairs in _pieces(begin, end, _LOOKED_UP, order):
            position = rows[pairs] - top
            position *= width
            position += columns[pairs]
            position -= low
            # Positions are valid by construction; mode="clip" avoids the copy of ``out`` that mode="raise" makes.
            if isinstance(pairs, slice):
                flat.take(position, mode="clip", out=products[pairs])
            else:
                products[pairs] = flat.take(position, mode="clip")
    return products


def _ascend(rows: NDArray[np.integer[Any]]) -> bool:
    pieces = (rows[start : start + _LOOKED_UP + 1] for start in range(0, len(rows), _LOOKED_UP))
    return all(bool(np.all(piece[:-1] <= piece[1:])) for piece in pieces)


def _pieces(
    begin: int, end: int, length: int, order: NDArray[np.int64] | None
) -> Iterator[slice | NDArray[np.int64]]:
    """Yield the pairs from ``begin`` to ``end`` of the order, ``length`` at a time."""
    for start in range(begin, end, length):
        pairs = slice(start, min(start + length, end))
        yield pairs if order is None else order[pairs]
