"""Two-covariance PLDA: Gaussian speaker means, and Gaussian utterances around them.

An embedding is m + y + e, where y ~ N(0, B) is the same for all utterances of a speaker and e ~ N(0, W) is not
(Brümmer and de Villiers, The speaker partitioning problem, Odyssey 2010; Kaldi's ivector-plda is the same model).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from deepspeaker.backends.products import pair_products
from deepspeaker.errors import InputError

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plda:
    """A trained model, in the space where W is the identity and B is diagonal."""

    mean: Matrix
    """Subtracted from an embedding first, shape ``(dim,)``."""
    transform: Matrix
    """From embeddings to the model's space, shape ``(dim, dim)``."""
    between: Matrix
    """The diagonal of B in the model's space, shape ``(dim,)``."""

    def project(self, embeddings: NDArray[np.floating]) -> Matrix:
        """Transform embeddings into the model's space, ``(utterances, dim)`` -> ``(utterances, dim)``."""
        return np.asarray((np.asarray(embeddings, dtype=np.float64) - self.mean) @ self.transform.T)


def train_plda(embeddings: NDArray[np.floating], speaker: NDArray[np.integer], iterations: int = 10) -> Plda:
    """Train PLDA by maximum likelihood, with EM (see `em_step`).

    Parameters
    ----------
    embeddings
        Shape ``(utterances, dim)``.
    speaker
        The speaker of each utterance as a number, shape ``(utterances,)``.
    iterations
        Steps of EM.

    Raises
    ------
    InputError
        There are not more speakers than dimensions, so that the between-speaker covariance would be singular, or no
        speaker has two utterances.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> speaker = np.repeat(np.arange(500), 10)
    >>> means = generator.normal(size=(500, 1), scale=3.0)  # B = 9, W = 1
    >>> plda = train_plda(means[speaker] + generator.normal(size=(5000, 1)), speaker)
    >>> bool(8 < plda.between[0] < 10)
    True
    """
    statistics = Statistics.of(embeddings, speaker)
    dim = statistics.means.shape[1]
    if len(statistics.counts) <= dim:
        raise InputError(
            f"PLDA of {dim} dimensions needs more than {dim} training speakers, there are {len(statistics.counts)}; "
            "lower scoring.lda_dim"
        )
    if statistics.counts.max() < 2:
        raise InputError("PLDA needs training speakers with two utterances")
    within = statistics.scatter / max(statistics.counts.sum() - len(statistics.counts), 1)
    within += 1e-6 * np.trace(within) / dim * np.eye(dim)
    between = np.cov(statistics.means.T).reshape(dim, dim)
    for _ in range(iterations):
        between, within = em_step(statistics, between, within)
    return _diagonalised(statistics.mean, between, within)


@dataclass(frozen=True, eq=False)
class Statistics:
    """The sufficient statistics of PLDA's training data."""

    mean: Matrix
    """Mean of all utterances, shape ``(dim,)``."""
    counts: NDArray[np.int64]
    """Utterances of each speaker, shape ``(speakers,)``."""
    means: Matrix
    """Mean of each speaker, less ``mean``, shape ``(speakers, dim)``."""
    scatter: Matrix
    """Scatter of the utterances around their speakers' means, shape ``(dim, dim)``."""

    @classmethod
    def of(cls, embeddings: NDArray[np.floating], speaker: NDArray[np.integer]) -> Statistics:
        """Collect the statistics of embeddings ``(utterances, dim)`` and speaker numbers ``(utterances,)``."""
        values = np.asarray(embeddings, dtype=np.float64)
        _, number = np.unique(speaker, return_inverse=True)
        counts = np.bincount(number)
        mean = values.mean(axis=0)
        sums = np.zeros((len(counts), values.shape[1]))
        np.add.at(sums, number, values - mean)
        means = sums / counts[:, None]
        residual = values - mean - means[number]
        return cls(mean, counts, means, residual.T @ residual)


def em_step(statistics: Statistics, between: Matrix, within: Matrix) -> tuple[Matrix, Matrix]:
    """Take one step of EM: the posterior of every speaker's y, then the B and W that fit these posteriors best.

    The likelihood of the training data never falls.
    """
    dim, total = len(within), statistics.counts.sum()
    precision_b, precision_w = np.linalg.inv(between), np.linalg.inv(within)
    new_between, new_within = np.zeros((dim, dim)), statistics.scatter.copy()
    for count in np.unique(statistics.counts):  # speakers with equal counts share a posterior covariance
        means = statistics.means[statistics.counts == count]
        covariance = np.linalg.inv(precision_b + count * precision_w)
        posterior = count * means @ precision_w @ covariance
        new_between += len(means) * covariance + posterior.T @ posterior
        residual = means - posterior
        new_within += count * (len(means) * covariance + residual.T @ residual)
    return new_between / len(statistics.counts), new_within / total


def log_likelihood(statistics: Statistics, between: Matrix, within: Matrix) -> float:
    """Return the log-likelihood of the training data under B and W."""
    dim = len(within)
    _, log_within = np.linalg.slogdet(within)
    degrees = statistics.counts.sum() - len(statistics.counts)
    total = -0.5 * (degrees * (dim * np.log(2 * np.pi) + log_within))
    total -= 0.5 * np.trace(np.linalg.solve(within, statistics.scatter))
    for count in np.unique(statistics.counts):
        means = statistics.means[statistics.counts == count]
        covariance = between + within / count
        _, log_covariance = np.linalg.slogdet(covariance)
        distance = np.einsum("sd,sd->", means, np.linalg.solve(covariance, means.T).T)
        total -= 0.5 * (len(means) * (dim * np.log(2 * np.pi) + log_covariance + dim * np.log(count)) + distance)
    return float(total)


def _diagonalised(mean: Matrix, between: Matrix, within: Matrix) -> Plda:
    values, vectors = scipy.linalg.eigh(between, within)  # V' W V = 1, V' B V = diag(values)
    return Plda(mean, vectors.T.copy(), np.maximum(values, 1e-10))


def adapt_plda(
    plda: Plda, embeddings: NDArray[np.floating], within_scale: float = 0.3, between_scale: float = 0.7
) -> Plda:
    """Adapt PLDA to embeddings of another domain, without speaker labels, as Kaldi's ivector-adapt-plda does.

    The mean becomes that of ``embeddings``. Let C be their covariance plus the outer product of the shift of the mean.
    In the directions in which C exceeds the total covariance B + W, measured in units of B + W, ``within_scale`` times
    the excess is added to W and ``between_scale`` times the excess to B. Other directions do not change.

    Parameters
    ----------
    plda
        The model to adapt; it is not changed.
    embeddings
        At least two, shape ``(utterances, dim)``.
    within_scale, between_scale
        Not negative; the defaults are Kaldi's.

    Raises
    ------
    InputError
        There are fewer than two embeddings, or a scale is negative.
    """
    if len(embeddings) < 2:
        raise InputError(f"PLDA adaptation needs many utterances, not {len(embeddings)}")
    if min(within_scale, between_scale) < 0:
        raise InputError(f"scales of PLDA adaptation must not be negative, but are {within_scale} and {between_scale}")
    values = plda.project(embeddings)
    shift = values.mean(axis=0)
    total = np.cov(values.T, bias=True).reshape(len(shift), -1) + np.outer(shift, shift)
    # In the model's space B + W is diagonal. Scaled to the identity, the eigenvalues of C above 1 are the excess.
    deviation = np.sqrt(1.0 + plda.between)
    size, direction = scipy.linalg.eigh(total / np.outer(deviation, deviation))
    direction *= deviation[:, None]
    excess = (direction * np.maximum(size - 1.0, 0.0)) @ direction.T
    within = np.eye(len(shift)) + within_scale * excess
    spread, vectors = scipy.linalg.eigh(np.diag(plda.between) + between_scale * excess, within)
    mean = np.asarray(embeddings, dtype=np.float64).mean(axis=0)
    return Plda(mean, vectors.T @ plda.transform, np.maximum(spread, 1e-10))


def plda_scores(
    plda: Plda,
    enrolment: NDArray[np.floating],
    counts: NDArray[np.integer],
    test: NDArray[np.floating],
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
) -> NDArray[np.float32]:
    """Return the log-likelihood ratio of each trial, "one speaker" against "two speakers".

    This is the exact ratio of the joint densities of the test utterance and all utterances of the model. With counts of
    1 it treats each mean as a single utterance (enrolment by averaging).

    Parameters
    ----------
    plda
        The model.
    enrolment
        The mean embedding of each enrolment model, shape ``(models, dim)``.
    counts
        The utterances of each enrolment model, shape ``(models,)``.
    test
        Test embeddings, shape ``(utterances, dim)``.
    rows, columns
        Trial ``k`` is ``enrolment[rows[k]]`` against ``test[columns[k]]``, shape ``(trials,)``.

    Returns
    -------
    Natural logarithms, shape ``(trials,)``.

    Examples
    --------
    >>> plda = Plda(np.zeros(1), np.eye(1), np.array([9.0]))  # B = 9, W = 1
    >>> embeddings, single = np.array([[3.0], [2.5], [-3.0]]), np.ones(3, dtype=int)
    >>> plda_scores(plda, embeddings, single, embeddings, np.array([0, 0]), np.array([1, 2])).round(2)
    array([ 1.13, -7.27], dtype=float32)
    """
    models, tests = plda.project(enrolment), plda.project(test)
    scores = np.empty(len(rows), dtype=np.float32)
    alone = 1.0 + plda.between  # variance of a test utterance by another speaker
    for count in np.unique(counts):
        which = np.flatnonzero(counts[rows] == count)
        shrink = count * plda.between / (count * plda.between + 1.0)
        together = 1.0 + plda.between / (count * plda.between + 1.0)  # variance of one by the model's speaker
        # Per dimension: log N(v; shrink u, together) - log N(v; 0, alone), multiplied out.
        constant = -0.5 * np.log(together / alone).sum()
        of_test = 0.5 * tests**2 @ (1 / alone - 1 / together)
        of_model = -0.5 * models**2 @ (shrink**2 / together)
        weighted = models * (shrink / together)
        cross = pair_products(weighted, tests, rows[which], columns[which])
        scores[which] = constant + of_test[columns[which]] + of_model[rows[which]] + cross
    return scores
