"""What an exported model says about its scores: a calibration, and thresholds with their error rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepspeaker.backends import Calibration, cosine_scores, duration_measures, labelled_pairs, train_calibration
from deepspeaker.embedding import embed_features, evenly_spaced
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex, mean_variance_normalised
from deepspeaker.inference import Description, Rates, Threshold
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


@dataclass(frozen=True, eq=False)
class Embedded:
    """Utterances of development or test speakers with their embeddings."""

    vectors: NDArray[np.float32]
    """(utterances, dim), of unit length."""
    frames: NDArray[np.int64]
    """Speech frames, (utterances,)."""
    speaker: NDArray[np.int64]
    """The speaker of each utterance as a number from 0, (utterances,)."""

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
    return Embedded(vectors, index.frames[chosen].astype(np.int64), speaker.astype(np.int64))


def embed_crops(network: Network, folder: Path, seed: int = 0) -> Embedded:
    """Embed a random crop of each utterance of ``embed_part``, so that calibration also sees short speech.

    The lengths are spread evenly on a logarithmic scale from ``SHORTEST_CROP`` frames to the whole utterance.
    """
    index, generator = FeatureIndex(folder), np.random.default_rng(seed)
    chosen = evenly_spaced(np.arange(len(index), dtype=np.int32), MAX_UTTERANCES)
    vectors, lengths = [], []
    for utterance in chosen:
        features = index.read(int(utterance))
        shortest = min(SHORTEST_CROP, len(features))
        length = int(np.exp(generator.uniform(np.log(shortest), np.log(len(features) + 1))))
        start = int(generator.integers(len(features) - length + 1))
        vectors.append(embed_features(network, mean_variance_normalised(features[start : start + length])))
        lengths.append(length)
    speaker = np.unique(index.speaker[chosen], return_inverse=True)[1]
    return Embedded(np.stack(vectors), np.array(lengths), speaker.astype(np.int64))


def calibrate(whole: Embedded, crops: Embedded, p_target: float = 0.05) -> Calibration:
    """Learn log-likelihood ratios from cosines and durations of whole utterances and crops.

    A crop is never paired with its own utterance.

    Raises
    ------
    InputError
        There is no pair of one speaker, or none of two speakers.
    """
    vectors = np.concatenate([whole.vectors, crops.vectors])
    frames = np.concatenate([whole.frames, crops.frames])
    first, second, is_target = labelled_pairs(np.concatenate([whole.speaker, crops.speaker]))
    kept = second - first != len(whole.speaker)
    first, second, is_target = first[kept], second[kept], is_target[kept]
    cosines = cosine_scores(vectors, first, second)
    measures = np.column_stack([cosines, duration_measures(frames, first, second)])
    return train_calibration(measures, is_target, p_target)


def scored_pairs(part: Embedded, calibration: Calibration | None) -> Pairs:
    """Score all pairs of utterances: log-likelihood ratios, or cosines without a calibration."""
    first, second, is_target = labelled_pairs(part.speaker)
    scores = cosine_scores(part.vectors, first, second)
    if calibration is not None:
        scores = calibration(np.column_stack([scores, duration_measures(part.frames, first, second)]))
    return Pairs(first, second, is_target, scores)


def thresholds(calibration: Calibration | None, development: Embedded | None, test: Embedded) -> list[Threshold]:
    """Choose a threshold for each of ``GOALS`` on the development speakers, and measure it on both parts.

    Without development speakers, or without a calibration from them, the test speakers choose.
    """
    parts = {"development": development if calibration else None, "test": test}
    pairs = {name: scored_pairs(part, calibration) for name, part in parts.items() if part is not None}
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


def rates_of(part: Embedded, calibration: Calibration | None, values: Sequence[float]) -> list[Rates]:
    """Return the error rates of thresholds on all pairs of some utterances."""
    pairs = scored_pairs(part, calibration)
    return [_rates(part, pairs, value) for value in values]


def stored_calibration(description: Description) -> Calibration | None:
    """Return the calibration of an exported model, None if it has none."""
    stored = description.calibration
    return None if stored is None else Calibration(np.array(stored.weights), stored.offset)


def _rates(part: Embedded | None, pairs: Pairs, threshold: float) -> Rates:
    assert part is not None
    sides = part.speaker[pairs.first], part.speaker[pairs.second]
    rates = rates_at_threshold(pairs.scores, pairs.is_target, *sides, threshold)
    return Rates(speakers=part.speakers, utterances=len(part.speaker), **rates._asdict())


def seconds_of(parts: Sequence[Embedded | None], frame_shift: float) -> tuple[float, float]:
    """Return the shortest and the longest speech of the utterances, in seconds."""
    frames = np.concatenate([part.frames for part in parts if part is not None])
    return round(frame_shift * int(frames.min()), 2), round(frame_shift * int(frames.max()), 2)
