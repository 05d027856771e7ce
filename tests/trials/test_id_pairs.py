"""Joins of numbered pairs against dictionaries."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from deepspeaker.trials import first_duplicate, match, numbered

keys = st.lists(st.integers(0, 30), min_size=1, max_size=25)


@given(keys, keys)
def test_match_against_a_dictionary(one: list[int], other: list[int]) -> None:
    first, second = np.array(list(dict.fromkeys(one))), np.array(list(dict.fromkeys(other)))
    rows = {int(key): row for row, key in enumerate(second)}
    found = match(first, second)
    assert found.partner.tolist() == [rows.get(int(key), -1) for key in first]
    assert found.unmatched.tolist() == [row for row, key in enumerate(second) if key not in first]


@given(keys)
def test_the_first_key_that_was_there_before(values: list[int]) -> None:
    expected = next((row for row, key in enumerate(values) if key in values[:row]), None)
    assert first_duplicate(np.array(values)) == expected


@given(st.lists(st.text('ab\u00e9"', min_size=1), min_size=1), st.lists(st.text("ab", min_size=1), min_size=1))
def test_words_are_numbered_in_their_order(one: list[str], other: list[str]) -> None:
    words, codes = numbered(pl.Series(one), pl.Series(other))
    assert words == sorted({*one, *other})
    for column, own in zip((one, other), codes, strict=True):
        assert [words[code] for code in own] == column
