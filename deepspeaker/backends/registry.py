"""Back ends: from embeddings and trials to scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepspeaker.backends.calibration import duration_measures, train_calibration
from deepspeaker.backends.normalisation import Norm, cohort_statistics, normalised_scores
from deepspeaker.backends.plda import adapt_plda, plda_scores, train_plda
from deepspeaker.backends.products import pair_products
from deepspeaker.errors import InputError
from deepspeaker.trials import Enrolment, utterance_pairs

#: Back ends, and the parts beside the test part whose embeddings they learn from.
BACKENDS: dict[str, tuple[str, ...]] = {
    "cosine": (),
    "mean-subtracted": ("train",),
    "plda": ("train",),
    "plda-adapted": ("dev", "train"),
    "z-norm": ("train",),
    "t-norm": ("train",),
    "s-norm": ("train",),
    "as-norm": ("train",),
    "calibrated": ("dev",),
    "fused": ("dev", "train"),
}

#: Those whose scores are log-likelihood ratios.
CALIBRATED = ("plda", "plda-adapted", "calibrated", "fused")

#: Calibration and fusion learn from so many pairs of development utterances at most; 4,472 utterances make as many.
MOST_CALIBRATION_PAIRS = 10**7

_NORMS: dict[str, Norm] = {"z-norm": "z", "t-norm": "t", "s-norm": "s"}


def needed_parts(backends: Iterable[str]) -> list[str]:
    """The parts that some of the back ends learn from, sorted."""
    return sorted({part for backend in backends for part in BACKENDS[backend]})


class Embeddings(NamedTuple):
    """Embeddings of a part."""

    vectors: NDArray[np.float32]  # (utterances, dim)
    speaker: NDArray[np.int64]  # (utterances,), numbers
    frames: NDArray[np.int64]  # (utterances,), of speech


#: vectors (utterances, dim), frames (utterances,), rows of both sides of each trial (trials,) -> measures (trials, ...)
Pairwise = Callable[
    [NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.floating]
]

#: vectors (utterances, dim), frames (utterances,), enrolment models of these utterances, then of each trial the number
#: of the model and the row of the test utterance (trials,) -> scores (trials,)
BackEnd = Callable[
    [NDArray[np.float32], NDArray[np.int64], Enrolment, NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]
]

#: How PLDA enrols a model of several utterances.
PldaEnrolment = Literal["average", "exact"]


def build_backend(
    name: str,
    parts: dict[str, Embeddings],
    *,
    lda_dim: int,
    cohort_top: int,
    p_target: float,
    plda_enrolment: PldaEnrolment = "average",
    plda_adaptation: tuple[float, float] = (0.3, 0.7),
    dims: Sequence[int] = (),
) -> BackEnd:
    """A back end of ``BACKENDS``, trained on the parts that it names; never on the test part.

    - cosine;
    - mean-subtracted: cosine after the mean of the training embeddings is taken off;
    - plda: LDA to ``lda_dim`` dimensions, length normalisation, two-covariance PLDA;
    - plda-adapted: the same, its mean and covariances adapted to the development embeddings, of which no speaker labels
      are used, with ``plda_adaptation`` as the scales (see ``adapt_plda``);
    - z-norm, t-norm, s-norm: cosine, normalised by its mean and deviation over the mean embeddings of the training
      speakers as cohort: of the enrolment side, of the test side, the mean of both;
    - as-norm: cosine, adaptive s-norm with the mean embeddings of the training speakers as cohort, the ``cohort_top``
      highest of each side;
    - calibrated: the cosine and both sides' log durations to a log-likelihood ratio, by logistic regression on all
      pairs of development utterances (over ``MOST_CALIBRATION_PAIRS``: on a sample of so many, always the same),
      targets having the prior ``p_target``;
    - fused: the cosine, as-norm and plda scores likewise.

    A model of several utterances is enrolled by the mean of their embeddings, its duration being their sum. With
    ``plda_enrolment`` "exact" PLDA takes the likelihood of all of them instead (see ``plda_scores``).

    Where embeddings are those of several networks side by side, of ``dims`` dimensions each, calibrated and fused take
    each network's cosine instead of the whole embedding's: a fusion of their scores.

    Raises ``InputError`` when a part does not suffice.
    """
    if name == "cosine":
        return _averaging(lambda vectors, frames, enrolment, test: cosine_scores(vectors, enrolment, test))
    if name == "mean-subtracted":
        mean = parts["train"].vectors.mean(axis=0)
        return _averaging(lambda vectors, frames, enrolment, test: cosine_scores(vectors - mean, enrolment, test))
    if name == "plda":
        return _plda(parts["train"], lda_dim, plda_enrolment)
    if name == "plda-adapted":
        return _plda(parts["train"], lda_dim, plda_enrolment, (parts["dev"].vectors, *plda_adaptation))
    if name in _NORMS:
        return _averaging(_normalised(parts["train"], None, _NORMS[name]))
    if name == "as-norm":
        return _averaging(_normalised(parts["train"], cohort_top, "s"))
    ends = np.cumsum(dims or [parts["dev"].vectors.shape[1]]).tolist()
    alone = [_averaging(_cosine_within(slice(first, end))) for first, end in zip([0, *ends[:-1]], ends, strict=True)]
    if name == "fused":
        alone.append(_averaging(_normalised(parts["train"], cohort_top, "s")))
        alone.append(_plda(parts["train"], lda_dim, plda_enrolment))
    durations = _averaging(lambda vectors, frames, enrolment, test: duration_measures(frames, enrolment, test))

    def measures(
        vectors: NDArray[np.float32],
        frames: NDArray[np.int64],
        models: Enrolment,
        enrolment: NDArray[np.int64],
        test: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        sides = (vectors, frames, models, enrolment, test)
        return np.concatenate(
            [*(backend(*sides)[:, None] for backend in alone), durations(*sides)], axis=1, dtype=np.float64
        )

    development = parts["dev"]
    one, other, is_target = _development_pairs(development.speaker)
    each = Enrolment.single(len(development.speaker))
    calibration = train_calibration(
        measures(development.vectors, development.frames, each, one, other), is_target, p_target
    )
    return lambda *sides: calibration(measures(*sides))


def _development_pairs(
    speaker: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Both sides of each pair of utterances and whether they are of one speaker, all (pairs,).

    A sample of about ``MOST_CALIBRATION_PAIRS`` where there are more. As each class is weighted to the prior, shares
    of the classes do not change what calibration learns.
    """
    rows = list(utterance_pairs(speaker, MOST_CALIBRATION_PAIRS, np.random.default_rng(0), all_targets=False))
    if not rows:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_)
    one = np.repeat([row[0] for row in rows], [len(row[1]) for row in rows])
    return one, np.concatenate([row[1] for row in rows]), np.concatenate([row[2] for row in rows])


def _cosine_within(dimensions: slice) -> Pairwise:
    return lambda vectors, frames, enrolment, test: cosine_scores(vectors[:, dimensions], enrolment, test)


def _averaging(score: Pairwise) -> BackEnd:
    """Enrols each model by the mean of its embeddings and the sum of its frames, as if it were one utterance."""

    def scores(
        vectors: NDArray[np.float32],
        frames: NDArray[np.int64],
        models: Enrolment,
        enrolment: NDArray[np.int64],
        test: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        if models.is_single:
            return np.asarray(score(vectors, frames, models.utterances[enrolment], test))
        with_models = np.concatenate([vectors, models.means(vectors)])
        spoken = np.concatenate([frames, models.totals(frames)])
        return np.asarray(score(with_models, spoken, len(vectors) + enrolment, test))

    return scores


def _plda(
    training: Embeddings,
    lda_dim: int,
    enrolment_by: PldaEnrolment,
    adaptation: tuple[NDArray[np.float32], float, float] | None = None,
) -> BackEnd:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    speakers = len(np.unique(training.speaker))
    if len(training.speaker) == speakers:
        raise InputError(
            "PLDA needs training speakers with two utterances; take plda and fused out of scoring.backends"
        )
    most = min(speakers - 1, training.vectors.shape[1])
    if lda_dim > most:
        raise InputError(f"scoring.lda_dim {lda_dim}: {speakers} training speakers allow {most} at most; lower it")
    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage=1e-3, n_components=lda_dim)
    lda.fit(training.vectors.astype(np.float64), training.speaker)

    def reduced(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        values = lda.transform(vectors.astype(np.float64))
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        return np.asarray(values * np.sqrt(lda_dim) / np.where(lengths == 0, 1, lengths))

    plda = train_plda(reduced(training.vectors), training.speaker)
    if adaptation is not None:
        vectors, within_scale, between_scale = adaptation
        plda = adapt_plda(plda, reduced(vectors), within_scale, between_scale)

    def scores(
        vectors: NDArray[np.float32],
        frames: NDArray[np.int64],
        models: Enrolment,
        enrolment: NDArray[np.int64],
        test: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        values = reduced(vectors)
        if enrolment_by == "exact":
            return plda_scores(plda, models.means(values), models.counts, values, enrolment, test)
        means = values[models.utterances] if models.is_single else reduced(models.means(vectors))
        return plda_scores(plda, means, np.ones_like(models.counts), values, enrolment, test)

    return scores


def _normalised(training: Embeddings, top: int | None, norm: Norm) -> Pairwise:
    numbers, which = np.unique(training.speaker, return_inverse=True)
    sums = np.zeros((len(numbers), training.vectors.shape[1]))
    np.add.at(sums, which, training.vectors)
    cohort = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)

    def scores(
        vectors: NDArray[np.float32], frames: NDArray[np.int64], enrolment: NDArray[np.int64], test: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: NDArray[np.float32] = vectors / np.where(lengths == 0, np.float32(1), lengths)
        statistics = cohort_statistics(unit, cohort, top)
        return normalised_scores(cosine_scores(vectors, enrolment, test), enrolment, test, statistics, norm)

    return scores


def cosine_scores(
    embeddings: NDArray[np.float32], enrolment: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The cosine of each trial, (trials,) in [-1, 1] up to rounding.

    ``embeddings`` (utterances, dim) need not have unit length; ``enrolment`` and ``test`` (trials,) are rows of it. A
    row of zeros has cosine 0 with everything. Only pairs that a trial asks for, and blocks of them, are computed (see
    ``pair_products``).
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = (embeddings / np.where(lengths == 0, 1, lengths)).astype(np.float32, copy=False)
    return pair_products(unit, unit, enrolment, test)
