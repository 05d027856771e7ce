"""The tables, the figure and the decisions about orderings, from finished experiments."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.kaldi import read_table
from deepspeaker.report import Table
from deepspeaker.results import MISSING, Results, format_rate
from deepspeaker.tables import paper
from deepspeaker.tables.cells import Cell, Measured, measure, phrases
from deepspeaker.tables.definitions import HEADS, Ordering, Part, Row, orderings, rows_of
from deepspeaker.tables.estimates import Decision, Estimate, Rates, contrast, decide, interval_of, over_epochs, overall
from deepspeaker.tables.experiments import PAIRS, PROCESSES, Experiment, Setting

_SPEED = re.compile(r"^epoch .*?([0-9]+) utterances/s", re.M)


@dataclass(frozen=True)
class Verdict:
    """What the data say about an ordering."""

    number: str
    text: str
    decision: Decision
    parts: list[tuple[str, Estimate, Decision]]
    reason: str = ""

    @property
    def sentence(self) -> str:
        """Return one sentence."""
        if self.reason:
            return f"Ordering {self.number} ({self.text}): {self.decision}, as {self.reason}."
        of = {word: [text for text, _, part in self.parts if part == word] for word in _WORDS}
        counts = f"{len(of['held'])} of {len(self.parts)} parts held"
        reverse = f", reversed: {'; '.join(of['reversed'])}" if of["reversed"] else ""
        open_ = len(of["not decided by these data"])
        return f"Ordering {self.number} ({self.text}): {self.decision}. {counts}, {open_} not decided{reverse}."


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
        data_dir = self.data(self.experiments[cell.experiment].corpus)
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


def section(table: int, measurements: Measurements, reason: str = "") -> Section:
    """Return a table with its decisions. With a ``reason`` against it, the cells are left out."""
    if table in _OTHERS and not reason:
        return _OTHERS[table](measurements)
    if table in _OTHERS:
        return Section(table, [], [f"Left out: {reason}."])
    rows = [replace(row, cell=None, reason=row.reason or reason) if reason else row for row in rows_of(table)]
    head = [*HEADS[table], "paper: EER %", "ACC %", "here: EER % [95 %]", "ACC % [95 %]", "EER % of each seed"]
    found = [_row(row, measurements) for row in rows]
    verdicts = [_verdict(ordering, measurements, reason) for ordering in orderings() if ordering.table == table]
    cells, data = [cells for cells, _ in found], [record for _, record in found]
    return Section(table, [Table("Equal error rate and accuracy", head, cells, len(HEADS[table]))], [], verdicts, data)


def _row(row: Row, measurements: Measurements) -> tuple[list[str], dict[str, Any]]:
    figures = [MISSING, MISSING] if row.paper is None else [f"{row.paper.eer:.2f}", f"{row.paper.acc:.2f}"]
    record: dict[str, Any] = {"labels": list(row.labels), "paper": row.paper and row.paper._asdict()}
    measured = row.reason if row.cell is None else measurements(row.cell)
    if isinstance(measured, str):
        return [*row.labels, *figures, f"left out: {measured}", MISSING, MISSING], record | {"left_out": measured}
    eer, acc = interval_of(measured.eer), None if measured.acc is None else interval_of(measured.acc)
    single = ", ".join(f"{100 * value:.2f}" for value in measured.eer.values)
    shown = [_rate(eer), MISSING if acc is None else _rate(acc), single]
    record |= {"cell": asdict(row.cell) if row.cell else None, "eer": _record(measured.eer, eer)}
    record["acc"] = measured.acc and acc and _record(measured.acc, acc)
    return [*row.labels, *figures, *shown], record


def _rate(estimate: Estimate) -> str:
    return format_rate(estimate.value, list(estimate.interval) if estimate.interval else None)


def _record(rates: Rates, estimate: Estimate) -> dict[str, Any]:
    of_seed = {str(seed): float(value) for seed, value in zip(rates.seeds, rates.values, strict=True)}
    return {"mean": estimate.value, "ci95": estimate.interval, "of_seed": of_seed}


def _verdict(ordering: Ordering, measurements: Measurements, reason: str) -> Verdict:
    parts = [] if reason else list(filter(None, (_part(part, measurements) for part in ordering.parts)))
    decision = overall([word for _, _, word in parts])
    if not parts:
        reason = reason or "its cells are left out"
    return Verdict(ordering.number, ordering.text, decision, parts, reason)


def _part(part: Part, measurements: Measurements) -> tuple[str, Estimate, Decision] | None:
    terms = []
    for factor, cell in part.terms:
        measured = measurements(cell)
        if isinstance(measured, str):
            return None
        terms.append((factor, measured.eer))
    difference = contrast(terms, part.constant)
    return part.text, difference, decide(difference)


# ---- tables 1 to 4 -----------------------------------------------------------------------------------------


def _layers(measurements: Measurements) -> Section:
    return _describe(1, "rescnn", {}, measurements)


def _recurrent_layers(measurements: Measurements) -> Section:
    return _describe(2, "gru", {"deep_speech_2": {"recurrence": "deep_speech_2"}}, measurements)


def _describe(table: int, name: str, variants: dict[str, dict[str, Any]], measurements: Measurements) -> Section:
    from deepspeaker.config import Config, load_config
    from deepspeaker.models import build_model, describe, parameter_count

    bins, frames = 64, 100
    networks = {"here": build_model(bins, name=name)}
    networks |= {f"here, {what}": build_model(bins, name=name, **more) for what, more in variants.items()}
    columns = [describe(network, frames) for network in networks.values()]
    rows = []
    for (printed, parameters), *layers in zip(paper.LAYERS[name], *columns, strict=True):
        shape = " x ".join(map(str, layers[0].output))
        rows.append([layers[0].name, shape, printed, parameters, *(f"{layer.parameters:,}" for layer in layers)])
    totals = [f"{parameter_count(network):,}" for network in networks.values()]
    rows.append(["all", "", "all", paper.TOTALS[name], *totals])
    head = ["layer", "output for 1 s", "paper: layer", "parameters", *networks]
    used: Config = load_config(measurements.root / measurements.setting.configs[name])
    count = parameter_count(build_model(bins, **used.model.model_dump()))
    note = (
        "Output: channels x frames x bins. The batch norm counts with its layer. The network "
        f"of these experiments ({Path(measurements.setting.configs[name]).name}) has {count:,} parameters."
    )
    data = [dict(zip(head, row, strict=True)) for row in rows]
    return Section(table, [Table("Parameters", head, rows, 3, None)], [note], [], data)


def _hard_negatives(measurements: Measurements) -> Section:
    setting = measurements.setting
    shares, seconds = {}, {}
    for count in PROCESSES:
        folders = [measurements.folder(f"hard{count}", seed) / "triplet" for seed in setting.seeds]
        shares[count] = np.array([share for folder in folders for share in _active_shares(folder)])
        seconds[count] = float(np.mean([2 * PAIRS * count / _speed(folder) for folder in folders]))
    rows, data = [], []
    for count in sorted({*paper.HARD_NEGATIVES, *PROCESSES}):
        printed = [f"{value:.2f}" for value in paper.HARD_NEGATIVES.get(count, ())] or [MISSING, MISSING]
        record: dict[str, Any] = {"processes": count, "paper": paper.HARD_NEGATIVES.get(count)}
        here = [MISSING] * 3
        if count in shares:
            share = float(shares[count].mean())
            more = seconds[count] / seconds[1] - 1
            here = [f"{100 * share:.2f}", f"{seconds[count]:.3f}", f"{100 * more:+.0f}"]
            record |= {"share": share, "seconds_per_step": seconds[count]}
        rows.append([str(count), str(count * 2 * PAIRS), *printed, *here])
        data.append(record)
    head = [
        "processes",
        "utterances",
        "paper: hard negatives %",
        "time %",
        "here: hard negatives %",
        "s a step",
        "time %",
    ]
    parts = []
    for fewer, more_ in pairwise(PROCESSES):
        difference = over_epochs(shares[fewer] - shares[more_])
        parts.append((f"more with {more_} processes than with {fewer}", difference, decide(difference)))
    text = "the more processes are searched, the more anchors have a hard negative"
    verdict = Verdict("8", text, overall([word for _, _, word in parts]), parts)
    notes = [
        "A hard negative violates the margin: the loss of the anchor and its positive is above 0. All trainings start "
        "from the same network; shares are means over six epochs, and the decision compares epochs in pairs.",
        "The processes share the processors of one machine, so the time shows what a step costs there. The paper's "
        "GPUs work side by side.",
    ]
    return Section(3, [Table("Hard negatives", head, rows, 1, None)], notes, [verdict], data)


def _active_shares(folder: Path) -> list[float]:
    return [float(row["active_triplets"]) for row in history(folder)]


def history(folder: Path) -> list[dict[str, str]]:
    """Return the rows of ``train.csv``."""
    path = folder / "train.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file; run the experiment again")
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def _speed(folder: Path) -> float:
    """Return the utterances per second of a training's last epoch, from its log."""
    found = _SPEED.findall((folder / "log" / "train.log").read_text(encoding="utf-8"))
    if not found:
        raise InputError(f"{folder}/log/train.log: names no speed; run the experiment again")
    return max(float(found[-1]), 1.0)


def _corpora(measurements: Measurements) -> Section:
    rows = [
        ["paper", name, f"{speakers:,}", f"{utterances:,}", f"{seconds:.2f}", f"{utterances * seconds / 3600:,.1f}"]
        for name, (speakers, utterances, seconds) in paper.CORPORA.items()
    ]
    data = []
    for corpus in measurements.setting.corpora:
        folder = measurements.data(corpus)
        for part in ("train", "dev", "test"):
            if not (folder / part / "utt2dur").is_file():
                continue
            speakers = set(read_table(folder / part / "utt2spk").values())
            durations = [float(value) for value in read_table(folder / part / "utt2dur").values()]
            mean, hours = float(np.mean(durations)), sum(durations) / 3600
            counts = [f"{len(speakers):,}", f"{len(durations):,}", f"{mean:.2f}", f"{hours:,.1f}"]
            rows.append([folder.name, part, *counts])
            record = {"speakers": len(speakers), "utterances": len(durations), "mean_seconds": mean, "hours": hours}
            data.append({"corpus": folder.name, "part": part, **record})
    head = ["corpus", "part", "speakers", "utterances", "mean length, s", "hours"]
    return Section(4, [Table("Speakers and utterances", head, rows, 2)], [], [], data)


_OTHERS: dict[int, Callable[[Measurements], Section]] = {
    1: _layers,
    2: _recurrent_layers,
    3: _hard_negatives,
    4: _corpora,
}


def part_table(sections: Sequence[Section]) -> Table:
    """Return the table of all parts of all orderings."""
    rows = [
        [verdict.number, text, _points(difference), word]
        for one in sections
        for verdict in one.verdicts
        for text, difference, word in verdict.parts
    ]
    head = ["ordering", "part: negative if it holds", "difference in EER, % points [95 %]", "decision"]
    return Table("Parts of the orderings (of ordering 8: shares of anchors)", head, rows, 2)


def _points(estimate: Estimate) -> str:
    if estimate.interval is None:
        return f"{100 * estimate.value:+.2f}"
    return f"{100 * estimate.value:+.2f} [{100 * estimate.interval[0]:+.2f}, {100 * estimate.interval[1]:+.2f}]"


def lists_table(measurements: Measurements, done: Mapping[str, str]) -> Table:
    """Return the trial lists of each corpus with their checksums; ``done`` names a finished experiment of each."""
    rows = []
    for corpus, experiment in done.items():
        results = Results.read(measurements.folder(experiment, measurements.setting.seeds[0]) / "results.json")
        for name, info in results.trials.items():
            if info.chosen_by is None:
                counts = [f"{number:,}" for number in (info.target, info.nontarget, info.speakers)]
                rows.append([measurements.data(corpus).name, name, *counts, info.sha256])
    return Table("Trial lists", ["corpus", "list", "target", "non-target", "speakers", "sha256"], rows, 2)


def curves(measurements: Measurements) -> Iterator[tuple[str, dict[str, list[tuple[float, float, float | None]]]]]:
    """Yield figure 4: for each network, (step, EER, ACC) on the development speakers, with and without pre-training.

    The values are means over the seeds, as fractions.
    """
    for network in ("rescnn", "gru"):
        found = {}
        for name, trainings in (
            ("with pre-training", [(network, "softmax"), (network, "triplet")]),
            ("without", [(f"{network}_triplet", "triplet")]),
        ):
            points: list[tuple[float, float, float | None]] = []
            for experiment, system in trainings:
                offset = points[-1][0] if points else 0.0
                histories = [
                    history(measurements.folder(experiment, seed) / system) for seed in measurements.setting.seeds
                ]
                for rows in zip(*histories, strict=True):
                    if all(row.get("dev_eer") for row in rows):
                        accs = [float(row["dev_acc"]) for row in rows if row.get("dev_acc")]
                        eer = float(np.mean([float(row["dev_eer"]) for row in rows]))
                        acc = float(np.mean(accs)) if len(accs) == len(rows) else None
                        points.append((offset + float(rows[0]["step"]), eer, acc))
            found[name] = points
        if all(found.values()):
            yield network, found
