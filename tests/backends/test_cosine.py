from __future__ import annotations

import numpy as np
import pytest

from deepspeaker.backends import BLOCK, cosine_scores, length_normalised


def test_rows_get_the_given_length_and_rows_of_zeros_stay() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    vectors[7] = 0
    with np.errstate(all="raise"):
        lengths = np.linalg.norm(length_normalised(vectors, 3.0).astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, np.where(np.arange(20) == 7, 0, 3), atol=1e-6)
    assert length_normalised(vectors).dtype == np.float32


@pytest.mark.parametrize("seed", range(8))
def test_against_a_loop_in_float64(seed: int) -> None:
    generator = np.random.default_rng(seed)
    utterances, trials = int(generator.integers(1, 40)), int(generator.integers(1, 300))
    lengths = 10.0 ** generator.uniform(-3, 3, (utterances, 1))
    embeddings = (generator.normal(size=(utterances, 6)) * lengths).astype(np.float32)
    enrolment, test = generator.integers(0, utterances, (2, trials))
    scores = cosine_scores(embeddings, enrolment, test)
    assert scores.shape == (trials,)
    assert scores.dtype == np.float32
    for trial in range(trials):
        one, other = embeddings[enrolment[trial]].astype(np.float64), embeddings[test[trial]].astype(np.float64)
        cosine = (one * other).sum() / (np.sqrt((one * one).sum()) * np.sqrt((other * other).sum()))
        assert abs(float(scores[trial]) - cosine) < 1e-6


def test_lists_of_more_rows_than_a_block() -> None:
    generator = np.random.default_rng(0)
    utterances = 2 * BLOCK + 37
    embeddings = generator.normal(size=(utterances, 4)).astype(np.float32)
    edges = [0, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, utterances - 1]
    enrolment = np.concatenate([np.repeat(edges, len(edges)), generator.integers(0, utterances, 2000)])
    test = np.concatenate([np.tile(edges, len(edges)), generator.integers(0, utterances, 2000)])
    unit = embeddings.astype(np.float64)
    unit /= np.sqrt((unit**2).sum(axis=1, keepdims=True))
    expected = [float(unit[a] @ unit[b]) for a, b in zip(enrolment, test, strict=True)]
    np.testing.assert_allclose(cosine_scores(embeddings, enrolment, test), expected, rtol=0, atol=1e-6)


def test_a_row_of_zeros_has_cosine_0_with_everything() -> None:
    embeddings = np.array([[0, 0], [3, 4], [0, 0]], dtype=np.float32)
    with np.errstate(all="raise"):
        scores = cosine_scores(embeddings, np.array([0, 1, 0, 1]), np.array([1, 0, 2, 1]))
    assert scores[:3].tolist() == [0.0, 0.0, 0.0]
    assert scores[3] == pytest.approx(1.0, abs=1e-6)


def test_the_sides_of_a_trial_can_be_swapped() -> None:
    generator = np.random.default_rng(2)
    embeddings = generator.normal(size=(20, 5)).astype(np.float32)
    enrolment, test = generator.integers(0, 20, (2, 100))
    there, back = cosine_scores(embeddings, enrolment, test), cosine_scores(embeddings, test, enrolment)
    np.testing.assert_allclose(there, back, rtol=0, atol=1e-6)


def test_no_trials_give_no_scores() -> None:
    none = np.empty(0, dtype=np.int64)
    assert cosine_scores(np.ones((3, 2), dtype=np.float32), none, none).shape == (0,)
