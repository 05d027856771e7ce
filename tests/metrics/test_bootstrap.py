"""The bootstrap over speakers: against repeated trials, and its coverage in simulated corpora."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.metrics import (
    SpeakerBootstrap,
    confidence_interval,
    det_points,
    equal_error_rate,
    min_dcf,
    paired_difference,
)


def trial_list(seed: int, speakers: int = 8, utterances: int = 4, ties: bool = False) -> tuple[np.ndarray, ...]:
    """Return scores, labels, enrolment speakers and test speakers of all pairs in a small corpus."""
    generator = np.random.default_rng(seed)
    owner = np.repeat(np.arange(speakers), utterances)
    embeddings = generator.normal(size=(speakers, 3))[owner] + generator.normal(size=(len(owner), 3))
    one, other = np.triu_indices(len(owner), 1)
    scores = (embeddings[one] * embeddings[other]).sum(axis=1)
    if ties:
        scores = scores.round()
    return scores, owner[one] == owner[other], owner[one], owner[other]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_weighted_speaker_equals_repeated_trials(seed: int, ties: bool) -> None:
    scores, labels, one, other = trial_list(seed, ties=ties)
    bootstrap = SpeakerBootstrap(scores, labels, one, other)
    for draw in range(5):
        weights = np.random.default_rng([seed, draw]).multinomial(8, np.full(8, 1 / 8))
        times = np.where(labels, weights[one], weights[one] * weights[other])
        repeated, repeated_labels = np.repeat(scores, times), np.repeat(labels, times)
        expected = det_points(repeated[repeated_labels], repeated[~repeated_labels])
        points = bootstrap.points(weights.astype(float))
        assert equal_error_rate(points)[0] == pytest.approx(equal_error_rate(expected)[0], abs=1e-12)
        for p in (0.5, 0.05, 0.01):
            assert min_dcf(points, p) == pytest.approx(min_dcf(expected, p), abs=1e-12)


def test_unit_weights_give_the_error_rates_of_the_list() -> None:
    scores, labels, one, other = trial_list(3)
    points = SpeakerBootstrap(scores, labels, one, other).points(np.ones(8))
    plain = det_points(scores[labels], scores[~labels])
    assert equal_error_rate(points)[0] == pytest.approx(equal_error_rate(plain)[0], abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_replicates_are_the_rates_of_the_drawn_speakers(ties: bool) -> None:
    scores, labels, one, other = trial_list(5, 12, 6, ties)
    found = SpeakerBootstrap(scores, labels, one, other).replicates(30, 9, (0.5, 0.01))
    generator = np.random.default_rng(9)
    for eer, costs in zip(found.eer, found.min_dcf, strict=True):
        weights = np.bincount(generator.integers(0, 12, 12), minlength=12)
        times = np.where(labels, weights[one], weights[one] * weights[other])
        repeated, repeated_labels = np.repeat(scores, times), np.repeat(labels, times)
        expected = det_points(repeated[repeated_labels], repeated[~repeated_labels])
        assert eer == pytest.approx(equal_error_rate(expected)[0], abs=1e-12)
        assert costs.tolist() == pytest.approx([min_dcf(expected, p) for p in (0.5, 0.01)], abs=1e-12)


def test_replicates_depend_only_on_the_seed() -> None:
    bootstrap = SpeakerBootstrap(*trial_list(0))
    one, again, other = (bootstrap.replicates(50, seed, (0.05,)) for seed in (0, 0, 1))
    assert np.array_equal(one.eer, again.eer)
    assert np.array_equal(one.min_dcf, again.min_dcf)
    assert not np.array_equal(one.eer, other.eer)
    assert one.min_dcf.shape == (50, 1)
    assert one.eer.std() > 0


def test_invalid_trials_are_rejected() -> None:
    scores, labels, one, other = trial_list(0)
    with pytest.raises(InputError, match="target and non-target"):
        SpeakerBootstrap(scores[labels], labels[labels], one[labels], other[labels])
    bad = scores.copy()
    bad[3] = np.nan
    with pytest.raises(InputError, match="1 scores are NaN"):
        SpeakerBootstrap(bad, labels, one, other)
    with pytest.raises(InputError, match="two speakers"):
        SpeakerBootstrap([1.0, 0.0], [True, False], [0, 0], [0, 1])


def corpus(generator: np.random.Generator, speakers: int, utterances: int, noise: float) -> tuple[np.ndarray, ...]:
    """Return unit-length embeddings (speakers * utterances, 10) and their speakers; some speakers vary more."""
    speaker_noise = noise * np.exp(0.3 * generator.normal(size=(speakers, 1, 1)))
    means = generator.normal(size=(speakers, 1, 10))
    embeddings = (means + speaker_noise * generator.normal(size=(speakers, utterances, 10))).reshape(-1, 10)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings, np.repeat(np.arange(speakers), utterances)


@functools.cache
def true_rate(utterances: int, noise: float) -> float:
    """Return the EER of 30,000 speakers, whose uncertainty is small compared with every interval under test."""
    speakers, pairs = 30_000, 1_000_000
    generator = np.random.default_rng(99)
    embeddings, owner = corpus(generator, speakers, utterances, noise)
    one, other = np.triu_indices(utterances, 1)
    by_speaker = embeddings.reshape(speakers, utterances, 10)
    targets = np.concatenate(
        [(by_speaker[:, a] * by_speaker[:, b]).sum(axis=-1) for a, b in zip(one, other, strict=True)]
    )
    first, second = generator.integers(0, len(embeddings), (2, pairs))
    apart = owner[first] != owner[second]
    nontargets = np.einsum("pd,pd->p", embeddings[first[apart]], embeddings[second[apart]])
    return equal_error_rate(det_points(targets, nontargets))[0]


def coverage(speakers: int, utterances: int, noise: float, corpora: int, replicates: int) -> float:
    """Return the fraction of simulated corpora in which the 95 % interval covers the EER of the population."""
    truth, covered = true_rate(utterances, noise), 0
    for number in range(corpora):
        embeddings, owner = corpus(np.random.default_rng([speakers, number]), speakers, utterances, noise)
        one, other = np.triu_indices(len(owner), 1)
        labels = owner[one] == owner[other]
        bootstrap = SpeakerBootstrap((embeddings @ embeddings.T)[one, other], labels, owner[one], owner[other])
        rate = equal_error_rate(bootstrap.points(np.ones(speakers)))[0]
        drawn = bootstrap.replicates(replicates, number)
        low, high = confidence_interval(rate, drawn.eer, speakers, 0.5 / labels.sum())
        covered += low <= truth <= high
    return covered / corpora


#: The number of corpora, and how far the observed coverage may be from 0.95: about three standard deviations.
CORPORA = [(120, 0.06), pytest.param(500, 0.03, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("corpora", "tolerance"), CORPORA)
@pytest.mark.parametrize("noise", [0.8, 0.5])  # population EER 16 % and 7 %
def test_coverage_of_the_interval_of_20_speakers(noise: float, corpora: int, tolerance: float) -> None:
    assert coverage(20, 6, noise, corpora, 200) == pytest.approx(0.95, abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("speakers", "utterances"), [(60, 5), (200, 4)])
def test_coverage_of_the_interval_of_many_speakers(speakers: int, utterances: int) -> None:
    assert 0.92 <= coverage(speakers, utterances, 0.5, 500, 200) <= 0.98


def test_the_interval_contains_the_rate_and_stays_between_0_and_1() -> None:
    generator = np.random.default_rng(0)
    for rate in (0.0, 0.01, 0.3, 0.99, 1.0):
        drawn = np.clip(rate + generator.normal(0, 0.05, 300), 0, 1)
        low, high = confidence_interval(rate, drawn, 20, 1e-3)
        assert 0 <= low <= rate <= high <= 1
        wide = confidence_interval(rate, drawn, 20, 1e-3, level=0.99)
        assert wide.low <= low
        assert wide.high >= high


@pytest.mark.parametrize(("corpora", "tolerance"), [(40, 0.12), pytest.param(100, 0.07, marks=pytest.mark.slow)])
def test_the_paired_test_finds_only_real_differences(corpora: int, tolerance: float) -> None:
    found = {0.0: 0, 0.25: 0}
    for worse in found:
        for number in range(corpora):
            generator = np.random.default_rng([7, number])
            embeddings, owner = corpus(generator, 30, 6, 0.5)
            one, other = np.triu_indices(len(owner), 1)
            labels = owner[one] == owner[other]
            rates, drawn = [], []
            for extra in (0.25, 0.25 + worse):  # two systems with independent noise on the same speech
                heard = embeddings + extra * generator.normal(size=embeddings.shape)
                heard /= np.linalg.norm(heard, axis=1, keepdims=True)
                bootstrap = SpeakerBootstrap((heard @ heard.T)[one, other], labels, owner[one], owner[other])
                rates.append(equal_error_rate(bootstrap.points(np.ones(30)))[0])
                drawn.append(bootstrap.replicates(100, 0).eer)
            result = paired_difference((rates[0], rates[1]), (drawn[0], drawn[1]), 30)
            assert result.difference == rates[0] - rates[1]
            assert (result.p_value < 0.05) == (not result.interval.low <= 0 <= result.interval.high)
            found[worse] += result.p_value < 0.05
    assert found[0.0] / corpora <= 0.05 + tolerance
    assert found[0.25] / corpora >= 0.9


def test_binned_scores_give_nearly_the_same_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, owner = corpus(np.random.default_rng(0), 40, 10, 0.5)
    one, other = np.triu_indices(len(owner), 1)
    trials = ((embeddings @ embeddings.T)[one, other], owner[one] == owner[other], owner[one], owner[other])
    exact = SpeakerBootstrap(*trials).replicates(40, 0, (0.05, 0.01))
    monkeypatch.setattr("deepspeaker.metrics.bootstrap.MAX_EXACT_TRIALS", 1000)
    binned = SpeakerBootstrap(*trials).replicates(40, 0, (0.05, 0.01))
    np.testing.assert_allclose(binned.eer, exact.eer, atol=5e-4)
    np.testing.assert_allclose(binned.min_dcf, exact.min_dcf, atol=0.02)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("coarse", [8, 64])
def test_coarse_points_do_not_change_a_rate(monkeypatch: pytest.MonkeyPatch, coarse: int, ties: bool) -> None:
    trials = trial_list(1, 12, 8, ties)
    found = []
    for points in (coarse, 10**6):
        monkeypatch.setattr("deepspeaker.metrics.bootstrap._COARSE_POINTS", points)
        drawn = SpeakerBootstrap(*trials).replicates(60, 0, (0.5, 0.05, 0.001))
        found.append((drawn.eer.tolist(), drawn.min_dcf.tolist()))
    assert found[0] == found[1]
