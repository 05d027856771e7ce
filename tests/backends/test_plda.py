"""PLDA against the Gaussian densities written out, and EM against the likelihood."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.stats import multivariate_normal

from deepspeaker.backends import Plda, Statistics, adapt_plda, em_step, log_likelihood, plda_scores, train_plda
from deepspeaker.errors import InputError


def random_covariance(generator: np.random.Generator, dim: int) -> np.ndarray:
    root = generator.normal(size=(dim, dim))
    return root @ root.T + 0.3 * np.eye(dim)


def data(seed: int, dim: int = 3, speakers: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, speakers, and the B and W that they were drawn from."""
    generator = np.random.default_rng(seed)
    between, within = random_covariance(generator, dim), random_covariance(generator, dim)
    owner = np.repeat(np.arange(speakers), generator.integers(1, 7, speakers))
    y = generator.multivariate_normal(np.zeros(dim), between, speakers)[owner]
    e = generator.multivariate_normal(np.zeros(dim), within, len(owner))
    return y + e + generator.normal(size=dim), owner, between, within


def joint(vectors: list[np.ndarray], between: np.ndarray, within: np.ndarray) -> float:
    """Log density of utterances of one speaker (the mean being 0), from the whole covariance matrix."""
    count, dim = len(vectors), len(within)
    covariance = np.kron(np.ones((count, count)), between) + np.kron(np.eye(count), within)
    return float(multivariate_normal.logpdf(np.concatenate(vectors), np.zeros(count * dim), covariance))


@pytest.mark.parametrize("seed", range(4))
def test_the_likelihood_is_that_of_the_joint_gaussian(seed: int) -> None:
    embeddings, owner, between, within = data(seed)
    statistics = Statistics.of(embeddings, owner)
    centred = embeddings - statistics.mean
    expected = sum(joint(list(centred[owner == s]), between, within) for s in np.unique(owner))
    assert log_likelihood(statistics, between, within) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_em_never_lowers_the_likelihood(seed: int) -> None:
    embeddings, owner, _, _ = data(seed)
    statistics = Statistics.of(embeddings, owner)
    between, within = np.eye(3), np.eye(3)
    before = log_likelihood(statistics, between, within)
    for _ in range(30):
        between, within = em_step(statistics, between, within)
        after = log_likelihood(statistics, between, within)
        assert after >= before - 1e-9 * abs(before)
        before = after


def test_em_finds_the_covariances_that_the_data_were_drawn_from() -> None:
    embeddings, owner, between, within = data(0, speakers=4000)
    statistics = Statistics.of(embeddings, owner)
    found = np.eye(3), np.eye(3)
    for _ in range(40):
        found = em_step(statistics, *found)
    assert np.abs(found[0] - between).max() < 0.1 * np.abs(between).max()
    assert np.abs(found[1] - within).max() < 0.1 * np.abs(within).max()


@pytest.mark.parametrize("seed", range(4))
def test_ratios_against_the_joint_densities(seed: int) -> None:
    """Log p(enrolment and test of one speaker) - log p(enrolment) - log p(test), for 1 to 4 enrolment utterances."""
    embeddings, owner, _, _ = data(seed)
    plda = train_plda(embeddings, owner, iterations=5)
    back = np.linalg.inv(plda.transform)
    between, within = back @ np.diag(plda.between) @ back.T, back @ back.T
    generator = np.random.default_rng(seed)
    enrolments = [generator.normal(size=(count, 3)) for count in (1, 2, 3, 4)]
    tests = generator.normal(size=(5, 3))
    rows, columns = np.repeat(np.arange(4), 5), np.tile(np.arange(5), 4)
    means = np.stack([own.mean(axis=0) for own in enrolments])
    found = plda_scores(plda, means, np.array([1, 2, 3, 4]), tests, rows, columns)
    for score, row, column in zip(found, rows, columns, strict=True):
        own, test = list(enrolments[row] - plda.mean), tests[column] - plda.mean
        expected = joint([*own, test], between, within) - joint(own, between, within) - joint([test], between, within)
        assert score == pytest.approx(expected, abs=1e-4)


def test_too_few_speakers_are_said() -> None:
    embeddings, owner, _, _ = data(0, dim=5, speakers=5)
    with pytest.raises(InputError, match=r"more than 5 training speakers, there are 5; lower scoring\.lda_dim"):
        train_plda(embeddings, owner)
    with pytest.raises(InputError, match="two utterances"):
        train_plda(np.random.default_rng(0).normal(size=(9, 2)), np.arange(9))


def test_the_model_space_has_unit_within_covariance() -> None:
    embeddings, owner, _, _ = data(1, speakers=2000)
    plda = train_plda(embeddings, owner, iterations=20)
    assert isinstance(plda, Plda)
    projected = plda.project(embeddings)
    scatter = Statistics.of(projected, owner).scatter / (len(owner) - 2000)
    np.testing.assert_allclose(scatter, np.eye(3), atol=0.08)


def covariances(plda: Plda) -> tuple[np.ndarray, np.ndarray]:
    """B and W in the space of the embeddings."""
    back = np.linalg.inv(plda.transform)
    return back @ np.diag(plda.between) @ back.T, back @ back.T


@pytest.mark.parametrize("seed", range(4))
def test_adaptation_against_the_eigenvectors_in_the_space_of_the_embeddings(seed: int) -> None:
    embeddings, owner, _, _ = data(seed, dim=4, speakers=60)
    plda = train_plda(embeddings, owner)
    generator = np.random.default_rng(seed)
    other = generator.normal(size=(500, 4)) @ random_covariance(generator, 4) * 0.7 + generator.normal(size=4)
    between, within = covariances(plda)
    total = between + within
    shift = other.mean(axis=0) - plda.mean
    size, vectors = eigh(np.cov(other.T, bias=True) + np.outer(shift, shift), total)  # v' total v = 1
    assert size.min() < 1 < size.max()
    for value, vector in zip(size, vectors.T, strict=True):
        if value > 1:
            raised = total @ np.outer(vector, vector) @ total * (value - 1)
            between, within = between + 0.6 * raised, within + 0.5 * raised
    adapted = adapt_plda(plda, other, 0.5, 0.6)
    np.testing.assert_allclose(adapted.mean, other.mean(axis=0))
    for found, expected in zip(covariances(adapted), (between, within), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


def test_adaptation_to_what_the_model_expects_changes_little_and_wrong_input_is_said() -> None:
    embeddings, owner, _, _ = data(1, speakers=3000)
    plda = train_plda(embeddings, owner, iterations=20)
    adapted = adapt_plda(plda, embeddings)
    for found, before in zip(covariances(adapted), covariances(plda), strict=True):
        assert np.abs(found - before).max() < 0.05 * np.abs(before).max()
    with pytest.raises(InputError, match="many utterances, not 1"):
        adapt_plda(plda, embeddings[:1])
    with pytest.raises(InputError, match="must not be negative"):
        adapt_plda(plda, embeddings, -1.0)
