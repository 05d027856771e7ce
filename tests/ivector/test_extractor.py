"""The i-vector extractor against the joint Gaussian of factor and frames; its likelihood, its shards, its errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.linalg import block_diag, subspace_angles
from scipy.stats import multivariate_normal

from deepspeaker.errors import InputError
from deepspeaker.ivector import (
    Extractor,
    ExtractorStatistics,
    Ubm,
    UtteranceStatistics,
    accumulate_extractor,
    add,
    initial_extractor,
    ivectors,
    posteriors,
    statistics_of_given,
    total_variability,
    update_extractor,
    utterance_statistics,
)
from tests.ivector.made_up import Floats, cut, draw, random_extractor, random_ubm


def aligned(ubm: Ubm, frames: int, seed: int) -> tuple[Floats, Floats]:
    """Return random frames (frames, D), and posteriors (frames, C) that give each frame to one component."""
    generator = np.random.default_rng(seed)
    component = generator.integers(0, len(ubm.weights), frames)
    return np.eye(len(ubm.weights))[component], 2 * generator.normal(size=(frames, ubm.means.shape[1]))


def joint_gaussian(ubm: Ubm, extractor: Extractor, component: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the mean (frames * D,) and covariance of all frames, and their covariance (frames * D, R) with w."""
    means, loadings = total_variability(ubm, extractor)
    noise = ubm.with_full_covariances().covariances
    owner = component.argmax(axis=1)
    stacked = loadings[owner].reshape(-1, extractor.dim)
    return means[owner].reshape(-1), stacked @ stacked.T + block_diag(*noise[owner]), stacked


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("frames", [1, 3, 25])
def test_posteriors_are_those_of_the_joint_gaussian(full: bool, frames: int) -> None:
    ubm = random_ubm(0, full=full)
    extractor = random_extractor(1, ubm, 2)
    component, values = aligned(ubm, frames, frames)
    mean, covariance, cross = joint_gaussian(ubm, extractor, component)
    # The frames' components are known, so factor and frames are jointly Gaussian: condition on the frames.
    gain = np.linalg.solve(covariance, cross).T
    means, covariances = posteriors(extractor, statistics_of_given(ubm, [(component, values)]))
    assert np.allclose(means[0], gain @ (values.reshape(-1) - mean), rtol=0, atol=2e-6)  # the statistics are float32
    assert np.allclose(covariances[0], np.eye(2) - gain @ cross, rtol=0, atol=1e-12)


@pytest.mark.parametrize("full", [False, True])
def test_the_objective_is_the_log_likelihood_of_the_frames_up_to_a_constant(full: bool) -> None:
    ubm = random_ubm(2, full=full)
    utterances = [aligned(ubm, frames, frames) for frames in (4, 9, 20)]
    statistics = statistics_of_given(ubm, utterances)
    differences = []
    for seed in range(4):
        extractor = random_extractor(seed, ubm, 2)
        exact = 0.0
        for component, values in utterances:
            mean, covariance, _ = joint_gaussian(ubm, extractor, component)
            exact += float(multivariate_normal.logpdf(values.reshape(-1), mean, covariance))
        differences.append(exact - accumulate_extractor(extractor, statistics).objective)
    assert np.ptp(differences) < 1e-4  # of hundreds; the statistics are float32


def test_posteriors_weigh_frames_that_are_shared_by_components() -> None:
    ubm = random_ubm(3)
    extractor = random_extractor(4, ubm, 3)
    statistics = utterance_statistics(ubm, cut(draw(ubm, 500, 5), 4))
    means, covariances = posteriors(extractor, statistics)
    for counts, first, mean, covariance in zip(statistics.counts, statistics.first, means, covariances, strict=True):
        precision, linear = np.eye(3), np.zeros(3)
        for count, row, offset, loading in zip(counts, first, extractor.offsets, extractor.loadings, strict=True):
            precision += count * loading.T @ loading
            linear += loading.T @ (row - count * offset)
        assert np.allclose(covariance, np.linalg.inv(precision), atol=1e-12)
        assert np.allclose(mean, np.linalg.solve(precision, linear), atol=1e-10)
    assert np.array_equal(ivectors(extractor, statistics), means.astype(np.float32))


def speech(ubm: Ubm, extractor: Extractor, utterances: int, frames: int, seed: int) -> list[Floats]:
    """Draw utterances of a UBM whose means move with a factor of each utterance."""
    generator = np.random.default_rng(seed)
    means, loadings = total_variability(ubm, extractor)
    moved = means + np.einsum("cdr,ur->ucd", loadings, generator.normal(size=(utterances, extractor.dim)))
    return [
        draw(Ubm(ubm.weights, moved[number], ubm.covariances), frames, int(generator.integers(2**31)))
        for number in range(utterances)
    ]


@pytest.mark.parametrize("full", [False, True])
def test_the_likelihood_rises_with_every_iteration(full: bool) -> None:
    ubm = random_ubm(10, 6, 4, full=full)
    frames = speech(ubm, random_extractor(11, ubm, 3), 150, 40, 12)
    statistics = utterance_statistics(ubm, frames)
    extractor = initial_extractor(ubm, 3, seed=0)
    objectives = []
    for _ in range(40):
        extractor, objective = update_extractor(extractor, accumulate_extractor(extractor, statistics))
        objectives.append(objective)
    assert np.diff(objectives).min() > -1e-12
    assert objectives[-1] > objectives[0] + 0.1


def test_minimum_divergence_gives_the_factors_a_standard_prior() -> None:
    ubm = random_ubm(13, 5, 3)
    statistics = utterance_statistics(ubm, speech(ubm, random_extractor(14, ubm, 2), 400, 60, 15))
    extractor = initial_extractor(ubm, 2, seed=0)
    for _ in range(60):
        extractor, _ = update_extractor(extractor, accumulate_extractor(extractor, statistics))
    means, covariances = posteriors(extractor, statistics)
    assert np.allclose(means.mean(axis=0), 0, atol=1e-2)
    assert np.allclose((covariances + np.einsum("ui,uj->uij", means, means)).mean(axis=0), np.eye(2), atol=1e-2)


@pytest.mark.parametrize("full", [False, True])
def test_a_known_total_variability_matrix_is_recovered(full: bool) -> None:
    ubm = random_ubm(20, 6, 4, full=full)
    truth = random_extractor(21, ubm, 3)
    means, loadings = total_variability(ubm, truth)
    roots = ubm.with_full_covariances().roots
    generator = np.random.default_rng(22)
    pairs = []  # frames whose component is known, so that the model is exact
    factors = generator.normal(size=(1500, 3))
    for factor in factors - factors.mean(axis=0):  # so that m can be known
        component = generator.integers(0, 6, 60)
        moved = means + loadings @ factor
        noise = np.einsum("nij,nj->ni", roots[component], generator.normal(size=(60, 4)))
        pairs.append((np.eye(6)[component], moved[component] + noise))
    statistics = statistics_of_given(ubm, pairs)
    extractor = initial_extractor(ubm, 3, seed=1)
    for _ in range(30):
        extractor, _ = update_extractor(extractor, accumulate_extractor(extractor, statistics))
    found_means, found = total_variability(ubm, extractor)
    found, expected = found.reshape(-1, 3), loadings.reshape(-1, 3)
    assert np.rad2deg(subspace_angles(found, expected)).max() < 2
    assert np.allclose(found @ found.T, expected @ expected.T, atol=0.12 * np.abs(expected @ expected.T).max())
    assert np.allclose(found_means, means, atol=0.05)


def test_the_update_does_not_depend_on_what_memory_held_before(monkeypatch: pytest.MonkeyPatch) -> None:
    ubm = random_ubm(20, 6, 4)
    extractor = initial_extractor(ubm, 3, seed=1)
    pairs = [aligned(ubm, 40, seed) for seed in range(12)]
    collected = accumulate_extractor(extractor, statistics_of_given(ubm, pairs))
    expected, _ = update_extractor(extractor, collected)
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, np.nan, dtype))
    found, _ = update_extractor(extractor, collected)
    check_equal(found, expected, 0)


def check_equal(first: ExtractorStatistics | Extractor, second: ExtractorStatistics | Extractor, rtol: float) -> None:
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        assert np.allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max()), field.name


def rows(statistics: UtteranceStatistics, chosen: slice | Floats) -> UtteranceStatistics:
    return UtteranceStatistics(statistics.counts[chosen], statistics.first[chosen])


def test_shards_and_the_order_of_utterances_change_only_rounding() -> None:
    ubm = random_ubm(30)
    truth = random_extractor(31, ubm, 3)
    statistics = utterance_statistics(ubm, speech(ubm, truth, 201, 30, 32))
    extractor = random_extractor(33, ubm, 3)
    whole = accumulate_extractor(extractor, statistics)
    order = np.random.default_rng(0).permutation(201)
    check_equal(accumulate_extractor(extractor, rows(statistics, order)), whole, 1e-12)
    for shards in (2, 7, 201, 300):
        parts = [accumulate_extractor(extractor, rows(statistics, slice(s, None, shards))) for s in range(shards)]
        check_equal(add(*parts), whole, 1e-12)
        check_equal(update_extractor(extractor, add(*parts))[0], update_extractor(extractor, whole)[0], 1e-11)
    assert np.allclose(ivectors(extractor, rows(statistics, order)), ivectors(extractor, statistics)[order], atol=1e-6)


def test_no_utterances_have_no_ivectors() -> None:
    ubm = random_ubm(34)
    extractor, none = random_extractor(35, ubm, 2), utterance_statistics(ubm, [])
    assert ivectors(extractor, none).shape == (0, 2)
    means, covariances = posteriors(extractor, none)
    assert means.shape == (0, 2) and covariances.shape == (0, 2, 2)


def test_the_seed_decides_the_first_extractor() -> None:
    ubm = random_ubm(36)
    first = initial_extractor(ubm, 2, seed=0)
    assert np.array_equal(first.loadings, initial_extractor(ubm, 2, seed=0).loadings)
    assert not np.array_equal(first.loadings, initial_extractor(ubm, 2, seed=1).loadings)


def test_bad_input_is_one_clear_error() -> None:
    ubm = random_ubm(40)
    statistics = utterance_statistics(ubm, cut(draw(ubm, 400, 41), 8))
    for dim in (0, 13):
        with pytest.raises(InputError, match=f"i-vectors of {dim} dimensions: a UBM of 4 components .* allows 1 to 12"):
            initial_extractor(ubm, dim, seed=0)
    many = initial_extractor(ubm, 8, seed=0)
    with pytest.raises(InputError, match="8 dimensions need more than 8 training utterances, there are 8; use fewer"):
        update_extractor(many, accumulate_extractor(many, statistics))
    extractor = initial_extractor(ubm, 2, seed=0)
    other = utterance_statistics(random_ubm(42, components=5), cut(draw(ubm, 400, 41), 8))
    with pytest.raises(InputError, match=r"statistics of \(5, 3\) .* do not fit an i-vector extractor of \(4, 3\)"):
        accumulate_extractor(extractor, other)
    statistics.counts[:, 2] = 0
    with pytest.raises(InputError, match="component 2 of the UBM has no frames in the extractor's training data"):
        update_extractor(extractor, accumulate_extractor(extractor, statistics))
    statistics.first[3, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        accumulate_extractor(extractor, statistics)
