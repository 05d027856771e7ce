"""The tables with error rates, figure 4, and the decisions about orderings, from finished experiments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from deepspeaker.report import Table
from deepspeaker.results import MISSING, Results, format_rate
from deepspeaker.tables.definitions import HEADS, Ordering, Part, Row, orderings, rows_of
from deepspeaker.tables.estimates import Decision, Estimate, Rates, contrast, decide, interval_of, overall
from deepspeaker.tables.experiments import NETWORKS
from deepspeaker.tables.first_tables import FIRST_TABLES
from deepspeaker.tables.sections import Measurements, Section, Verdict, history


def section(table: int, measurements: Measurements, reason: str = "") -> Section:
    """Return a table with its decisions. With a ``reason`` against it, the cells are left out."""
    if table in FIRST_TABLES and not reason:
        return FIRST_TABLES[table](measurements)
    if table in FIRST_TABLES:
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
    return Verdict(ordering.number, ordering.text, decision, parts, reason, len(ordering.parts) - len(parts))


def _part(part: Part, measurements: Measurements) -> tuple[str, Estimate, Decision] | None:
    terms = []
    for factor, cell in part.terms:
        measured = measurements(cell)
        if isinstance(measured, str):
            return None
        terms.append((factor, measured.eer))
    difference = contrast(terms, part.constant)
    return part.text, difference, decide(difference)


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
    for network in NETWORKS:
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
