"""Stage 6: every system on every trial list."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspeaker.config import Config
from deepspeaker.embedding import system_checkpoint
from deepspeaker.errors import InputError
from deepspeaker.files import sha256_of
from deepspeaker.kaldi import read_table, read_vector
from deepspeaker.metrics import (
    Replicates,
    SpeakerBootstrap,
    act_dcf,
    cllr,
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
    shown_rate,
)
from deepspeaker.scoring import (
    CALIBRATED,
    Embeddings,
    Trials,
    build_backend,
    needed_parts,
    read_trials,
    write_scores,
)
from deepspeaker.skipped import report_skipped

SYSTEMS = ("untrained", "softmax", "triplet")
LISTS = ("trials_all", "trials_1p99")
P_TARGETS = (0.05, 0.01, 0.001)
_ROW = 100
#: With fewer speakers that have target trials, an interval would itself be too uncertain to print.
FEWEST_SPEAKERS = 5


def evaluate(config: Config, data_dir: Path, exp_dir: Path, seed: int, max_skipped: float) -> None:
    """Scores the systems that have embeddings on ``data_dir/test/trials_*`` with every back end of the configuration.

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
    options = config.scoring
    systems: list[SystemResult] = []
    replicates: dict[tuple[str, str, str], Replicates] = {}
    used = config.model_dump()
    for name in found:
        checkpoint = load_checkpoint(system_checkpoint(exp_dir / name, config.embedding.checkpoint))
        _refuse_training_speakers(checkpoint["speakers"], utt2spk, name)
        for section in ("softmax", "triplet"):
            if checkpoint["stage"] == section:
                used[section] = checkpoint["config"][section]  # with the precision that was used
        parameters = parameter_count(network_of(checkpoint))
        folder = exp_dir / name
        embeddings = _vectors(folder / "embeddings_test")
        parts = {part: _embeddings(folder, data_dir, part) for part in needed_parts(options.backends)}
        frames = _frames(data_dir / "test_nosil") if parts else {}
        backends = {
            backend: build_backend(
                backend,
                parts,
                lda_dim=options.lda_dim,
                cohort_top=options.cohort_top,
                p_target=options.calibration_prior,
            )
            for backend in options.backends
        }
        for list_name, whole in trials.items():
            missing = {u: "has no embedding" for u in whole.ids if u not in embeddings}
            report_skipped(
                folder / f"missing_{list_name}", missing, len(whole.ids), f"utterances of {list_name}", max_skipped
            )
            there = np.array([utterance not in missing for utterance in whole.ids])
            kept = there[whole.enrolment] & there[whole.test]
            nothing = np.zeros_like(next(iter(embeddings.values())))
            matrix = np.stack([embeddings.get(utterance, nothing) for utterance in whole.ids])
            durations = np.array([frames.get(utterance, 1) for utterance in whole.ids])
            for backend, scored_by in backends.items():
                scores = scored_by(matrix, durations, whole.enrolment, whole.test)
                path = folder / f"scores_{list_name}_{backend}"
                write_scores(path, whole.ids, whole.enrolment[kept], whole.test[kept], scores[kept])
                figures, drawn = _figures(scores[kept], whole, kept, utt2spk, options.bootstrap, seed)
                if backend in CALIBRATED:
                    targets, nontargets = scores[kept & whole.is_target], scores[kept & ~whole.is_target]
                    figures["cllr"] = cllr(targets, nontargets)
                    figures["act_dcf"] = {str(p): act_dcf(targets, nontargets, p) for p in P_TARGETS}
                if list_name == "trials_1p99":
                    figures["rank1"] = _rank1(lists[list_name], scores, whole.is_target, kept)
                system = SystemResult(
                    name=name,
                    model=config.model.name,
                    parameters=parameters,
                    backend=backend,
                    trials=list_name,
                    **figures,
                )
                if drawn is not None and not missing:
                    replicates[name, backend, list_name] = drawn
                systems.append(system)
                shown = shown_rate(system.eer, system.eer_ci95)
                print(f"{name}, {backend}, {list_name}: EER {shown} %; scores in {path}", flush=True)
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


def _vectors(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The embeddings that stage 5 left in ``folder``."""
    if not (folder / "xvector.scp").is_file():
        raise InputError(f"{folder}/xvector.scp: no such file; run stage 5 with the same scoring.backends")
    vectors = {utterance: read_vector(location) for utterance, location in read_table(folder / "xvector.scp").items()}
    for utterance, vector in vectors.items():
        if not np.isfinite(vector).all():
            raise InputError(
                f"{folder}/xvector.scp: the embedding of {utterance} has values that are not finite numbers; look at "
                "its features, or train again with a lower learning rate"
            )
    return vectors


def _frames(data_dir: Path) -> dict[str, int]:
    """The speech frames of each utterance."""
    return {utterance: int(frames) for utterance, frames in read_table(data_dir / "utt2num_frames").items()}


def _embeddings(folder: Path, data_dir: Path, part: str) -> Embeddings:
    """The embeddings of a part that a back end learns from."""
    vectors = _vectors(folder / f"embeddings_{part}")
    utt2spk, frames = read_table(data_dir / f"{part}_nosil" / "utt2spk"), _frames(data_dir / f"{part}_nosil")
    return Embeddings(
        np.stack(list(vectors.values())),
        np.unique([utt2spk[utterance] for utterance in vectors], return_inverse=True)[1],
        np.array([frames[utterance] for utterance in vectors]),
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
    speaker = np.unique([utt2spk[utterance] for utterance in trials.ids], return_inverse=True)[1]
    enrolment, test = speaker[trials.enrolment[kept]], speaker[trials.test[kept]]
    if not bootstrap or len(np.unique(enrolment[is_target])) < FEWEST_SPEAKERS:
        return figures, None
    speakers = SpeakerBootstrap(scores, is_target, enrolment, test)
    drawn = speakers.replicates(bootstrap, seed, P_TARGETS)
    figures["eer_ci95"] = list(speakers.interval(eer, drawn.eer))
    figures["min_dcf_ci95"] = {
        str(p): list(speakers.interval(figures["min_dcf"][str(p)], drawn.min_dcf[:, column]))
        for column, p in enumerate(P_TARGETS)
    }
    return figures, drawn


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


def _rank1(path: Path, scores: NDArray[np.float32], is_target: NDArray[np.bool_], kept: NDArray[np.bool_]) -> float:
    """Rank-1 over the rows whose target trial is kept; other trials that are not kept cannot win."""
    if len(scores) % _ROW:
        raise InputError(f"{path}: its {len(scores)} trials are not rows of {_ROW}; run stage 1 again")
    usable = (kept & is_target).reshape(-1, _ROW).any(axis=1)
    ranked = np.where(kept, scores, -np.inf).reshape(-1, _ROW)
    return rank1(ranked[usable], is_target.reshape(-1, _ROW)[usable])
