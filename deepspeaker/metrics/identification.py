"""Identification: is the right speaker the best among several, and is one of them the speaker at all?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepspeaker.errors import InputError


class OpenSetRate(NamedTuple):
    """What an open-set identification reaches at a threshold; rates are fractions."""

    threshold: float
    false_alarm_rate: float
    """Of probes of unknown speakers, those for which some enrolled speaker is reported."""
    detection_rate: float
    """Of probes of enrolled speakers, those whose speaker is reported (detection and identification rate, DIR)."""


def rank1(scores: ArrayLike, is_target: ArrayLike, row_length: int = 100) -> float:
    """`rank_n` for n = 1: how often the target outranks every non-target of its row.

    With rows of one target and 99 non-targets the protocol of Deep Speaker (Li et al., arXiv 1705.02304).
    """
    return rank_n(scores, is_target, 1, row_length)


def rank_n(scores: ArrayLike, is_target: ArrayLike, n: int, row_length: int = 100) -> float:
    """Rank-n identification accuracy: how often the target is among the n best of its row.

    Each row holds an enrolment utterance against one target and ``row_length`` - 1 non-targets. A target that shares
    its score with others counts as the chance to be among the n best when ties are broken at random; so a constant
    score has the accuracy of chance, n / row_length.

    Args:
        scores: in file order, shape ``(rows * row_length,)`` or ``(rows, row_length)``.
        is_target: boolean, the same shape; exactly one true entry a row.
        n: from 1 to row_length.
        row_length: trials in a row.

    Returns:
        A fraction between 0 and 1.

    Raises:
        InputError: no rows, a last row that is not full, a row without exactly one target, shapes that
            differ, n out of range, or scores that are NaN.
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
    return float(np.mean(_chance_of_rank(rows, rows[target_rows], n)))


def open_set_identification(
    scores: ArrayLike, is_target: ArrayLike, false_alarm_rate: float, n: int = 1
) -> OpenSetRate:
    """Detection and identification rate (DIR) at a false-alarm rate (Phillips, Grother and Micheals, 2011).

    A probe is compared with every enrolled speaker, and one is reported when it is among the n best and its score is
    at least the threshold. That is the lowest at which at most ``false_alarm_rate`` of the probes of unknown speakers
    have any score at or above it (Evaluation methods in face recognition, Handbook of Face Recognition, chapter 21).
    Ties among the best count as in `rank_n`.

    Args:
        scores: shape ``(probes, enrolled)``.
        is_target: boolean, the same shape: at most one true entry a row, none for a probe of an unknown speaker.
        false_alarm_rate: from 0 to 1.
        n: from 1 to the number enrolled.

    Raises:
        InputError: shapes that differ, a probe with two targets, no probe of an enrolled or none of an unknown speaker,
            n or the rate out of range, or scores that are NaN.
    """
    score_array, target_array = _checked(scores, is_target)
    if score_array.ndim != 2 or score_array.size == 0:
        raise InputError(f"scores of shape {score_array.shape}; probes by enrolled speakers are wanted")
    if not 0 <= false_alarm_rate <= 1:
        raise InputError(f"false_alarm_rate is {false_alarm_rate}; a rate lies between 0 and 1")
    if not 1 <= n <= score_array.shape[1]:
        raise InputError(f"rank {n}: {score_array.shape[1]} enrolled speakers have ranks from 1 to as many")
    targets_per_row = target_array.sum(axis=1)
    if targets_per_row.max() > 1:
        first = int(np.argmax(targets_per_row > 1))
        raise InputError(f"probe {first + 1} has {targets_per_row[first]} targets; a speaker is enrolled once")
    enrolled = targets_per_row == 1
    if enrolled.all() or not enrolled.any():
        missing = "unknown" if enrolled.all() else "enrolled"
        raise InputError(f"no probe of an {missing} speaker; open-set identification needs both kinds")
    highest = np.sort(score_array[~enrolled].max(axis=1))[::-1]
    own = score_array[enrolled][target_array[enrolled]]
    # So many false alarms are allowed; the next lower one, and its ties, are not.
    allowed = int(np.floor(false_alarm_rate * len(highest) + 1e-9))
    accepted = np.ones(len(own), dtype=bool) if allowed == len(highest) else own > highest[allowed]
    alarms = highest if allowed == len(highest) else highest[highest > highest[allowed]]
    above = np.concatenate([alarms, own[accepted]])
    return OpenSetRate(
        float(above.min()) if len(above) else float("inf"),
        len(alarms) / len(highest),
        float(np.mean(_chance_of_rank(score_array[enrolled], own, n) * accepted)),
    )


def _checked(scores: ArrayLike, is_target: ArrayLike) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    score_array, target_array = np.asarray(scores), np.asarray(is_target, dtype=bool)
    if score_array.shape != target_array.shape:
        raise InputError(f"{score_array.size} scores for {target_array.size} trials; score the whole list again")
    nan = int(np.isnan(score_array).sum())
    if nan:
        raise InputError(f"{nan} of {score_array.size} scores are NaN; look for embeddings that are NaN or all zero")
    return score_array, target_array


def _chance_of_rank(rows: NDArray[Any], target: NDArray[Any], n: int) -> NDArray[np.float64]:
    """For each row the chance that its target is among the n best, ties being broken at random."""
    above = (rows > target[:, None]).sum(axis=1)
    tied = (rows == target[:, None]).sum(axis=1)
    return np.asarray(np.clip((n - above) / tied, 0.0, 1.0))
