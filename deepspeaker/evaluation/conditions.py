"""Conditions of trials for the breakdowns: gender, duration, and any other table of the test part."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.augmentation import CONDITIONS_PART
from deepspeaker.config import Conditions as ConditionCopies
from deepspeaker.errors import InputError
from deepspeaker.kaldi import read_table
from deepspeaker.trials import TrialList

#: Tables that Kaldi keeps beside utt2spk and that are no conditions.
_NO_CONDITION = ("utt2spk", "utt2num_frames", "utt2dur", "utt2uniq", "utt2len", "utt2max_frames")
#: With more distinct values, a column of numbers is cut into three ranges, and a column of words is left out.
_MAX_VALUES = 8
_UNKNOWN, _SEVERAL = "unknown", "several"
#: The code of a trial that counts with every value.
EVERY_VALUE = 255
#: What degraded copies are grouped by.
CONDITION = "condition"
#: The condition that tells whether the sides of a target trial were recorded together.
_SESSION = "session"
#: Conditions that tell whether the sides of a trial have the same value, which may be several words.
_SAME_OR_DIFFERENT = (_SESSION, "phrase", "word")


@dataclass(frozen=True, eq=False)
class Conditions:
    """The conditions of the test utterances."""

    columns: dict[str, dict[str, str]]
    """Condition -> utterance -> value."""
    seconds: dict[str, float]
    """Utterance -> seconds of speech; empty when unknown."""
    duration_ends: Sequence[float]
    """Where one range of durations ends and the next begins, in seconds, ascending."""
    degraded: Mapping[str, str] = field(default_factory=dict)
    """Degraded test utterance -> the name of its condition."""


@dataclass(frozen=True, eq=False)
class TrialConditions:
    """A condition of all trials of a list: ``values[codes[k]]`` is the value of trial ``k``.

    Where ``codes[k]`` is ``EVERY_VALUE``, the trial counts with every value.
    """

    by: str
    values: list[str]
    codes: NDArray[np.uint8]


def read_conditions(
    folder: Path, utt2spk: Mapping[str, str], seconds: Mapping[str, float], duration_ends: Sequence[float]
) -> Conditions:
    """Read gender from ``spk2gender`` and every column of the ``utt2X`` tables in the test part's ``folder``.

    A line has an utterance and a value, or several values, which become the conditions ``X.1``, ``X.2`` and so on. A
    column of numbers with more than eight values is cut into three ranges with equally many utterances. A column of
    words with more than eight values is left out, with a note. ``utt2session``, ``utt2phrase`` and ``utt2word`` have
    one value in a line, and any number of different ones.

    Raises
    ------
    InputError
        The lines of a table differ in their number of values.
    """
    columns: dict[str, dict[str, str]] = {}
    if (folder / "spk2gender").is_file():
        gender = read_table(folder / "spk2gender")
        of_utterance = {utterance: gender.get(speaker, "") for utterance, speaker in utt2spk.items()}
        if values := _few_values(folder / "spk2gender", of_utterance):
            columns["gender"] = values
    for path in sorted(folder.glob("utt2*")):
        if path.name in _NO_CONDITION:
            continue
        whole = path.name.removeprefix("utt2") in _SAME_OR_DIFFERENT
        table = {u: [v] if whole else v.split() for u, v in read_table(path).items() if u in utt2spk}
        width = max((len(words) for words in table.values()), default=0)
        for utterance, words in table.items():
            if len(words) != width:
                raise InputError(f"{path}: {utterance} has {len(words)} values, others have {width}")
        for number in range(width):
            name = path.name.removeprefix("utt2") + (f".{number + 1}" if width > 1 else "")
            if name in ("gender", "duration"):
                name += " (utt2X)"
            values = {utterance: words[number] for utterance, words in table.items()}
            if not whole:
                values = _few_values(path, values)
            if values:
                columns[name] = values
    return Conditions(columns, dict(seconds), duration_ends)


def read_degraded(data_dir: Path, conditions: ConditionCopies) -> dict[str, str]:
    """Return the condition of each degraded test utterance, in the order of the configuration.

    Raises
    ------
    InputError
        There are other conditions than in the configuration.
    """
    names, path = [copy.name for copy in conditions.copies], data_dir / CONDITIONS_PART / "utt2condition"
    table = read_table(path)
    if set(table.values()) != set(names):
        raise InputError(f"{path}: has not the conditions of conditions.copies; run stage 2 with this configuration")
    return dict(sorted(table.items(), key=lambda item: names.index(item[1])))


def trial_conditions(conditions: Conditions, trials: TrialList) -> list[TrialConditions]:
    """Return the conditions of the trials of a list.

    When its sides differ, a trial has both values. Its duration is that of its shorter side; the duration of an
    enrolment model is the sum over its utterances. The phrase or word of a trial is "same" or "different", and so is
    the session of a target trial; non-target trials count with both sessions, so that the error rates differ by the
    target trials only.

    If all test sides of a list are degraded, their condition comes first. Besides the duration, only the gender is
    known of degraded utterances.
    """
    found = []
    columns = conditions.columns
    names = list(dict.fromkeys(conditions.degraded.values()))
    code_of = {name: number for number, name in enumerate(names)} | {"": -1}
    of_test = np.array([code_of[conditions.degraded.get(utterance, "")] for utterance in trials.utterances])
    codes = of_test[trials.test]
    if (codes >= 0).all():
        found.append(TrialConditions(CONDITION, names, codes.astype(np.uint8)))
        columns = {by: column for by, column in columns.items() if by == "gender"}
    if conditions.seconds:
        found.append(_duration(conditions, trials))
    for by, column in columns.items():
        if by in _SAME_OR_DIFFERENT:
            found.append(_same_or_different(by, column, trials))
            continue
        values = [column.get(utterance, "") or _UNKNOWN for utterance in trials.utterances]
        names = sorted({*values, _SEVERAL})
        value = np.array([names.index(name) for name in values])
        of_model = trials.models.common(value, names.index(_SEVERAL))
        pairs = list(combinations_with_replacement(range(len(names)), 2))
        code = np.zeros((len(names), len(names)), dtype=np.uint8)
        for number, (first, second) in enumerate(pairs):
            code[first, second] = code[second, first] = number
        of_pairs = [names[first] if first == second else f"{names[first]}, {names[second]}" for first, second in pairs]
        found.append(TrialConditions(by, of_pairs, code[of_model[trials.enrolment], value[trials.test]]))
    return found


def _duration(conditions: Conditions, trials: TrialList) -> TrialConditions:
    seconds = np.array([conditions.seconds.get(utterance, 0.0) for utterance in trials.utterances])
    ends = list(conditions.duration_ends)
    # The shorter side decides, and it is in the lower bucket.
    bucket = np.searchsorted(ends, seconds, side="right").astype(np.uint8)
    of_model = np.searchsorted(ends, trials.models.totals(seconds), side="right").astype(np.uint8)
    codes = np.minimum(of_model[trials.enrolment], bucket[trials.test])
    return TrialConditions("duration", _ranges([f"{end:g} s" for end in ends]), codes)


def _same_or_different(by: str, column: Mapping[str, str], trials: TrialList) -> TrialConditions:
    names = [column.get(utterance, "") for utterance in trials.utterances]
    number = {name: code for code, name in enumerate(sorted({*names} - {""}))} | {"": -1}
    of_utterance = np.array([number[name] for name in names])
    several = len(number)
    enrolment = trials.models.common(of_utterance, several)[trials.enrolment]
    test = of_utterance[trials.test]
    values = ["same", "different", _SEVERAL, _UNKNOWN]
    codes = np.where(enrolment == test, 0, 1).astype(np.uint8)
    codes[enrolment == several] = 2
    codes[(enrolment == -1) | (test == -1)] = 3
    if by == _SESSION:
        codes[~trials.is_target] = EVERY_VALUE
    return TrialConditions(by, values, codes)


def _few_values(path: Path, column: Mapping[str, str]) -> dict[str, str]:
    """Return a column with few distinct values; empty if they cannot be reduced."""
    if len(set(column.values())) <= _MAX_VALUES:
        return dict(column)
    try:
        numbers = np.array([float(value) for value in column.values()])
    except ValueError:
        numbers = np.array([np.nan])
    if not np.isfinite(numbers).all():
        print(
            f"{path}: no breakdown by a column with {len(set(column.values()))} values, more than {_MAX_VALUES}",
            file=sys.stderr,
        )
        return {}
    ends = np.unique(np.quantile(numbers, [1 / 3, 2 / 3], method="higher"))
    names = _ranges([f"{end:g}" for end in ends])
    part = np.searchsorted(ends, numbers, side="right")
    return {utterance: names[which] for utterance, which in zip(column, part, strict=True)}


def _ranges(ends: Sequence[str]) -> list[str]:
    """Return names for the ranges between ascending ends; a range includes its lower end."""
    if not ends:
        return ["any"]
    return [f"below {ends[0]}", *(f"{low} to {high}" for low, high in pairwise(ends)), f"from {ends[-1]}"]
