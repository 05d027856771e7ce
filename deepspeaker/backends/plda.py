"""Two-covariance PLDA: speaker means and utterances about them are both Gaussian.

An embedding is m + y + e, with y ~ N(0, B) one for each speaker and e ~ N(0, W) for each utterance (Bruemmer and de
Villiers, The speaker partitioning problem, Odyssey 2010; Kaldi's ivector-plda is the same model).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from deepspeaker.backends.products import pair_products
from deepspeaker.errors import InputError

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plda:
    """A trained model in the space where W is the unit matrix and B is diagonal.

    ``transform`` (dim, dim) takes an embedding less ``mean`` there; ``between`` (dim,) is the diagonal of B.
    """

    mean: Matrix
    transform: Matrix
    between: Matrix

    def project(self, embeddings: NDArray[np.floating]) -> Matrix:
        """Embeddings (utterances, dim) in the model's space."""
        return np.asarray((np.asarray(embeddings, dtype=np.float64) - self.mean) @ self.transform.T)


def train_plda(embeddings: NDArray[np.floating], speaker: NDArray[np.integer], iterations: int = 10) -> Plda:
    """Maximum-likelihood PLDA by EM (see ``em_step``), from embeddings (utterances, dim) and speaker numbers.

    Raises:
        InputError: fewer speakers than dimensions (the covariance between speakers would be singular), or no speaker
            with two utterances.
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
    """What PLDA needs to know of its training data.

    (speakers,) ``counts``, (speakers, dim) ``means``, and the scatter of utterances about their speakers' means (dim,
    dim). ``mean`` is that of the utterances; ``means`` are less it.
    """

    mean: Matrix
    counts: NDArray[np.int64]
    means: Matrix
    scatter: Matrix

    @classmethod
    def of(cls, embeddings: NDArray[np.floating], speaker: NDArray[np.integer]) -> Statistics:
        values = np.asarray(embeddings, dtype=np.float64)
        _, number = np.unique(speaker, return_inverse=True)
        counts = np.bincount(number)
        mean = values.mean(axis=0)
        sums = np.zeros((len(counts), values.shape[1]))
        np.add.at(sums, number, values - mean)
        means = sums / counts[:, None]
        rest = values - mean - means[number]
        return cls(mean, counts, means, rest.T @ rest)


def em_step(statistics: Statistics, between: Matrix, within: Matrix) -> tuple[Matrix, Matrix]:
    """One step of EM: the posterior of every speaker's y, then the B and W that fit these best. Never less likely."""
    dim, total = len(within), statistics.counts.sum()
    precision_b, precision_w = np.linalg.inv(between), np.linalg.inv(within)
    new_between, new_within = np.zeros((dim, dim)), statistics.scatter.copy()
    for count in np.unique(statistics.counts):  # speakers with as many utterances share a posterior covariance
        own = statistics.means[statistics.counts == count]
        covariance = np.linalg.inv(precision_b + count * precision_w)
        posterior = count * own @ precision_w @ covariance
        new_between += len(own) * covariance + posterior.T @ posterior
        rest = own - posterior
        new_within += count * (len(own) * covariance + rest.T @ rest)
    return new_between / len(statistics.counts), new_within / total


def log_likelihood(statistics: Statistics, between: Matrix, within: Matrix) -> float:
    """The logarithm of the density of the training data under B and W."""
    dim = len(within)
    _, log_within = np.linalg.slogdet(within)
    degrees = statistics.counts.sum() - len(statistics.counts)
    total = -0.5 * (degrees * (dim * np.log(2 * np.pi) + log_within))
    total -= 0.5 * np.trace(np.linalg.solve(within, statistics.scatter))
    for count in np.unique(statistics.counts):
        own = statistics.means[statistics.counts == count]
        covariance = between + within / count
        _, log_covariance = np.linalg.slogdet(covariance)
        distance = np.einsum("sd,sd->", own, np.linalg.solve(covariance, own.T).T)
        total -= 0.5 * (len(own) * (dim * np.log(2 * np.pi) + log_covariance + dim * np.log(count)) + distance)
    return float(total)


def _diagonalised(mean: Matrix, between: Matrix, within: Matrix) -> Plda:
    values, vectors = eigh(between, within)  # V' W V = 1, V' B V = diag(values)
    return Plda(mean, vectors.T.copy(), np.maximum(values, 1e-10))


def adapt_plda(
    plda: Plda, embeddings: NDArray[np.floating], within_scale: float = 0.3, between_scale: float = 0.7
) -> Plda:
    """Unsupervised adaptation: covariances that grow to the total covariance of embeddings without speaker labels.

    Kaldi's ivector-adapt-plda does the same, with these defaults. The mean becomes that of ``embeddings`` (utterances,
    dim), whose covariance C is taken about it, the outer product of the mean's shift added. In the directions in which
    C exceeds the model's total covariance B + W, measured in units of that, W is raised by ``within_scale`` and B by
    ``between_scale`` times the excess. Directions in which C is smaller stay as they are.

    Raises:
        InputError: fewer than two embeddings, or a scale below 0.
    """
    if len(embeddings) < 2:
        raise InputError(f"PLDA is adapted to many utterances, there are {len(embeddings)}")
    if min(within_scale, between_scale) < 0:
        raise InputError(f"scales of PLDA adaptation are {within_scale} and {between_scale}; none may be below 0")
    values = plda.project(embeddings)
    shift = values.mean(axis=0)
    total = np.cov(values.T, bias=True).reshape(len(shift), -1) + np.outer(shift, shift)
    # In the model's space B + W is diagonal: where it is made the unit matrix, eigenvalues of C say what exceeds it.
    deviation = np.sqrt(1.0 + plda.between)
    size, direction = eigh(total / np.outer(deviation, deviation))
    direction *= deviation[:, None]
    excess = (direction * np.maximum(size - 1.0, 0.0)) @ direction.T
    within = np.eye(len(shift)) + within_scale * excess
    spread, vectors = eigh(np.diag(plda.between) + between_scale * excess, within)
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
    """Log-likelihood ratios (trials,), natural logarithm, of "one speaker" against "two".

    ``enrolment`` (models, dim) are the means of ``counts`` (models,) utterances each, ``test`` (utterances, dim) single
    ones; trial k is ``enrolment[rows[k]]`` against ``test[columns[k]]``. This is the exact ratio of the joint densities
    of all utterances of a model and the test utterance; enrolment by averaging is the same with counts of 1.
    """
    models, tests = plda.project(enrolment), plda.project(test)
    scores = np.empty(len(rows), dtype=np.float32)
    alone = 1.0 + plda.between  # variance of a test utterance of an unknown speaker
    for count in np.unique(counts):
        which = np.flatnonzero(counts[rows] == count)
        shrink = count * plda.between / (count * plda.between + 1.0)
        together = 1.0 + plda.between / (count * plda.between + 1.0)  # variance when the model's speaker speaks
        # Of each dimension: log N(v; shrink u, together) - log N(v; 0, alone), multiplied out.
        constant = -0.5 * np.log(together / alone).sum()
        of_test = 0.5 * tests**2 @ (1 / alone - 1 / together)
        of_model = -0.5 * models**2 @ (shrink**2 / together)
        weighted = models * (shrink / together)
        cross = pair_products(weighted, tests, rows[which], columns[which])
        scores[which] = constant + of_test[columns[which]] + of_model[rows[which]] + cross
    return scores
