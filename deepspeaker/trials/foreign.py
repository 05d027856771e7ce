"""Score and trial files of other toolkits, their column order recognised."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.trials.id_pairs import first_twice, match, numbered
from deepspeaker.trials.trial_list import Trials

_TARGET = ("target", "tgt", "tar", "true", "1")
_NONTARGET = ("nontarget", "non-target", "non", "imp", "impostor", "imposter", "false", "0")
_FORMS = (
    "enrolment test score (Kaldi), enrolment test score label (WeSpeaker), score label (compute-eer's), label score; "
    "trials: enrolment test label (Kaldi), label enrolment test (VoxCeleb)"
)


#: Lines at the beginning of a file by which its form is recognised.
_HEAD = 1000


@dataclass(frozen=True, eq=False)
class LabelledScores:
    """Scored trials, and what did not fit."""

    scores: NDArray[np.float64]  # (trials,)
    is_target: NDArray[np.bool_]  # (trials,)
    ids: list[str]  # sorted; empty where the files name no utterances
    enrolment: NDArray[np.int64]  # numbers of ids (trials,); empty likewise
    test: NDArray[np.int64]
    without_trial: list[str]  # "enrolment test" of scores that no trial asks for
    without_score: list[str]  # of trials that have no score


@dataclass(frozen=True)
class _Form:
    """Which columns of a file, counted from 0, are what; and what parts them where that is one character."""

    width: int
    score: int | None
    label: int | None
    separator: str | None

    @property
    def ids(self) -> list[int]:
        return [column for column in range(self.width) if column not in (self.score, self.label)]


def read_labelled_scores(scores: Path, trials: Path | None = None) -> LabelledScores:
    """Reads a score file, and the trial list that labels it unless it has labels itself.

    Columns stand in any of these orders: Kaldi's ``enrolment test score``, WeSpeaker's ``enrolment test score label``,
    ``score label`` as Kaldi's compute-eer reads it or ``label score``; trial lists are Kaldi's ``enrolment test label``
    or VoxCeleb's ``label enrolment test``. Labels are target and nontarget, or 1 and 0. Any blanks part the columns.
    The first thousand lines tell the order; where every column of ids could be scores too, scores stand last.

    Raises ``InputError`` that names file and line for lines that are none of these, scores that are not numbers, pairs
    that come twice, and when scores and trials have no pair in common.
    """
    form = _score_form(scores)
    if trials is None and form.label is None:
        raise InputError(f"{scores}: has no labels; give the trial list too")
    table = _columns(scores, form)
    values = table[str(form.score)].to_numpy()
    if form.label is not None:
        is_target = _labels(scores, table[str(form.label)])
        if not form.ids:
            nothing = np.empty(0, dtype=np.int64)
            return LabelledScores(values, is_target, [], nothing, nothing, [], [])
        ids, (enrolment, test) = numbered(*(table[str(column)] for column in form.ids))
        return LabelledScores(values, is_target, ids, enrolment, test, [], [])
    assert trials is not None
    list_form = _list_form(trials)
    listed = _columns(trials, list_form)
    is_target = _labels(trials, listed[str(list_form.label)])
    ids, (enrolment, test, one, other) = numbered(
        *(table[str(column)] for column in form.ids), *(listed[str(column)] for column in list_form.ids)
    )

    def pair(first: NDArray[np.int64], second: NDArray[np.int64], row: int) -> str:
        return f"{ids[int(first[row])]} {ids[int(second[row])]}"

    for path, first, second in ((scores, enrolment, test), (trials, one, other)):
        twice = first_twice(first * len(ids) + second)
        if twice is not None:
            raise InputError(f"{path}:{twice + 1}: {pair(first, second, twice)} comes twice; keep one of its lines")
    partner, alone = match(enrolment * len(ids) + test, one * len(ids) + other)
    there = partner >= 0
    if not there.any():
        firsts = f"{pair(enrolment, test, 0)} and {pair(one, other, 0)}"
        raise InputError(f"{scores}: has no pair of {trials}; the first of each: {firsts}")
    without_trial = [pair(enrolment, test, row) for row in np.flatnonzero(~there).tolist()]
    if without_trial:
        values, enrolment, test, partner = values[there], enrolment[there], test[there], partner[there]
    without_score = [pair(one, other, row) for row in alone.tolist()]
    return LabelledScores(values, is_target[partner], ids, enrolment, test, without_trial, without_score)


def read_foreign_trials(path: Path) -> Trials:
    """Reads a trial list in Kaldi's or VoxCeleb's order of columns, as ``read_labelled_scores`` does.

    Raises ``InputError`` that names file and line for a line that is neither.
    """
    form = _list_form(path)
    table = _columns(path, form)
    ids, (enrolment, test) = numbered(*(table[str(column)] for column in form.ids))
    return Trials(ids, enrolment, test, _labels(path, table[str(form.label)]))


def _score_form(path: Path) -> _Form:
    head, separator = _head(path)
    width = len(head[0])
    columns = list(zip(*(words for words in head if len(words) == width), strict=True))
    labels = [all(_is_label(word) for word in column) for column in columns]
    numbers = [all(_is_number(word) for word in column) for column in columns]
    if width == 2:
        label = 0 if labels[0] and numbers[1] and not labels[1] else 1
        return _Form(width, 1 - label, label, separator)
    if width == 3:
        return _Form(width, _last(numbers, 2), None, separator)
    if width == 4:
        if not any(labels):
            raise InputError(f"{path}: has no labels; give the trial list too")
        label = _last(labels, 3)
        score = _last([number and column != label for column, number in enumerate(numbers)], 2)
        return _Form(width, score, label, separator)
    raise InputError(f"{path}: lines of {width} words; known forms are: {_FORMS}")


def _list_form(path: Path) -> _Form:
    head, separator = _head(path)
    if len(head[0]) != 3:
        raise InputError(f"{path}: lines of {len(head[0])} words; known forms are: {_FORMS}")
    last = all(_is_label(words[2]) for words in head if len(words) == 3)
    first = all(_is_label(words[0]) for words in head if len(words) == 3)
    return _Form(3, None, 0 if first and not last else 2, separator)


def _head(path: Path) -> tuple[list[list[str]], str | None]:
    """The words of the first lines, and the character that parts them if it is always the same one."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with path.open(encoding="utf-8") as stream:
            lines = [line.rstrip("\n") for line in islice(stream, _HEAD)]
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    if not lines:
        raise InputError(f"{path}: is empty")
    words = [line.split() for line in lines]
    if not words[0]:
        raise InputError(f"{path}:1: 0 words; known forms are: {_FORMS}")
    for separator in (" ", "\t"):
        if all(line.split(separator) == own for line, own in zip(lines, words, strict=True)):
            return words, separator
    return words, None


def _last(of_column: list[bool], otherwise: int) -> int:
    return max((column for column, fits in enumerate(of_column) if fits), default=otherwise)


def _columns(path: Path, form: _Form) -> pl.DataFrame:
    """Columns "0", "1", ...: the scores as ``Float64`` without NaN, words as ``Categorical``."""
    names = [str(column) for column in range(form.width)]
    schema = pl.Schema({name: pl.Float64() if name == str(form.score) else pl.Categorical() for name in names})
    if form.separator is not None:
        try:
            table = pl.read_csv(path, has_header=False, separator=form.separator, quote_char=None, schema=schema)
        except (pl.exceptions.PolarsError, UnicodeDecodeError):
            pass  # the slower way names the line
        else:
            gaps = any(table[name].null_count() for name in names)
            if not gaps and (form.score is None or not table[str(form.score)].is_nan().any()):
                return table
    return _columns_of_any_blanks(path, form).cast(schema)


def _columns_of_any_blanks(path: Path, form: _Form) -> pl.DataFrame:
    """The columns as text, whatever blanks part them; names the line where something is wrong."""
    try:
        lines = pl.read_csv(
            path, has_header=False, separator="\x1f", quote_char=None, schema={"line": pl.String}, encoding="utf8"
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        raise InputError(f"{path}: not UTF-8 text") from None
    words = lines.select(pl.col("line").fill_null("").str.strip_chars().str.replace_all(r"\s+", " ").str.split(" "))
    counts = words["line"].list.len()
    odd = (counts != form.width) | (lines["line"].fill_null("").str.strip_chars() == "")
    if odd.any():
        line = int(odd.arg_true()[0])
        raise InputError(f"{path}:{line + 1}: {counts[line]} words, the lines before have {form.width}")
    table = words["line"].list.to_struct(fields=[str(column) for column in range(form.width)]).struct.unnest()
    if form.score is not None:
        column = table[str(form.score)]
        values = column.cast(pl.Float64, strict=False)
        wrong = values.is_null() | values.is_nan()
        if wrong.any():
            line = int(wrong.arg_true()[0])
            raise InputError(f"{path}:{line + 1}: {column[line]} is no score; a number is wanted")
    return table


def _is_label(word: str) -> bool:
    return word.lower() in _TARGET + _NONTARGET


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _labels(path: Path, column: pl.Series) -> NDArray[np.bool_]:
    words, (codes,) = numbered(column)
    known = np.array([_is_label(word) for word in words])
    if not known.all():
        line = int(np.flatnonzero(~known[codes])[0])
        word = words[int(codes[line])]
        raise InputError(f"{path}:{line + 1}: {word} is no label; target and nontarget, or 1 and 0 are")
    target: NDArray[np.bool_] = np.array([word.lower() in _TARGET for word in words])[codes]
    return target
