"""Inner products of many pairs of rows, without a matrix of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Rows of a matrix product: more are hardly faster, and need more memory.
BLOCK = 512
#: An entry of a matrix product is about so many times cheaper than the inner product of two rows fetched for it.
_SPARSE = 16
#: Pairs looked up, and fetched, at a time: so few that they stay in the processor's cache.
_LOOKED_UP, _FETCHED = 1 << 18, 1 << 13


def pair_products(
    one: NDArray[np.floating[Any]],
    other: NDArray[np.floating[Any]],
    rows: NDArray[np.integer[Any]],
    columns: NDArray[np.integer[Any]],
) -> NDArray[Any]:
    """``one[rows[k]] @ other[columns[k]]`` of every pair k, shape (pairs,), in the precision of the matrices.

    ``one`` is (n, dim), ``other`` (m, dim), of one type. Pairs are taken by blocks of ``one``'s rows; where a block has
    many of them, one matrix product gives all its inner products with the columns between the first and the last that
    are asked for, else each is computed by itself. Beside the result that needs memory for a block, and where ``rows``
    do not ascend for the order of the pairs.
    """
    products = np.empty(len(rows), dtype=one.dtype)
    order = None if _ascend(rows) else np.argsort(rows)
    bounds = np.arange(0, len(one) + BLOCK, BLOCK)
    ends = np.searchsorted(rows, bounds, sorter=order).tolist()
    room = np.empty(0, dtype=one.dtype)
    for first, begin, end in zip(bounds.tolist(), ends[:-1], ends[1:], strict=False):
        if begin == end:
            continue
        block = one[first : first + BLOCK]
        low = min(int(columns[own].min()) for own in _pieces(begin, end, _LOOKED_UP, order))
        width = max(int(columns[own].max()) for own in _pieces(begin, end, _LOOKED_UP, order)) + 1 - low
        if (end - begin) * _SPARSE < len(block) * width:
            for own in _pieces(begin, end, _FETCHED, order):
                products[own] = np.einsum("kd,kd->k", one[rows[own]], other[columns[own]])
            continue
        if len(room) < len(block) * width:
            room = np.empty(len(block) * width, dtype=one.dtype)
        flat = room[: len(block) * width]
        np.matmul(block, other[low : low + width].T, out=flat.reshape(len(block), width))
        for own in _pieces(begin, end, _LOOKED_UP, order):
            at = rows[own] - first
            at *= width
            at += columns[own]
            at -= low
            # The indices are right. With "raise" numpy would make a copy, to leave ``out`` alone were they not.
            if isinstance(own, slice):
                flat.take(at, mode="clip", out=products[own])
            else:
                products[own] = flat.take(at, mode="clip")
    return products


def _ascend(rows: NDArray[np.integer[Any]]) -> bool:
    pieces = (rows[first : first + _LOOKED_UP + 1] for first in range(0, len(rows), _LOOKED_UP))
    return all(bool(np.all(piece[:-1] <= piece[1:])) for piece in pieces)


def _pieces(
    begin: int, end: int, length: int, order: NDArray[np.int64] | None
) -> Iterator[slice | NDArray[np.int64]]:
    """The pairs from ``begin`` to ``end`` of the order, ``length`` at a time."""
    for first in range(begin, end, length):
        own = slice(first, min(first + length, end))
        yield own if order is None else order[own]
