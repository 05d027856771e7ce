"""Pairs of ids as numbers, so that long tables are joined by sorting numbers instead of comparing text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl


class Match(NamedTuple):
    """The rows of two tables that have equal keys."""

    partner: NDArray[np.int64]
    """For each row of the first table, the row of the second with the same key, or -1."""
    unmatched: NDArray[np.int64]
    """Rows of the second table that match no row of the first, ascending."""


def numbered(*columns: pl.Series) -> tuple[list[str], list[NDArray[np.int64]]]:
    """Return the distinct words of all columns, sorted, and each column as indices into them.

    Columns are ``String`` or ``Categorical``, without nulls.

    Examples
    --------
    >>> import polars as pl
    >>> numbered(pl.Series(["b", "a", "b"]), pl.Series(["c", "a", "a"]))
    (['a', 'b', 'c'], [array([1, 0, 1]), array([2, 0, 0])])
    """
    import polars as pl

    categorical = [column.cast(pl.Categorical) for column in columns]
    distinct = [column.unique() for column in categorical]
    words = [categories.cast(pl.String) for categories in distinct]
    all_words = pl.concat(words).unique().sort()
    enum = pl.Enum(all_words)
    indices = []
    for column, categories, names in zip(categorical, distinct, words, strict=True):
        codes = categories.to_physical().to_numpy()
        number = np.zeros(int(codes.max()) + 1 if len(codes) else 0, dtype=np.int64)
        number[codes] = names.cast(enum).to_physical().to_numpy()
        indices.append(number[column.to_physical().to_numpy()])
    return all_words.to_list(), indices


def first_duplicate(keys: NDArray[np.int64]) -> int | None:
    """Return the first row whose key an earlier row has too, or None.

    Examples
    --------
    >>> first_duplicate(np.array([3, 5, 4, 5, 3]))
    3
    """
    ascending = np.sort(keys)
    if not (ascending[1:] == ascending[:-1]).any():
        return None
    order = np.argsort(keys, kind="stable")
    return int(order[1:][keys[order[1:]] == keys[order[:-1]]].min())


def match(first: NDArray[np.int64], second: NDArray[np.int64]) -> Match:
    """Join two tables by their keys, which are distinct in each table.

    Examples
    --------
    >>> match(np.array([7, 8, 9]), np.array([9, 5, 7]))
    Match(partner=array([ 2, -1,  0]), unmatched=array([1]))
    """
    if np.array_equal(first, second):  # the usual case: scores in the order of their list
        return Match(np.arange(len(first)), np.empty(0, dtype=np.int64))
    first_order, second_order = np.argsort(first), np.argsort(second)
    first_keys, second_keys = first[first_order], second[second_order]
    partner = np.empty(len(first), dtype=np.int64)
    if np.array_equal(first_keys, second_keys):
        partner[first_order] = second_order
        return Match(partner, np.empty(0, dtype=np.int64))
    position = np.minimum(np.searchsorted(second_keys, first_keys), len(second_keys) - 1)
    found = second_keys[position] == first_keys
    partner[first_order] = np.where(found, second_order[position], -1)
    unmatched = np.ones(len(second), dtype=bool)
    unmatched[second_order[position[found]]] = False
    return Match(partner, np.flatnonzero(unmatched))
