"""Trial lists and score files as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path
from deepspeaker.trials.id_pairs import first_twice, match, numbered


@dataclass(frozen=True, eq=False)
class Trials:
    """A trial list: ``ids[enrolment[k]] ids[test[k]]`` is trial ``k``; ``is_target`` (trials,) are booleans."""

    ids: list[str]  # sorted
    enrolment: NDArray[np.int64]
    test: NDArray[np.int64]
    is_target: NDArray[np.bool_]


def trial_list_path(data_dir: Path, exp_dir: Path, name: str) -> Path:
    """Where the trial list of that name in ``results.json`` lies."""
    own = exp_dir / "trials" / name
    return own if own.is_file() else data_dir / "test" / name


def read_trials(path: Path) -> Trials:
    """Reads ``enrolment-id test-id target|nontarget`` lines; raises ``InputError`` with the line of a wrong one."""
    table = _read(path, ["enrolment", "test", "label"])
    labels = table["label"]
    wrong = ~labels.is_in(["target", "nontarget"])
    if wrong.any():
        line = int(wrong.arg_true()[0])
        raise InputError(f"{path}:{line + 1}: the third word must be target or nontarget, is {labels[line]}")
    ids, (enrolment, test) = numbered(table["enrolment"], table["test"])
    keys = enrolment * len(ids) + test
    twice = first_twice(keys)
    if twice is not None:
        lines = (~pl.Series(keys).is_first_distinct()).arg_true().to_list()
        more = f"{len(lines)} lines do: {', '.join(str(n + 1) for n in lines[:10])}{', ...' if len(lines) > 10 else ''}"
        raise InputError(
            f"{path}:{twice + 1}: the trial {ids[int(enrolment[twice])]} {ids[int(test[twice])]} comes twice"
            f"{f' ({more})' if len(lines) > 1 else ''}; keep one"
        )
    return Trials(ids, enrolment, test, (labels == "target").to_numpy().copy())


def write_trials(path: Path, trials: Trials) -> None:
    """Writes ``enrolment-id test-id target|nontarget`` lines."""
    labels = pl.Series(np.where(trials.is_target, "target", "nontarget"))
    _write_lines(path, trials.ids, trials.enrolment, trials.test, labels)


def write_scores(
    path: Path, ids: Sequence[str], enrolment: NDArray[np.int64], test: NDArray[np.int64], scores: NDArray[np.float32]
) -> None:
    """Writes ``enrolment-id test-id score`` lines; a score's text reads back as the same float32."""
    _write_lines(path, ids, enrolment, test, pl.Series(scores))


def _write_lines(
    path: Path, ids: Sequence[str], enrolment: NDArray[np.int64], test: NDArray[np.int64], third: pl.Series
) -> None:
    names = pl.Series(list(ids))
    table = pl.DataFrame({"enrolment": names.gather(enrolment), "test": names.gather(test), "third": third})
    with atomic_path(path) as temporary:
        table.write_csv(temporary, include_header=False, separator=" ", quote_style="never")


def labelled_scores(scores: Path, trials: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The scores of a score file and whether each is a target trial, joined by the two ids with a trial list.

    Raises ``InputError`` for a score whose trial is not in the list, and for one that is not a number.
    """
    scored, listed = _read(scores, ["enrolment", "test", "score"]), _read(trials, ["enrolment", "test", "label"])
    ids, (one, other, enrolment, test) = numbered(
        scored["enrolment"], scored["test"], listed["enrolment"], listed["test"]
    )
    keys, of_list = one * len(ids) + other, enrolment * len(ids) + test
    twice = first_twice(keys) is not None or first_twice(of_list) is not None
    partner = match(keys, of_list).partner
    if twice or (partner < 0).any():
        raise InputError(f"{scores}: has scores of trials that are not in {trials}, or come twice; run stage 6 again")
    return scored["score"].to_numpy(), (listed["label"] == "target").to_numpy()[partner]


def _read(path: Path, columns: list[str]) -> pl.DataFrame:
    """A table of words as ``Categorical``; the column ``score`` as ``Float32``."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; run the stage that writes it")
    schema = {name: pl.Float32 if name == "score" else pl.Categorical for name in columns}
    try:
        table = pl.read_csv(path, has_header=False, separator=" ", quote_char=None, schema=schema)
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        raise InputError(_complaint(path, columns)) from None
    if not len(table) or any(table[name].null_count() for name in columns):
        raise InputError(_complaint(path, columns))
    return table


def _complaint(path: Path, columns: Sequence[str]) -> str:
    """Names the first line that is not ``columns`` words with one blank between them, or whose score is no number."""
    wanted = f"every line must have {len(columns)} words with one blank between them: {' '.join(columns)}"
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            words = line.rstrip(b"\r\n").split(b" ")
            if len(words) != len(columns) or b"" in words:
                return f"{path}:{number}: {wanted}"
            if "score" in columns:
                try:
                    float(words[columns.index("score")])
                except ValueError:
                    return f"{path}:{number}: the third word must be a number on every line"
    return f"{path}: {'is not UTF-8 text' if path.stat().st_size else 'is empty'}; {wanted}"
