"""Stage 7, the report of an evaluation, and the learning curves at the end of a training stage."""

from __future__ import annotations

import contextlib
import csv
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write
from deepspeaker.kaldi import read_table, read_vector
from deepspeaker.metrics import det_points
from deepspeaker.report.degradation import degradation_curves, plot_degradation
from deepspeaker.report.densities import plot_densities, score_densities
from deepspeaker.report.det import plot_det
from deepspeaker.report.embedding_map import EmbeddingMap, embedding_map, plot_maps, sample_utterances
from deepspeaker.report.enrolment import enrolment_curves, plot_enrolment
from deepspeaker.report.intervals import plot_intervals
from deepspeaker.report.page import ReportData, results_page
from deepspeaker.report.tables import describe_speakers
from deepspeaker.report.text import results_markdown, results_table
from deepspeaker.report.training_curves import plot_training
from deepspeaker.results import Results, SystemResult, corpus_title
from deepspeaker.stages import options_of
from deepspeaker.trials import read_labelled_scores, trial_list_path

#: Default values of options of run.sh.
_DEFAULTS = {"max_skipped": 5.0, "nproc": 1, "nnodes": 1, "train_speakers_share": 1.0, "train_utterances_share": 1.0}


def write_report(data_dir: Path, exp_dir: Path) -> None:
    """Print the tables of results and write the report into ``exp_dir``.

    The files are ``report.html``, ``RESULTS.md`` and its images ``eer.png``, ``det.png``, ``det_backends.png``,
    ``scores.png``, ``enrolment.png``, ``degradation.png``, ``embeddings.png`` and ``TRAINING/training.png``, and
    ``config.yaml``, the configuration that was used.

    Raises
    ------
    InputError
        If results or scores are missing.
    """
    results = Results.read(exp_dir / "results.json")
    featured = results.featured(results.first_list)
    with ThreadPoolExecutor(1) as thread:  # t-SNE does not hold Python's lock, so it runs beside the drawing
        maps = thread.submit(lambda: dict(_maps(data_dir, exp_dir, featured, results.seed)))
        data = _read(results, data_dir, exp_dir)
        captions = _save_plots(results, data, exp_dir)
        data = replace(data, maps=maps.result())
    if data.maps:
        captions["embeddings.png"] = "t-SNE map of the embeddings of test utterances"
        plot_maps(data.maps, exp_dir / "embeddings.png", f"{results.title}: t-SNE map of the embeddings")
    for name in {"det_backends.png", "enrolment.png", "degradation.png", "embeddings.png"} - captions.keys():
        (exp_dir / name).unlink(missing_ok=True)  # from an earlier report
    atomic_write(exp_dir / "config.yaml", yaml.safe_dump(dict(results.config), sort_keys=False))
    atomic_write(exp_dir / "RESULTS.md", results_markdown(results, captions, data.commands))
    atomic_write(exp_dir / "report.html", results_page(results, data))
    print(results_table(results))
    print(f"\nfull report with plots: {exp_dir}/report.html; as Markdown: {exp_dir}/RESULTS.md")


def _read(results: Results, data_dir: Path, exp_dir: Path) -> ReportData:
    """Return what the report shows, without the maps."""
    first = results.first_list
    featured = results.featured(first)
    points, densities = {}, {}
    for system in featured:
        path, trials = _scores(exp_dir, system), trial_list_path(data_dir, exp_dir, first)
        if not path.is_file():
            raise InputError(f"{path}: no such file; run stage 6")
        read = read_labelled_scores(path, trials)
        if read.without_trial:
            raise InputError(f"{path}: has scores of trials that are not in {trials}; run stage 6 again")
        scores = read.scores.astype(np.float32)  # as stage 6 computed them
        targets, nontargets = scores[read.is_target], scores[~read.is_target]
        points[results.label(system)] = det_points(targets, nontargets)
        densities[results.label(system)] = score_densities(targets, nontargets, system.eer_threshold)
    systems = {results.label(s): points[results.label(s)] for s in featured if results.is_leading(s)}
    backends = {s.backend: points[results.label(s)] for s in featured if s.name == featured[-1].name}
    groups = {f"Systems (back end: {featured[0].backend})": systems}
    if len(backends) > 1:
        groups[f"Back ends (system: {featured[-1].name})"] = backends
    histories, commands = dict(_histories(exp_dir)), list(_commands(results, data_dir, exp_dir))
    return ReportData(groups, densities, histories=histories, commands=commands)


def _save_plots(results: Results, data: ReportData, exp_dir: Path) -> dict[str, str]:
    """Write all plots but that of the maps, and return the captions by path."""
    featured = results.featured(results.first_list)
    title = f"{results.title}, {results.first_list}: {describe_speakers(results, results.first_list)}"
    systems, *backends = data.curves.values()
    captions = {
        "eer.png": "Equal error rates with 95 % intervals",
        "det.png": "DET curves",
        "scores.png": "Score distributions",
    }
    plot_intervals(featured, exp_dir / "eer.png", title)
    plot_det(systems, exp_dir / "det.png", title)
    if backends:
        captions["det_backends.png"] = f"DET curves of the back ends, {featured[-1].name}"
        plot_det(backends[0], exp_dir / "det_backends.png", f"{title}, {featured[-1].name}")
    plot_densities(data.densities, exp_dir / "scores.png", title)
    if enrolled := enrolment_curves(results):
        captions["enrolment.png"] = f"EER by number of enrolment utterances, {featured[0].backend}"
        plot_enrolment(enrolled, exp_dir / "enrolment.png", f"{results.title}: enrolment")
    if degraded := degradation_curves(results):
        captions["degradation.png"] = f"EER on degraded test speech, {featured[0].backend}"
        plot_degradation(degraded, exp_dir / "degradation.png", f"{results.title}: degraded test speech")
    for name, rows in data.histories.items():
        captions[f"{name}/training.png"] = f"Learning curves of the {name} training"
        if not (exp_dir / name / "training.png").is_file():  # the training has usually drawn it
            _plot_training(rows, exp_dir, name, results.title)
    return captions


def draw_training(data_dir: Path, exp_dir: Path, name: str) -> None:
    """Write ``exp_dir/NAME/training.png`` after a training. Write nothing if no epoch was recorded."""
    title = data_dir.name
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a run from features has no corpus.json
        description = json.loads((data_dir / "corpus.json").read_text(encoding="utf-8"))
        title = corpus_title(str(description["corpus"]), bool(description["synthetic"]))
    if rows := dict(_histories(exp_dir)).get(name):
        _plot_training(rows, exp_dir, name, title)


def _plot_training(rows: Sequence[Mapping[str, Any]], exp_dir: Path, name: str, title: str) -> None:
    plot_training(rows, exp_dir / name / "training.png", f"{title}: {name} training")


def _scores(exp_dir: Path, system: SystemResult) -> Path:
    return exp_dir / system.name / f"scores_{system.trials}_{system.backend}"


def _maps(data_dir: Path, exp_dir: Path, systems: list[SystemResult], seed: int) -> Iterator[tuple[str, EmbeddingMap]]:
    """Yield maps of the first and the last system, of utterances that have embeddings from both."""
    utt2spk = read_table(data_dir / "test" / "utt2spk")
    names = list(dict.fromkeys((systems[0].name, systems[-1].name)))
    tables = {}
    for name in names:
        path = exp_dir / name / "embeddings_test" / "xvector.scp"
        if not path.is_file():
            return  # everything else needs only the scores
        tables[name] = read_table(path)
    common = set(utt2spk).intersection(*tables.values())
    utterances = sample_utterances({utterance: utt2spk[utterance] for utterance in common}, seed)
    if len(utterances) < 2:
        return
    speakers = [utt2spk[utterance] for utterance in utterances]
    for name, table in tables.items():
        vectors = np.stack([read_vector(table[utterance]) for utterance in utterances])
        yield name, embedding_map(vectors, utterances, speakers, seed)


def _histories(exp_dir: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the rows of ``train.csv`` of each training that has any."""
    for name in ("softmax", "triplet"):
        path = exp_dir / name / "train.csv"
        if path.is_file() and (rows := list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))):
            yield name, rows


def _commands(results: Results, data_dir: Path, exp_dir: Path) -> Iterator[str]:
    """Yield shell commands that reproduce the results, and check them in other ways, from the recipe's directory."""
    made, prepared = options_of(data_dir / ".done.0"), options_of(data_dir / ".done.1")
    pretrained, tuned = options_of(exp_dir / "softmax" / ".done.3"), options_of(exp_dir / "triplet" / ".done.4")
    shared, scored = options_of(data_dir / "train" / ".done.2"), options_of(exp_dir / ".done.6")
    exp, data = f"exp/{exp_dir.name}", f"data/{data_dir.name}"
    name = corpus = str(prepared.get("corpus", "demo"))
    options = ["--corpus", corpus]
    if made.get("parts") == "mini":
        options, name = [*options, "--mini", "true"], "mini_librispeech"
    elif prepared.get("corpus_dir") and not made:  # otherwise stage 0 generated or downloaded the corpus
        folder = Path(prepared["corpus_dir"]).resolve()
        options += ["--corpus-dir", str(folder)]
        name = corpus if corpus == "librispeech" else folder.name
    whole = Path(shared["data_dir"]).name if "train_speakers_share" in shared else data_dir.name
    if whole != name:
        options += ["--data", whole]
    for source, names in (
        (prepared, ("train_parts", "dev_parts", "test_parts")),
        (prepared, ("merge_chapters", "allow_pipes", "max_skipped")),
        (shared, ("train_speakers_share", "train_utterances_share")),
        (pretrained or tuned, ("init_from", "nproc", "nnodes")),
        (scored, ("allow_speaker_overlap",)),
    ):
        for name in names:
            value = source.get(name)
            if value not in (None, "", False, _DEFAULTS.get(name)):
                options += [f"--{name.replace('_', '-')}", "true" if value is True else str(value)]
    if tuned and not pretrained:
        options += ["--pretraining", "false"]
    if prepared.get("seed", results.seed) != results.seed:
        options += ["--data-seed", str(prepared["seed"])]
    for name, info in results.trials.items():
        if info.chosen_by is None and (exp_dir / "trials" / name).is_file():  # stage 6 keeps copies of the user's lists
            options += ["--trials", f"{exp}/trials/{name}"]
    baseline = options_of(exp_dir / "ivector" / ".done.5")
    if baseline:
        options += ["--ivector", "true"]
        if baseline["posteriors"]:
            options += ["--posteriors", str(Path(baseline["posteriors"]).resolve())]
    options += ["--seed", str(results.seed), "--config", f"{exp}/config.yaml", "--exp", f"{exp_dir.name}_again"]
    yield "cd recipes/librispeech"
    yield f"# repeat the experiment (bit-identical on the same machine); {exp}/config.yaml is the configuration below"
    yield f"./run.sh {shlex.join(options)}"
    yield shlex.join(["cmp", f"{exp}/results.json", f"{exp}_again/results.json"])
    first = results.first_list
    yield "# check the trial list, and recompute an EER from its score file"
    path = trial_list_path(data_dir, exp_dir, first)
    shown = f"{exp}/trials/{first}" if path.is_relative_to(exp_dir) else f"{data}/test/{first}"
    yield f"echo {shlex.quote(f'{results.trials[first].sha256}  {shown}')} | sha256sum --check"
    last = results.featured(first)[-1]
    command = ["utils/compute_eer.py", "--utt2spk", f"{data}/test/utt2spk", str(_scores(Path(exp), last)), shown]
    yield shlex.join(command)
