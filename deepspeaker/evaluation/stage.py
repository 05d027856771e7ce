"""Stage 6: score every system on every trial list with every back end, and write results.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspeaker.augmentation import CONDITIONS_PART
from deepspeaker.backends import BACKENDS, BackEnd, EmbeddedTrials, PldaEnrolment, needed_parts
from deepspeaker.config import Config, Scoring
from deepspeaker.embedding import SYSTEMS, read_network
from deepspeaker.errors import InputError
from deepspeaker.evaluation.comparisons import comparisons_of
from deepspeaker.evaluation.conditions import TrialConditions, read_conditions, read_degraded, trial_conditions
from deepspeaker.evaluation.figures import Rates, Scored, condition_figures, system_figures
from deepspeaker.evaluation.fusion import FUSION, fuse
from deepspeaker.evaluation.hard import CHOOSER, CHOSEN_BY, write_trials_hard
from deepspeaker.evaluation.lists import (
    ALL,
    DEGRADED,
    HARD,
    ROWS,
    enrolment_utterances,
    find_lists,
    list_info,
    read_corpus,
    read_list,
)
from deepspeaker.evaluation.systems import (
    System,
    check_embedded,
    check_overlap,
    read_frames,
    read_system,
    read_vectors,
    scoring_of_ivectors,
)
from deepspeaker.ivector import IVECTOR
from deepspeaker.kaldi import read_table
from deepspeaker.metrics import Replicates, rank1
from deepspeaker.results import EnrolmentResult, Results, SystemResult, format_rate
from deepspeaker.skipped import report_skipped
from deepspeaker.trials import ROW, TrialList, write_scores

#: The back end of an exported model's own scores.
_OWN = "model"


@dataclass(frozen=True, eq=False)
class _Test:
    """What all systems are tested on."""

    options: Scoring
    seed: int
    max_skipped: float
    frames: dict[str, int]  # speech frames of each test utterance; empty when unknown
    lists: list[TrialList]
    conditions: dict[str, list[TrialConditions]]  # by list; not for the enrolment table


@dataclass(frozen=True, eq=False)
class _Scores:
    """The scores of a list by a system with a back end."""

    scores: NDArray[np.float32]  # (trials,)
    scored: NDArray[np.bool_]  # (trials,), false where a side has no embedding
    trials: Scored  # those that are scored
    rates: Rates


def evaluate(
    config: Config,
    data_dir: Path,
    exp_dir: Path,
    seed: int,
    max_skipped: float,
    given_lists: Sequence[Path] = (),
    enrolment: Path | None = None,
    allow_speaker_overlap: bool = False,
    own: BackEnd | None = None,
) -> None:
    """Score the systems that have embeddings on every trial list with every back end of the configuration.

    Writes ``exp_dir/SYSTEM/scores_LIST_BACKEND`` and ``exp_dir/results.json``. The lists are ``data_dir/test/trials*``,
    the given ones (see `find_lists`), and ``trials_hard``, which is made here. Lists that are not part of the test part
    are kept in ``exp_dir/trials``.

    Parameters
    ----------
    config
        The configuration; ``scoring`` decides back ends, intervals and breakdowns.
    data_dir, exp_dir
        The data and the experiment.
    seed
        Draws the speakers of the bootstrap.
    max_skipped
        Percentage of a list's utterances that may have no embedding.
    given_lists, enrolment
        More trial lists, and the models that their first columns name.
    allow_speaker_overlap
        Score test speakers that the network or a back end learned from.
    own
        The log-likelihood ratios of an exported model, which become the back end ``model``.

    Raises
    ------
    InputError
        There is nothing to score, too many embeddings are missing, or test speakers were learned from.
    """
    corpus = read_corpus(data_dir)
    options = config.scoring
    paths = find_lists(data_dir, exp_dir, given_lists, enrolment, bool(config.conditions.copies))
    parts = ["test", *([CONDITIONS_PART] if config.conditions.copies else [])]
    utt2spk = {u: speaker for part in parts for u, speaker in read_table(data_dir / part / "utt2spk").items()}
    known = (SYSTEMS[0], IVECTOR, *SYSTEMS[1:])  # the baseline before the trained networks
    names = [name for name in known if (exp_dir / name / "embeddings_test" / "xvector.scp").is_file()]
    networks = [name for name in names if name != IVECTOR]
    if not names:
        raise InputError(f"{exp_dir}: no system has embeddings of the test part; run stage 5")
    check_embedded(exp_dir, data_dir, networks, options.backends)
    if IVECTOR in names:
        check_embedded(exp_dir, data_dir, [IVECTOR], config.ivector.backends)
    fusion = fuse(exp_dir, options, networks, parts)
    lists = [read_list(path, utt2spk) for path in paths]
    if CHOOSER in names and options.hard_nontargets:
        hard = _make_hard_list(exp_dir, data_dir, utt2spk, options.hard_nontargets)
        if hard is not None:
            lists.insert(sum(trials.name in (ALL, ROWS) for trials in lists), read_list(hard, utt2spk))
    if not any(enrolment_utterances(trials.name) for trials in lists):
        print(f"no enrolment table: {data_dir}/test has no lists trials_enrol_N; stage 1 makes them where it can")
    test = _read_test(config, data_dir, parts, utt2spk, lists, seed, max_skipped)

    systems: list[SystemResult] = []
    table: list[EnrolmentResult] = []
    replicates: dict[tuple[str, str, str], Replicates] = {}
    trained_with: dict[str, Any] = {}
    for name in [*names, *([FUSION] if fusion else [])]:
        folders, dims = fusion if fusion and name == FUSION else ((exp_dir / name,), ())
        described = [read_network(folder) for folder in folders]
        scoring = scoring_of_ivectors(config, described[0]) if name == IVECTOR else options
        test_parts = parts[:1] if name == IVECTOR else parts
        system = read_system(name, exp_dir, data_dir, described, scoring, dims, test_parts)
        if own is not None:
            system.backends[_OWN, "average"], system.learned_from[_OWN] = own, system.trained_on
        # Stage 1 has told the user if there were too few speakers for two parts.
        check_overlap(system, utt2spk, allow_speaker_overlap or corpus.get("same_speakers", False))
        if name != FUSION:
            _add_configuration(trained_with, described[0])
        for result, drawn in _results(system, test):
            if isinstance(result, EnrolmentResult):
                table.append(result)
                continue
            systems.append(result)
            if drawn is not None:
                replicates[result.name, result.backend, result.trials] = drawn
    if IVECTOR in names:
        trained_with[IVECTOR] |= config.ivector.model_dump(include={"backends", "lda_dim"})
    info = {trials.name: list_info(trials, CHOSEN_BY if trials.name == HARD else None) for trials in lists}
    backends: list[str] = list(dict.fromkeys([*options.backends, *config.ivector.backends, _OWN]))
    order = {name: number for number, name in enumerate([*names, FUSION])}
    results = Results(
        corpus=corpus["corpus"],
        synthetic=corpus["synthetic"],
        seed=seed,
        config=trained_with
        | {name: getattr(config, name).model_dump() for name in ("conditions", "embedding", "scoring")},
        trials=info,
        systems=systems,
        comparisons=comparisons_of(systems, replicates, info),
        enrolment_table=sorted(
            table, key=lambda row: (order[row.name], backends.index(row.backend), row.enrolment, row.utterances)
        ),
    )
    results.write(exp_dir / "results.json")


def _make_hard_list(exp_dir: Path, data_dir: Path, utt2spk: dict[str, str], nontargets: int) -> Path | None:
    path, genders = exp_dir / "trials" / HARD, data_dir / "test" / "spk2gender"
    vectors = read_vectors(exp_dir / CHOOSER / "embeddings_test")
    spk2gender = read_table(genders) if genders.is_file() else {}
    return path if write_trials_hard(path, vectors, utt2spk, spk2gender, nontargets) else None


def _read_test(
    config: Config,
    data_dir: Path,
    parts: list[str],
    utt2spk: dict[str, str],
    lists: list[TrialList],
    seed: int,
    max_skipped: float,
) -> _Test:
    frames: dict[str, int] = {}
    for nosil in (data_dir / f"{part}_nosil" for part in parts):
        if (nosil / "utt2num_frames").is_file() or needed_parts(config.scoring.backends):
            frames |= read_frames(nosil)
    seconds = {utterance: count * config.features.frame_shift for utterance, count in frames.items()}
    conditions = read_conditions(data_dir / "test", utt2spk, seconds, config.scoring.duration_buckets)
    if config.conditions.copies:
        conditions = replace(conditions, degraded=read_degraded(data_dir, config.conditions))
    of_lists = {
        trials.name: trial_conditions(conditions, trials) for trials in lists if not enrolment_utterances(trials.name)
    }
    return _Test(config.scoring, seed, max_skipped, frames, lists, of_lists)


def _add_configuration(trained_with: dict[str, Any], network: dict[str, Any]) -> None:
    """Take the whole configuration of the first network, and of each training the section that it used."""
    config, stage = network["config"], network["stage"]
    if not trained_with:
        trained_with.update(config)
    if stage in config:
        trained_with[stage] = config[stage]  # with the precision that was chosen


def _results(system: System, test: _Test) -> Iterator[tuple[SystemResult | EnrolmentResult, Replicates | None]]:
    """Score a system on all lists with all its back ends, and write the scores.

    With each result come the bootstrap's replicates if systems can be compared by them.
    """
    for trials in test.lists:
        if trials.name == DEGRADED and system.name == IVECTOR:
            continue  # its stage embeds no degraded copies
        embedded, scored = _embed(system, trials, test)
        utterances = enrolment_utterances(trials.name)
        for (backend, enrolment), score in system.backends.items():
            if backend == "plda" and not utterances and enrolment != test.options.plda_enrolment:
                continue
            label = f"{backend}-exact" if utterances and enrolment == "exact" else backend
            scores = _score(system, trials, embedded, scored, label, score, test)
            result: SystemResult | EnrolmentResult
            if utterances:
                result = _enrolment_result(system, trials, backend, enrolment, utterances, scores)
            else:
                result = _system_result(system, trials, backend, scores, test)
            shown = format_rate(result.eer, result.eer_ci95)
            print(f"{system.name}, {label}, {trials.name}: EER {shown} %", flush=True)
            comparable = scored.all() and trials.name != HARD
            yield result, scores.rates.replicates if comparable else None


def _embed(system: System, trials: TrialList, test: _Test) -> tuple[EmbeddedTrials, NDArray[np.bool_]]:
    """Return a list with its embeddings (zeros where there is none), and the trials with both sides, (trials,)."""
    missing = {
        utterance: "has no embedding" if number >= 0 else "is not an utterance of the test part"
        for utterance, number in zip(trials.utterances, trials.speaker, strict=True)
        if number < 0 or utterance not in system.vectors
    }
    report_skipped(
        system.folder / f"missing_{trials.name}",
        missing,
        len(trials.utterances),
        f"utterances of {trials.name}",
        test.max_skipped,
    )
    exists = np.array([utterance not in missing for utterance in trials.utterances])
    zeros = np.zeros_like(next(iter(system.vectors.values())))
    embedded = EmbeddedTrials(
        np.stack([system.vectors.get(utterance, zeros) for utterance in trials.utterances]),
        np.array([test.frames.get(utterance, 1) for utterance in trials.utterances]),
        trials.models,
        trials.enrolment,
        trials.test,
    )
    return embedded, trials.models.complete(exists)[trials.enrolment] & exists[trials.test]


def _score(
    system: System,
    trials: TrialList,
    embedded: EmbeddedTrials,
    scored: NDArray[np.bool_],
    label: str,
    backend: BackEnd,
    test: _Test,
) -> _Scores:
    scores = backend(embedded)
    path = system.folder / f"scores_{trials.name}_{label}"
    write_scores(path, trials, scores, scored)
    chosen = Scored(scores, trials.is_target, trials.enrolment_speaker, trials.test_speaker)
    if not scored.all():
        chosen = chosen.where(scored)
    try:
        return _Scores(scores, scored, chosen, Rates.of(chosen, test.options.bootstrap, test.seed))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _system_result(system: System, trials: TrialList, backend: str, scores: _Scores, test: _Test) -> SystemResult:
    options = test.options
    llr = backend == _OWN or BACKENDS[backend].llr
    figures = system_figures(scores.trials, scores.rates, options.false_acceptance, llr)
    conditions = [
        condition
        for one in test.conditions[trials.name]
        for condition in condition_figures(
            scores.trials, one.by, one.values, one.codes[scores.scored], options.bootstrap, test.seed
        )
    ]
    return SystemResult(
        name=system.name,
        model=system.model,
        parameters=system.parameters,
        backend=backend,
        trials=trials.name,
        rank1=_rank1(trials, scores) if trials.name == ROWS else None,
        trials_left_out=int((~scores.scored).sum()),
        shared_speakers=len(system.learned_from[backend].intersection(trials.speakers)),
        conditions=conditions,
        **figures,
    )


def _enrolment_result(
    system: System, trials: TrialList, backend: str, enrolment: PldaEnrolment, utterances: int, scores: _Scores
) -> EnrolmentResult:
    return EnrolmentResult(
        name=system.name,
        backend=backend,
        enrolment=enrolment,
        utterances=utterances,
        trials=trials.name,
        eer=scores.rates.eer,
        eer_ci95=scores.rates.eer_ci95,
        min_dcf=scores.rates.min_dcf,
        rank1=_rank1(trials, scores),
        trials_left_out=int((~scores.scored).sum()),
        shared_speakers=len(system.learned_from[backend].intersection(trials.speakers)),
    )


def _rank1(trials: TrialList, scores: _Scores) -> float:
    """Return the rank-1 rate over the rows whose target trial is scored; trials that are not scored cannot win."""
    if len(scores.scores) % ROW:
        raise InputError(f"{trials.path}: its {len(scores.scores)} trials are not rows of {ROW}; run stage 1 again")
    is_target = trials.is_target.reshape(-1, ROW)
    usable = (scores.scored.reshape(-1, ROW) & is_target).any(axis=1)
    ranked = np.where(scores.scored, scores.scores, -np.inf).reshape(-1, ROW)
    return rank1(ranked[usable], is_target[usable])
