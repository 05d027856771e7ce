"""An exported model: audio in, embeddings and decisions with their error rates out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from deepspeaker.audio import load_audio, resample
from deepspeaker.errors import InputError
from deepspeaker.inference.answers import Candidate, Identification, Recording, Verdict, Voice, Window
from deepspeaker.inference.checks import Problem, problems, quality
from deepspeaker.inference.cohort import read_cohort
from deepspeaker.inference.description import FALSE_ACCEPTANCE, model_folder, read_description
from deepspeaker.inference.engines import load_engine

Audio = str | Path | NDArray[np.floating]
#: Seconds of speech without which there is no decision.
MINIMUM_SPEECH = 1.0
#: Two parts of a file, or two enrolment files, disagree below this log-likelihood ratio of the same voice.
DISAGREEMENT = -math.log(99)
#: Files are searched for a second voice in parts of this many seconds of speech, at most so many.
PART_SECONDS, MAX_PARTS = 4.0, 6


class SpeakerModel:
    """A model that stage 8 exported; ``deepspeaker.load`` returns one.

    Threads may share a model.

    Parameters
    ----------
    path
        The exported folder, an experiment that contains one, or "pretrained" for the network of this package.
    engine
        "torch", "onnx" (needs no torch), "int8" (if it was exported), or "auto": onnx if possible.
    minimum_speech
        Seconds of speech that a decision needs.

    Attributes
    ----------
    description
        The content of ``model.json``.
    cohort
        Speakers for adaptive s-norm, None if the model has none.
    fingerprint
        Identifies the embedding space.
    sampling_rate
        Of the features, in Hz. Audio of other rates is resampled.

    Raises
    ------
    InputError
        There is no model, it is damaged or too new, or the engine is not installed.
    """

    def __init__(self, path: str | Path, engine: str = "auto", minimum_speech: float = MINIMUM_SPEECH) -> None:
        self.folder = model_folder(path)
        self.description = read_description(self.folder)
        self.engine = load_engine(self.folder, self.description, engine)
        self.cohort = read_cohort(self.folder, self.description)
        self.minimum_speech = minimum_speech
        self.fingerprint = self.description.fingerprint
        self.sampling_rate = self.description.features.sampling_rate

    @overload
    def embed(self, audio: Audio, sampling_rate: int | None = None) -> NDArray[np.float32]: ...
    @overload
    def embed(self, audio: Sequence[str | Path], sampling_rate: None = None) -> NDArray[np.float32]: ...
    def embed(self, audio: Audio | Sequence[str | Path], sampling_rate: int | None = None) -> NDArray[np.float32]:
        """Return embeddings of unit length; their inner product is the cosine score.

        Parameters
        ----------
        audio
            A file, a list of files, or samples (n,) in [-1, 1].
        sampling_rate
            Of the samples, in Hz.

        Returns
        -------
        NDArray
            (dim,), or (files, dim) for a list.

        Raises
        ------
        InputError
            A file cannot be read or has no speech.
        """
        if isinstance(audio, (list, tuple)):
            return np.stack([self.embed(one) for one in audio])
        samples, _, name = self._samples(audio, sampling_rate)  # type: ignore[arg-type]
        analysis = self.engine.analyse(samples)
        if not (analysis.speech > 0).any():
            raise InputError(f"{name}: has no speech frame")
        return analysis.embedding

    def analyse(self, audio: Audio, sampling_rate: int | None = None) -> Recording:
        """Embed a recording and check it; see ``embed`` for the parameters."""
        samples, rate, name = self._samples(audio, sampling_rate)
        analysis = self.engine.analyse(samples)
        features = self.description.features
        found = quality(samples, analysis.log_mel, analysis.speech, rate, self.sampling_rate)
        wrong = problems(found, self.minimum_speech, self.sampling_rate, features.high_freq)
        recording = Recording(name, analysis.embedding, int((analysis.speech > 0).sum()), found, wrong)
        if recording.usable and self._has_several_voices(samples, analysis.speech):
            wrong.append(Problem("several_voices", "Its parts sound like different voices.", False))
        return recording

    def voice(self, recordings: Iterable[Recording]) -> Voice:
        """Enrol a voice: the mean embedding of recordings.

        Raises
        ------
        InputError
            A recording does not hold enough evidence.
        """
        recordings = list(recordings)
        for recording in recordings:
            for problem in recording.problems:
                if problem.forbids:
                    raise InputError(f"{recording.name}: cannot be enrolled. {problem.sentence}")
        mean = np.stack([recording.embedding for recording in recordings]).mean(axis=0, dtype=np.float64)
        return Voice(np.asarray(mean, dtype=np.float32), sum(one.speech_frames for one in recordings), len(recordings))

    def inconsistent(self, recordings: Sequence[Recording]) -> list[tuple[str, str, float]]:
        """Return the pairs of recordings that do not sound like one voice, with their score, the lowest first."""
        found = []
        for one, other in combinations(recordings, 2):
            cosine, llr = self.score(self.voice([one]), self.voice([other]))
            if self._disagree(cosine, llr):
                found.append((one.name, other.name, cosine if llr is None else llr))
        return sorted(found, key=lambda pair: pair[2])

    def score(self, one: Voice, other: Voice) -> tuple[float, float | None]:
        """Return the cosine of two voices and their log-likelihood ratio, None without a calibration."""
        lengths = float(np.linalg.norm(one.embedding) * np.linalg.norm(other.embedding))
        cosine = float(one.embedding @ other.embedding) / lengths if lengths else 0.0
        calibration = self.description.calibration
        if calibration is None:
            return cosine, None
        measure = cosine
        if self.cohort is not None:
            pair = np.stack([one.embedding, other.embedding])
            measure = float(self.cohort.normalised(pair, np.array([0]), np.array([1]))[0])
        durations = sorted(math.log(max(voice.speech_frames, 1)) for voice in (one, other))
        return cosine, float(np.dot(calibration.weights, [measure, *durations])) + calibration.offset

    def verify(
        self,
        enrolment: Audio | Voice | Sequence[str | Path],
        test: Audio,
        *,
        sampling_rate: int | None = None,
        false_acceptance: float = FALSE_ACCEPTANCE,
        prior: float = 0.5,
    ) -> Verdict:
        """Decide whether two recordings are of one speaker.

        Parameters
        ----------
        enrolment
            A recording, several recordings of one speaker, or a voice.
        test
            Another recording.
        sampling_rate
            Of samples, in Hz.
        false_acceptance
            How often different speakers may be taken for one, as a fraction. The model's threshold for the next lower
            rate decides, or the strictest one.
        prior
            The probability of the same speaker before listening; it determines ``probability``, not the decision.

        Raises
        ------
        InputError
            A recording cannot be read.
        """
        if not 0 < prior < 1:
            raise InputError(f"the prior {prior:g} is not between 0 and 1")
        threshold = self.description.threshold(false_acceptance)
        recordings: list[Recording] = []
        if not isinstance(enrolment, Voice):
            several = enrolment if isinstance(enrolment, (list, tuple)) else [enrolment]
            recordings = [self.analyse(one, sampling_rate) for one in several]  # type: ignore[arg-type]
        tested = self.analyse(test, sampling_rate)
        wrong = {one.name: one.problems for one in [*recordings, tested] if one.problems}
        for one in [*recordings, tested]:
            for problem in one.problems:
                if problem.forbids:
                    return Verdict(None, f"{one.name}: {problem.sentence}", None, None, None, prior, threshold, wrong)
        voice = enrolment if isinstance(enrolment, Voice) else self.voice(recordings)
        cosine, llr = self.score(voice, self.voice([tested]))
        same = (cosine if llr is None else llr) >= threshold.value
        reason = f"the score is {'at or above' if same else 'below'} the threshold"
        probability = None if llr is None else _probability(llr, prior)
        seconds = self.description.features.frame_shift * min(voice.speech_frames, tested.speech_frames)
        return Verdict(same, reason, cosine, llr, probability, prior, threshold, wrong, round(seconds, 2))

    def identify(
        self,
        audio: Audio,
        voices: Mapping[str, Voice],
        *,
        sampling_rate: int | None = None,
        false_acceptance: float = FALSE_ACCEPTANCE,
        prior: float = 0.5,
    ) -> Identification:
        """Find the enrolled voice of a recording, or say that it is unknown.

        Parameters
        ----------
        audio, sampling_rate
            See ``embed``.
        voices
            The enrolled voices by name, at least one.
        false_acceptance
            How often an unknown speaker may be taken for any of the voices. With n voices, each comparison may accept a
            share of ``false_acceptance / n``.
        prior
            The probability that the speaker is enrolled at all; all voices are equally likely.
        """
        if not voices:
            raise InputError("no voice is enrolled; enrol one first")
        threshold = self.description.threshold(false_acceptance / len(voices))
        recording = self.analyse(audio, sampling_rate)
        for problem in recording.problems:
            if problem.forbids:
                reason = f"{recording.name}: {problem.sentence}"
                return Identification(None, reason, [], threshold, recording.problems)
        tested = self.voice([recording])
        scores = {name: self.score(voice, tested) for name, voice in voices.items()}
        probabilities = _posteriors([llr for _, llr in scores.values()], prior)
        ranked = sorted(
            (Candidate(name, *score, one) for (name, score), one in zip(scores.items(), probabilities, strict=True)),
            key=lambda candidate: -(candidate.cosine if candidate.llr is None else candidate.llr),
        )
        best = ranked[0]
        accepted = (best.cosine if best.llr is None else best.llr) >= threshold.value
        reason = f"{best.name} is the most similar, {'at or above' if accepted else 'but below'} the threshold"
        return Identification(best.name if accepted else None, reason, ranked, threshold, recording.problems)

    def windows(
        self, audio: Audio, voices: Mapping[str, Voice], seconds: float, *, sampling_rate: int | None = None
    ) -> list[Window]:
        """Score windows of a long recording against enrolled voices.

        Parameters
        ----------
        audio, sampling_rate
            See ``embed``.
        voices
            The enrolled voices by name.
        seconds
            Length of a window. Windows overlap by half.

        Returns
        -------
        list of Window
            In the order of time.
        """
        if seconds < self.minimum_speech:
            raise InputError(f"windows of {seconds:g} s are too short; a decision needs {self.minimum_speech:g} s")
        samples, _, _ = self._samples(audio, sampling_rate)
        length, found = round(seconds * self.sampling_rate), []
        for start in range(0, max(len(samples) - length, 0) + 1, max(length // 2, 1)):
            recording = self.analyse(samples[start : start + length], self.sampling_rate)
            scores: dict[str, float] = {}
            if recording.usable:
                part = self.voice([recording])
                for name, voice in voices.items():
                    cosine, llr = self.score(voice, part)
                    scores[name] = cosine if llr is None else llr
            end = min(start + length, len(samples))
            found.append(Window(start / self.sampling_rate, end / self.sampling_rate, scores))
        return found

    def _samples(self, audio: Audio, sampling_rate: int | None) -> tuple[NDArray[np.float32], int, str]:
        """Return samples at the model's rate, the original rate, and a name."""
        if isinstance(audio, (str, Path)):
            samples, info = load_audio(str(audio), self.sampling_rate)
            return samples, info.sampling_rate, str(audio)
        if sampling_rate is None:
            raise InputError("samples need their sampling_rate")
        samples = np.asarray(audio, dtype=np.float32)
        if samples.ndim != 1 or not len(samples):
            raise InputError(f"samples have shape {samples.shape}; expected one dimension and at least one sample")
        if not np.isfinite(samples).all():
            raise InputError("samples have values that are not finite numbers")
        return resample(samples, sampling_rate, self.sampling_rate), sampling_rate, "samples"

    def _has_several_voices(self, samples: NDArray[np.float32], speech: NDArray[np.float32]) -> bool:
        """Return whether any two parts of the recording sound like different voices."""
        shift = self.description.features.frame_shift
        positions = np.flatnonzero(speech > 0)
        parts = min(int(len(positions) * shift / PART_SECONDS), MAX_PARTS)
        if parts < 2:
            return False
        step = shift * self.sampling_rate
        pieces = [samples[round(p[0] * step) : round((p[-1] + 1) * step)] for p in np.array_split(positions, parts)]
        analyses = [self.engine.analyse(piece) for piece in pieces]
        voices = [Voice(one.embedding, int((one.speech > 0).sum())) for one in analyses if (one.speech > 0).any()]
        return any(self._disagree(*self.score(one, other)) for one, other in combinations(voices, 2))

    def _disagree(self, cosine: float, llr: float | None) -> bool:
        """Return whether a score speaks clearly against one voice."""
        return llr < DISAGREEMENT if llr is not None else cosine < self.description.thresholds[0].value - 0.2


def fingerprint_of(path: str | Path) -> str:
    """Return the fingerprint of the model at ``path`` without loading it."""
    return read_description(model_folder(path)).fingerprint


def _probability(llr: float, prior: float) -> float:
    log_odds = llr + math.log(prior / (1 - prior))
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0


def _posteriors(llrs: Sequence[float | None], prior: float) -> list[float | None]:
    """Return the probability of each voice if all are equally likely and an unknown one has ``1 - prior``."""
    known = [llr for llr in llrs if llr is not None]
    if len(known) < len(llrs):
        return [None] * len(llrs)
    logits = np.append(np.array(known) + math.log(prior / len(known)), math.log(1 - prior))
    weights = np.exp(logits - logits.max())
    return [float(weight) for weight in weights[:-1] / weights.sum()]
