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


@dataclass(frozen=True, eq=False)
class Trials:
    """A trial list: ``ids[enrolment[k]] ids[test[k]]`` is trial ``k``; ``is_target`` (trials,) are booleans."""

    ids: list[str]  # sorted
    enrolment: NDArray[np.int64]
    test: NDArray[np.int64]
    is_target: NDArray[np.bool_]


def read_trials(path: Path) -> Trials:
    """Reads ``enrolment-id test-id target|nontarget`` lines; raises ``InputError`` with the line of a wrong one."""
    table = _read(path, ["enrolment", "test", "label"])
    labels = table["label"]
    wrong = ~labels.is_in(["target", "nontarget"])
    if wrong.any():
        line = int(wrong.arg_true()[0])
        raise InputError(f"{path}:{line + 1}: the third word must be target or nontarget, is {labels[line]}")
    ids = pl.concat([table["enrolment"].unique(), table["test"].unique()]).unique().sort()
    kind = pl.Enum(ids)
    enrolment, test = (
        table[name].cast(kind).to_physical().to_numpy().astype(np.int64) for name in ("enrolment", "test")
    )
    pair = pl.Series(enrolment * len(ids) + test)
    if pair.n_unique() < len(pair):
        line = int((~pair.is_first_distinct()).arg_true()[0])
        raise InputError(
            f"{path}:{line + 1}: the trial {ids[int(enrolment[line])]} {ids[int(test[line])]} comes twice; keep one"
        )
    return Trials(ids.to_list(), enrolment, test, (labels == "target").to_numpy().copy())


def write_scores(
    path: Path, ids: Sequence[str], enrolment: NDArray[np.int64], test: NDArray[np.int64], scores: NDArray[np.float32]
) -> None:
    """Writes ``enrolment-id test-id score`` lines; a score's text reads back as the same float32."""
    names = pl.Series(list(ids))
    table = pl.DataFrame({"enrolment": names.gather(enrolment), "test": names.gather(test), "score": scores})
    with atomic_path(path) as temporary:
        table.write_csv(temporary, include_header=False, separator=" ", quote_style="never")


def labelled_scores(scores: Path, trials: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The scores of a score file and whether each is a target trial, joined by the two ids with a trial list.

    Raises ``InputError`` for a score whose trial is not in the list, and for one that is not a number.
    """
    columns = ["enrolment", "test"]
    scored, listed = _read(scores, [*columns, "score"]), _read(trials, [*columns, "label"])
    joined = scored.join(listed, on=columns, how="left", maintain_order="left")
    twice = joined.height != scored.height or bool(scored.select(columns).is_duplicated().any())
    if twice or joined["label"].null_count():
        raise InputError(f"{scores}: has scores of trials that are not in {trials}, or come twice; run stage 6 again")
    try:
        values = joined["score"].cast(pl.Float32).to_numpy()
    except pl.exceptions.PolarsError:
        raise InputError(f"{scores}: the third word must be a number on every line") from None
    return values, (joined["label"] == "target").to_numpy()


def _read(path: Path, columns: list[str]) -> pl.DataFrame:
    if not path.is_file():
        raise InputError(f"{path}: no such file; run the stage that writes it")
    try:
        table = pl.read_csv(
            path,
            has_header=False,
            separator=" ",
            quote_char=None,
            new_columns=columns,
            infer_schema=False,
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        raise InputError(_complaint(path, columns)) from None
    if table.width != len(columns) or any(table[name].null_count() for name in columns):
        raise InputError(_complaint(path, columns))
    return table


def _complaint(path: Path, columns: Sequence[str]) -> str:
    """Names the first line that is not ``columns`` words with one blank between them."""
    wanted = f"every line must have {len(columns)} words with one blank between them: {' '.join(columns)}"
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            words = line.rstrip(b"\r\n").split(b" ")
            if len(words) != len(columns) or b"" in words:
                return f"{path}:{number}: {wanted}"
    return f"{path}: {'is not UTF-8 text' if path.stat().st_size else 'is empty'}; {wanted}"
