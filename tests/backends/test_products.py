"""Inner products of pairs, whichever way they are computed, against a loop over pairs."""

from __future__ import annotations

import numpy as np
import pytest

from deepspeaker.backends import pair_products


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pairs", [0, 1, 50, 3000])  # the last are many in each block
@pytest.mark.parametrize("ascending", [False, True])
def test_against_a_loop(monkeypatch: pytest.MonkeyPatch, dtype: type, pairs: int, ascending: bool) -> None:
    monkeypatch.setattr("deepspeaker.backends.products.BLOCK", 16)
    monkeypatch.setattr("deepspeaker.backends.products._LOOKED_UP", 37)
    monkeypatch.setattr("deepspeaker.backends.products._FETCHED", 5)
    generator = np.random.default_rng(pairs)
    one, other = generator.normal(size=(50, 4)).astype(dtype), generator.normal(size=(70, 4)).astype(dtype)
    rows, columns = generator.integers(0, 50, pairs), generator.integers(3, 66, pairs)
    if ascending:
        rows.sort()
    found = pair_products(one, other, rows, columns)
    assert found.dtype == dtype
    expected = [
        sum(float(a) * float(b) for a, b in zip(one[r], other[c], strict=True))
        for r, c in zip(rows, columns, strict=True)
    ]
    np.testing.assert_allclose(found, np.array(expected), rtol=0, atol=1e-5 if dtype == np.float32 else 1e-12)


def test_indices_of_any_width_and_columns_apart_from_the_rows() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(2000, 3))
    rows, columns = np.repeat(np.arange(1000), 1000), np.tile(np.arange(1000, 2000), 1000)
    expected = (vectors[:1000] @ vectors[1000:].T).ravel()
    for width in (np.int32, np.int64):
        found = pair_products(vectors, vectors, rows.astype(width), columns.astype(width))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
