"""What an exported model says about its scores: a calibration, and thresholds with their error rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepspeaker.backends import (
    Calibration,
    cosine_scores,
    duration_measures,
    labelled_pairs,
    length_normalised,
    train_calibration,
)
from deepspeaker.embedding import embed_features, evenly_spaced
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex, mean_variance_normalised
from deepspeaker.inference import Cohort, Rates, RatesBySeconds, SpeakerModel, Threshold
from deepspeaker.kaldi import read_table
from deepspeaker.metrics import det_points, false_acceptance_point, rates_at_threshold

if TYPE_CHECKING:
    from deepspeaker.models import Network

#: False-acceptance rates for which a threshold is stored, if enough comparisons of different speakers support it.
GOALS = (0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
_MIN_FALSE_ACCEPTANCES = 10
#: Error rates are measured on at most this many utterances of a part.
MAX_UTTERANCES = 2000
#: Calibration also learns from a crop of each utterance, of this many frames or more.
SHORTEST_CROP = 100
#: Error rates are also measured on crops of so many seconds, of at most so many utterances.
CROP_SECONDS, CROP_UTTERANCES = (1.0, 2.0, 4.0, 8.0, 16.0), 500
_MIN_CROP_SPEAKERS, _MIN_CROP_TARGETS, _MIN_CROP_NONTARGETS = 5, 50, 1000
#: Utterances of a training speaker whose mean embedding is a member of the cohort, and the members used for a score.
_COHORT_UTTERANCES, _COHORT_TOP = 10, 50


@dataclass(frozen=True, eq=False)
class Embedded:
    """Utterances of development or test speakers with their embeddings."""

    vectors: NDArray[np.float32]
    """(utterances, dim), of unit length."""
    frames: NDArray[np.int64]
    """Speech frames, (utterances,)."""
    speaker: NDArray[np.int64]
    """The speaker of each utterance as a number from 0, (utterances,)."""
    corpus: NDArray[np.str_] | None = None
    """The corpus of each utterance, (utterances,). Pairs of two corpora do not count: they are easy to tell apart."""

    @property
    def speakers(self) -> int:
        """The number of speakers."""
        return int(self.speaker.max()) + 1


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of some utterances; each array has shape (pairs,)."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    is_target: NDArray[np.bool_]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scorer:
    """From pairs of embeddings to scores: log-likelihood ratios, or cosines without a calibration."""

    calibration: Calibration | None = None
    cohort: Cohort | None = None

    def __call__(self, part: Embedded, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score pairs of utterances, of shape (pairs,)."""
        if self.calibration is None:
            return cosine_scores(part.vectors, first, second)
        return self.calibration(_measures(part, first, second, self.cohort))


def _measures(
    part: Embedded, first: NDArray[np.int64], second: NDArray[np.int64], cohort: Cohort | None
) -> NDArray[np.float64]:
    """Return what calibration learns from, (pairs, 3): the cosine, normalised if there is a cohort, and durations."""
    score = cosine_scores if cohort is None else cohort.normalised
    return np.column_stack([score(part.vectors, first, second), duration_measures(part.frames, first, second)])


def _pairs(part: Embedded) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return both sides of the pairs that count, and whether they are of one speaker."""
    first, second, is_target = labelled_pairs(part.speaker)
    if part.corpus is None:
        return first, second, is_target
    kept = part.corpus[first] == part.corpus[second]
    return first[kept], second[kept], is_target[kept]


def corpora_of(part: Path, utterances: Sequence[str]) -> NDArray[np.str_] | None:
    """Return the corpora of utterances from ``utt2corpus`` in a part's folder, if it has this table."""
    path = part / "utt2corpus"
    if not path.is_file():
        return None
    table = read_table(path)
    if missing := [utterance for utterance in utterances if utterance not in table]:
        raise InputError(f"{path}: has no line for {missing[0]}; add it, or remove the table")
    return np.array([table[utterance] for utterance in utterances])


def _corpora(index: FeatureIndex, chosen: NDArray[np.int32]) -> NDArray[np.str_] | None:
    """Return the corpora of utterances of a ``_nosil`` directory."""
    part = index.data_dir.with_name(index.data_dir.name.removesuffix("_nosil"))
    return corpora_of(part, [index.utterance_id(int(utterance)) for utterance in chosen])


def embed_part(network: Network, folder: Path) -> Embedded | None:
    """Embed the utterances of a ``_nosil`` directory, at most ``MAX_UTTERANCES``; None if there is no directory."""
    if not (folder / "feats.scp").is_file():
        return None
    index = FeatureIndex(folder)
    if index.feature_dim != network.feature_dim:
        raise InputError(f"{folder}/feats.scp: has {index.feature_dim} bins, the network needs {network.feature_dim}")
    chosen = evenly_spaced(np.arange(len(index), dtype=np.int32), MAX_UTTERANCES)
    vectors = np.stack([embed_features(network, index.read(int(utterance))) for utterance in chosen])
    speaker = np.unique(index.speaker[chosen], return_inverse=True)[1]
    frames = index.frames[chosen].astype(np.int64)
    return Embedded(vectors, frames, speaker.astype(np.int64), _corpora(index, chosen))


def embed_crops(network: Network, folder: Path, seed: int = 0) -> Embedded:
    """Embed a random crop of each utterance of ``embed_part``, so that calibration also sees short speech.

    The lengths are spread evenly on a logarithmic scale from ``SHORTEST_CROP`` frames to the whole utterance.
    """
    index, generator = FeatureIndex(folder), np.random.default_rng(seed)
    chosen = evenly_spaced(np.arange(len(index), dtype=np.int32), MAX_UTTERANCES)
    longest = index.frames[chosen]
    lengths = np.exp(generator.uniform(np.log(np.minimum(SHORTEST_CROP, longest)), np.log(longest + 1)))
    return _cropped(network, index, chosen, np.minimum(lengths.astype(np.int64), longest), generator)


def _cropped(
    network: Network,
    index: FeatureIndex,
    chosen: NDArray[np.int32],
    lengths: NDArray[np.int64],
    generator: np.random.Generator,
) -> Embedded:
    """Embed a crop of each chosen utterance, of so many frames, at a random place."""
    vectors = []
    for utterance, length in zip(chosen, lengths, strict=True):
        features = index.read(int(utterance))
        start = int(generator.integers(len(features) - length + 1))
        vectors.append(embed_features(network, mean_variance_normalised(features[start : start + length])))
    speaker = np.unique(index.speaker[chosen], return_inverse=True)[1]
    return Embedded(np.stack(vectors), lengths, speaker.astype(np.int64), _corpora(index, chosen))


def embed_cohort(network: Network, folder: Path, speakers: int) -> Cohort:
    """Return the mean embeddings of at most so many speakers of a ``_nosil`` directory, evenly spaced."""
    index = FeatureIndex(folder)
    chosen = evenly_spaced(np.unique(index.speaker), speakers)
    means = []
    for speaker in chosen:
        utterances = evenly_spaced(np.flatnonzero(index.speaker == speaker).astype(np.int32), _COHORT_UTTERANCES)
        means.append(np.mean([embed_features(network, index.read(int(one))) for one in utterances], axis=0))
    return Cohort(length_normalised(np.stack(means)), min(_COHORT_TOP, len(means)))


def calibrate(whole: Embedded, crops: Embedded, cohort: Cohort | None = None, p_target: float = 0.05) -> Scorer:
    """Learn log-likelihood ratios from cosines and durations of whole utterances and crops.

    A crop is never paired with its own utterance. With a cohort, the cosines are normalised.

    Raises
    ------
    InputError
        There is no pair of one speaker, or none of two speakers.
    """
    both = Embedded(
        np.concatenate([whole.vectors, crops.vectors]),
        np.concatenate([whole.frames, crops.frames]),
        np.concatenate([whole.speaker, crops.speaker]),
        None if whole.corpus is None else np.concatenate([whole.corpus, crops.corpus]),
    )
    first, second, is_target = _pairs(both)
    kept = second - first != len(whole.speaker)
    measures = _measures(both, first[kept], second[kept], cohort)
    return Scorer(train_calibration(measures, is_target[kept], p_target), cohort)


def scored_pairs(part: Embedded, scorer: Scorer) -> Pairs:
    """Score all pairs of utterances, or with several corpora all pairs within one."""
    first, second, is_target = _pairs(part)
    return Pairs(first, second, is_target, scorer(part, first, second))


def thresholds(scorer: Scorer, development: Embedded | None, test: Embedded) -> list[Threshold]:
    """Choose a threshold for each of ``GOALS`` on the development speakers, and measure it on both parts.

    Without development speakers, or without a calibration from them, the test speakers choose.
    """
    parts = {"development": development if scorer.calibration else None, "test": test}
    pairs = {name: scored_pairs(part, scorer) for name, part in parts.items() if part is not None}
    chooser = next(iter(pairs.values()))
    points = det_points(chooser.scores[chooser.is_target], chooser.scores[~chooser.is_target])
    nontargets = int((~chooser.is_target).sum())
    goals = [goal for goal in GOALS if goal * nontargets >= _MIN_FALSE_ACCEPTANCES] or [GOALS[0]]
    found = []
    for goal in goals:
        value = float(false_acceptance_point(points, goal).threshold)
        if not np.isfinite(value):
            value = float(chooser.scores.max()) + 1.0
        rates = {name: _rates(parts[name], one, value) for name, one in pairs.items()}
        found.append(Threshold(goal=goal, value=value, **rates))
    return found


def rates_by_seconds(
    network: Network, folder: Path, scorer: Scorer, threshold: float, frame_shift: float, seed: int = 0
) -> list[RatesBySeconds]:
    """Return the error rates of a threshold on crops of the utterances of a ``_nosil`` directory.

    Each length of ``CROP_SECONDS`` takes the utterances that are long enough, if there are enough comparisons of them.
    """
    index, generator = FeatureIndex(folder), np.random.default_rng(seed)
    found = []
    for seconds in CROP_SECONDS:
        frames = round(seconds / frame_shift)
        chosen = evenly_spaced(np.flatnonzero(index.frames >= frames).astype(np.int32), CROP_UTTERANCES)
        speakers = np.unique(index.speaker[chosen], return_counts=True)[1]
        targets = int((speakers * (speakers - 1) // 2).sum())
        nontargets = len(chosen) * (len(chosen) - 1) // 2 - targets
        if len(speakers) < _MIN_CROP_SPEAKERS or targets < _MIN_CROP_TARGETS or nontargets < _MIN_CROP_NONTARGETS:
            continue
        crops = _cropped(network, index, chosen, np.full(len(chosen), frames, dtype=np.int64), generator)
        rates = _rates(crops, scored_pairs(crops, scorer), threshold)
        found.append(RatesBySeconds(seconds=seconds, **rates.model_dump()))
    return found


def rates_of(part: Embedded, scorer: Scorer, values: Sequence[float]) -> list[Rates]:
    """Return the error rates of thresholds on all pairs of some utterances."""
    pairs = scored_pairs(part, scorer)
    return [_rates(part, pairs, value) for value in values]


def scorer_of(model: SpeakerModel) -> Scorer:
    """Return the scorer of an exported model."""
    stored = model.description.calibration
    calibration = None if stored is None else Calibration(np.array(stored.weights), stored.offset)
    return Scorer(calibration, model.cohort)


def _rates(part: Embedded | None, pairs: Pairs, threshold: float) -> Rates:
    assert part is not None
    sides = part.speaker[pairs.first], part.speaker[pairs.second]
    rates = rates_at_threshold(pairs.scores, pairs.is_target, *sides, threshold)
    return Rates(speakers=part.speakers, utterances=len(part.speaker), **rates._asdict())


def seconds_of(parts: Sequence[Embedded | None], frame_shift: float) -> tuple[float, float]:
    """Return the shortest and the longest speech of the utterances, in seconds."""
    frames = np.concatenate([part.frames for part in parts if part is not None])
    return round(frame_shift * int(frames.min()), 2), round(frame_shift * int(frames.max()), 2)
