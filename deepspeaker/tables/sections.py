"""What a table has: its cells, and what the data say about its orderings."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deepspeaker.errors import InputError
from deepspeaker.report import Table
from deepspeaker.tables.cells import Cell, Measured, measure, phrases
from deepspeaker.tables.estimates import Decision, Estimate
from deepspeaker.tables.experiments import Experiment, Setting


@dataclass(frozen=True)
class Verdict:
    """What the data say about an ordering."""

    number: str
    text: str
    decision: Decision
    parts: list[tuple[str, Estimate, Decision]]
    reason: str = ""
    left_out: int = 0
    """Number of parts without figures."""

    @property
    def sentence(self) -> str:
        """Return one sentence."""
        if self.reason:
            return f"Ordering {self.number} ({self.text}): {self.decision}, as {self.reason}."
        of = {word: [text for text, _, part in self.parts if part == word] for word in _WORDS}
        counts = f"{len(of['held'])} of {len(self.parts)} parts held"
        if undecided := len(of["not decided by these data"]):
            counts += f", {undecided} not decided"
        if self.left_out:
            counts += f", {self.left_out} left out"
        if of["reversed"]:
            counts += f", {len(of['reversed'])} reversed: {'; '.join(of['reversed'])}"
        return f"Ordering {self.number} ({self.text}): {self.decision}. {counts}."


_WORDS: tuple[Decision, ...] = ("held", "reversed", "not decided by these data")


@dataclass(frozen=True)
class Section:
    """A table of the paper."""

    table: int
    tables: list[Table]
    notes: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    data: list[dict[str, Any]] = field(default_factory=list)


class Measurements:
    """The cells of all tables, each measured once.

    Parameters
    ----------
    setting
        The setting.
    experiments
        The experiments, of which some have been run.
    root
        The recipe's folder.
    """

    def __init__(self, setting: Setting, experiments: Mapping[str, Experiment], root: Path) -> None:
        self.setting, self.experiments, self.root = setting, experiments, root
        self._known: dict[Cell, Measured | str] = {}

    def data(self, corpus: str) -> Path:
        """Return the folder of a corpus."""
        return self.root / "data" / self.setting.corpora[corpus].data

    def folder(self, experiment: str, seed: int) -> Path:
        """Return the folder of an experiment."""
        return self.root / "exp" / self.setting.experiment(experiment, seed)

    def __call__(self, cell: Cell) -> Measured | str:
        """Return the rates of a cell, or why there are none."""
        if cell not in self._known:
            self._known[cell] = self._measure(cell)
        return self._known[cell]

    def _measure(self, cell: Cell) -> Measured | str:
        corpus = self.experiments[cell.experiment].corpus
        data_dir = self.data(corpus)
        if cell.system == "ivector" and not self.setting.corpora[corpus].audio:
            return "i-vectors need audio, and this corpus has features only"
        folders = {seed: self.folder(cell.experiment, seed) for seed in self.setting.seeds}
        try:
            return measure(_on_lists_of(data_dir, cell), data_dir, folders, self.setting.draws)
        except InputError as error:
            return str(error).replace(f"{self.root}/", "")


def _on_lists_of(data_dir: Path, cell: Cell) -> Cell:
    """Return the cell on the lists that a test part has: all pairs without the 1 + 99 list, pairs of one phrase."""
    test_dir = data_dir / "test"
    if not cell.condition and len(set(phrases(test_dir).values())) > 1:
        return replace(cell, trials="trials_all", condition="same phrase")
    if cell.trials == "trials_1p99" and not (test_dir / cell.trials).is_file():
        return replace(cell, trials="trials_all")
    return cell


def history(folder: Path) -> list[dict[str, str]]:
    """Return the rows of ``train.csv``."""
    path = folder / "train.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file; run the experiment again")
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
