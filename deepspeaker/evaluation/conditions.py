"""What the trials of a list differ in: gender, duration, and whatever the test part says of its utterances."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.evaluation.lists import TestList
from deepspeaker.kaldi import read_table

#: Tables that Kaldi keeps beside utt2spk and that say nothing of a condition.
_NO_CONDITION = ("utt2spk", "utt2num_frames", "utt2dur", "utt2uniq", "utt2len", "utt2max_frames")
#: A column of numbers with more distinct values is cut in three; one of words with more is no condition.
_MOST_VALUES = 8
_NOT_TOLD, _SEVERAL = "not told", "several"


@dataclass(frozen=True, eq=False)
class Conditions:
    """What is known of the test utterances."""

    columns: dict[str, dict[str, str]]  # condition -> utterance -> value
    seconds: dict[str, float]  # of speech, utterance -> duration; empty where that is not known
    duration_ends: Sequence[float]


@dataclass(frozen=True, eq=False)
class TrialConditions:
    """A condition of every trial of a list: ``values[codes[k]]`` is that of trial k."""

    by: str
    values: list[str]
    codes: NDArray[np.uint8]


def read_conditions(
    folder: Path, utt2spk: Mapping[str, str], seconds: Mapping[str, float], duration_ends: Sequence[float]
) -> Conditions:
    """Gender by ``spk2gender`` and every column of the ``utt2X`` tables in the test part's ``folder``.

    A table has an utterance and its value on a line, or several values, which are conditions ``X.1``, ``X.2``, ...
    Columns of numbers with more than eight values are cut in three equal parts; columns of words with more are left
    out with a note.
    """
    columns: dict[str, dict[str, str]] = {}
    if (folder / "spk2gender").is_file():
        gender = read_table(folder / "spk2gender")
        told = {utterance: gender.get(speaker, "") for utterance, speaker in utt2spk.items()}
        if told := _few(folder / "spk2gender", told):
            columns["gender"] = told
    for path in sorted(folder.glob("utt2*")):
        if path.name in _NO_CONDITION:
            continue
        table = {u: value.split() for u, value in read_table(path).items() if u in utt2spk}
        width = max((len(words) for words in table.values()), default=0)
        for utterance, words in table.items():
            if len(words) != width:
                raise InputError(f"{path}: {utterance} has {len(words)} values, others have {width}")
        for number in range(width):
            name = path.name.removeprefix("utt2") + (f".{number + 1}" if width > 1 else "")
            if name in ("gender", "duration"):
                name += " (utt2X)"
            values = _few(path, {utterance: words[number] for utterance, words in table.items()})
            if values:
                columns[name] = values
    return Conditions(columns, dict(seconds), duration_ends)


def trial_conditions(conditions: Conditions, test_list: TestList) -> list[TrialConditions]:
    """The conditions of a list's trials.

    Where the sides differ a trial has both values. Its duration is that of the shorter side; a model of several
    utterances lasts as long as they do together.
    """
    found = []
    if conditions.seconds:
        found.append(_duration(conditions, test_list))
    for by, column in conditions.columns.items():
        told = [column.get(utterance, "") or _NOT_TOLD for utterance in test_list.utterances]
        names = sorted({*told, _SEVERAL})
        value = np.array([names.index(name) for name in told])
        of_model = test_list.models.common(value, names.index(_SEVERAL))
        pairs = list(combinations_with_replacement(range(len(names)), 2))
        code = np.zeros((len(names), len(names)), dtype=np.uint8)
        for number, (one, other) in enumerate(pairs):
            code[one, other] = code[other, one] = number
        values = [names[one] if one == other else f"{names[one]}, {names[other]}" for one, other in pairs]
        found.append(TrialConditions(by, values, code[of_model[test_list.enrolment], value[test_list.test]]))
    return found


def _duration(conditions: Conditions, test_list: TestList) -> TrialConditions:
    seconds = np.array([conditions.seconds.get(utterance, 0.0) for utterance in test_list.utterances])
    ends = list(conditions.duration_ends)
    # As the shorter side decides, so does the lower bucket.
    bucket = np.searchsorted(ends, seconds, side="right").astype(np.uint8)
    of_model = np.searchsorted(ends, test_list.models.totals(seconds), side="right").astype(np.uint8)
    codes = np.minimum(of_model[test_list.enrolment], bucket[test_list.test])
    return TrialConditions("duration", _ranges([f"{end:g} s" for end in ends]), codes)


def _few(path: Path, column: Mapping[str, str]) -> dict[str, str]:
    """A column with few distinct values; empty where there is no way to them."""
    if len(set(column.values())) <= _MOST_VALUES:
        return dict(column)
    try:
        numbers = np.array([float(value) for value in column.values()])
    except ValueError:
        numbers = np.array([np.nan])
    if not np.isfinite(numbers).all():
        print(
            f"{path}: a column has {len(set(column.values()))} values, more than {_MOST_VALUES}; no breakdown by it",
            file=sys.stderr,
        )
        return {}
    ends = np.unique(np.quantile(numbers, [1 / 3, 2 / 3], method="higher"))
    names = _ranges([f"{end:g}" for end in ends])
    part = np.searchsorted(ends, numbers, side="right")
    return {utterance: names[which] for utterance, which in zip(column, part, strict=True)}


def _ranges(ends: Sequence[str]) -> list[str]:
    """Names of the ranges that ascending ends part; each begins with its lower end."""
    if not ends:
        return ["any"]
    return [f"below {ends[0]}", *(f"{low} to {high}" for low, high in pairwise(ends)), f"from {ends[-1]}"]
