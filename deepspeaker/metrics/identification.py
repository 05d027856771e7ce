"""Identification metrics: closed-set rank-n accuracy and open-set detection and identification rate."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepspeaker.errors import InputError


class OpenSetRate(NamedTuple):
    """The error rates, as fractions, of open-set identification at a threshold.

    Attributes
    ----------
    threshold : float
        The lowest accepted score. It is ``inf`` if nobody may be reported.
    false_alarm_rate : float
        Fraction of the probes of unknown speakers for which an enrolled speaker is reported.
    detection_rate : float
        Fraction of the probes of enrolled speakers for which the right speaker is reported (detection and
        identification rate, DIR).
    """

    threshold: float
    false_alarm_rate: float
    detection_rate: float


def rank1(scores: ArrayLike, is_target: ArrayLike, row_length: int = 100) -> float:
    """Return the rank-1 identification accuracy: how often the target scores highest in its row.

    Parameters
    ----------
    scores : array_like of shape (n_rows * row_length,) or (n_rows, row_length)
        Scores in the order of the trial list.
    is_target : array_like of bool, of the same shape
        Exactly one true entry per row.
    row_length : int, default=100
        Trials per row. The default is the protocol of Deep Speaker [1]_, one target and 99 non-targets.

    Returns
    -------
    float
        The accuracy as a fraction between 0 and 1.

    Raises
    ------
    InputError
        As `rank_n`.

    See Also
    --------
    rank_n : How often the target is among the n best.

    References
    ----------
    .. [1] C. Li et al., "Deep Speaker: an End-to-End Neural Speaker Embedding System", arXiv:1705.02304, 2017.

    Examples
    --------
    >>> rank1([[0.9, 0.1, 0.3], [0.2, 0.6, 0.4]], [[True, False, False], [True, False, False]], row_length=3)
    0.5
    """
    return rank_n(scores, is_target, 1, row_length)


def rank_n(scores: ArrayLike, is_target: ArrayLike, n: int, row_length: int = 100) -> float:
    """Return the rank-n identification accuracy: how often the target is among the n best of its row.

    Parameters
    ----------
    scores : array_like of shape (n_rows * row_length,) or (n_rows, row_length)
        Scores in the order of the trial list. Each row compares an enrolment utterance with one target and
        ``row_length - 1`` non-targets.
    is_target : array_like of bool, of the same shape
        Exactly one true entry per row.
    n : int
        From 1 to `row_length`.
    row_length : int, default=100
        Trials per row.

    Returns
    -------
    float
        The accuracy as a fraction between 0 and 1.

    Raises
    ------
    InputError
        If there are no rows, the last row is incomplete, a row does not have exactly one target, the shapes differ, `n`
        is out of range or a score is NaN.

    See Also
    --------
    rank1 : The accuracy for n = 1.
    open_set_identification : Identification when the speaker may not be enrolled.

    Notes
    -----
    A target whose score is tied counts with the probability that it is among the n best when ties are broken at random.
    A constant score therefore reaches chance level, ``n / row_length``.

    Examples
    --------
    >>> scores = [[0.9, 0.1, 0.3], [0.2, 0.6, 0.4]]
    >>> is_target = [[True, False, False], [False, False, True]]
    >>> rank_n(scores, is_target, n=1, row_length=3), rank_n(scores, is_target, n=2, row_length=3)
    (0.5, 1.0)
    """
    if not 1 <= n <= row_length:
        raise InputError(f"rank {n}: rows of {row_length} trials have ranks from 1 to {row_length}")
    score_array, target_array = _checked(scores, is_target)
    if score_array.size == 0 or score_array.size % row_length:
        raise InputError(
            f"{score_array.size} trials are not rows of {row_length}; rank-{n} needs a list of one target and"
            f" {row_length - 1} non-targets for each enrolment utterance"
        )
    rows, target_rows = score_array.reshape(-1, row_length), target_array.reshape(-1, row_length)
    targets_per_row = target_rows.sum(axis=1)
    wrong = np.flatnonzero(targets_per_row != 1)
    if wrong.size:
        raise InputError(
            f"{wrong.size} of {len(rows)} rows of {row_length} trials do not have exactly one target;"
            f" the first is row {wrong[0] + 1}, with {targets_per_row[wrong[0]]}: keep the trials of an enrolment"
            " utterance together"
        )
    return float(np.mean(_rank_probability(rows, rows[target_rows], n)))


def open_set_identification(
    scores: ArrayLike, is_target: ArrayLike, false_alarm_rate: float, n: int = 1
) -> OpenSetRate:
    """Return the detection and identification rate (DIR) at a false-alarm rate.

    Each probe is compared with every enrolled speaker. A speaker is reported if the score is among the n best and at
    least the threshold.

    Parameters
    ----------
    scores : array_like of shape (n_probes, n_enrolled)
        Scores of the probes against the enrolled speakers.
    is_target : array_like of bool, of the same shape
        At most one true entry per row, none for a probe of an unknown speaker.
    false_alarm_rate : float
        The highest acceptable false-alarm rate, from 0 to 1.
    n : int, default=1
        From 1 to the number of enrolled speakers.

    Returns
    -------
    OpenSetRate
        The threshold, the false-alarm rate reached and the DIR.

    Raises
    ------
    InputError
        If the shapes differ, a probe has two targets, no probe is of an enrolled speaker, no probe is of an unknown
        speaker, `n` or the rate is out of range, or a score is NaN.

    See Also
    --------
    rank_n : Identification when every speaker is enrolled.

    Notes
    -----
    The threshold is the lowest at which at most `false_alarm_rate` of the probes of unknown speakers have any score at
    or above it [1]_. Ties among the n best count as in `rank_n`.

    References
    ----------
    .. [1] P. J. Phillips, P. Grother and R. Micheals, "Evaluation methods in face recognition", chapter 21 of Handbook
       of Face Recognition, 2nd edition, Springer, 2011.

    Examples
    --------
    Two probes of enrolled speakers and one of an unknown speaker:

    >>> scores = [[0.9, 0.1], [0.3, 0.4], [0.5, 0.2]]
    >>> is_target = [[True, False], [False, True], [False, False]]
    >>> open_set_identification(scores, is_target, false_alarm_rate=0.0)
    OpenSetRate(threshold=0.9, false_alarm_rate=0.0, detection_rate=0.5)
    """
    score_array, target_array = _checked(scores, is_target)
    if score_array.ndim != 2 or score_array.size == 0:
        raise InputError(f"the scores have shape {score_array.shape}; give an array of probes by enrolled speakers")
    if not 0 <= false_alarm_rate <= 1:
        raise InputError(f"false_alarm_rate is {false_alarm_rate}; give a rate between 0 and 1")
    if not 1 <= n <= score_array.shape[1]:
        raise InputError(f"rank {n}: with {score_array.shape[1]} enrolled speakers, give a rank from 1 to that number")
    targets_per_row = target_array.sum(axis=1)
    if targets_per_row.max() > 1:
        first = int(np.argmax(targets_per_row > 1))
        raise InputError(f"probe {first + 1} has {targets_per_row[first]} targets; give each probe at most one")
    enrolled = targets_per_row == 1
    if enrolled.all() or not enrolled.any():
        missing = "unknown" if enrolled.all() else "enrolled"
        raise InputError(f"no probe of an {missing} speaker; open-set identification needs both kinds")
    highest = np.sort(score_array[~enrolled].max(axis=1))[::-1]
    target_scores = score_array[enrolled][target_array[enrolled]]
    # The `allowed` highest scores of unknown speakers may be false alarms. The next one, and its ties, may not.
    allowed = int(np.floor(false_alarm_rate * len(highest) + 1e-9))
    everyone = allowed == len(highest)
    accepted = np.ones(len(target_scores), dtype=bool) if everyone else target_scores > highest[allowed]
    alarms = highest if everyone else highest[highest > highest[allowed]]
    reported = np.concatenate([alarms, target_scores[accepted]])
    return OpenSetRate(
        float(reported.min()) if len(reported) else float("inf"),
        len(alarms) / len(highest),
        float(np.mean(_rank_probability(score_array[enrolled], target_scores, n) * accepted)),
    )


def _checked(scores: ArrayLike, is_target: ArrayLike) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    score_array, target_array = np.asarray(scores), np.asarray(is_target, dtype=bool)
    if score_array.shape != target_array.shape:
        raise InputError(f"{score_array.size} scores for {target_array.size} trials; score the whole list again")
    nan = int(np.isnan(score_array).sum())
    if nan:
        raise InputError(f"{nan} of {score_array.size} scores are NaN; check for embeddings that are NaN or all zero")
    return score_array, target_array


def _rank_probability(rows: NDArray[Any], target: NDArray[Any], n: int) -> NDArray[np.float64]:
    """Return for each row the probability that its target is among the n best if ties are broken at random."""
    above = (rows > target[:, None]).sum(axis=1)
    tied = (rows == target[:, None]).sum(axis=1)
    return np.asarray(np.clip((n - above) / tied, 0.0, 1.0))
