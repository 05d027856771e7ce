"""What a model answers: recordings with their problems, verdicts, candidates."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deepspeaker.inference.checks import Problem, Quality
from deepspeaker.inference.description import Threshold


@dataclass(frozen=True, eq=False)
class Recording:
    """What a model found in a recording."""

    name: str
    """The path, or "samples"."""
    embedding: NDArray[np.float32]
    """(dim,), of unit length; zeros if there is no speech."""
    speech_frames: int
    quality: Quality
    problems: list[Problem]
    """What is wrong with it; some problems forbid a decision."""

    @property
    def usable(self) -> bool:
        """Whether it can be compared."""
        return not any(problem.forbids for problem in self.problems)


@dataclass(frozen=True, eq=False)
class Voice:
    """An enrolled voice: the mean embedding of some recordings."""

    embedding: NDArray[np.float32]
    """(dim,), the mean of unit-length embeddings."""
    speech_frames: int
    """The sum over the recordings."""
    files: int = 1


@dataclass(frozen=True)
class Verdict:
    """The comparison of two voices.

    Attributes
    ----------
    same
        True or False; None if the recordings do not hold enough evidence.
    reason
        One sentence.
    cosine
        The cosine of both embeddings, None without a decision.
    llr
        The log-likelihood ratio (natural logarithm) of the same speaker against different ones; None without a decision
        or without a calibration.
    probability
        That of the same speaker, given ``prior``; None if ``llr`` is.
    prior
        The probability of the same speaker before listening.
    threshold
        The threshold on ``llr`` (or on ``cosine`` without a calibration) and its error rates.
    problems
        What is wrong with each recording, by its name.
    speech_seconds
        Seconds of speech of the side that has less of it, None without a decision.
    """

    same: bool | None
    reason: str
    cosine: float | None
    llr: float | None
    probability: float | None
    prior: float
    threshold: Threshold
    problems: dict[str, list[Problem]] = field(default_factory=dict)
    speech_seconds: float | None = None


@dataclass(frozen=True)
class Candidate:
    """An enrolled voice as a candidate for the speaker of a recording."""

    name: str
    cosine: float
    llr: float | None
    probability: float | None
    """That the recording is of this voice; together with the probability of an unknown voice, they sum to 1."""


@dataclass(frozen=True)
class Identification:
    """The enrolled voices, ranked.

    Attributes
    ----------
    name
        The best candidate, or None: an unknown voice, or not enough evidence.
    reason
        One sentence.
    candidates
        All voices, the most similar first; empty without evidence.
    threshold
        The threshold for the best candidate, for this number of voices.
    problems
        What is wrong with the recording.
    """

    name: str | None
    reason: str
    candidates: list[Candidate]
    threshold: Threshold
    problems: list[Problem]


@dataclass(frozen=True)
class Window:
    """A window of a long recording."""

    start: float
    """In seconds."""
    end: float
    scores: dict[str, float]
    """The log-likelihood ratio of each voice, or the cosine without a calibration; empty without enough speech."""
