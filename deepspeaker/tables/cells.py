"""The cells of the tables: what they measure, and their rates from the score files of finished experiments."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.kaldi import read_table
from deepspeaker.metrics import SpeakerBootstrap, det_points, equal_error_rate, rank1
from deepspeaker.tables.estimates import Rates
from deepspeaker.trials import MODELS_SUFFIX, ROW, read_labelled_scores

#: With fewer speakers, an interval would be too uncertain to print.
MIN_SPEAKERS = 5
#: Names of the tables that tell which phrase an utterance says.
PHRASES = ("utt2phrase", "utt2word")


@dataclass(frozen=True)
class Cell:
    """What a cell measures: a system on the trials of a list that fulfil a condition."""

    experiment: str
    system: str = "triplet"
    backend: str = "cosine"
    trials: str = "trials_1p99"
    condition: str = ""
    """``same session`` or ``different session`` of the target trials, or ``same phrase`` of all trials."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The rates of a cell. ``acc`` is None if the trials are not rows of one target and 99 non-targets."""

    eer: Rates
    acc: Rates | None


@dataclass(frozen=True, eq=False)
class _Trials:
    scores: NDArray[np.float64]
    is_target: NDArray[np.bool_]
    enrolment: list[str]
    test: list[str]


def measure(cell: Cell, data_dir: Path, experiments: Mapping[int, Path], draws: int) -> Measured:
    """Compute the rates of a cell from the score files of its trainings.

    Parameters
    ----------
    cell
        What to measure.
    data_dir
        The data with the trial lists.
    experiments
        The folder of the experiment for each seed.
    draws
        Bootstrap draws of speakers; 0 for none.

    Raises
    ------
    InputError
        Scores are missing, or no trial fulfils the condition.
    """
    seeds = tuple(sorted(experiments))
    measured = [_measure_one(cell, data_dir, experiments[seed], draws) for seed in seeds]
    eers, accs = zip(*measured, strict=True)
    return Measured(_joined(seeds, eers), None if accs[0] is None else _joined(seeds, accs))


def _joined(seeds: tuple[int, ...], rates: Sequence[Rates]) -> Rates:
    values = np.concatenate([one.values for one in rates])
    return Rates(seeds, values, np.concatenate([one.drawn for one in rates]), rates[0].speakers, rates[0].lowest)


def _measure_one(cell: Cell, data_dir: Path, experiment: Path, draws: int) -> tuple[Rates, Rates | None]:
    test_dir = data_dir / "test"
    lists = test_dir / cell.trials
    path = experiment / cell.system / f"scores_{cell.trials}_{cell.backend}"
    trials = _read(path, lists)
    speaker_of = _speakers(test_dir, lists)
    enrolment, test = ([speaker_of.get(name, "") for name in ids] for ids in (trials.enrolment, trials.test))
    kept = _fulfils(cell.condition, test_dir, lists, trials)
    rows = None
    if cell.trials != "trials_all" and len(kept) % ROW == 0:  # rows of one target and 99 non-targets
        whole = kept.reshape(-1, ROW)
        targets = trials.is_target.reshape(-1, ROW)
        if (targets.sum(axis=1) == 1).all() and (cell.condition != "same phrase" or whole.all()):
            rows = np.flatnonzero((whole & targets).any(axis=1))
    if not (kept & trials.is_target).any() or not (kept & ~trials.is_target).any():
        raise InputError(f"{lists}: has no target or no non-target trial with {cell.condition or 'a score'}")
    names = sorted({*enrolment, *test})
    number = {name: place for place, name in enumerate(names)}
    first, second = (np.array([number[name] for name in side]) for side in (enrolment, test))
    scores, is_target = trials.scores[kept], trials.is_target[kept]
    eer = equal_error_rate(det_points(scores[is_target], scores[~is_target]))[0]
    drawn = np.empty((1, 0))
    if draws and len(np.unique(first[kept][is_target])) >= MIN_SPEAKERS:
        bootstrap = SpeakerBootstrap(scores, is_target, first[kept], second[kept])
        drawn = bootstrap.replicates(draws, seed=0).eer[None]
    lowest = 0.5 / min(int(is_target.sum()), int((~is_target).sum()))
    rates = Rates((), np.array([eer]), drawn, tuple(names), lowest)
    if rows is None:
        return rates, None
    return rates, _accuracy(trials, rows, first.reshape(-1, ROW)[rows, 0], tuple(names), draws)


def _accuracy(
    trials: _Trials, rows: NDArray[np.int64], speaker: NDArray[np.int64], names: tuple[str, ...], draws: int
) -> Rates:
    """Return the rank-1 rate of the rows; the bootstrap draws the speakers that enrol."""
    scores, is_target = (array.reshape(-1, ROW)[rows] for array in (trials.scores, trials.is_target))
    hits = np.array([rank1(row, target) for row, target in zip(scores, is_target, strict=True)])
    of_speaker = np.bincount(speaker, hits, len(names)), np.bincount(speaker, minlength=len(names))
    drawn = np.empty((1, 0))
    if draws and len(np.unique(speaker)) >= MIN_SPEAKERS:
        weights = np.random.default_rng(0).multinomial(len(names), [1 / len(names)] * len(names), draws)
        drawn = ((weights @ of_speaker[0]) / np.maximum(weights @ of_speaker[1], 1))[None]
    return Rates((), np.array([hits.mean()]), drawn, names, 0.5 / len(rows))


@functools.lru_cache(maxsize=2)
def _read(path: Path, trials: Path) -> _Trials:
    if not path.is_file():
        raise InputError(f"{path}: no such file; run the experiment again")
    read = read_labelled_scores(path, trials)
    ids = np.array(read.ids, dtype=object)
    return _Trials(read.scores, read.is_target, ids[read.enrolment].tolist(), ids[read.test].tolist())


@functools.lru_cache(maxsize=8)
def _speakers(test_dir: Path, trials: Path) -> dict[str, str]:
    """Return the speaker of each test utterance and of each enrolment model of a list."""
    utt2spk = read_table(test_dir / "utt2spk")
    return utt2spk | {model: utt2spk[first] for model, first in _first_utterances(trials).items()}


def _first_utterances(trials: Path) -> dict[str, str]:
    models = trials.with_name(trials.name + MODELS_SUFFIX)
    return {model: words.split()[0] for model, words in read_table(models).items()} if models.is_file() else {}


def _fulfils(condition: str, test_dir: Path, lists: Path, trials: _Trials) -> NDArray[np.bool_]:
    """Return which trials fulfil a condition, (trials,). A condition on sessions is one on the target trials only."""
    if not condition:
        return np.ones(len(trials.scores), dtype=bool)
    wanted, what = condition.split()
    value = sessions(test_dir) if what == "session" else phrases(test_dir)
    value = value | {model: value[first] for model, first in _first_utterances(lists).items() if first in value}
    sides = ([value.get(name) for name in ids] for ids in (trials.enrolment, trials.test))
    fulfils = np.array(
        [one is not None and (one == other) == (wanted == "same") for one, other in zip(*sides, strict=True)]
    )
    return fulfils | ~trials.is_target if what == "session" else fulfils


def sessions(test_dir: Path) -> dict[str, str]:
    """Return the session of each test utterance, from ``utt2session``; empty if no speaker has two sessions."""
    if not (test_dir / "utt2session").is_file():
        return {}
    utt2spk, found = read_table(test_dir / "utt2spk"), read_table(test_dir / "utt2session")
    pairs = {(utt2spk[utterance], session) for utterance, session in found.items() if utterance in utt2spk}
    return found if len(pairs) > len({speaker for speaker, _ in pairs}) else {}


def phrases(test_dir: Path) -> dict[str, str]:
    """Return the phrase of each test utterance, from ``utt2phrase`` or ``utt2word``; empty if there is neither."""
    for name in PHRASES:
        if (test_dir / name).is_file():
            return read_table(test_dir / name)
    return {}
