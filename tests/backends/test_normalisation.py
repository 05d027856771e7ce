"""Score normalisation against a naive loop."""

from __future__ import annotations

import numpy as np
import pytest

from deepspeaker.backends import cohort_statistics, normalised_scores


def unit(generator: np.random.Generator, count: int) -> np.ndarray:
    vectors = generator.normal(size=(count, 6))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("top", [None, 1, 5, 40, 100])
@pytest.mark.parametrize("norm", ["z", "t", "s"])
def test_against_a_loop(norm: str, top: int | None) -> None:
    generator = np.random.default_rng(0)
    embeddings, cohort = unit(generator, 12), unit(generator, 40)
    enrolment, test = generator.integers(0, 12, (2, 50))
    scores = (embeddings[enrolment] * embeddings[test]).sum(axis=1)
    found = normalised_scores(scores, enrolment, test, cohort_statistics(embeddings, cohort, top), norm)
    for k in range(50):
        parts = []
        for side in (enrolment[k], test[k]):
            against = sorted((float(embeddings[side] @ member) for member in cohort), reverse=True)[:top]
            deviation = max(np.std(against, ddof=1) if len(against) > 1 else 0.0, 1e-6)
            parts.append((scores[k] - np.mean(against)) / deviation)
        expected = {"z": parts[0], "t": parts[1], "s": (parts[0] + parts[1]) / 2}[norm]
        assert found[k] == pytest.approx(expected, rel=1e-3, abs=1e-4)
