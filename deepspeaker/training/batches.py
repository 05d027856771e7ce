"""Samplers choose the utterances of each training step, and where their crops begin.

A batch is a pure function of the seed and the step, so a training can resume at any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.training.augmented import Sources


class Batch(NamedTuple):
    """The utterances of a step, and where their crops begin."""

    #: Utterance numbers, shape (batch,).
    utterances: NDArray[np.int32]
    #: Start of each crop as a fraction of its possible starts, in [0, 1), shape (batch,).
    crop_positions: NDArray[np.float64]
    #: VTLP copy of each speaker, shape (batch,): 0 is the speech as recorded, the others are warped.
    copies: NDArray[np.int64]
    #: Augmented copy of each utterance, shape (batch,): 0 is the speech as recorded. None: all as recorded.
    sources: NDArray[np.int64] | None = None


class Sampler(Protocol):
    """Anything that chooses the utterances of a batch."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0."""


def _generator(seed: int, *position: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *position])))


class _Passes:
    """Endless passes over ``items`` things, each in another random order."""

    def __init__(self, items: int, seed: int) -> None:
        self.items, self.seed = items, seed
        self._latest = (-1, np.empty(0, dtype=np.int32))

    def order(self, number: int) -> NDArray[np.int32]:
        """Return the order of a pass, shape (items,)."""
        if self._latest[0] != number:
            self._latest = (number, _generator(self.seed, 0, number).permutation(np.arange(self.items, dtype=np.int32)))
        return self._latest[1]

    def stretch(self, first: int, count: int) -> NDArray[np.int32]:
        """Return ``count`` things from position ``first`` on, shape (count,)."""
        found: list[NDArray[np.int32]] = []
        while count:
            number, begin = divmod(first, self.items)
            found.append(self.order(number)[begin : begin + count])
            first, count = first + len(found[-1]), count - len(found[-1])
        return np.concatenate(found)


class UtteranceSampler:
    """Sample utterances for softmax training: each one once per pass, in random order, as a random VTLP copy.

    With ``of_speaker``, a pass has each speaker once instead, with a random utterance.

    Parameters
    ----------
    utterances
        Number of utterances.
    batch_size
        Utterances of a batch. A batch may reach from one pass into the next.
    seed
        Decides all random choices, together with the step.
    copies
        Number of VTLP copies, including the speech as recorded.
    sources
        The augmented copies to draw from.
    of_speaker
        For each speaker, the numbers of its utterances.

    Examples
    --------
    >>> sampler = UtteranceSampler(utterances=6, batch_size=3, seed=0)
    >>> sorted([*sampler.batch(0).utterances.tolist(), *sampler.batch(1).utterances.tolist()])
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(
        self,
        utterances: int,
        batch_size: int,
        seed: int,
        copies: int = 1,
        sources: Sources | None = None,
        of_speaker: Sequence[NDArray[np.int32]] | None = None,
    ) -> None:
        self.batch_size, self.seed, self.copies, self.sources = batch_size, seed, copies, sources
        self.of_speaker = of_speaker
        self._passes = _Passes(utterances if of_speaker is None else len(of_speaker), seed)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0."""
        chosen = self._passes.stretch(step * self.batch_size, self.batch_size)
        generator = _generator(self.seed, 1, step)
        if self.of_speaker is not None:
            chosen = np.array([generator.choice(self.of_speaker[speaker]) for speaker in chosen], dtype=np.int32)
        positions = generator.random(self.batch_size)
        copies, sources = generator.integers(self.copies, size=self.batch_size), None
        if self.sources:
            sources = self.sources.draw(self.sources.draw_voices(self.batch_size, generator), generator)
        return Batch(chosen, positions, copies, sources)


class SpeakerSampler:
    """Sample P speakers with K utterances each, for triplet training.

    Each speaker appears once per pass, in random order. If P does not divide the number of speakers, the remaining
    ones wait for the next pass. A speaker's K utterances differ if it has enough; otherwise some are repeated with
    other crops. A speaker with a single utterance contributes disjoint crops of it, and is left out if the utterance is
    shorter than two crops. All K utterances are of one random VTLP copy of the speaker, and have one voice of the
    augmented copies.

    Parameters
    ----------
    of_speaker
        For each speaker, the numbers of its utterances.
    speakers
        P. If there are fewer speakers, each batch has all of them.
    utterances
        K.
    seed
        Decides all random choices, together with the step.
    copies
        Number of VTLP copies, including the speech as recorded.
    frames
        Length of each utterance in frames, shape (utterances,).
    crop_frames
        Length of a crop in frames.
    sources
        The augmented copies to draw from.

    Attributes
    ----------
    usable : ndarray of int
        Numbers of the speakers that can appear.
    left_out : int
        Number of the other speakers.

    Raises
    ------
    InputError
        If fewer than two speakers are usable.

    Examples
    --------
    >>> of_speaker = [np.array([0, 1], dtype=np.int32), np.array([2, 3, 4], dtype=np.int32)]
    >>> frames = np.full(5, 300, dtype=np.int32)
    >>> sampler = SpeakerSampler(of_speaker, 2, 2, seed=0, frames=frames, crop_frames=160)
    >>> batch = sampler.batch(0)
    >>> [int((batch.utterances < 2).sum()), int((batch.utterances >= 2).sum())]
    [2, 2]
    """

    def __init__(
        self,
        of_speaker: Sequence[NDArray[np.int32]],
        speakers: int,
        utterances: int,
        seed: int,
        copies: int = 1,
        *,
        frames: NDArray[np.int32],
        crop_frames: int,
        sources: Sources | None = None,
    ) -> None:
        self.of_speaker, self.frames, self.crop_frames = of_speaker, frames, crop_frames
        self.seed, self.copies, self.sources = seed, copies, sources
        self.usable = _usable_speakers(of_speaker, frames, crop_frames)
        self.left_out = len(of_speaker) - len(self.usable)
        self.speakers, self.per_speaker = min(speakers, len(self.usable)), utterances
        self._passes = _Passes(len(self.usable), seed)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0; the K utterances of a speaker are consecutive."""
        number, within = divmod(step, len(self.usable) // self.speakers)
        speakers = self.usable[self._passes.order(number)[within * self.speakers : (within + 1) * self.speakers]]
        generator = _generator(self.seed, 1, step)
        chosen = [self._choose(self.of_speaker[speaker], generator) for speaker in speakers]
        positions = generator.random(self.speakers * self.per_speaker)
        copies = np.repeat(generator.integers(self.copies, size=self.speakers), self.per_speaker)
        for place, utterances in enumerate(chosen):
            if len(self.of_speaker[speakers[place]]) == 1:
                rows = slice(place * self.per_speaker, (place + 1) * self.per_speaker)
                positions[rows] = _disjoint(positions[rows], int(self.frames[utterances[0]]), self.crop_frames)
        sources = None
        if self.sources:
            voices = np.repeat(self.sources.draw_voices(self.speakers, generator), self.per_speaker)
            sources = self.sources.draw(voices, generator)
        return Batch(np.concatenate(chosen), positions, copies, sources)

    def _choose(self, utterances: NDArray[np.int32], generator: np.random.Generator) -> NDArray[np.int32]:
        rounds = -(-self.per_speaker // len(utterances))
        return np.concatenate([generator.permutation(utterances) for _ in range(rounds)])[: self.per_speaker]


class PairSampler:
    """Sample N anchors with a positive each, for triplet training as in the Deep Speaker paper.

    Each utterance is an anchor once per pass, in random order; a batch may reach from one pass into the next. The
    positive is another utterance of the anchor's speaker, drawn at random. A speaker may have several pairs in a batch.
    Both utterances of a pair are of one random VTLP copy of the speaker. A speaker with a single utterance contributes
    disjoint crops of it, and is left out if the utterance is shorter than two crops.

    Parameters
    ----------
    of_speaker
        For each speaker, the numbers of its utterances, ascending.
    speaker
        The speaker of each utterance, shape (utterances,).
    pairs
        N.
    seed, copies, frames, crop_frames, sources
        As for ``SpeakerSampler``, as are the attributes and errors.

    Notes
    -----
    If all anchors of a batch are of one speaker, an utterance of another one replaces the last, so that every anchor
    has a negative. This is rare unless one speaker has most of the utterances.

    Examples
    --------
    >>> of_speaker = [np.array([0, 1], dtype=np.int32), np.array([2, 3], dtype=np.int32)]
    >>> speaker, frames = np.array([0, 0, 1, 1], dtype=np.int32), np.full(4, 300, dtype=np.int32)
    >>> sampler = PairSampler(of_speaker, speaker, pairs=4, seed=0, frames=frames, crop_frames=160)
    >>> anchors, positives = sampler.batch(0).utterances.reshape(4, 2).T
    >>> sorted(zip(anchors.tolist(), positives.tolist()))
    [(0, 1), (1, 0), (2, 3), (3, 2)]
    """

    def __init__(
        self,
        of_speaker: Sequence[NDArray[np.int32]],
        speaker: NDArray[np.int32],
        pairs: int,
        seed: int,
        copies: int = 1,
        *,
        frames: NDArray[np.int32],
        crop_frames: int,
        sources: Sources | None = None,
    ) -> None:
        self.of_speaker, self.speaker, self.frames, self.crop_frames = of_speaker, speaker, frames, crop_frames
        self.pairs, self.seed, self.copies, self.sources = pairs, seed, copies, sources
        self.usable = _usable_speakers(of_speaker, frames, crop_frames)
        self.left_out = len(of_speaker) - len(self.usable)
        self._anchors = np.flatnonzero(np.isin(speaker, self.usable)).astype(np.int32)
        self._passes = _Passes(len(self._anchors), seed)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0: anchor, positive, anchor, positive, and so on."""
        anchors = self._anchors[self._passes.stretch(step * self.pairs, self.pairs)]
        generator = _generator(self.seed, 1, step)
        first = self.speaker[anchors[0]]
        if (self.speaker[anchors] == first).all():
            anchors[-1] = generator.choice(self.of_speaker[generator.choice(self.usable[self.usable != first])])
        positives = [self._positive(anchor, generator) for anchor in anchors]
        utterances = np.stack([anchors, positives], axis=1, dtype=np.int32)
        positions = generator.random((self.pairs, 2))
        for row in np.flatnonzero(utterances[:, 0] == utterances[:, 1]):
            positions[row] = _disjoint(positions[row], int(self.frames[anchors[row]]), self.crop_frames)
        copies = np.repeat(generator.integers(self.copies, size=self.pairs), 2)
        sources = None
        if self.sources:
            sources = self.sources.draw(np.repeat(self.sources.draw_voices(self.pairs, generator), 2), generator)
        return Batch(utterances.ravel(), positions.ravel(), copies, sources)

    def _positive(self, anchor: np.int32, generator: np.random.Generator) -> np.int32:
        """Return another utterance of the anchor's speaker, or the anchor if there is none."""
        utterances = self.of_speaker[self.speaker[anchor]]
        if len(utterances) == 1:
            return anchor
        place = int(generator.integers(len(utterances) - 1))
        positive: np.int32 = utterances[place + int(utterances[place] >= anchor)]
        return positive


def _usable_speakers(
    of_speaker: Sequence[NDArray[np.int32]], frames: NDArray[np.int32], crop_frames: int
) -> NDArray[np.int32]:
    """Return the speakers with two utterances, or with one that holds two crops."""
    usable = [n for n, found in enumerate(of_speaker) if len(found) > 1 or frames[found[0]] >= 2 * crop_frames]
    if len(usable) < 2:
        raise InputError(
            f"triplets need two speakers with two utterances, or one of {2 * crop_frames} frames, each; there are "
            f"{len(usable)} of {len(of_speaker)}"
        )
    return np.array(usable, dtype=np.int32)


def _disjoint(uniform: NDArray[np.float64], frames: int, crop_frames: int) -> NDArray[np.float64]:
    """Return positions of crops that share no frame; if too few fit, they are used in turn."""
    count = min(len(uniform), frames // crop_frames)
    spare = frames - count * crop_frames
    gaps = np.sort((uniform[:count] * (spare + 1)).astype(int))
    starts = (gaps + np.arange(count) * crop_frames)[np.arange(len(uniform)) % count]
    return np.asarray((starts + 0.5) / (frames - crop_frames + 1))
