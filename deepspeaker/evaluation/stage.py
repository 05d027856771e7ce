"""Stage 6: every system on every trial list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspeaker.backends import CALIBRATED, BackEnd, PldaEnrolment, needed_parts
from deepspeaker.config import Config, Scoring
from deepspeaker.embedding import SYSTEMS, system_checkpoint
from deepspeaker.errors import InputError
from deepspeaker.evaluation.conditions import TrialConditions, read_conditions, trial_conditions
from deepspeaker.evaluation.figures import Rates, Scored, condition_figures, system_figures
from deepspeaker.evaluation.fusion import FUSION, fuse
from deepspeaker.evaluation.hard import CHOOSER, CHOSEN_BY, write_trials_hard
from deepspeaker.evaluation.lists import ALL, HARD, ROWS, TestList, find_lists, read_list
from deepspeaker.evaluation.systems import System, check_embedded, check_overlap, read_frames, read_system, read_vectors
from deepspeaker.kaldi import read_table
from deepspeaker.metrics import Replicates, paired_difference, rank1
from deepspeaker.models import load_checkpoint
from deepspeaker.results import Comparison, EnrolmentResult, Results, SystemResult, TrialListInfo, shown_rate
from deepspeaker.skipped import report_skipped
from deepspeaker.trials import write_scores

_ROW = 100


@dataclass(frozen=True, eq=False)
class Sides:
    """The utterances of a list as one system has them, and the trials of which both sides are there."""

    vectors: NDArray[np.float32]  # (utterances, dim), zeros where there is none
    frames: NDArray[np.int64]  # (utterances,), of speech
    kept: NDArray[np.bool_]  # (trials,)


def evaluate(
    config: Config,
    data_dir: Path,
    exp_dir: Path,
    seed: int,
    max_skipped: float,
    own_lists: Sequence[Path] = (),
    enrolment: Path | None = None,
    allow_speaker_overlap: bool = False,
) -> None:
    """Scores the systems that have embeddings on every trial list with every back end of the configuration.

    The lists are ``data_dir/test/trials*``, ``own_lists`` with the models of ``enrolment`` (see ``find_lists``), and
    ``trials_hard``, which is made here; lists that are not of the test part lie in ``exp_dir/trials``. Writes
    ``exp_dir/SYSTEM/scores_LIST_BACKEND`` and ``exp_dir/results.json``. Raises ``InputError`` when a test speaker
    was learnt from and ``allow_speaker_overlap`` does not insist, when more than ``max_skipped`` percent of a list's
    utterances have no embedding, and when there is nothing to score.
    """
    corpus = _corpus(data_dir)
    options = config.scoring
    paths = find_lists(data_dir, exp_dir, own_lists, enrolment)
    utt2spk = read_table(data_dir / "test" / "utt2spk")
    found = [name for name in SYSTEMS if (exp_dir / name / "embeddings_test" / "xvector.scp").is_file()]
    if not found:
        raise InputError(f"{exp_dir}: no system has embeddings of the test part; run stage 5")
    check_embedded(exp_dir, data_dir, found, options.backends)
    lists = [read_list(path, utt2spk) for path in paths]
    if CHOOSER in found and options.hard_nontargets:
        hard = _hard_list(exp_dir, data_dir, utt2spk, options.hard_nontargets)
        if hard is not None:
            lists.insert(sum(one.name in (ALL, ROWS) for one in lists), read_list(hard, utt2spk, CHOSEN_BY))
    if all(one.enrolment_utterances is None for one in lists):
        print(f"no lists {data_dir}/test/trials_enrol_N, so no enrolment table; stage 1 makes them where it can")
    nosil = data_dir / "test_nosil"
    frames = read_frames(nosil) if (nosil / "utt2num_frames").is_file() or needed_parts(options.backends) else {}
    seconds = {utterance: count * config.features.frame_shift for utterance, count in frames.items()}
    conditions = read_conditions(data_dir / "test", utt2spk, seconds, options.duration_buckets)
    of_trials = {
        one.name: trial_conditions(conditions, one) for one in lists if one.enrolment_utterances is None
    }
    systems: list[SystemResult] = []
    table: list[EnrolmentResult] = []
    replicates: dict[tuple[str, str, str], Replicates] = {}
    used: dict[str, Any] = {}
    fusion = None
    if options.fuse_with:
        parts = ["test", *needed_parts(options.backends)]
        fusion = fuse(exp_dir, Path(options.fuse_with), found, parts)
        found.append(FUSION)
    for name in found:
        fused = fusion is not None and name == FUSION
        folders, dims = fusion if fusion is not None and fused else ((exp_dir / name,), ())
        checkpoints = [
            load_checkpoint(system_checkpoint(folder, config.embedding.checkpoint)) for folder in folders
        ]
        if not fused:
            trained_with = checkpoints[0]["config"]
            used = used or dict(trained_with)
            if (section := checkpoints[0]["stage"]) in trained_with:
                used[section] = trained_with[section]  # with the precision that was used
        system = read_system(name, exp_dir, data_dir, checkpoints, options, dims)
        trained = {speaker for checkpoint in checkpoints for speaker in checkpoint["speakers"]}
        check_overlap(system, trained, utt2spk, allow_speaker_overlap)
        for test_list in lists:
            sides = _sides(system, test_list, frames, max_skipped)
            for (backend, way), scored_by in system.backends.items():
                if test_list.enrolment_utterances is not None:
                    label = backend if way == "average" else f"{backend}-exact"
                    scores, rates = _score(system, test_list, sides, label, scored_by, options, seed)
                    row = _enrolment_result(system, test_list, sides, backend, way, scores, rates)
                    table.append(row)
                    shown = shown_rate(row.eer, row.eer_ci95)
                    print(f"{name}, {label}, {test_list.name}: EER {shown} %", flush=True)
                    continue
                if backend == "plda" and way != options.plda_enrolment:
                    continue
                scores, rates = _score(system, test_list, sides, backend, scored_by, options, seed)
                result = SystemResult(
                    name=name,
                    model=" + ".join(checkpoint["config"]["model"]["name"] for checkpoint in checkpoints),
                    parameters=system.parameters,
                    backend=backend,
                    trials=test_list.name,
                    rank1=_rank1(test_list, scores, sides.kept) if test_list.name == ROWS else None,
                    trials_left_out=int((~sides.kept).sum()),
                    shared_speakers=len(system.known[backend].intersection(test_list.speakers)),
                    **_details(test_list, sides, scores, rates, backend, of_trials[test_list.name], options, seed),
                )
                if rates.replicates is not None and sides.kept.all() and test_list.info.chosen_by is None:
                    replicates[name, backend, test_list.name] = rates.replicates
                systems.append(result)
                shown = shown_rate(result.eer, result.eer_ci95)
                print(f"{name}, {backend}, {test_list.name}: EER {shown} %", flush=True)
    order: list[str] = list(options.backends)
    info = {test_list.name: test_list.info for test_list in lists}
    used |= {"embedding": config.embedding.model_dump(), "scoring": options.model_dump()}
    results = Results(
        corpus=corpus["corpus"],
        synthetic=corpus["synthetic"],
        seed=seed,
        config=used,
        trials=info,
        systems=systems,
        comparisons=_comparisons(systems, replicates, info),
        enrolment_table=sorted(
            table,
            key=lambda row: (
                found.index(row.name), order.index(row.backend), row.enrolment, row.utterances
            ),
        ),
    )
    results.write(exp_dir / "results.json")


def _hard_list(exp_dir: Path, data_dir: Path, utt2spk: dict[str, str], nontargets: int) -> Path | None:
    path = exp_dir / "trials" / HARD
    gender = data_dir / "test" / "spk2gender"
    told = read_table(gender) if gender.is_file() else {}
    vectors = read_vectors(exp_dir / CHOOSER / "embeddings_test")
    return path if write_trials_hard(path, vectors, utt2spk, told, nontargets) else None


def _sides(system: System, test_list: TestList, frames: dict[str, int], max_skipped: float) -> Sides:
    missing = {
        utterance: "has no embedding" if number >= 0 else "is not an utterance of the test part"
        for utterance, number in zip(test_list.utterances, test_list.speaker, strict=True)
        if number < 0 or utterance not in system.vectors
    }
    report_skipped(
        system.folder / f"missing_{test_list.name}",
        missing,
        len(test_list.utterances),
        f"utterances of {test_list.name}",
        max_skipped,
    )
    there = np.array([utterance not in missing for utterance in test_list.utterances])
    nothing = np.zeros_like(next(iter(system.vectors.values())))
    return Sides(
        np.stack([system.vectors.get(utterance, nothing) for utterance in test_list.utterances]),
        np.array([frames.get(utterance, 1) for utterance in test_list.utterances]),
        test_list.models.whole(there)[test_list.enrolment] & there[test_list.test],
    )


def _score(
    system: System,
    test_list: TestList,
    sides: Sides,
    label: str,
    scored_by: BackEnd,
    options: Scoring,
    seed: int,
) -> tuple[NDArray[np.float32], Rates]:
    """Scores of all trials of a list, those kept written, and their rates."""
    scores = scored_by(sides.vectors, sides.frames, test_list.models, test_list.enrolment, test_list.test)
    kept, trials = sides.kept, test_list.trials
    path = system.folder / f"scores_{test_list.name}_{label}"
    write_scores(path, trials.ids, trials.enrolment[kept], trials.test[kept], scores[kept])
    try:
        return scores, Rates.of(_scored(test_list, scores, kept), options.bootstrap, seed)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _scored(test_list: TestList, scores: NDArray[np.float32], kept: NDArray[np.bool_]) -> Scored:
    every = Scored(scores, test_list.is_target, test_list.enrolment_speaker, test_list.test_speaker)
    return every if kept.all() else every.where(kept)


def _details(
    test_list: TestList,
    sides: Sides,
    scores: NDArray[np.float32],
    rates: Rates,
    backend: str,
    conditions: list[TrialConditions],
    options: Scoring,
    seed: int,
) -> dict[str, Any]:
    """The figures of a ``SystemResult`` with its breakdowns."""
    trials = _scored(test_list, scores, sides.kept)
    figures = system_figures(trials, rates, options.false_acceptance, backend in CALIBRATED)
    figures["conditions"] = [
        condition
        for one in conditions
        for condition in condition_figures(
            trials, one.by, one.values, one.codes[sides.kept], options.bootstrap, seed
        )
    ]
    return figures


def _enrolment_result(
    system: System,
    test_list: TestList,
    sides: Sides,
    backend: str,
    way: PldaEnrolment,
    scores: NDArray[np.float32],
    rates: Rates,
) -> EnrolmentResult:
    assert test_list.enrolment_utterances is not None
    return EnrolmentResult(
        name=system.name,
        backend=backend,
        enrolment=way,
        utterances=test_list.enrolment_utterances,
        trials=test_list.name,
        eer=rates.eer,
        eer_ci95=rates.eer_ci95,
        min_dcf=rates.min_dcf,
        rank1=_rank1(test_list, scores, sides.kept),
        trials_left_out=int((~sides.kept).sum()),
        shared_speakers=len(system.known[backend].intersection(test_list.speakers)),
    )


def _corpus(data_dir: Path) -> dict[str, Any]:
    path = data_dir / "corpus.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run stage 1") from None
    except ValueError:
        raise InputError(f"{path}: not JSON; run stage 1 again") from None
    return content


def _comparisons(
    systems: list[SystemResult], replicates: dict[tuple[str, str, str], Replicates], info: dict[str, TrialListInfo]
) -> list[Comparison]:
    """With the first back end each system against the one before it; of the last, each back end against the first."""
    comparisons = []
    for list_name in info:
        own = [s for s in systems if (s.name, s.backend, list_name) in replicates and s.trials == list_name]
        if not own:
            continue
        first, last = own[0].backend, own[-1].name
        pairs = list(pairwise(s for s in own if s.backend == first))
        of_last = [s for s in own if s.name == last]
        pairs += [(of_last[0], other) for other in of_last[1:]]
        for before, after in pairs:
            difference, interval, p_value = paired_difference(
                (after.eer, before.eer),
                (
                    replicates[after.name, after.backend, list_name].eer,
                    replicates[before.name, before.backend, list_name].eer,
                ),
                info[list_name].speakers,
            )
            comparisons.append(
                Comparison(
                    systems=[after.name, before.name],
                    backends=[after.backend, before.backend],
                    trials=list_name,
                    eer_difference=difference,
                    ci95=list(interval),
                    p_value=p_value,
                )
            )
    return comparisons


def _rank1(test_list: TestList, scores: NDArray[np.float32], kept: NDArray[np.bool_]) -> float:
    """Rank-1 over the rows whose target trial is kept; other trials that are not kept cannot win."""
    if len(scores) % _ROW:
        raise InputError(f"{test_list.path}: its {len(scores)} trials are not rows of {_ROW}; run stage 1 again")
    is_target = test_list.is_target
    usable = (kept & is_target).reshape(-1, _ROW).any(axis=1)
    ranked = np.where(kept, scores, -np.inf).reshape(-1, _ROW)
    return rank1(ranked[usable], is_target.reshape(-1, _ROW)[usable])
