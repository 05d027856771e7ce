"""Stages 6 and 7: every system on every trial list, and what is shown of it."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspeaker.config import Config
from deepspeaker.embedding import system_checkpoint
from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write, sha256_of
from deepspeaker.kaldi import read_table, read_vector
from deepspeaker.metrics import (
    Replicates,
    SpeakerBootstrap,
    confidence_interval,
    det_points,
    equal_error_rate,
    min_cllr,
    min_dcf,
    paired_difference,
    rank1,
    roc_auc,
)
from deepspeaker.models import load_checkpoint, network_of, parameter_count
from deepspeaker.report import (
    Comparison,
    Results,
    SystemResult,
    TrialListInfo,
    plot_det,
    plot_training,
    results_markdown,
    results_page,
    results_table,
    shown_rate,
)
from deepspeaker.scoring import Trials, cosine_scores, labelled_scores, read_trials, write_scores
from deepspeaker.skipped import report_skipped

SYSTEMS = ("untrained", "softmax", "triplet")
LISTS = ("trials_all", "trials_1p99")
P_TARGETS = (0.05, 0.01, 0.001)
_ROW = 100
#: With fewer speakers that have target trials, an interval would itself be too uncertain to print.
FEWEST_SPEAKERS = 5


def evaluate(config: Config, data_dir: Path, exp_dir: Path, seed: int, max_skipped: float) -> None:
    """Scores the systems that have embeddings on ``data_dir/test/trials_*``.

    Writes ``exp_dir/SYSTEM/scores_LIST_BACKEND`` and ``exp_dir/results.json``. Raises ``InputError`` when a test
    speaker was trained on, when more than ``max_skipped`` percent of a list's utterances have no embedding, and when
    there is nothing to score.
    """
    corpus = _corpus(data_dir)
    lists = {name: data_dir / "test" / name for name in LISTS if (data_dir / "test" / name).is_file()}
    if "trials_all" not in lists:
        raise InputError(f"{data_dir}/test/trials_all: no such trial list; run stage 1")
    utt2spk = read_table(data_dir / "test" / "utt2spk")
    found = [name for name in SYSTEMS if (exp_dir / name / "embeddings_test" / "xvector.scp").is_file()]
    if not found:
        raise InputError(f"{exp_dir}: no system has embeddings of the test part; run stage 5")
    trials = {name: read_trials(path) for name, path in lists.items()}
    info = {name: _describe(trials[name], lists[name], utt2spk) for name in lists}
    backend = config.scoring.backend
    systems: list[SystemResult] = []
    replicates: dict[tuple[str, str], Replicates] = {}
    used = config.model_dump()
    for name in found:
        checkpoint = load_checkpoint(system_checkpoint(exp_dir / name, config.embedding.checkpoint))
        _refuse_training_speakers(checkpoint["speakers"], utt2spk, name)
        for section in ("softmax", "triplet"):
            if checkpoint["stage"] == section:
                used[section] = checkpoint["config"][section]  # with the precision that was used
        parameters = parameter_count(network_of(checkpoint))
        folder = exp_dir / name
        locations = read_table(folder / "embeddings_test" / "xvector.scp")
        embeddings = {utterance: read_vector(location) for utterance, location in locations.items()}
        for list_name, whole in trials.items():
            missing = {u: "has no embedding" for u in whole.ids if u not in embeddings}
            report_skipped(
                folder / f"missing_{list_name}", missing, len(whole.ids), f"utterances of {list_name}", max_skipped
            )
            there = np.array([utterance not in missing for utterance in whole.ids])
            kept = there[whole.enrolment] & there[whole.test]
            nothing = np.zeros_like(next(iter(embeddings.values())))
            matrix = np.stack([embeddings.get(utterance, nothing) for utterance in whole.ids])
            scores = cosine_scores(matrix, whole.enrolment, whole.test)
            path = folder / f"scores_{list_name}_{backend}"
            write_scores(path, whole.ids, whole.enrolment[kept], whole.test[kept], scores[kept])
            figures, drawn = _figures(scores[kept], whole, kept, utt2spk, config.scoring.bootstrap, seed)
            if list_name == "trials_1p99":
                figures["rank1"] = _rank1(lists[list_name], scores, whole.is_target, kept)
            system = SystemResult(
                name=name, model=config.model.name, parameters=parameters, backend=backend, trials=list_name, **figures
            )
            if drawn is not None and not missing:
                replicates[name, list_name] = drawn
            systems.append(system)
            print(f"{name}, {list_name}: EER {shown_rate(system.eer, system.eer_ci95)} %; scores in {path}")
    results = Results(
        corpus=corpus["corpus"],
        synthetic=corpus["synthetic"],
        seed=seed,
        config=used,
        trials=info,
        systems=systems,
        comparisons=_comparisons(systems, replicates, info),
    )
    results.write(exp_dir / "results.json")


def write_report(data_dir: Path, exp_dir: Path) -> None:
    """Prints the table; writes ``det.png``, ``training.png``, ``RESULTS.md`` and ``report.html`` into ``exp_dir``."""
    results = Results.read(exp_dir / "results.json")
    curves = {}
    for system in results.systems:
        if system.trials == "trials_all":
            path = exp_dir / system.name / f"scores_trials_all_{system.backend}"
            scores, is_target = labelled_scores(path, data_dir / "test" / "trials_all")
            curves[system.name] = det_points(scores[is_target], scores[~is_target])
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


def _corpus(data_dir: Path) -> dict[str, Any]:
    path = data_dir / "corpus.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run stage 1") from None
    except ValueError:
        raise InputError(f"{path}: not JSON; run stage 1 again") from None
    return content


def _describe(trials: Trials, path: Path, utt2spk: dict[str, str]) -> TrialListInfo:
    for utterance in trials.ids:
        if utterance not in utt2spk:
            raise InputError(f"{path}: {utterance} is not an utterance of {path.parent}; run stage 1 again")
    target = int(trials.is_target.sum())
    return TrialListInfo(
        target=target,
        nontarget=len(trials.is_target) - target,
        speakers=len({utt2spk[utterance] for utterance in trials.ids}),
        sha256=sha256_of(path),
    )


def _refuse_training_speakers(trained: list[str], utt2spk: dict[str, str], system: str) -> None:
    shared = sorted(set(trained) & set(utt2spk.values()))
    if shared:
        raise InputError(
            f"{len(shared)} test speakers were in the training of {system} (first: {shared[0]}); "
            "results on them would mean nothing: take other test speakers or train without them"
        )


def _figures(
    scores: NDArray[np.float32],
    trials: Trials,
    kept: NDArray[np.bool_],
    utt2spk: dict[str, str],
    bootstrap: int,
    seed: int,
) -> tuple[dict[str, Any], Replicates | None]:
    """The figures of a ``SystemResult`` from the scores of the trials kept, and the bootstrap's replicates."""
    is_target = trials.is_target[kept]
    targets, nontargets = scores[is_target], scores[~is_target]
    points = det_points(targets, nontargets)
    eer, threshold = equal_error_rate(points)
    figures: dict[str, Any] = {
        "eer": eer,
        "eer_threshold": threshold,
        "min_dcf": {str(p): min_dcf(points, p) for p in P_TARGETS},
        "min_cllr": min_cllr(targets, nontargets),
        "roc_auc": roc_auc(targets, nontargets),
    }
    number = {speaker: n for n, speaker in enumerate(sorted({utt2spk[utterance] for utterance in trials.ids}))}
    speaker = np.array([number[utt2spk[utterance]] for utterance in trials.ids])
    enrolment, test = speaker[trials.enrolment[kept]], speaker[trials.test[kept]]
    if not bootstrap or len(np.unique(enrolment[is_target])) < FEWEST_SPEAKERS:
        return figures, None
    drawn = SpeakerBootstrap(scores, is_target, enrolment, test).replicates(bootstrap, seed, P_TARGETS)
    least = 0.5 / min(len(targets), len(nontargets))
    speakers = len(number)
    figures["eer_ci95"] = list(confidence_interval(eer, drawn.eer, speakers, least))
    figures["min_dcf_ci95"] = {
        str(p): list(confidence_interval(figures["min_dcf"][str(p)], drawn.min_dcf[:, column], speakers, least))
        for column, p in enumerate(P_TARGETS)
    }
    return figures, drawn


def _comparisons(
    systems: list[SystemResult], replicates: dict[tuple[str, str], Replicates], info: dict[str, TrialListInfo]
) -> list[Comparison]:
    """Each trained system against the one before it, on every list that both were drawn on."""
    comparisons = []
    for list_name in info:
        own = [s for s in systems if s.trials == list_name and (s.name, list_name) in replicates]
        for before, after in pairwise(own):
            difference, interval, p_value = paired_difference(
                (after.eer, before.eer),
                (replicates[after.name, list_name].eer, replicates[before.name, list_name].eer),
                info[list_name].speakers,
            )
            comparisons.append(
                Comparison(
                    systems=[after.name, before.name],
                    backend=after.backend,
                    trials=list_name,
                    eer_difference=difference,
                    ci95=list(interval),
                    p_value=p_value,
                )
            )
    return comparisons


def _rank1(path: Path, scores: NDArray[np.float32], is_target: NDArray[np.bool_], kept: NDArray[np.bool_]) -> float:
    """Rank-1 over the rows whose target trial is kept; other trials that are not kept cannot win."""
    if len(scores) % _ROW:
        raise InputError(f"{path}: its {len(scores)} trials are not rows of {_ROW}; run stage 1 again")
    usable = (kept & is_target).reshape(-1, _ROW).any(axis=1)
    ranked = np.where(kept, scores, -np.inf).reshape(-1, _ROW)
    return rank1(ranked[usable], is_target.reshape(-1, _ROW)[usable])
