"""Stage 7: what is shown of an evaluation."""

from __future__ import annotations

import csv
from pathlib import Path

from deepspeaker.files import atomic_write
from deepspeaker.metrics import det_points
from deepspeaker.report import (
    Results,
    plot_det,
    plot_training,
    results_markdown,
    results_page,
    results_table,
)
from deepspeaker.scoring import labelled_scores


def write_report(data_dir: Path, exp_dir: Path) -> None:
    """Prints the table; writes ``det.png``, ``training.png``, ``RESULTS.md`` and ``report.html`` into ``exp_dir``."""
    results = Results.read(exp_dir / "results.json")
    curves = {}
    first, last = results.systems[0].backend, results.systems[-1].name
    for system in results.systems:
        # Every system with the first back end, the last system with all.
        if system.trials == "trials_all" and (system.backend == first or system.name == last):
            path = exp_dir / system.name / f"scores_trials_all_{system.backend}"
            scores, is_target = labelled_scores(path, data_dir / "test" / "trials_all")
            name = system.name if system.backend == first else f"{system.name}, {system.backend}"
            curves[name] = det_points(scores[is_target], scores[~is_target])
    synthetic = " (synthetic speech)" if results.synthetic else ""
    speakers = results.trials["trials_all"].speakers
    title = f"{results.corpus}{synthetic}, trials_all: {speakers} unseen speakers"
    plot_det(curves, exp_dir / "det.png", title)
    histories = {}
    for name in ("softmax", "triplet"):
        path = exp_dir / name / "train.csv"
        if path.is_file() and (rows := list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))):
            histories[name] = exp_dir / name / "training.png"
            plot_training(rows, histories[name], f"{results.corpus}{synthetic}: {name} training")
    atomic_write(exp_dir / "RESULTS.md", results_markdown(results))
    atomic_write(exp_dir / "report.html", results_page(results, {"det": exp_dir / "det.png", **histories}))
    print(results_table(results))
