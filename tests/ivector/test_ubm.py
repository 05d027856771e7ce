"""The UBM against scikit-learn and densities written out; its likelihood, its shards, its errors."""

from __future__ import annotations

import dataclasses
from functools import reduce

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from deepspeaker.errors import InputError
from deepspeaker.ivector import (
    Ubm,
    UbmStatistics,
    accumulate_given,
    accumulate_ubm,
    add,
    frame_posteriors,
    initial_ubm,
    sample_rows,
    update_ubm,
)
from tests.ivector.made_up import Floats, cut, draw, random_ubm


def log_densities(ubm: Ubm, frames: Floats) -> Floats:
    """Return the log of weight times density, (frames, C)."""
    full = ubm.with_full_covariances().covariances
    columns = [multivariate_normal(mean, cov).logpdf(frames) for mean, cov in zip(ubm.means, full, strict=True)]
    return np.log(ubm.weights) + np.stack(columns, axis=1)


def check_equal(first: UbmStatistics | Ubm, second: UbmStatistics | Ubm, rtol: float) -> None:
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        assert np.allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max()), field.name


@pytest.mark.parametrize("full", [False, True])
def test_posteriors_and_likelihood_are_those_of_the_densities(full: bool) -> None:
    ubm = random_ubm(0, full=full)
    frames = draw(ubm, 3000, 1) + 100 * (np.arange(3000) == 5)[:, None]  # with one frame far away
    expected = log_densities(ubm, frames)
    likelihood = logsumexp(expected, axis=1)
    gamma = np.exp(expected - likelihood[:, None])
    assert np.allclose(frame_posteriors(ubm, frames), gamma, atol=1e-11)
    statistics = accumulate_ubm(ubm, cut(frames, 7), np.float64)
    assert statistics.log_likelihood == pytest.approx(likelihood.sum(), rel=1e-12)
    assert statistics.frames == 3000
    assert np.allclose(statistics.counts, gamma.sum(axis=0))
    assert np.allclose(statistics.first, gamma.T @ frames)
    squares = np.einsum("tc,ti,tj->cij", gamma, frames, frames)
    i, j = np.triu_indices(3) if full else (np.arange(3), np.arange(3))
    assert np.allclose(statistics.second, squares[:, i, j])


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_float32_products_change_only_rounding(full: bool, shift: float) -> None:
    ubm = random_ubm(3, full=full)
    ubm = Ubm(ubm.weights, ubm.means + shift, ubm.covariances)
    frames = [draw(ubm, 5000, 4)]
    check_equal(accumulate_ubm(ubm, frames, np.float32), accumulate_ubm(ubm, frames, np.float64), 2e-6)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_likelihood_rises_with_every_iteration(full: bool, dtype: type[np.floating]) -> None:
    frames = cut(draw(random_ubm(10, 6, 5, full=full, spread=1.0), 4000, 11), 5)
    ubm = initial_ubm(np.concatenate(frames), 8, seed=1, iterations=1)
    ubm = ubm.with_full_covariances() if full else ubm
    likelihoods = []
    for _ in range(40):
        ubm, likelihood = update_ubm(accumulate_ubm(ubm, frames, dtype))
        likelihoods.append(likelihood)
    # The steps become small. Rounding errors of float32 may turn those of the last iterations.
    assert np.diff(likelihoods).min() > (-1e-12 if dtype is np.float64 else -1e-7)
    assert likelihoods[-1] > likelihoods[0] + 0.02


def test_full_covariances_begin_where_the_diagonal_ones_end() -> None:
    truth = random_ubm(12, full=True)
    frames = [draw(truth, 5000, 13)]
    ubm = initial_ubm(frames[0], 4, seed=0)
    for _ in range(10):
        ubm, before = update_ubm(accumulate_ubm(ubm, frames, np.float64))
    _, diagonal = update_ubm(accumulate_ubm(ubm, frames, np.float64))
    ubm, same = update_ubm(accumulate_ubm(ubm.with_full_covariances(), frames))
    _, after = update_ubm(accumulate_ubm(ubm, frames))
    assert same == pytest.approx(diagonal, rel=1e-12)
    assert before < diagonal < after
    assert after == pytest.approx(float(logsumexp(log_densities(ubm, frames[0]), axis=1).mean()), rel=1e-12)


@pytest.mark.parametrize("kind", ["diag", "full"])
def test_em_agrees_with_scikit_learn(kind: str) -> None:
    full = kind == "full"
    frames = draw(random_ubm(20, 5, 4, full=full, spread=1.5), 5000, 21)
    ubm = initial_ubm(frames, 5, seed=2)
    ubm = ubm.with_full_covariances() if full else ubm
    peer = GaussianMixture(
        5,
        covariance_type=kind,
        tol=0,
        reg_covar=0,
        max_iter=12,
        weights_init=ubm.weights,
        means_init=ubm.means,
        precisions_init=np.linalg.inv(ubm.covariances) if full else 1 / ubm.covariances,
    )
    with pytest.warns(match="did not converge"):
        peer.fit(frames)
    for _ in range(12):
        ubm, _ = update_ubm(accumulate_ubm(ubm, cut(frames, 9), np.float64), variance_floor=0)
    assert np.allclose(ubm.weights, peer.weights_, rtol=0, atol=1e-12)
    assert np.allclose(ubm.means, peer.means_, rtol=0, atol=1e-10)
    assert np.allclose(ubm.covariances, peer.covariances_, rtol=0, atol=1e-10)
    statistics = accumulate_ubm(ubm, [frames], np.float64)
    assert statistics.log_likelihood / 5000 == pytest.approx(peer.score(frames), rel=1e-12)
    assert np.allclose(frame_posteriors(ubm, frames), peer.predict_proba(frames), atol=1e-10)


@pytest.mark.parametrize("full", [False, True])
def test_shards_and_the_order_of_utterances_change_only_rounding(full: bool) -> None:
    ubm = random_ubm(30, full=full)
    utterances = cut(draw(ubm, 6000, 31), 12)
    whole = accumulate_ubm(ubm, utterances)
    order = np.random.default_rng(0).permutation(12)
    check_equal(accumulate_ubm(ubm, [utterances[number] for number in order]), whole, 1e-6)
    for shards in (2, 5, 12):
        parts = [accumulate_ubm(ubm, utterances[shard::shards]) for shard in range(shards)]
        check_equal(add(*parts), whole, 1e-6)
        check_equal(reduce(add, parts), whole, 1e-6)
    parts = [accumulate_ubm(ubm, utterances[shard::5], np.float64) for shard in range(5)]
    whole = accumulate_ubm(ubm, utterances, np.float64)
    check_equal(add(*parts), whole, 1e-13)
    check_equal(update_ubm(add(*parts))[0], update_ubm(whole)[0], 1e-12)


def test_an_empty_shard_adds_nothing() -> None:
    ubm = random_ubm(33)
    whole = accumulate_ubm(ubm, [draw(ubm, 100, 0)])
    check_equal(add(whole, accumulate_ubm(ubm, [])), whole, 0)


def test_posteriors_from_elsewhere_give_the_statistics_of_the_ubm_that_made_them() -> None:
    for full in (False, True):
        ubm = random_ubm(40, full=full)
        frames = draw(ubm, 500, 41)
        own = accumulate_ubm(ubm, [frames], np.float64)
        given = accumulate_given(frame_posteriors(ubm, frames), frames, full=full)
        check_equal(dataclasses.replace(given, log_likelihood=own.log_likelihood), own, 1e-11)


def test_the_variance_floor_is_a_share_of_the_variance_of_all_frames() -> None:
    generator = np.random.default_rng(0)
    frames = np.concatenate([generator.normal(size=(500, 2)), np.full((500, 2), 6.0)]) * [1.0, 10.0]
    variance = frames.var(axis=0)
    for full in (False, True):
        ubm = Ubm(np.full(2, 0.5), np.array([[0.0, 0.0], [6.0, 60.0]]), np.tile(variance / 10, (2, 1)))
        ubm = ubm.with_full_covariances() if full else ubm
        for _ in range(8):
            ubm, _ = update_ubm(accumulate_ubm(ubm, [frames], np.float64), variance_floor=0.01)
        variances = np.diagonal(ubm.covariances, axis1=1, axis2=2) if full else ubm.covariances
        assert np.allclose(variances[1], 0.01 * variance)
        assert (variances[0] > 0.02 * variance).all()


@pytest.mark.parametrize("full", [False, True])
def test_the_likelihood_rises_with_floored_variances_too(full: bool) -> None:
    frames = [draw(random_ubm(50, 12, 3, full=full, spread=1.5), 3000, 51)]
    ubm = initial_ubm(frames[0], 12, seed=0, iterations=2, variance_floor=0.2)
    ubm = ubm.with_full_covariances() if full else ubm
    likelihoods = []
    for _ in range(30):
        ubm, likelihood = update_ubm(accumulate_ubm(ubm, frames, np.float64), variance_floor=0.2)
        likelihoods.append(likelihood)
    assert np.diff(likelihoods).min() > -1e-12


def test_the_initial_ubm_finds_separate_clusters() -> None:
    truth = random_ubm(60, 2, 3, spread=20.0)
    frames = draw(truth, 5000, 61)
    for seed in range(5):
        found = initial_ubm(frames, 2, seed)
        nearest = np.linalg.norm(found.means[:, None] - truth.means, axis=2).argmin(axis=1)
        assert np.allclose(found.means, truth.means[nearest], atol=0.1)
        assert np.allclose(found.covariances, truth.covariances[nearest], rtol=0.1)
        assert np.allclose(found.weights, truth.weights[nearest], atol=0.03)
        check_equal(initial_ubm(frames, 2, seed), found, 0)
    assert np.ptp([initial_ubm(frames, 8, seed).means.sum() for seed in range(2)]) > 0


def test_sampled_rows_are_distinct_frames_of_all_utterances() -> None:
    lengths = np.random.default_rng(0).integers(0, 50, 200)
    rows = sample_rows(lengths, 1000, seed=4)
    assert sum(map(len, rows)) == 1000
    for length, chosen in zip(lengths, rows, strict=True):
        assert len(np.unique(chosen)) == len(chosen)
        assert not len(chosen) or (chosen.min() >= 0 and chosen.max() < length)
    assert sum(map(len, sample_rows(lengths, 10**6, seed=4))) == lengths.sum()
    again = sample_rows(lengths, 1000, seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(rows, again, strict=True))


def test_bad_input_of_the_initial_ubm_is_one_clear_error() -> None:
    frames = np.random.default_rng(0).normal(size=(1000, 3))
    with pytest.raises(InputError, match="200 components need 2000 frames of speech, there are 1000; use fewer"):
        initial_ubm(frames, 200, seed=0)
    with pytest.raises(InputError, match="0 components: give 1 or more"):
        initial_ubm(frames, 0, seed=0)
    with pytest.raises(InputError, match="only 2 of 4 components find distinct frames"):
        initial_ubm(np.repeat([[0.0, 1.0], [1.0, 2.0]], 50, axis=0), 4, seed=0)
    with pytest.raises(InputError, match="dimension 1 of the features is the same in all frames"):
        initial_ubm(frames * [1, 0, 1] + 7, 4, seed=0)
    frames[3, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        initial_ubm(frames, 4, seed=0)


def test_bad_input_of_em_is_one_clear_error() -> None:
    ubm = random_ubm(70)
    frames = draw(ubm, 1000, 71)
    for wrong in (np.full((5, 3), np.nan), np.full((5, 3), np.inf)):
        with pytest.raises(InputError, match="features are not finite numbers"):
            accumulate_ubm(ubm, [frames, wrong])
    with pytest.raises(InputError, match=r"features of shape \(1000, 2\) do not fit a UBM of 3 dimensions"):
        accumulate_ubm(ubm, [frames[:, :2]])
    far = Ubm(ubm.weights, ubm.means + 1e4 * (np.arange(4) == 2)[:, None], ubm.covariances)
    with pytest.raises(InputError, match="component 2 of 4 has 0 of 1000 frames, it is empty; use fewer components"):
        update_ubm(accumulate_ubm(far, [frames]))
    with pytest.raises(InputError, match="dimension 1 of the features is the same in all frames"):
        update_ubm(accumulate_ubm(ubm, [frames * [1, 0, 1] + [0, 0.5, 0]]))
    with pytest.raises(InputError, match=r"cannot be added .* different models"):
        add(accumulate_ubm(ubm, [frames]), accumulate_ubm(random_ubm(0, components=5), [frames]))


@pytest.mark.parametrize("full", [False, True])
def test_a_singular_covariance_is_one_clear_error(full: bool) -> None:
    frames = np.concatenate([np.random.default_rng(0).normal(size=(500, 2)), np.full((500, 2), 50.0)])
    ubm = Ubm(np.full(2, 0.5), np.array([[0.0, 0.0], [50.0, 50.0]]), np.ones((2, 2)))
    ubm = ubm.with_full_covariances() if full else ubm
    with pytest.raises(
        InputError, match="covariance of component 1 is singular; raise the variance floor or use fewer"
    ):
        update_ubm(accumulate_ubm(ubm, [frames], np.float64), variance_floor=0)
    zero = Ubm(ubm.weights, ubm.means, ubm.covariances * np.array([1.0, 0.0]).reshape(2, *[1] * (1 + full)))
    with pytest.raises(InputError, match="covariance of component 1 is singular"):
        accumulate_ubm(zero, [frames])


def test_posteriors_that_are_no_probabilities_are_one_clear_error() -> None:
    frames = np.zeros((4, 2))
    with pytest.raises(InputError, match="has 3 frames of posteriors and 4 frames of features"):
        accumulate_given(np.full((3, 2), 0.5), frames)
    with pytest.raises(InputError, match=r"posteriors of frame 1 .* give probabilities, not logarithms"):
        accumulate_given(np.array([[0.5, 0.5], [-0.7, -0.7], [0.5, 0.5], [1, 0]]), frames)
    with pytest.raises(InputError, match="posteriors of frame 3"):
        accumulate_given(np.array([[0.5, 0.5], [0, 1], [0.5, 0.5], [1, np.nan]]), frames)
