"""Pairs of ids as numbers, so that long tables are joined by sorting numbers rather than by comparing text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray


class Match(NamedTuple):
    """Where the pairs of two tables meet."""

    partner: NDArray[np.int64]  # of each pair of the first its row in the second, -1 where there is none
    unmatched: NDArray[np.int64]  # rows of the second that are no partner, ascending


def numbered(*columns: pl.Series) -> tuple[list[str], list[NDArray[np.int64]]]:
    """The distinct words of all columns, sorted, and of each column the numbers of its words among them.

    Columns are ``String`` or ``Categorical``, without nulls.
    """
    categorical = [column.cast(pl.Categorical) for column in columns]
    distinct = [column.unique() for column in categorical]
    words = [own.cast(pl.String) for own in distinct]
    every = pl.concat(words).unique().sort()
    kind = pl.Enum(every)
    codes = []
    for column, own, names in zip(categorical, distinct, words, strict=True):
        of_own = own.to_physical().to_numpy()
        number = np.zeros(int(of_own.max()) + 1 if len(of_own) else 0, dtype=np.int64)
        number[of_own] = names.cast(kind).to_physical().to_numpy()
        codes.append(number[column.to_physical().to_numpy()])
    return every.to_list(), codes


def first_twice(keys: NDArray[np.int64]) -> int | None:
    """The row of a key that an earlier row has too, the first such; None where all differ."""
    ascending = np.sort(keys)
    if not (ascending[1:] == ascending[:-1]).any():
        return None
    order = np.argsort(keys, kind="stable")
    return int(order[1:][keys[order[1:]] == keys[order[:-1]]].min())


def match(one: NDArray[np.int64], other: NDArray[np.int64]) -> Match:
    """Joins two tables by keys, which are distinct in each."""
    if np.array_equal(one, other):  # as lists and their scores mostly are
        return Match(np.arange(len(one)), np.empty(0, dtype=np.int64))
    order, other_order = np.argsort(one), np.argsort(other)
    wanted, there = one[order], other[other_order]
    partner = np.empty(len(one), dtype=np.int64)
    if np.array_equal(wanted, there):
        partner[order] = other_order
        return Match(partner, np.empty(0, dtype=np.int64))
    at = np.minimum(np.searchsorted(there, wanted), len(there) - 1)
    found = there[at] == wanted
    partner[order] = np.where(found, other_order[at], -1)
    alone = np.ones(len(other), dtype=bool)
    alone[other_order[at[found]]] = False
    return Match(partner, np.flatnonzero(alone))
