"""Intervals and decisions, on synthetic rates with known variation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deepspeaker.metrics import SpeakerBootstrap, paired_difference
from deepspeaker.tables import Rates, contrast, decide, interval_of, over_epochs

SPEAKERS = tuple(f"s{number:02d}" for number in range(30))


def rates(values: NDArray[np.float64], drawn: NDArray[np.float64], seeds: tuple[int, ...] = ()) -> Rates:
    return Rates(seeds or tuple(range(len(values))), values, drawn, SPEAKERS, 1e-3)


def scored(strength: float, seed: int) -> Rates:
    """The EER of a made-up system, which tells speakers apart the better the larger ``strength`` is."""
    generator = np.random.default_rng(7)  # the speakers, the same for all systems
    speaker = np.repeat(np.arange(len(SPEAKERS)), 6)
    centres = generator.normal(size=(len(SPEAKERS), 10))
    noise = np.random.default_rng([seed, 1]).normal(size=(len(speaker), 10))
    embeddings = strength * centres[speaker] + noise
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(speaker), 1)
    values = (embeddings[first] * embeddings[second]).sum(axis=1)
    bootstrap = SpeakerBootstrap(values, speaker[first] == speaker[second], speaker[first], speaker[second])
    from deepspeaker.metrics import equal_error_rate

    eer, _ = equal_error_rate(bootstrap.points(np.ones(len(SPEAKERS))))
    return rates(np.array([eer]), bootstrap.replicates(200, seed=0).eer[None])


def test_a_better_system_is_told_from_a_worse_one_and_equal_ones_are_not_decided() -> None:
    strong, weak, other_weak = scored(1.0, 1), scored(0.6, 2), scored(0.6, 3)
    assert decide(contrast([(1, strong), (-1, weak)])) == "held"
    assert decide(contrast([(1, weak), (-1, strong)])) == "reversed"
    assert decide(contrast([(1, weak), (-1, other_weak)])) == "not decided by these data"
    assert decide(contrast([(1, strong)], constant=-0.4)) == "held"


def test_one_training_gives_the_paired_test_of_the_metrics() -> None:
    one, other = scored(1.0, 1), scored(0.8, 2)
    expected = paired_difference((one.mean, other.mean), (one.drawn[0], other.drawn[0]), len(SPEAKERS))
    found = contrast([(1, one), (-1, other)])
    assert found.value == pytest.approx(expected.difference)
    assert found.interval == pytest.approx(tuple(expected.interval))


def test_the_variance_over_speakers_and_trainings_is_that_of_a_bootstrap_over_both() -> None:
    """Against a literal bootstrap, which draws speakers and, with replacement, trainings; corrected for few of them."""
    generator = np.random.default_rng(0)
    seeds, draws = 6, 20_000
    of_seed = generator.normal(0.05, 0.01, seeds)
    drawn = of_seed[:, None] + generator.normal(0, 0.008, draws) + generator.normal(0, 1e-4, (seeds, draws))
    found = contrast([(1, rates(of_seed, drawn))])
    chosen = generator.integers(0, seeds, (draws, seeds))
    both = drawn[chosen, np.arange(draws)[:, None]].mean(axis=1)
    only_speakers = drawn.mean(axis=0).var()
    n = len(SPEAKERS)
    variance = only_speakers * n / (n - 1) + (both.var() - only_speakers) * seeds / (seeds - 1)
    assert found.interval is not None
    half = (found.interval[1] - found.interval[0]) / 2
    assert 2.0 < half / variance**0.5 < 2.3  # Student's quantile with some 15 degrees of freedom


def test_intervals_cover_the_truth_of_new_speakers_and_trainings() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        of_speaker, of_seed = generator.normal(0.1, 0.2, len(SPEAKERS)), generator.normal(0, 0.03, 3)
        weights = generator.multinomial(len(SPEAKERS), [1 / len(SPEAKERS)] * len(SPEAKERS), 200) / len(SPEAKERS)
        drawn = weights @ of_speaker + of_seed[:, None]
        low, high = contrast([(1, rates(of_speaker.mean() + of_seed, drawn))]).interval or (0.0, 0.0)
        covered += low < 0.1 < high
    assert 0.92 < covered / 400 < 0.99


def test_pairs_are_those_of_the_common_seeds() -> None:
    drawn = np.full((3, 50), 0.1)
    one = Rates((0, 1, 2), np.array([0.10, 0.20, 0.30]), drawn, SPEAKERS, 1e-3)
    other = Rates((2, 1), np.array([0.29, 0.18]), drawn[:2], SPEAKERS, 1e-3)
    assert contrast([(1, one), (-1, other)]).value == pytest.approx((0.01 + 0.02) / 2)


def test_without_draws_or_with_other_speakers_nothing_is_decided() -> None:
    few = Rates((0,), np.array([0.1]), np.empty((1, 0)), SPEAKERS[:3], 1e-3)
    assert interval_of(few) == (0.1, None)
    assert decide(contrast([(1, few), (-1, few)])) == "not decided by these data"
    others = Rates((0,), np.array([0.9]), np.full((1, 50), 0.9), SPEAKERS[:20], 1e-3)
    assert decide(contrast([(1, scored(1.0, 1)), (-1, others)])) == "not decided by these data"


def test_shares_of_epochs_are_compared_by_students_t() -> None:
    from scipy.stats import ttest_1samp

    differences = np.random.default_rng(2).normal(-0.1, 0.05, 12)
    expected = ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert over_epochs(differences).interval == pytest.approx((expected.low, expected.high))
