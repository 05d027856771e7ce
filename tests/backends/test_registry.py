from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from deepspeaker.backends import (
    BACKENDS,
    BackEnd,
    EmbeddedTrials,
    Embeddings,
    Options,
    train_backend,
    train_plda,
)
from deepspeaker.errors import InputError
from deepspeaker.metrics import cllr, det_points, equal_error_rate, min_cllr
from deepspeaker.trials import Enrolment


def part(seed: int, speakers: int, utterances: int) -> Embeddings:
    """Speakers about a common mean, noisy above all in two directions, the shorter utterances noisier."""
    generator = np.random.default_rng([seed, speakers])
    owner = np.repeat(np.arange(speakers), utterances)
    frames = generator.choice([100, 800], len(owner))
    means = np.full(8, 0.7) + generator.normal(size=(speakers, 8))
    noise = generator.normal(size=(len(owner), 8)) * np.where(frames == 100, 0.9, 0.4)[:, None]
    noise[:, :2] *= 3
    vectors = means[owner] + noise
    return Embeddings((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), owner, frames)


OPTIONS = Options(lda_dim=6, cohort_top=20, p_target=0.05)


def score_pairs(backend: BackEnd, test: Embeddings) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of all pairs of utterances."""
    first, second = np.triu_indices(len(test.speaker), 1)
    single = Enrolment.single(len(test.speaker))
    scores = backend(EmbeddedTrials(test.vectors, test.frames, single, first, second))
    return scores, test.speaker[first] == test.speaker[second]


def scored(name: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of all pairs of 30 test speakers."""
    parts = {"train": part(seed + 1, 60, 6), "dev": part(seed + 2, 30, 6)}
    return score_pairs(train_backend(name, parts, OPTIONS), part(seed + 3, 30, 5))


def eer(scores: np.ndarray, labels: np.ndarray) -> float:
    return equal_error_rate(det_points(scores[labels], scores[~labels]))[0]


def test_back_ends_are_not_worse_than_the_cosine_where_they_should_help() -> None:
    plain = eer(*scored("cosine"))
    for name in ("mean-subtracted", "plda", "as-norm", "fused"):
        assert eer(*scored(name)) < plain


def test_adapted_plda_is_less_overconfident_where_speech_is_noisier_than_in_training() -> None:
    """The noise is doubled in development and test; adaptation does not know the development speakers."""
    generator = np.random.default_rng(0)

    def noisier(of: Embeddings) -> Embeddings:
        noise = generator.normal(size=of.vectors.shape) * [0.8, 0.8, *[0.3] * 6]
        return of._replace(vectors=(of.vectors + noise).astype(np.float32))

    parts = {"train": part(1, 60, 6), "dev": noisier(part(2, 30, 6))}
    parts["dev"] = parts["dev"]._replace(speaker=np.zeros(180, dtype=np.int64))
    test, bits = noisier(part(3, 30, 5)), {}
    for name in ("plda", "plda-adapted"):
        scores, labels = score_pairs(train_backend(name, parts, OPTIONS), test)
        bits[name] = cllr(scores[labels], scores[~labels])
    assert bits["plda-adapted"] < bits["plda"]


@pytest.mark.parametrize("name", ["z-norm", "t-norm", "s-norm"])
def test_norms_against_a_loop_over_the_whole_cohort(name: str) -> None:
    training, test = part(1, 12, 4), part(3, 6, 3)
    means = np.stack([training.vectors[training.speaker == s].mean(axis=0) for s in range(12)]).astype(np.float64)
    one, other = np.triu_indices(len(test.speaker), 1)
    found, _ = score_pairs(train_backend(name, {"train": training}, Options(cohort_top=2)), test)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))

    vectors = test.vectors.astype(np.float64)
    for score, a, b in zip(found, one, other, strict=True):
        sides = {}
        for side, row in (("z", a), ("t", b)):
            against = [cosine(vectors[row], mean) for mean in means]
            sides[side] = (cosine(vectors[a], vectors[b]) - np.mean(against)) / np.std(against, ddof=1)
        expected = sides.get(name[0], (sides["z"] + sides["t"]) / 2)
        assert score == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", ["calibrated", "fused"])
def test_trained_on_development_trials_the_scores_are_log_likelihood_ratios(name: str) -> None:
    scores, labels = scored(name)
    bits, least = cllr(scores[labels], scores[~labels]), min_cllr(scores[labels], scores[~labels])
    assert least <= bits < least + 0.1


@pytest.mark.parametrize("name", ["calibrated", "fused"])
def test_calibration_learns_the_same_from_a_sample_of_the_pairs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It used all pairs: 30,000 development utterances make 4.5e8 of them."""
    scores, labels = scored(name)
    monkeypatch.setattr("deepspeaker.backends.registry.MAX_CALIBRATION_PAIRS", 180 * 179 // 2)
    assert np.array_equal(scored(name)[0], scores)
    monkeypatch.setattr("deepspeaker.backends.registry.MAX_CALIBRATION_PAIRS", 4000)
    sampled = scored(name)[0]
    assert np.array_equal(scored(name)[0], sampled)
    assert not np.array_equal(sampled, scores)
    assert np.corrcoef(sampled, scores)[0, 1] > 0.99
    assert cllr(sampled[labels], sampled[~labels]) == pytest.approx(cllr(scores[labels], scores[~labels]), abs=0.02)


def test_calibration_on_many_utterances_needs_memory_for_a_sample_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """6,000 utterances: the indices of all pairs would take 290 MB, calibration several times that."""
    monkeypatch.setattr("deepspeaker.backends.registry.MAX_CALIBRATION_PAIRS", 100_000)
    development = part(2, 600, 10)
    tracemalloc.start()
    train_backend("calibrated", {"dev": development}, OPTIONS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20


def test_only_the_named_parts_are_needed() -> None:
    parts = {"train": part(1, 60, 6), "dev": part(2, 30, 6)}
    for name, definition in BACKENDS.items():
        train_backend(name, {p: parts[p] for p in definition.parts}, OPTIONS)


def test_too_many_dimensions_are_said() -> None:
    with pytest.raises(InputError, match=r"scoring\.lda_dim 9: 60 training speakers allow 8 at most"):
        train_backend("plda", {"train": part(1, 60, 6)}, Options(lda_dim=9))


PARTS = {"train": part(1, 60, 6), "dev": part(2, 30, 6)}


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "score-sum"])  # it needs all scores of a list
def test_a_model_is_scored_like_one_utterance_that_is_the_mean_of_its_own(name: str) -> None:
    test = part(7, 12, 5)
    backend = train_backend(name, PARTS, OPTIONS)
    models = Enrolment.of([[5 * speaker, 5 * speaker + 1, 5 * speaker + 2][: 1 + speaker % 3] for speaker in range(12)])
    enrolment, tested = np.repeat(np.arange(12), 12), np.tile(5 * np.arange(12) + 4, 12)
    found = backend(EmbeddedTrials(test.vectors, test.frames, models, enrolment, tested))
    for model, row, score in zip(enrolment, tested, found, strict=True):
        own = models.utterances[models.begin[model] : models.begin[model + 1]]
        vectors = np.stack([test.vectors[own].mean(axis=0), test.vectors[row]])
        frames = np.array([test.frames[own].sum(), test.frames[row]])
        alone = backend(EmbeddedTrials(vectors, frames, Enrolment.single(2), np.array([0]), np.array([1])))
        assert score == pytest.approx(alone[0], abs=2e-4)


@pytest.mark.parametrize("name", BACKENDS)
def test_more_enrolment_utterances_mean_fewer_errors(name: str) -> None:
    test = part(8, 150, 6)
    backend = train_backend(name, PARTS, OPTIONS)
    enrolment, tested = np.repeat(np.arange(150), 150), np.tile(6 * np.arange(150) + 5, 150)
    rates = []
    for number in (1, 5):
        models = Enrolment.of([list(range(6 * speaker, 6 * speaker + number)) for speaker in range(150)])
        scores = backend(EmbeddedTrials(test.vectors, test.frames, models, enrolment, tested))
        rates.append(eer(scores, test.speaker[tested] == enrolment))
    assert rates[1] < rates[0] - 0.02


def test_exact_enrolment_of_plda_is_the_likelihood_of_all_utterances() -> None:
    """Against the densities written out, in the space that LDA and length normalisation lead to."""
    test = part(9, 8, 4)
    train = PARTS["train"]
    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage=1e-3, n_components=3)
    lda.fit(train.vectors.astype(np.float64), train.speaker)

    def reduced(vectors: np.ndarray) -> np.ndarray:
        values = lda.transform(vectors.astype(np.float64))
        return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True) * np.sqrt(3))

    plda = train_plda(reduced(train.vectors), train.speaker)
    back = np.linalg.inv(plda.transform)
    between, within = back @ np.diag(plda.between) @ back.T, back @ back.T

    def density(rows: list[int]) -> float:
        count = len(rows)
        covariance = np.kron(np.ones((count, count)), between) + np.kron(np.eye(count), within)
        values = (reduced(test.vectors[rows]) - plda.mean).ravel()
        return float(multivariate_normal.logpdf(values, np.zeros(3 * count), covariance))

    models = [[0], [4, 5], [8, 9, 10], [12, 13, 14]]
    rows, columns = np.repeat(np.arange(4), 8), np.tile(4 * np.arange(8) + 3, 4)
    exact = train_backend("plda", PARTS, Options(lda_dim=3, plda_enrolment="exact"))
    found = exact(EmbeddedTrials(test.vectors, test.frames, Enrolment.of(models), rows, columns))
    for score, row, column in zip(found, rows, columns, strict=True):
        expected = density([*models[row], column]) - density(models[row]) - density([column])
        assert score == pytest.approx(expected, abs=1e-4)


def test_speakers_of_one_utterance_train_plda_without_a_warning() -> None:
    generator = np.random.default_rng(0)
    speaker = np.array([*np.repeat(np.arange(6), 5), *range(6, 12)])
    noise = 0.3 * generator.normal(size=(len(speaker), 4))
    vectors = (generator.normal(size=(12, 4))[speaker] + noise).astype(np.float32)
    training = Embeddings(vectors, speaker, np.ones_like(speaker))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backend = train_backend("plda", {"train": training}, Options(lda_dim=3))
    trials = EmbeddedTrials(
        vectors, training.frames, Enrolment.single(len(speaker)), np.array([0, 0]), np.array([1, 10])
    )
    same, different = backend(trials)
    assert same > different
