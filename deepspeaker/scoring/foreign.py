"""Score and trial files of other toolkits, their column order recognised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepspeaker.errors import InputError

_TARGET = ("target", "tgt", "tar", "true", "1")
_NONTARGET = ("nontarget", "non-target", "non", "imp", "impostor", "imposter", "false", "0")
_FORMS = (
    "enrolment test score (Kaldi), enrolment test score label (WeSpeaker), score label (compute-eer's); "
    "trials: enrolment test label (Kaldi), label enrolment test (VoxCeleb)"
)


@dataclass(frozen=True, eq=False)
class LabelledScores:
    """Scored trials, and what did not fit."""

    scores: NDArray[np.float64]  # (trials,)
    is_target: NDArray[np.bool_]  # (trials,)
    pairs: pl.DataFrame | None  # columns enrolment and test, where the files name them
    without_trial: list[str]  # "enrolment test" of scores that no trial asks for
    without_score: list[str]  # of trials that have no score


def read_labelled_scores(scores: Path, trials: Path | None = None) -> LabelledScores:
    """Reads a score file, and the trial list that labels it unless it has labels itself.

    Columns stand in any of these orders: Kaldi's ``enrolment test score``, WeSpeaker's ``enrolment test score label``,
    ``score label`` as Kaldi's compute-eer reads it; trial lists are Kaldi's ``enrolment test label`` or VoxCeleb's
    ``label enrolment test``. Labels are target and nontarget, or 1 and 0. Any blanks part the columns.

    Raises ``InputError`` that names file and line for lines that are none of these, scores that are not numbers, pairs
    that come twice, and when scores and trials have no pair in common.
    """
    table = _columns(scores)
    if table.width == 2:
        return LabelledScores(_numbers(scores, table, "1"), _labels(scores, table, "2"), None, [], [])
    if table.width == 4 or (table.width == 3 and trials is None):
        label = next((name for name in reversed(table.columns) if _is_label(table[name])), None)
        if label is None or table.width == 3:
            raise InputError(f"{scores}: has no labels; give the trial list too")
        rest = [name for name in table.columns if name != label]
        value = _score_column(scores, table.select(rest))
        pairs = table.select([name for name in rest if name != value])
        labelled = table.select(pl.col(label))
        return LabelledScores(
            _numbers(scores, table, value), _labels(scores, labelled, label), _named(pairs), [], []
        )
    if table.width != 3:
        raise InputError(f"{scores}: lines of {table.width} words; known forms are: {_FORMS}")
    assert trials is not None
    value = _score_column(scores, table)
    scored = _named(table.select([name for name in table.columns if name != value]))
    scored = scored.with_columns(score=pl.Series(_numbers(scores, table, value)))
    listed = _columns(trials)
    if listed.width != 3:
        raise InputError(f"{trials}: lines of {listed.width} words; known forms are: {_FORMS}")
    label = "3" if _is_label(listed["3"]) else "1"
    wanted = _named(listed.select([name for name in listed.columns if name != label]))
    wanted = wanted.with_columns(is_target=pl.Series(_labels(trials, listed, label)))
    both = ["enrolment", "test"]
    for path, own in ((scores, scored), (trials, wanted)):
        twice = own.filter(own.select(both).is_duplicated())
        if len(twice):
            raise InputError(f"{path}: {twice['enrolment'][0]} {twice['test'][0]} comes twice; keep one of its lines")
    joined = scored.join(wanted, on=both, how="inner", maintain_order="left")
    if not len(joined):
        raise InputError(f"{scores}: has no pair of {trials}; the first of each: {_first(scored)} and {_first(wanted)}")
    return LabelledScores(
        joined["score"].to_numpy(),
        joined["is_target"].to_numpy(),
        joined.select(both),
        _listed(scored.join(wanted, on=both, how="anti")),
        _listed(wanted.join(scored, on=both, how="anti")),
    )


def _columns(path: Path) -> pl.DataFrame:
    """Columns "1", "2", ... of words."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        lines = pl.read_csv(
            path, has_header=False, separator="\x1f", quote_char=None, schema={"line": pl.String}, encoding="utf8"
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        raise InputError(f"{path}: {'not UTF-8 text' if path.stat().st_size else 'is empty'}") from None
    if not len(lines):
        raise InputError(f"{path}: is empty")
    words = lines.select(pl.col("line").fill_null("").str.strip_chars().str.replace_all(r"\s+", " ").str.split(" "))
    counts = words["line"].list.len()
    width = int(counts[0])
    odd = (counts != width) | (lines["line"].fill_null("").str.strip_chars() == "")
    if odd.any():
        line = int(odd.arg_true()[0])
        raise InputError(f"{path}:{line + 1}: {counts[line]} words, the lines before have {width}")
    return words["line"].list.to_struct(fields=[str(number + 1) for number in range(width)]).struct.unnest()


def _is_label(column: pl.Series) -> bool:
    return bool(column.str.to_lowercase().is_in(list(_TARGET + _NONTARGET)).all())


def _labels(path: Path, table: pl.DataFrame, name: str) -> NDArray[np.bool_]:
    column = table[name].str.to_lowercase()
    wrong = ~column.is_in(list(_TARGET + _NONTARGET))
    if wrong.any():
        line = int(wrong.arg_true()[0])
        raise InputError(f"{path}:{line + 1}: {table[name][line]} is no label; target and nontarget, or 1 and 0 are")
    return column.is_in(list(_TARGET)).to_numpy()


def _score_column(path: Path, table: pl.DataFrame) -> str:
    """The last column that holds numbers; ids may be numbers too."""
    for name in reversed(table.columns):
        if table[name].cast(pl.Float64, strict=False).null_count() == 0:
            return name
    last = table.columns[-1]
    _numbers(path, table, last)  # names the line
    raise InputError(f"{path}: no column has scores")


def _numbers(path: Path, table: pl.DataFrame, name: str) -> NDArray[np.float64]:
    values = table[name].cast(pl.Float64, strict=False)
    wrong = values.is_null() | values.is_nan()
    if wrong.any():
        line = int(wrong.arg_true()[0])
        raise InputError(f"{path}:{line + 1}: {table[name][line]} is no score; a number is wanted")
    numbers: NDArray[np.float64] = values.to_numpy()
    return numbers


def _named(pairs: pl.DataFrame) -> pl.DataFrame:
    return pairs.rename(dict(zip(pairs.columns, ("enrolment", "test"), strict=True)))


def _first(table: pl.DataFrame) -> str:
    return f"{table['enrolment'][0]} {table['test'][0]}"


def _listed(table: pl.DataFrame) -> list[str]:
    return table.select(pl.concat_str("enrolment", "test", separator=" "))["enrolment"].to_list()
