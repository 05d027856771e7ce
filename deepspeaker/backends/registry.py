"""The registry of back ends: what each needs, how it is trained, how it scores.

A back end is trained on embeddings of the training or development part, never of the test part. It then scores the
trials of any list. To add one, write a function that returns a `BackEnd` and give it a line in `BACKENDS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepspeaker.backends.calibration import duration_measures, train_calibration
from deepspeaker.backends.cosine import cosine_scores, length_normalised
from deepspeaker.backends.normalisation import Norm, cohort_statistics, normalised_scores
from deepspeaker.backends.plda import adapt_plda, plda_scores, train_plda
from deepspeaker.errors import InputError
from deepspeaker.trials import Enrolment, utterance_pairs

#: Calibration and fusion learn from at most this many pairs of development utterances; 4,472 utterances make as many.
MAX_CALIBRATION_PAIRS = 10**7

#: How PLDA enrols a model of several utterances: by their mean, or by the likelihood of all of them.
PldaEnrolment = Literal["average", "exact"]


class Embeddings(NamedTuple):
    """Embeddings of a part that a back end learns from."""

    vectors: NDArray[np.float32]
    """Shape ``(utterances, dim)``."""
    speaker: NDArray[np.int64]
    """The speaker of each utterance as a number, shape ``(utterances,)``."""
    frames: NDArray[np.int64]
    """Speech frames of each utterance, shape ``(utterances,)``."""


class EmbeddedTrials(NamedTuple):
    """Trials of a list with the embeddings of its utterances."""

    vectors: NDArray[np.float32]
    """Shape ``(utterances, dim)``."""
    frames: NDArray[np.int64]
    """Speech frames of each utterance, shape ``(utterances,)``."""
    models: Enrolment
    """The utterances of each enrolment model."""
    enrolment: NDArray[np.int64]
    """The model of each trial, shape ``(trials,)``."""
    test: NDArray[np.int64]
    """The test utterance of each trial, shape ``(trials,)``."""


#: Trials -> scores, shape ``(trials,)``.
BackEnd = Callable[[EmbeddedTrials], NDArray[np.float32]]


@dataclass(frozen=True)
class Options:
    """What a configuration says about back ends."""

    lda_dim: int = 64
    """Dimensions that LDA leaves to PLDA."""
    cohort_top: int = 50
    """The highest cohort scores that adaptive s-norm uses."""
    p_target: float = 0.05
    """Prior of target trials in the training of calibration and fusion."""
    plda_enrolment: PldaEnrolment = "average"
    plda_adaptation: tuple[float, float] = (0.3, 0.7)
    """Scales of the adaptation of the within-speaker and the between-speaker covariance, see `adapt_plda`."""
    dims: Sequence[int] = ()
    """Dimensions of each network's embedding where several networks' embeddings are concatenated."""


@dataclass(frozen=True)
class Definition:
    """What a back end needs and how it is trained."""

    train: Callable[[Mapping[str, Embeddings], Options], BackEnd]
    """Learns from the embeddings of ``parts``, by part."""
    parts: tuple[str, ...] = ()
    """The parts that it learns from."""
    llr: bool = False
    """Whether its scores are log-likelihood ratios."""
    plda: bool = False
    """Whether it contains a PLDA model."""
    fusion: bool = False
    """Whether it adds several networks, so that it is for a fusion only."""


def needed_parts(backends: Iterable[str]) -> list[str]:
    """Return the parts that these back ends learn from, sorted.

    Examples
    --------
    >>> needed_parts(["cosine", "plda", "calibrated"])
    ['dev', 'train']
    """
    return sorted({part for backend in backends for part in BACKENDS[backend].parts})


def train_backend(name: str, parts: Mapping[str, Embeddings], options: Options) -> BackEnd:
    """Train a back end of `BACKENDS`.

    Parameters
    ----------
    name
        A key of `BACKENDS`.
    parts
        Embeddings of the parts that the back end learns from, see `needed_parts`.
    options
        Settings; each back end reads those it knows.

    Returns
    -------
    A function that scores trials. A model of several utterances is enrolled by the mean of their embeddings, with the
    sum of their durations; PLDA can use the likelihood of all of them instead.

    Raises
    ------
    InputError
        A part has too few speakers or utterances.

    Examples
    --------
    >>> backend = train_backend("cosine", {}, Options())
    >>> vectors = np.array([[1, 0], [1, 1], [0, 1]], dtype=np.float32)
    >>> models = Enrolment.of([[0, 1], [2]])  # the first model has two utterances
    >>> backend(EmbeddedTrials(vectors, np.array([80, 120, 100]), models, np.array([0, 1]), np.array([2, 2])))
    array([0.4472136, 1.       ], dtype=float32)
    """
    return BACKENDS[name].train(parts, options)


#: Vectors (utterances, dim), frames (utterances,), rows of both sides (trials,) -> scores or measures (trials, ...).
_Pairwise = Callable[
    [NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.floating]
]


def averaging(score: _Pairwise) -> BackEnd:
    """Return the back end of a score of pairs: a model counts as one utterance, the mean of its embeddings.

    It has the frames of all its utterances.
    """

    def backend(trials: EmbeddedTrials) -> NDArray[np.float32]:
        vectors, frames, models, enrolment, test = trials
        if models.is_single:
            return np.asarray(score(vectors, frames, models.utterances[enrolment], test))
        with_models = np.concatenate([vectors, models.means(vectors)])
        all_frames = np.concatenate([frames, models.totals(frames)])
        return np.asarray(score(with_models, all_frames, len(vectors) + enrolment, test))

    return backend


def _cosine(dimensions: slice = slice(None)) -> BackEnd:
    return averaging(lambda vectors, frames, enrolment, test: cosine_scores(vectors[:, dimensions], enrolment, test))


def _networks(dims: Sequence[int]) -> list[slice]:
    """Return where each network's embedding is in the concatenation; without ``dims`` there is one network."""
    if not dims:
        return [slice(None)]
    ends = np.cumsum(dims).tolist()
    return [slice(first, end) for first, end in zip([0, *ends[:-1]], ends, strict=True)]


def _embedding_sum(dims: Sequence[int]) -> BackEnd:
    """Add the networks' embeddings, each of unit length, and scale the sum to unit length; cosine."""
    if len(set(dims)) > 1:
        raise InputError(
            f"embedding-sum: embeddings of {' and '.join(map(str, dims))} dimensions cannot be added; train both "
            "networks with one model.embedding_dim, or use score-sum"
        )
    cosine = _cosine()

    def scores(trials: EmbeddedTrials) -> NDArray[np.float32]:
        total = np.sum([length_normalised(trials.vectors[:, network]) for network in _networks(dims)], axis=0)
        return cosine(trials._replace(vectors=length_normalised(total).astype(np.float32)))

    return scores


def _score_sum(dims: Sequence[int]) -> BackEnd:
    """Add the networks' cosines, each normalised by its mean and standard deviation over all scored trials."""

    def scores(trials: EmbeddedTrials) -> NDArray[np.float32]:
        exists = (trials.vectors != 0).any(axis=1)
        scored = trials.models.complete(exists)[trials.enrolment] & exists[trials.test]
        total = np.zeros(len(scored))
        for number, network in enumerate(_networks(dims), 1):
            cosines = _cosine(network)(trials).astype(np.float64)
            deviation = cosines[scored].std()
            if not deviation:
                raise InputError(f"score-sum: all scores of network {number} are equal; leave score-sum out")
            total += (cosines - cosines[scored].mean()) / deviation
        return total.astype(np.float32)

    return scores


def _mean_subtracted(parts: Mapping[str, Embeddings], options: Options) -> BackEnd:
    mean = parts["train"].vectors.mean(axis=0)
    return averaging(lambda vectors, frames, enrolment, test: cosine_scores(vectors - mean, enrolment, test))


def _normalised(training: Embeddings, top: int | None, norm: Norm) -> BackEnd:
    speakers, index = np.unique(training.speaker, return_inverse=True)
    sums = np.zeros((len(speakers), training.vectors.shape[1]))
    np.add.at(sums, index, training.vectors)
    cohort = length_normalised(sums).astype(np.float32)

    def scores(
        vectors: NDArray[np.float32], frames: NDArray[np.int64], enrolment: NDArray[np.int64], test: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        statistics = cohort_statistics(length_normalised(vectors), cohort, top)
        return normalised_scores(cosine_scores(vectors, enrolment, test), enrolment, test, statistics, norm)

    return averaging(scores)


def _plda(training: Embeddings, options: Options, adapt_to: NDArray[np.float32] | None = None) -> BackEnd:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    lda_dim = options.lda_dim
    speakers = len(np.unique(training.speaker))
    if len(training.speaker) == speakers:
        raise InputError(
            "PLDA needs training speakers with two utterances; remove plda and fused from scoring.backends"
        )
    max_dim = min(speakers - 1, training.vectors.shape[1])
    if lda_dim > max_dim:
        raise InputError(f"scoring.lda_dim {lda_dim}: {speakers} training speakers allow {max_dim} at most; lower it")
    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage=1e-3, n_components=lda_dim)
    with warnings.catch_warnings():  # a speaker of one utterance has no scatter, which is what LDA takes it for
        warnings.filterwarnings("ignore", message="Only one sample available")
        lda.fit(training.vectors.astype(np.float64), training.speaker)

    def reduced(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        return length_normalised(np.asarray(lda.transform(vectors.astype(np.float64))), np.sqrt(lda_dim))

    plda = train_plda(reduced(training.vectors), training.speaker)
    if adapt_to is not None:
        plda = adapt_plda(plda, reduced(adapt_to), *options.plda_adaptation)

    def scores(trials: EmbeddedTrials) -> NDArray[np.float32]:
        vectors, _, models, enrolment, test = trials
        values = reduced(vectors)
        if options.plda_enrolment == "exact":
            return plda_scores(plda, models.means(values), models.counts, values, enrolment, test)
        means = values[models.utterances] if models.is_single else reduced(models.means(vectors))
        return plda_scores(plda, means, np.ones_like(models.counts), values, enrolment, test)

    return scores


def _calibrated(parts: Mapping[str, Embeddings], options: Options, others: Sequence[BackEnd] = ()) -> BackEnd:
    """Fuse each network's cosine, the scores of other back ends and the durations of both sides."""
    development = parts["dev"]
    scored = [_cosine(network) for network in _networks(options.dims)]
    scored += others
    durations = averaging(lambda vectors, frames, enrolment, test: duration_measures(frames, enrolment, test))

    def measures(trials: EmbeddedTrials) -> NDArray[np.float64]:
        columns = [*(backend(trials)[:, None] for backend in scored), durations(trials)]
        return np.concatenate(columns, axis=1, dtype=np.float64)

    first, second, is_target = labelled_pairs(development.speaker)
    single = Enrolment.single(len(development.speaker))
    pairs = EmbeddedTrials(development.vectors, development.frames, single, first, second)
    calibration = train_calibration(measures(pairs), is_target, options.p_target)
    return lambda trials: calibration(measures(trials))


def labelled_pairs(
    speaker: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the pairs of utterances that calibration learns from, at most ``MAX_CALIBRATION_PAIRS``.

    Classes are weighted to the prior, so their shares in a sample do not change what calibration learns.

    Parameters
    ----------
    speaker
        The speaker of each utterance as a number, shape ``(utterances,)``.

    Returns
    -------
    Both sides of each pair and whether it is a target pair, each of shape ``(pairs,)``.
    """
    rows = list(utterance_pairs(speaker, MAX_CALIBRATION_PAIRS, np.random.default_rng(0), all_targets=False))
    if not rows:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_)
    first = np.repeat([row[0] for row in rows], [len(row[1]) for row in rows])
    return first, np.concatenate([row[1] for row in rows]), np.concatenate([row[2] for row in rows])


def _fused(parts: Mapping[str, Embeddings], options: Options) -> BackEnd:
    others = [_normalised(parts["train"], options.cohort_top, "s"), _plda(parts["train"], options)]
    return _calibrated(parts, options, others)


#: Back ends by the name that ``scoring.backends`` gives them.
BACKENDS: dict[str, Definition] = {
    "cosine": Definition(lambda parts, options: _cosine()),
    # cosine after subtracting the mean of the training embeddings
    "mean-subtracted": Definition(_mean_subtracted, ("train",)),
    # LDA, length normalisation, two-covariance PLDA
    "plda": Definition(lambda parts, options: _plda(parts["train"], options), ("train",), llr=True, plda=True),
    # the same, adapted to the development embeddings without their speaker labels
    "plda-adapted": Definition(
        lambda parts, options: _plda(parts["train"], options, parts["dev"].vectors),
        ("dev", "train"),
        llr=True,
        plda=True,
    ),
    # cosine normalised by the enrolment side's, the test side's or both sides' scores against the training speakers
    "z-norm": Definition(lambda parts, options: _normalised(parts["train"], None, "z"), ("train",)),
    "t-norm": Definition(lambda parts, options: _normalised(parts["train"], None, "t"), ("train",)),
    "s-norm": Definition(lambda parts, options: _normalised(parts["train"], None, "s"), ("train",)),
    # s-norm by the highest scores of each side only
    "as-norm": Definition(lambda parts, options: _normalised(parts["train"], options.cohort_top, "s"), ("train",)),
    # logistic regression of the cosine and both durations, on pairs of development utterances
    "calibrated": Definition(_calibrated, ("dev",), llr=True),
    # logistic regression of the cosine, as-norm, plda and both durations
    "fused": Definition(_fused, ("dev", "train"), llr=True, plda=True),
    # the fusions of the Deep Speaker paper (arXiv 1705.02304, table 6)
    "embedding-sum": Definition(lambda parts, options: _embedding_sum(options.dims), fusion=True),
    "score-sum": Definition(lambda parts, options: _score_sum(options.dims), fusion=True),
}
