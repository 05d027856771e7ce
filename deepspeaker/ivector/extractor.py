"""The i-vector extractor: a total variability matrix, trained by EM with minimum divergence re-estimation.

The frames that an utterance has of component c are Gaussian around m_c + R_c (o_c + T_c w) with the UBM's covariance
Sigma_c = R_c R_c'. The vector w ~ N(0, I) is the same for all frames of the utterance; its posterior mean is the
i-vector. With the whitened statistics N_c and F_c of `deepspeaker.ivector.statistics`, this posterior is Gaussian with

    precision   L = I + sum_c N_c T_c' T_c,
    mean        phi = L^-1 b,   b = sum_c T_c' (F_c - N_c o_c)

The alignment of frames to components is that of the UBM, and so are the covariances: they are not re-estimated.

A step of EM collects, over the utterances u of all shards, with E[w w'] = L^-1 + phi phi',

    A_c = sum_u N_uc E[w w'],   a_c = sum_u N_uc phi_u,   C_c = sum_u F_uc phi_u',   sum_u N_uc,   sum_u F_uc,

and, for the prior, sum_u phi_u and sum_u E[w w']. T_c and o_c then solve the linear regression of frames on w,

    T_c A_c + o_c a_c' = C_c,    T_c a_c + o_c sum_u N_uc = sum_u F_uc.

Then minimum divergence: the prior that fits the posteriors best is N(mu, K), with mu and K the mean and covariance of w
over all utterances. The same model with the prior N(0, I) has o_c + T_c mu instead of o_c, and T_c K^(1/2) instead of
T_c. Both together maximise one auxiliary function, so that the likelihood never falls.

References
----------
Posterior and i-vector: Dehak, Kenny, Dehak, Dumouchel and Ouellet, Front-end factor analysis for speaker verification,
IEEE TASLP 19, 2011.
EM: Kenny, Boulianne and Dumouchel, Eigenvoice modeling with sparse training data, IEEE TSAP 13, 2005.
Minimum divergence: Kenny, Ouellet, Dehak, Gupta and Dumouchel, A study of interspeaker variability in speaker
verification, IEEE TASLP 16, 2008; ``IvectorExtractorStats::UpdatePrior`` in Kaldi's src/ivector/ivector-extractor.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.ivector.mixture import Ubm
from deepspeaker.ivector.statistics import UtteranceStatistics

Matrix = NDArray[np.float64]

#: Utterances of a matrix product. With 512 components, 60 dimensions and i-vectors of 200, a batch takes 60 MB.
BATCH = 64


@dataclass(frozen=True, eq=False)
class Extractor:
    """An extractor of R-dimensional i-vectors for a UBM of C components in D dimensions."""

    offsets: Matrix
    """o, whitened, shape ``(C, D)``."""
    loadings: Matrix
    """T, whitened, shape ``(C, D, R)``."""

    @property
    def dim(self) -> int:
        """The dimension of an i-vector."""
        return int(self.loadings.shape[2])

    @cached_property
    def gram(self) -> Matrix:
        """The lower triangles of T_c' T_c, row by row, shape ``(C, R (R + 1) / 2)``."""
        rows, columns = np.tril_indices(self.dim)
        return np.array([(loading.T @ loading)[rows, columns] for loading in self.loadings])


@dataclass(frozen=True, eq=False)
class ExtractorStatistics:
    """Sums over utterances: all that a step of EM needs to know of them. Those of shards are added by `add`."""

    weighted: Matrix
    """A, lower triangles row by row, shape ``(C, R (R + 1) / 2)``."""
    linear: Matrix
    """a, shape ``(C, R)``."""
    cross: Matrix
    """C, shape ``(C, D, R)``."""
    counts: Matrix
    """Frames of each component, shape ``(C,)``."""
    first: Matrix
    """The sum of F, shape ``(C, D)``."""
    total: Matrix
    """The sum of the i-vectors, shape ``(R,)``."""
    scatter: Matrix
    """The sum of E[w w'], shape ``(R, R)``."""
    utterances: Matrix
    """Their number, shape ``()``."""
    objective: Matrix
    """The log-likelihood of all utterances, up to a constant of the data and the UBM, shape ``()``."""


def initial_extractor(ubm: Ubm, dim: int, seed: int, scale: float = 0.1) -> Extractor:
    """Return an extractor with random loadings, from which EM begins.

    Parameters
    ----------
    ubm
        Gives the sizes.
    dim
        The dimension R of an i-vector.
    seed
        Decides the loadings.
    scale
        The deviation of T w, relative to that of the UBM's components. Minimum divergence soon corrects it.

    Examples
    --------
    >>> ubm = Ubm(np.array([0.5, 0.5]), np.array([[-4.0], [4.0]]), np.ones((2, 1)))
    >>> initial_extractor(ubm, 1, seed=0).loadings.shape
    (2, 1, 1)
    """
    components, features = ubm.means.shape
    if not 1 <= dim <= components * features:
        raise InputError(
            f"i-vectors of {dim} dimensions: a UBM of {components} components in {features} dimensions allows "
            f"1 to {components * features}"
        )
    random = np.random.default_rng(seed).normal(size=(components, features, dim))
    return Extractor(np.zeros((components, features)), random * (scale / np.sqrt(dim)))


def posteriors(extractor: Extractor, statistics: UtteranceStatistics) -> tuple[Matrix, Matrix]:
    """Return the posterior mean, the i-vector, and covariance of each utterance's w, (U, R) and (U, R, R).

    All covariances are returned at once; `ivectors` needs less memory.

    Raises
    ------
    InputError
        The statistics do not fit the extractor.

    Examples
    --------
    >>> extractor = Extractor(np.zeros((1, 1)), np.ones((1, 1, 1)))  # a frame is w plus noise of variance 1
    >>> three_frames = UtteranceStatistics(np.array([[3.0]]), np.array([[[6.0]]], dtype=np.float32))  # with sum 6
    >>> posteriors(extractor, three_frames)
    (array([[1.5]]), array([[[0.25]]]))
    """
    results = [
        (batch.means, _symmetric(batch.covariances(), extractor.dim)) for batch in _batches(extractor, statistics)
    ]
    dim = extractor.dim
    means, covariances = [np.zeros((0, dim))], [np.zeros((0, dim, dim))]
    return np.concatenate(means + [r[0] for r in results]), np.concatenate(covariances + [r[1] for r in results])


def ivectors(extractor: Extractor, statistics: UtteranceStatistics) -> NDArray[np.float32]:
    """Return the i-vector of each utterance, (U, R)."""
    means = [batch.means for batch in _batches(extractor, statistics)]
    return np.concatenate([np.zeros((0, extractor.dim)), *means]).astype(np.float32)


def accumulate_extractor(extractor: Extractor, statistics: UtteranceStatistics) -> ExtractorStatistics:
    """Collect the statistics of some utterances under a model (the E step).

    Raises
    ------
    InputError
        The statistics do not fit the extractor, or are not finite.
    """
    dim = extractor.dim
    rows, columns = np.tril_indices(dim)
    components = len(extractor.offsets)
    weighted, linear = np.zeros((components, len(rows))), np.zeros((components, dim))
    cross = np.zeros((extractor.offsets.size, dim))
    total, scatter, objective = np.zeros(dim), np.zeros(len(rows)), 0.0
    for batch in _batches(extractor, statistics):
        moments = batch.covariances()
        moments += batch.means[:, rows] * batch.means[:, columns]
        weighted += batch.counts.T @ moments
        linear += batch.counts.T @ batch.means
        cross += batch.first.T @ batch.means
        total += batch.means.sum(axis=0)
        scatter += moments.sum(axis=0)
        objective += batch.objective
    return ExtractorStatistics(
        weighted,
        linear,
        cross.reshape(extractor.loadings.shape),
        statistics.counts.sum(axis=0),
        statistics.first.sum(axis=0, dtype=np.float64),
        total,
        _symmetric(scatter, dim),
        np.asarray(float(len(statistics))),
        np.asarray(objective),
    )


def update_extractor(extractor: Extractor, statistics: ExtractorStatistics) -> tuple[Extractor, float]:
    """Return the next model (the M step), and the log-likelihood of the last one.

    Parameters
    ----------
    extractor
        The model that the statistics were collected with.
    statistics
        Of all utterances.

    Returns
    -------
    tuple
        The model; the log-likelihood per frame, up to a constant that is the same in all iterations.

    Raises
    ------
    InputError
        A component has no frames, or there are not more utterances than dimensions.
    """
    dim, utterances = extractor.dim, float(statistics.utterances)
    if not utterances > dim:
        raise InputError(
            f"i-vectors of {dim} dimensions need more than {dim} training utterances, there are {utterances:.0f}; "
            "use fewer dimensions"
        )
    worst = int(np.argmin(statistics.counts))
    if not statistics.counts[worst] > 1e-6:
        raise InputError(
            f"component {worst} of the UBM has no frames in the extractor's training data; use fewer components, or "
            "more speech"
        )
    mean = statistics.total / utterances
    prior = statistics.scatter / utterances - np.outer(mean, mean)
    root = np.linalg.cholesky(prior)
    rows, columns = np.tril_indices(dim)
    square = np.zeros((dim + 1, dim + 1))  # A, a and the counts; the upper triangle is not read, but must be finite
    regression = np.empty((*extractor.offsets.shape, dim + 1))  # T and o
    for component, (packed, count) in enumerate(zip(statistics.weighted, statistics.counts, strict=True)):
        square[rows, columns] = packed
        square[dim, :dim], square[dim, dim] = statistics.linear[component], count
        right = np.concatenate([statistics.cross[component], statistics.first[component][:, None]], axis=1)
        regression[component] = scipy.linalg.solve(square, right.T, assume_a="pos", lower=True).T
    loadings = regression[:, :, :dim]
    offsets = regression[:, :, dim] + loadings @ mean
    return Extractor(offsets, loadings @ root), float(statistics.objective / statistics.counts.sum())


def total_variability(ubm: Ubm, extractor: Extractor) -> tuple[Matrix, Matrix]:
    """Return the mean supervector m and the matrix T of m + T w in units of the features, (C, D) and (C, D, R)."""
    roots = ubm.roots if ubm.is_full else ubm.roots[:, :, None] * np.eye(ubm.means.shape[1])
    return ubm.means + np.einsum("cij,cj->ci", roots, extractor.offsets), roots @ extractor.loadings


@dataclass(frozen=True, eq=False)
class _Batch:
    """The posteriors of some utterances."""

    counts: Matrix  # (B, C)
    first: Matrix  # F, (B, C * D)
    means: Matrix  # (B, R)
    factors: Matrix  # lower Cholesky factors of the precisions, (B, R, R)
    objective: float

    def covariances(self) -> Matrix:
        """Return the lower triangles of the inverse precisions, row by row, (B, R (R + 1) / 2)."""
        rows, columns = np.tril_indices(self.means.shape[1])
        triangles = np.empty((len(self.factors), len(rows)))
        for triangle, factor in zip(triangles, self.factors, strict=True):
            # The lower triangle by rows is the upper one by columns, LAPACK's order, so that nothing is copied first.
            inverse, _ = scipy.linalg.lapack.dpotri(factor.T, lower=False)
            triangle[:] = inverse.T[rows, columns]
        return triangles


def _symmetric(triangles: Matrix, dim: int) -> Matrix:
    """Return the symmetric matrices (..., R, R) of lower triangles row by row, (..., R (R + 1) / 2)."""
    rows, columns = np.tril_indices(dim)
    square = np.empty((*triangles.shape[:-1], dim, dim))
    square[..., rows, columns] = square[..., columns, rows] = triangles
    return square


def _batches(extractor: Extractor, statistics: UtteranceStatistics) -> Iterator[_Batch]:
    if statistics.first.shape[1:] != extractor.offsets.shape:
        raise InputError(
            f"statistics of {statistics.first.shape[1:]} components and dimensions do not fit an i-vector extractor "
            f"of {extractor.offsets.shape}; they are of different UBMs"
        )
    dim = extractor.dim
    rows, columns = np.tril_indices(dim)
    flat_offsets, flat_loadings = extractor.offsets.reshape(-1), extractor.loadings.reshape(-1, dim)
    shifts = np.einsum("cdr,cd->cr", extractor.loadings, extractor.offsets)
    for start in range(0, len(statistics), BATCH):
        counts = statistics.counts[start : start + BATCH]
        first = statistics.first[start : start + BATCH].astype(np.float64).reshape(len(counts), -1)
        linear = first @ flat_loadings - counts @ shifts
        if not (np.isfinite(linear).all() and np.isfinite(counts).all()):
            raise InputError("the statistics of an utterance are not finite numbers; check the features")
        precisions = np.zeros((len(counts), dim, dim))
        precisions[:, rows, columns] = counts @ extractor.gram
        precisions[:, np.arange(dim), np.arange(dim)] += 1.0
        factors = np.asarray(np.linalg.cholesky(precisions), dtype=np.float64)  # reads the lower triangles only
        half = np.array([scipy.linalg.solve_triangular(f, b, lower=True) for f, b in zip(factors, linear, strict=True)])
        means = np.array(
            [scipy.linalg.solve_triangular(f, h, lower=True, trans="T") for f, h in zip(factors, half, strict=True)]
        )
        # The integral over w of the likelihood of all frames, by completing the square, less what does not depend on
        # o and T: b' L^-1 b / 2 - log |L| / 2 + sum_c (o_c' F_c - N_c o_c' o_c / 2).
        log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum()
        shift = first @ flat_offsets - 0.5 * counts @ (extractor.offsets**2).sum(axis=1)
        objective = 0.5 * (half**2).sum() - log_det + shift.sum()
        yield _Batch(counts, first, means, factors, float(objective))
