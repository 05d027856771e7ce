from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from deepspeaker.backends import BACKENDS, Embeddings, build_backend, cosine_scores, registry, train_plda
from deepspeaker.backends.products import BLOCK as _BLOCK
from deepspeaker.errors import InputError
from deepspeaker.metrics import cllr, det_points, equal_error_rate, min_cllr
from deepspeaker.trials import Enrolment


@pytest.mark.parametrize("seed", range(8))
def test_against_a_loop_in_float64(seed: int) -> None:
    generator = np.random.default_rng(seed)
    utterances, trials = int(generator.integers(1, 40)), int(generator.integers(1, 300))
    lengths = 10.0 ** generator.uniform(-3, 3, (utterances, 1))
    embeddings = (generator.normal(size=(utterances, 6)) * lengths).astype(np.float32)
    enrolment, test = generator.integers(0, utterances, (2, trials))
    scores = cosine_scores(embeddings, enrolment, test)
    assert scores.shape == (trials,)
    assert scores.dtype == np.float32
    for trial in range(trials):
        one, other = embeddings[enrolment[trial]].astype(np.float64), embeddings[test[trial]].astype(np.float64)
        cosine = (one * other).sum() / (np.sqrt((one * one).sum()) * np.sqrt((other * other).sum()))
        assert abs(float(scores[trial]) - cosine) < 1e-6


def test_lists_of_more_rows_than_a_block() -> None:
    generator = np.random.default_rng(0)
    utterances = 2 * _BLOCK + 37
    embeddings = generator.normal(size=(utterances, 4)).astype(np.float32)
    edges = [0, _BLOCK - 1, _BLOCK, _BLOCK + 1, 2 * _BLOCK - 1, 2 * _BLOCK, utterances - 1]
    enrolment = np.concatenate([np.repeat(edges, len(edges)), generator.integers(0, utterances, 2000)])
    test = np.concatenate([np.tile(edges, len(edges)), generator.integers(0, utterances, 2000)])
    unit = embeddings.astype(np.float64)
    unit /= np.sqrt((unit**2).sum(axis=1, keepdims=True))
    expected = [float(unit[a] @ unit[b]) for a, b in zip(enrolment, test, strict=True)]
    np.testing.assert_allclose(cosine_scores(embeddings, enrolment, test), expected, rtol=0, atol=1e-6)


def test_a_row_of_zeros_has_cosine_0_with_everything() -> None:
    embeddings = np.array([[0, 0], [3, 4], [0, 0]], dtype=np.float32)
    with np.errstate(all="raise"):
        scores = cosine_scores(embeddings, np.array([0, 1, 0, 1]), np.array([1, 0, 2, 1]))
    assert scores[:3].tolist() == [0.0, 0.0, 0.0]
    assert scores[3] == pytest.approx(1.0, abs=1e-6)


def test_the_sides_of_a_trial_can_be_swapped() -> None:
    generator = np.random.default_rng(2)
    embeddings = generator.normal(size=(20, 5)).astype(np.float32)
    enrolment, test = generator.integers(0, 20, (2, 100))
    there, back = cosine_scores(embeddings, enrolment, test), cosine_scores(embeddings, test, enrolment)
    np.testing.assert_allclose(there, back, rtol=0, atol=1e-6)


def test_no_trials_give_no_scores() -> None:
    none = np.empty(0, dtype=np.int64)
    assert cosine_scores(np.ones((3, 2), dtype=np.float32), none, none).shape == (0,)


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


def scored(name: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of all pairs of 30 test speakers."""
    parts = {"train": part(seed + 1, 60, 6), "dev": part(seed + 2, 30, 6)}
    test = part(seed + 3, 30, 5)
    backend = build_backend(name, parts, lda_dim=6, cohort_top=20, p_target=0.05)
    one, other = np.triu_indices(len(test.speaker), 1)
    each = Enrolment.single(len(test.speaker))
    return backend(test.vectors, test.frames, each, one, other), test.speaker[one] == test.speaker[other]


def eer(scores: np.ndarray, labels: np.ndarray) -> float:
    return equal_error_rate(det_points(scores[labels], scores[~labels]))[0]


def test_back_ends_are_not_worse_than_the_cosine_where_they_should_help() -> None:
    plain = eer(*scored("cosine"))
    for name in ("mean-subtracted", "plda", "as-norm", "fused"):
        assert eer(*scored(name)) < plain


def test_adapted_plda_is_less_overconfident_where_speech_is_noisier_than_in_training() -> None:
    """The noise of every utterance is doubled in development and test; development speakers are not told."""
    generator = np.random.default_rng(0)

    def noisier(of: Embeddings) -> Embeddings:
        noise = generator.normal(size=of.vectors.shape) * [0.8, 0.8, *[0.3] * 6]
        return of._replace(vectors=(of.vectors + noise).astype(np.float32))

    parts = {"train": part(1, 60, 6), "dev": noisier(part(2, 30, 6))}
    parts["dev"] = parts["dev"]._replace(speaker=np.zeros(180, dtype=np.int64))
    test = noisier(part(3, 30, 5))
    one, other = np.triu_indices(len(test.speaker), 1)
    labels, bits = test.speaker[one] == test.speaker[other], {}
    for name in ("plda", "plda-adapted"):
        backend = build_backend(name, parts, lda_dim=6, cohort_top=20, p_target=0.05)
        scores = backend(test.vectors, test.frames, Enrolment.single(len(test.speaker)), one, other)
        bits[name] = cllr(scores[labels], scores[~labels])
    assert bits["plda-adapted"] < bits["plda"]


@pytest.mark.parametrize("name", ["z-norm", "t-norm", "s-norm"])
def test_norms_against_a_loop_over_the_whole_cohort(name: str) -> None:
    training, test = part(1, 12, 4), part(3, 6, 3)
    means = np.stack([training.vectors[training.speaker == s].mean(axis=0) for s in range(12)]).astype(np.float64)
    one, other = np.triu_indices(len(test.speaker), 1)
    backend = build_backend(name, {"train": training}, lda_dim=6, cohort_top=2, p_target=0.05)
    found = backend(test.vectors, test.frames, Enrolment.single(len(test.speaker)), one, other)

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
    monkeypatch.setattr(registry, "MOST_CALIBRATION_PAIRS", 180 * 179 // 2)
    assert np.array_equal(scored(name)[0], scores)
    monkeypatch.setattr(registry, "MOST_CALIBRATION_PAIRS", 4000)
    sampled = scored(name)[0]
    assert np.array_equal(scored(name)[0], sampled)
    assert not np.array_equal(sampled, scores)
    assert np.corrcoef(sampled, scores)[0, 1] > 0.99
    assert cllr(sampled[labels], sampled[~labels]) == pytest.approx(cllr(scores[labels], scores[~labels]), abs=0.02)


def test_calibration_on_many_utterances_needs_memory_for_a_sample_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """6,000 utterances: the indices of all pairs would take 290 MB, calibration several times that."""
    monkeypatch.setattr(registry, "MOST_CALIBRATION_PAIRS", 100_000)
    development = part(2, 600, 10)
    tracemalloc.start()
    build_backend("calibrated", {"dev": development}, lda_dim=6, cohort_top=20, p_target=0.05)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20


def test_only_the_named_parts_are_needed() -> None:
    parts = {"train": part(1, 60, 6), "dev": part(2, 30, 6)}
    for name, needed in BACKENDS.items():
        build_backend(name, {p: parts[p] for p in needed}, lda_dim=6, cohort_top=20, p_target=0.05)


def test_too_many_dimensions_are_said() -> None:
    with pytest.raises(InputError, match=r"scoring\.lda_dim 9: 60 training speakers allow 8 at most"):
        build_backend("plda", {"train": part(1, 60, 6)}, lda_dim=9, cohort_top=20, p_target=0.05)


def test_models_of_several_utterances() -> None:
    models = Enrolment.of([[2, 0], [1], [3, 1, 0]])
    assert not models.is_single
    assert models.counts.tolist() == [2, 1, 3]
    vectors = np.array([[1, 0], [0, 2], [3, 4], [5, 6]], dtype=np.float32)
    np.testing.assert_array_equal(models.means(vectors), np.float32([[2, 2], [0, 2], [2, 8 / 3]]))
    assert models.means(vectors).dtype == np.float32
    assert models.totals(np.array([10, 20, 30, 40])).tolist() == [40, 20, 70]
    assert models.whole(np.array([True, False, True, True])).tolist() == [True, False, False]
    each = Enrolment.single(4)
    assert each.is_single
    assert each.means(vectors).tolist() == vectors.tolist()


PARTS = {"train": part(1, 60, 6), "dev": part(2, 30, 6)}
OPTIONS = {"lda_dim": 6, "cohort_top": 20, "p_target": 0.05}


@pytest.mark.parametrize("name", BACKENDS)
def test_a_model_is_scored_like_one_utterance_that_is_the_mean_of_its_own(name: str) -> None:
    test = part(7, 12, 5)
    backend = build_backend(name, PARTS, **OPTIONS)
    models = Enrolment.of([[5 * speaker, 5 * speaker + 1, 5 * speaker + 2][: 1 + speaker % 3] for speaker in range(12)])
    enrolment, tested = np.repeat(np.arange(12), 12), np.tile(5 * np.arange(12) + 4, 12)
    found = backend(test.vectors, test.frames, models, enrolment, tested)
    for model, row, score in zip(enrolment, tested, found, strict=True):
        own = models.utterances[models.begin[model] : models.begin[model + 1]]
        vectors = np.stack([test.vectors[own].mean(axis=0), test.vectors[row]])
        frames = np.array([test.frames[own].sum(), test.frames[row]])
        alone = backend(vectors, frames, Enrolment.single(2), np.array([0]), np.array([1]))
        assert score == pytest.approx(alone[0], abs=2e-4)


@pytest.mark.parametrize("name", BACKENDS)
def test_more_enrolment_utterances_mean_fewer_errors(name: str) -> None:
    test = part(8, 150, 6)
    backend = build_backend(name, PARTS, **OPTIONS)
    enrolment, tested = np.repeat(np.arange(150), 150), np.tile(6 * np.arange(150) + 5, 150)
    rates = [
        eer(
            backend(
                test.vectors,
                test.frames,
                Enrolment.of([list(range(6 * speaker, 6 * speaker + number)) for speaker in range(150)]),
                enrolment,
                tested,
            ),
            test.speaker[tested] == enrolment,
        )
        for number in (1, 5)
    ]
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
    exact = build_backend("plda", PARTS, **(OPTIONS | {"lda_dim": 3}), plda_enrolment="exact")
    found = exact(test.vectors, test.frames, Enrolment.of(models), rows, columns)
    for score, row, column in zip(found, rows, columns, strict=True):
        expected = density([*models[row], column]) - density(models[row]) - density([column])
        assert score == pytest.approx(expected, abs=1e-4)
