"""Stage 7: what is shown of an evaluation; before it, the course of a training that has ended."""

from __future__ import annotations

import contextlib
import csv
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write
from deepspeaker.kaldi import read_table, read_vector
from deepspeaker.metrics import det_points
from deepspeaker.report.densities import plot_densities, score_densities
from deepspeaker.report.det import plot_det
from deepspeaker.report.embedding_map import EmbeddingMap, chosen_utterances, embedding_map, plot_maps
from deepspeaker.report.enrolment import enrolment_curves, plot_enrolment
from deepspeaker.report.intervals import plot_intervals
from deepspeaker.report.page import Findings, results_page
from deepspeaker.report.tables import whose_speakers
from deepspeaker.report.text import results_markdown, results_table
from deepspeaker.report.training_curves import plot_training
from deepspeaker.results import Results, SystemResult
from deepspeaker.stages import options_of
from deepspeaker.trials import read_labelled_scores, trial_list_path

#: Of run.sh's options.
_DEFAULTS = {"max_skipped": 5.0, "nproc": 1, "nnodes": 1}


def write_report(data_dir: Path, exp_dir: Path) -> None:
    """Prints the tables and writes them, figures and all that explains them into ``exp_dir``.

    Files: ``report.html``, ``RESULTS.md`` and its pictures ``eer.png``, ``det.png``, ``det_backends.png``,
    ``scores.png``, ``enrolment.png``, ``embeddings.png``, ``TRAINING/training.png``; ``config.yaml``, the configuration
    as used. Raises ``InputError`` when results or scores are missing.
    """
    results = Results.read(exp_dir / "results.json")
    first = results.first_list
    featured = results.featured(first)
    points, densities = {}, {}
    for system in featured:
        path, trials = _scores(exp_dir, system), trial_list_path(data_dir, exp_dir, first)
        read = read_labelled_scores(path, trials)
        if read.without_trial:
            raise InputError(f"{path}: has scores of trials that are not in {trials}; run stage 6 again")
        scores = read.scores.astype(np.float32)  # as stage 6 computed them
        targets, nontargets = scores[read.is_target], scores[~read.is_target]
        points[system.name, system.backend] = det_points(targets, nontargets)
        name = system.name if system.backend == featured[0].backend else f"{system.name}, {system.backend}"
        densities[name] = score_densities(targets, nontargets, system.eer_threshold)
    systems = {name: curve for (name, backend), curve in points.items() if backend == featured[0].backend}
    backends = {backend: curve for (name, backend), curve in points.items() if name == featured[-1].name}
    groups = {f"Systems, {featured[0].backend}": systems}
    if len(backends) > 1:
        groups[f"Back ends, {featured[-1].name}"] = backends
    findings = Findings(
        groups,
        densities,
        dict(_maps(data_dir, exp_dir, featured, results.seed)),
        dict(_histories(exp_dir)),
        list(_commands(results, data_dir, exp_dir)),
    )
    synthetic = " (synthetic speech)" if results.synthetic else ""
    title = f"{results.corpus}{synthetic}, {first}: {whose_speakers(results, first)}"
    figures = {"eer.png": "Equal error rates and their intervals", "det.png": "DET curves", "scores.png": "Scores"}
    plot_intervals(featured, exp_dir / "eer.png", title)
    plot_det(systems, exp_dir / "det.png", title)
    if len(backends) > 1:
        figures["det_backends.png"] = f"DET curves of the back ends, {featured[-1].name}"
        plot_det(backends, exp_dir / "det_backends.png", f"{title}, {featured[-1].name}")
    plot_densities(densities, exp_dir / "scores.png", title)
    if enrolled := enrolment_curves(results):
        figures["enrolment.png"] = f"EER by number of enrolment utterances, {featured[0].backend}"
        plot_enrolment(enrolled, exp_dir / "enrolment.png", f"{results.corpus}{synthetic}: enrolment")
    if findings.maps:
        figures["embeddings.png"] = "Embeddings of test utterances, laid out by t-SNE"
        plot_maps(findings.maps, exp_dir / "embeddings.png", f"{results.corpus}{synthetic}: embeddings, by t-SNE")
    for name, rows in findings.histories.items():
        figures[f"{name}/training.png"] = f"Course of the {name} training"
        _plot_training(rows, exp_dir, name, results.corpus, results.synthetic)
    for name in {"det_backends.png", "enrolment.png", "embeddings.png"} - figures.keys():
        (exp_dir / name).unlink(missing_ok=True)  # of an earlier report
    atomic_write(exp_dir / "config.yaml", yaml.safe_dump(dict(results.config), sort_keys=False))
    atomic_write(exp_dir / "RESULTS.md", results_markdown(results, figures, findings.commands))
    atomic_write(exp_dir / "report.html", results_page(results, findings))
    print(results_table(results))
    print(f"\nall of it, with figures: {exp_dir}/report.html; as Markdown: {exp_dir}/RESULTS.md")


def draw_training(data_dir: Path, exp_dir: Path, name: str) -> None:
    """Writes ``exp_dir/NAME/training.png`` when a training has ended, as stage 7 does again; nothing without epochs."""
    corpus, synthetic = data_dir.name, False
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # ready features need no corpus
        description = json.loads((data_dir / "corpus.json").read_text(encoding="utf-8"))
        corpus, synthetic = str(description["corpus"]), bool(description["synthetic"])
    if rows := dict(_histories(exp_dir)).get(name):
        _plot_training(rows, exp_dir, name, corpus, synthetic)


def _plot_training(rows: Sequence[Mapping[str, Any]], exp_dir: Path, name: str, corpus: str, synthetic: bool) -> None:
    title = f"{corpus}{' (synthetic speech)' if synthetic else ''}: {name} training"
    plot_training(rows, exp_dir / name / "training.png", title)


def _scores(exp_dir: Path, system: SystemResult) -> Path:
    return exp_dir / system.name / f"scores_{system.trials}_{system.backend}"


def _maps(data_dir: Path, exp_dir: Path, systems: list[SystemResult], seed: int) -> Iterator[tuple[str, EmbeddingMap]]:
    """Maps of the first and the last system, on the same utterances: those that both have embeddings of."""
    utt2spk = read_table(data_dir / "test" / "utt2spk")
    names = list(dict.fromkeys((systems[0].name, systems[-1].name)))
    tables = {}
    for name in names:
        path = exp_dir / name / "embeddings_test" / "xvector.scp"
        if not path.is_file():
            return  # the scores are enough for everything else
        tables[name] = read_table(path)
    there = set(utt2spk).intersection(*tables.values())
    utterances = chosen_utterances({utterance: utt2spk[utterance] for utterance in there}, seed)
    if len(utterances) < 2:
        return
    speakers = [utt2spk[utterance] for utterance in utterances]
    for name, table in tables.items():
        vectors = np.stack([read_vector(table[utterance]) for utterance in utterances])
        yield name, embedding_map(vectors, utterances, speakers, seed)


def _histories(exp_dir: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Rows of the trainings that were recorded."""
    for name in ("softmax", "triplet"):
        path = exp_dir / name / "train.csv"
        if path.is_file() and (rows := list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))):
            yield name, rows


def _commands(results: Results, data_dir: Path, exp_dir: Path) -> Iterator[str]:
    """Lines of shell, to be run from the recipe's folder, that make the results again and look at them otherwise."""
    made, prepared = options_of(data_dir / ".done.0"), options_of(data_dir / ".done.1")
    trained, scored = options_of(exp_dir / "softmax" / ".done.3"), options_of(exp_dir / ".done.6")
    exp, data = f"exp/{exp_dir.name}", f"data/{data_dir.name}"
    options = ["--corpus", str(prepared.get("corpus", "demo"))]
    if made.get("parts") == "mini":
        options += ["--mini", "true"]
    elif prepared.get("corpus_dir") and not made:  # else stage 0 made or downloaded the corpus
        options += ["--corpus-dir", str(Path(prepared["corpus_dir"]).resolve())]
    for source, names in (
        (prepared, ("train_parts", "dev_parts", "test_parts")),
        (prepared, ("merge_chapters", "allow_pipes", "max_skipped")),
        (trained, ("init_from", "nproc", "nnodes")),
        (scored, ("allow_speaker_overlap",)),
    ):
        for name in names:
            value = source.get(name)
            if value not in (None, "", False, _DEFAULTS.get(name)):
                options += [f"--{name.replace('_', '-')}", "true" if value is True else str(value)]
    for name, info in results.trials.items():
        if info.chosen_by is None and (exp_dir / "trials" / name).is_file():  # stage 6 keeps copies of such lists
            options += ["--trials", f"{exp}/trials/{name}"]
    options += ["--seed", str(results.seed), "--config", f"{exp}/config.yaml", "--exp", f"{exp_dir.name}_again"]
    yield "cd recipes/librispeech"
    yield f"# all of it once more: the same bytes on the same machine; {exp}/config.yaml is the configuration below"
    yield f"./run.sh {shlex.join(options)}"
    yield shlex.join(["cmp", f"{exp}/results.json", f"{exp}_again/results.json"])
    first = results.first_list
    yield "# the trial list, and one figure from the score file alone"
    path = trial_list_path(data_dir, exp_dir, first)
    shown = f"{exp}/trials/{first}" if path.is_relative_to(exp_dir) else f"{data}/test/{first}"
    yield f"echo {shlex.quote(f'{results.trials[first].sha256}  {shown}')} | sha256sum --check"
    last = results.featured(first)[-1]
    command = ["utils/compute_eer.py", "--utt2spk", f"{data}/test/utt2spk", str(_scores(Path(exp), last)), shown]
    yield shlex.join(command)
