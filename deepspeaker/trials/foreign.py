"""Score files and trial lists of any toolkit, whose column order is recognised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.trials.id_pairs import first_duplicate, match, numbered
from deepspeaker.trials.trial_list import TrialList

if TYPE_CHECKING:
    import polars as pl

_TARGET = ("target", "tgt", "tar", "true", "1")
_NONTARGET = ("nontarget", "non-target", "non", "imp", "impostor", "imposter", "false", "0")
_SCORE_FORMS = "enrolment test score (Kaldi), enrolment test score label (WeSpeaker), score label, label score"
_TRIAL_FORMS = "enrolment test label (Kaldi), label enrolment test (VoxCeleb)"
#: The first lines of a file, by which its form is recognised.
_HEAD_LINES = 1000


@dataclass(frozen=True, eq=False)
class LabelledScores:
    """Scored trials with their labels, and what had no partner."""

    scores: NDArray[np.float64]
    """Shape ``(trials,)``."""
    is_target: NDArray[np.bool_]
    """Shape ``(trials,)``."""
    ids: list[str]
    """Sorted; empty when the files have no ids."""
    enrolment: NDArray[np.int64]
    """Indices into ``ids``, shape ``(trials,)``; empty when there are no ids."""
    test: NDArray[np.int64]
    """Indices into ``ids``, shape ``(trials,)``; empty when there are no ids."""
    without_trial: list[str]
    """``enrolment test`` of scores whose trial is not in the list."""
    without_score: list[str]
    """``enrolment test`` of trials without a score."""


@dataclass(frozen=True)
class _Form:
    """The meaning of a file's columns, counted from 0, and the single character between them, if it is always one."""

    width: int
    score: int | None
    label: int | None
    separator: str | None

    @property
    def ids(self) -> list[int]:
        return [column for column in range(self.width) if column not in (self.score, self.label)]


def read_labelled_scores(scores: Path, trials: Path | None = None) -> LabelledScores:
    r"""Read a score file, and the trial list that labels it unless the scores have labels.

    Score files have the columns ``enrolment test score`` (Kaldi), ``enrolment test score label`` (WeSpeaker), ``score
    label`` (Kaldi's compute-eer) or ``label score``; trial lists ``enrolment test label`` (Kaldi) or ``label enrolment
    test`` (VoxCeleb). Labels are target and nontarget, or 1 and 0. Columns are separated by any white space. The first
    thousand lines decide the order of the columns; if ids look like scores too, the last column holds the scores.

    Parameters
    ----------
    scores
        The score file.
    trials
        The trial list.

    Raises
    ------
    InputError
        Names file and line: a line of another form, a score that is not a number, a duplicated pair; or scores and
        trials without a common pair.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "scores").write_text("anna-1 ben-1 -0.2\nanna-1 anna-2 0.7\n")
    >>> _ = (folder / "trials").write_text("1 anna-1 anna-2\n0 anna-1 ben-1\n0 anna-1 ben-2\n")
    >>> read = read_labelled_scores(folder / "scores", folder / "trials")
    >>> read.scores, read.is_target
    (array([-0.2,  0.7]), array([False,  True]))
    >>> read.without_score
    ['anna-1 ben-2']
    """
    form = _score_form(scores)
    if trials is None and form.label is None:
        raise InputError(f"{scores}: has no labels; give the trial list too")
    table = _columns(scores, form)
    values = table[str(form.score)].to_numpy()
    if form.label is not None:
        is_target = _labels(scores, table[str(form.label)])
        if not form.ids:
            empty = np.empty(0, dtype=np.int64)
            return LabelledScores(values, is_target, [], empty, empty, [], [])
        ids, (enrolment, test) = numbered(*(table[str(column)] for column in form.ids))
        return LabelledScores(values, is_target, ids, enrolment, test, [], [])
    assert trials is not None
    list_form = _list_form(trials)
    trial_table = _columns(trials, list_form)
    is_target = _labels(trials, trial_table[str(list_form.label)])
    ids, (enrolment, test, list_enrolment, list_test) = numbered(
        *(table[str(column)] for column in form.ids), *(trial_table[str(column)] for column in list_form.ids)
    )

    def pair(first: NDArray[np.int64], second: NDArray[np.int64], row: int) -> str:
        return f"{ids[int(first[row])]} {ids[int(second[row])]}"

    for path, first, second in ((scores, enrolment, test), (trials, list_enrolment, list_test)):
        duplicate = first_duplicate(first * len(ids) + second)
        if duplicate is not None:
            raise InputError(
                f"{path}:{duplicate + 1}: {pair(first, second, duplicate)} appears twice; keep one of its lines"
            )
    partner, unmatched = match(enrolment * len(ids) + test, list_enrolment * len(ids) + list_test)
    matched = partner >= 0
    if not matched.any():
        first_pairs = f"{pair(enrolment, test, 0)} and {pair(list_enrolment, list_test, 0)}"
        raise InputError(f"{scores}: has no pair of {trials}; the first pairs are {first_pairs}")
    without_trial = [pair(enrolment, test, row) for row in np.flatnonzero(~matched).tolist()]
    if without_trial:
        values, enrolment, test, partner = values[matched], enrolment[matched], test[matched], partner[matched]
    without_score = [pair(list_enrolment, list_test, row) for row in unmatched.tolist()]
    return LabelledScores(values, is_target[partner], ids, enrolment, test, without_trial, without_score)


def read_foreign_trials(path: Path, wav_scp: Mapping[str, str] | None = None) -> TrialList:
    """Read a trial list in Kaldi's or VoxCeleb's column order, as `read_labelled_scores` does.

    Parameters
    ----------
    path
        The list. As VoxCeleb's lists do, it may name audio files, such as ``id10270/5r0dWxy17C8/00001.wav``.
    wav_scp
        Utterance -> audio file. The name of a file becomes the utterance whose audio file ends with it.

    Raises
    ------
    InputError
        Names file and line of a line that is neither.
    """
    form = _list_form(path)
    table = _columns(path, form)
    ids, (enrolment, test) = numbered(*(table[str(column)] for column in form.ids))
    ids, place = _utterances_of_files(ids, wav_scp or {})
    enrolment, test = place[enrolment], place[test]
    return TrialList(ids, enrolment, test, _labels(path, table[str(form.label)]), path=path)


def _utterances_of_files(ids: list[str], wav_scp: Mapping[str, str]) -> tuple[list[str], NDArray[np.int64]]:
    """Replace ids that are the end of one audio file's path by its utterance; return all ids, and the place of each."""
    utterances: dict[str, str | None] = {}
    for parts in {name.count("/") + 1 for name in ids if "/" in name}:
        for utterance, location in wav_scp.items():
            end = "/".join(location.split("/")[-parts:])
            utterances[end] = None if end in utterances else utterance
    names = [name if name in wav_scp else utterances.get(name) or name for name in ids]
    replaced = sorted(set(names))
    number = {name: place for place, name in enumerate(replaced)}
    return replaced, np.array([number[name] for name in names], dtype=np.int64)


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
    raise InputError(f"{path}: lines of {width} words; known forms are: {_SCORE_FORMS}")


def _list_form(path: Path) -> _Form:
    head, separator = _head(path)
    if len(head[0]) != 3:
        raise InputError(f"{path}: lines of {len(head[0])} words; known forms are: {_TRIAL_FORMS}")
    last = all(_is_label(words[2]) for words in head if len(words) == 3)
    first = all(_is_label(words[0]) for words in head if len(words) == 3)
    return _Form(3, None, 0 if first and not last else 2, separator)


def _head(path: Path) -> tuple[list[list[str]], str | None]:
    """Return the words of the first lines, and the character between them if it is always the same."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with path.open(encoding="utf-8") as stream:
            lines = [line.rstrip("\n") for line in islice(stream, _HEAD_LINES)]
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    if not lines:
        raise InputError(f"{path}: is empty")
    words = [line.split() for line in lines]
    if not words[0]:
        raise InputError(f"{path}:1: empty line; remove it")
    for separator in (" ", "\t"):
        if all(line.split(separator) == parts for line, parts in zip(lines, words, strict=True)):
            return words, separator
    return words, None


def _last(of_column: list[bool], otherwise: int) -> int:
    return max((column for column, fits in enumerate(of_column) if fits), default=otherwise)


def _columns(path: Path, form: _Form) -> pl.DataFrame:
    """Return columns "0", "1", ...: the scores as ``Float64`` without NaN, words as ``Categorical``."""
    import polars as pl

    names = [str(column) for column in range(form.width)]
    schema = pl.Schema({name: pl.Float64() if name == str(form.score) else pl.Categorical() for name in names})
    if form.separator is not None:
        try:
            table = pl.read_csv(path, has_header=False, separator=form.separator, quote_char=None, schema=schema)
        except (pl.exceptions.PolarsError, UnicodeDecodeError):
            pass  # the slow path names the line
        else:
            has_nulls = any(table[name].null_count() for name in names)
            if not has_nulls and (form.score is None or not table[str(form.score)].is_nan().any()):
                return table
    return _columns_by_white_space(path, form).cast(schema)


def _columns_by_white_space(path: Path, form: _Form) -> pl.DataFrame:
    """Return the columns as text, split at any white space; name the line where something is wrong."""
    import polars as pl

    try:
        lines = pl.read_csv(
            path, has_header=False, separator="\x1f", quote_char=None, schema={"line": pl.String}, encoding="utf8"
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        raise InputError(f"{path}: not UTF-8 text") from None
    words = lines.select(pl.col("line").fill_null("").str.strip_chars().str.replace_all(r"\s+", " ").str.split(" "))
    counts = words["line"].list.len()
    wrong_width = (counts != form.width) | (lines["line"].fill_null("").str.strip_chars() == "")
    if wrong_width.any():
        line = int(wrong_width.arg_true()[0])
        raise InputError(f"{path}:{line + 1}: {counts[line]} words, the lines before have {form.width}")
    table = words["line"].list.to_struct(fields=[str(column) for column in range(form.width)]).struct.unnest()
    if form.score is not None:
        column = table[str(form.score)]
        values = column.cast(pl.Float64, strict=False)
        wrong = values.is_null() | values.is_nan()
        if wrong.any():
            line = int(wrong.arg_true()[0])
            raise InputError(f"{path}:{line + 1}: {column[line]} is not a score; write a number")
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
        raise InputError(f"{path}:{line + 1}: {word} is not a label; write target or nontarget, or 1 or 0")
    target: NDArray[np.bool_] = np.array([word.lower() in _TARGET for word in words])[codes]
    return target
