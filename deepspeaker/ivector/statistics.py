"""Baum-Welch statistics: what the i-vector extractor needs to know of the frames of an utterance.

With gamma_t(c) the posterior of component c for frame x_t, and m_c and Sigma_c = R_c R_c' the component's mean and
covariance in the UBM, the statistics of order 0 and 1 are

    N_c = sum_t gamma_t(c),    F_c = R_c^-1 sum_t gamma_t(c) (x_t - m_c)

(Dehak, Kenny, Dehak, Dumouchel and Ouellet, Front-end factor analysis for speaker verification, IEEE TASLP 19, 2011).
R_c is the matrix of standard deviations or the Cholesky factor. Dividing by it here makes the
covariance of every component the identity, so that the extractor is the same for diagonal and full covariances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.ivector.mixture import BLOCK, Ubm, check_posteriors, expand, product_type, unscaled_posteriors
from deepspeaker.kaldi import read_matrix


@dataclass(frozen=True, eq=False)
class UtteranceStatistics:
    """The statistics of U utterances under a UBM of C components in D dimensions."""

    counts: NDArray[np.float64]
    """N, frames of each component, shape ``(U, C)``."""
    first: NDArray[np.float32]
    """F, centred and whitened by the UBM, shape ``(U, C, D)``."""

    def __len__(self) -> int:
        return len(self.counts)


def utterance_statistics(
    ubm: Ubm, utterances: Iterable[NDArray[np.floating]], dtype: type[np.floating] | None = None
) -> UtteranceStatistics:
    """Align the frames of each utterance (frames, D) to the UBM and return their statistics.

    Memory: 4 * C * D bytes for an utterance, 123 kB with 512 components and 60 dimensions.

    Parameters
    ----------
    ubm, utterances, dtype
        See `deepspeaker.ivector.accumulate_ubm`.

    Raises
    ------
    InputError
        An utterance has no frame, another dimension than the UBM, or a value that is not finite.

    Examples
    --------
    >>> ubm = Ubm(np.array([0.5, 0.5]), np.array([[-4.0], [4.0]]), np.full((2, 1), 4.0))
    >>> statistics = utterance_statistics(ubm, [np.array([[-6.0], [-5.0], [8.0]])])
    >>> statistics.counts.round(2), statistics.first.round(2)
    (array([[2., 1.]]), array([[[-1.5],
            [ 2. ]]], dtype=float32))
    """
    kind = product_type(ubm, dtype)
    parameters = np.asarray(ubm.parameters.T, dtype=kind)
    distance, dim = ubm.means - ubm.origin, ubm.means.shape[1]
    rows = []
    for frames in utterances:
        if frames.ndim != 2 or frames.shape[1] != dim or not len(frames):
            raise InputError(f"features of shape {frames.shape} do not fit a UBM of {dim} dimensions")
        sums = np.zeros((len(ubm.weights), 1 + dim))
        for start in range(0, len(frames), BLOCK):
            expanded = expand(frames[start : start + BLOCK], ubm, kind)
            posteriors, totals, _ = unscaled_posteriors(expanded, parameters)
            sums += posteriors.T @ (expanded[:, : 1 + dim] / totals[:, None])
        rows.append(_whitened(ubm, sums, distance))
    return _joined(ubm, rows)


def statistics_of_given(
    ubm: Ubm, utterances: Iterable[tuple[NDArray[np.floating], NDArray[np.floating]]]
) -> UtteranceStatistics:
    """Return the statistics of utterances with frame posteriors from elsewhere, for example from a senone DNN.

    Parameters
    ----------
    ubm
        The means and covariances of the posteriors' classes, see `deepspeaker.ivector.accumulate_given`.
    utterances
        The posteriors (frames, C) and frames (frames, D) of each utterance.

    Raises
    ------
    InputError
        Posteriors do not fit the UBM or the frames, or are no probabilities.
    """
    rows = []
    for posteriors, frames in utterances:
        check_posteriors(posteriors, frames)
        if (posteriors.shape[1], frames.shape[1]) != ubm.means.shape or not len(frames):
            raise InputError(
                f"posteriors of shape {posteriors.shape} and features of shape {frames.shape} do not fit a UBM of "
                f"{len(ubm.means)} components in {ubm.means.shape[1]} dimensions"
            )
        expanded = np.concatenate([np.ones((len(frames), 1)), frames], axis=1)
        sums = np.asarray(posteriors, dtype=np.float64).T @ expanded
        rows.append(_whitened(ubm, sums, ubm.means))
    return _joined(ubm, rows)


def read_posteriors(
    location: str, frames: NDArray[np.floating], speech: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Read frame posteriors from an ark and check them.

    Parameters
    ----------
    location
        ``path:offset`` of a matrix (frames, C), as an scp names it.
    frames
        The frames that they belong to, (frames, D).
    speech
        Which of the ark's rows to keep, (rows of the ark,), where ``frames`` are the speech frames only.

    Raises
    ------
    InputError
        There is no matrix, or it does not fit; names the ark.
    """
    posteriors = read_matrix(location)
    try:
        if speech is not None:
            if len(speech) != len(posteriors):
                raise InputError(f"has {len(posteriors)} frames of posteriors and {len(speech)} VAD decisions")
            posteriors = posteriors[speech]
        check_posteriors(posteriors, frames)
    except InputError as error:
        raise InputError(f"{location}: {error}") from None
    return posteriors


def _whitened(
    ubm: Ubm, sums: NDArray[np.float64], distance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return N (C,) and F (C, D) of an utterance.

    ``sums`` are the sums of posteriors times 1 and x relative to an origin, (C, 1 + D), and ``distance`` that of the
    UBM's means from the origin, (C, D).
    """
    counts = sums[:, 0].copy()
    centred = counts[:, None] * distance
    np.subtract(sums[:, 1:], centred, out=centred)
    if ubm.is_full:
        centred = (ubm.inverse_roots @ centred[:, :, None])[:, :, 0]
    else:
        centred *= ubm.inverse_roots
    return counts, centred.astype(np.float32)


def _joined(ubm: Ubm, rows: list[tuple[NDArray[np.float64], NDArray[np.float32]]]) -> UtteranceStatistics:
    if not rows:
        return UtteranceStatistics(np.zeros((0, len(ubm.means))), np.zeros((0, *ubm.means.shape), dtype=np.float32))
    return UtteranceStatistics(np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows]))
