"""Checks of audio files before a score: what is measured, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import nonspeech
from deepspeaker.audio import read_audio
from deepspeaker.features import FbankExtractor, energy_vad
from deepspeaker.inference import checks

RATE = 16000
CORPORA = Path(__file__).resolve().parents[2].parent / "shared" / "corpora"
Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def extractor() -> FbankExtractor:
    return FbankExtractor()


def measured(extractor: FbankExtractor, samples: Samples, rate: int = RATE) -> checks.Quality:
    log_mel, log_energy = extractor(samples)
    return checks.quality(samples, log_mel, energy_vad(log_energy), rate)


def codes(quality: checks.Quality) -> list[str]:
    return [problem.code for problem in checks.problems(quality)]


def refused(quality: checks.Quality) -> bool:
    return any(problem.forbids for problem in checks.problems(quality))


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> Samples:
    return (level * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


def tone(frequency: float, seconds: float = 2.0, level: float = 0.5) -> Samples:
    return (level * np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Synthetic speech of several speakers."""
    pytest.importorskip("espeakng_loader")
    from deepspeaker.corpora import make_demo_corpus

    folder = tmp_path_factory.mktemp("demo") / "corpus"
    make_demo_corpus(folder, seed=3, train_speakers=6, dev_speakers=2, test_speakers=2, utterances=2)
    return sorted(folder.rglob("*.flac"))


# ---- silence and sounds that are not speech


@pytest.mark.parametrize("level", [0.0, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.5, 3.0])
def test_silence_and_white_noise_are_refused(extractor: FbankExtractor, seconds: float, level: float) -> None:
    if seconds == 0:
        empty = np.zeros(0, np.float32)
        quality = checks.quality(empty, np.zeros((0, 64), np.float32), empty, RATE)
    else:
        quality = measured(extractor, noise(seconds, level))
    assert refused(quality)
    assert quality.seconds == pytest.approx(seconds)


def test_silence_says_that_it_is_silence(extractor: FbankExtractor) -> None:
    (problem,) = checks.problems(measured(extractor, np.zeros(3 * RATE, np.float32)))
    assert problem == ("no_speech", "It has no speech: it is silent or too quiet.", True)


@pytest.mark.parametrize("kind", nonspeech.DESIGN + nonspeech.HELD_OUT, ids=lambda kind: kind.__name__)
def test_most_sounds_of_each_kind_are_refused(extractor: FbankExtractor, kind: nonspeech.Kind) -> None:
    """The measured shares are in docs; here, most of a few must be refused."""
    count = 0
    for seed in range(5):
        sound = kind(np.random.default_rng(1000 + seed), 4 * RATE)
        count += refused(measured(extractor, (0.2 * sound / np.abs(sound).max()).astype(np.float32)))
    assert count >= MOSTLY_REFUSED.get(kind.__name__, 5)


#: Kinds of which some pass, with how many of five must still be refused.
MOSTLY_REFUSED = {"wandering_bands": 3}


@pytest.mark.parametrize("frequency", [50, 440, 1000, 3000])
def test_a_pure_tone_is_refused(extractor: FbankExtractor, frequency: float) -> None:
    assert refused(measured(extractor, tone(frequency)))


# ---- speech


def test_synthetic_speech_is_speech(extractor: FbankExtractor, demo: list[Path]) -> None:
    qualities = [measured(extractor, read_audio(str(path))) for path in demo]
    assert not [quality for quality in qualities if refused(quality)]
    assert min(quality.speech_score for quality in qualities) > 0.5


@pytest.mark.parametrize("bins", [24, 40, 80])
def test_other_numbers_of_bins_work(demo: list[Path], bins: int) -> None:
    extractor = FbankExtractor(num_bins=bins)
    assert not refused(measured(extractor, read_audio(str(demo[0]))))
    assert refused(measured(extractor, noise(3)))


def test_silence_around_speech_changes_little(extractor: FbankExtractor, demo: list[Path]) -> None:
    speech = read_audio(str(demo[0]))
    silence = noise(5, 1e-4)
    quality = measured(extractor, np.concatenate([silence, speech, silence]))
    assert not refused(quality)


def test_too_little_speech_is_refused_whatever_it_is(extractor: FbankExtractor, demo: list[Path]) -> None:
    speech = read_audio(str(demo[0]))
    log_energy = extractor(speech)[1]
    middle = int(np.flatnonzero(energy_vad(log_energy))[0] + 30) * 160
    quality = measured(extractor, speech[middle : middle + int(0.3 * RATE)])
    assert codes(quality)[0] == "little_speech"
    assert refused(quality)


@pytest.mark.parametrize(("seconds", "minimum", "refuses"), [(0.99, 1.0, True), (1.0, 1.0, False), (0.6, 0.5, False)])
def test_the_minimum_is_a_parameter(seconds: float, minimum: float, refuses: bool) -> None:
    quality = checks.Quality(5.0, seconds, 0.0, 7900.0, -25.0, 0.99, RATE)
    assert any(problem.forbids for problem in checks.problems(quality, minimum_speech=minimum)) == refuses


REAL = ["libri/test", "speechocean/test", "words/test", "spelled/train"]


@pytest.mark.skipif(not CORPORA.is_dir(), reason="no real speech in ../shared/corpora")
@pytest.mark.parametrize("part", REAL)
def test_real_speech_is_speech(extractor: FbankExtractor, part: str) -> None:
    files = sorted((CORPORA / part / "audio").iterdir())
    if part == "words/test":  # a file is one word of half a second to a second
        pieces = [np.concatenate([read_audio(str(f)) for f in files[i : i + 5]]) for i in range(0, 400, 10)]
    else:
        pieces = [read_audio(str(file)) for file in files[:: max(len(files) // 40, 1)]]
    qualities = [measured(extractor, piece) for piece in pieces]
    enough = [quality for quality in qualities if quality.speech_seconds >= 1]
    assert len(enough) > len(pieces) / 2
    assert sum(refused(quality) for quality in enough) <= 1


# ---- what is only reported


def test_clipping_is_reported_and_a_normalised_file_is_not(extractor: FbankExtractor) -> None:
    sound = noise(2, 0.2)
    normalised = sound / np.abs(sound).max()
    assert checks.clipped_share(normalised) == 0
    assert checks.clipped_share(tone(200, level=1.0)) < checks.MAX_CLIPPED
    clipped = np.clip(tone(200, level=2.0), -1, 32767 / 32768)
    assert 0.5 < checks.clipped_share(clipped) < 0.8
    assert checks.clipped_share(0.8 * clipped) > 0.5  # made quieter afterwards
    assert "clipped" in codes(measured(extractor, clipped))


def test_a_low_rate_and_a_narrow_band_are_reported(extractor: FbankExtractor, demo: list[Path]) -> None:
    from scipy.signal import resample_poly

    speech = read_audio(str(demo[0]))
    narrow = resample_poly(resample_poly(speech, 1, 2), 2, 1).astype(np.float32)
    quality = measured(extractor, narrow, rate=8000)
    assert 3500 < quality.bandwidth < 4800
    assert codes(quality) == ["low_rate", "narrow_band"]
    assert codes(measured(extractor, speech)) == []


def test_a_quiet_file_is_reported(extractor: FbankExtractor, demo: list[Path]) -> None:
    quality = measured(extractor, 0.01 * read_audio(str(demo[0])))
    assert quality.level < checks.MIN_LEVEL
    assert "quiet" in codes(quality)


def test_level_is_that_of_a_full_scale_square_wave() -> None:
    square = np.ones(RATE, np.float32)
    assert checks.speech_level(square, np.ones(100, bool)) == pytest.approx(0)
    assert checks.speech_level(0.1 * square, np.zeros(100, bool)) == pytest.approx(-20, abs=1e-4)


# ---- the module


def test_a_long_file_takes_little_time_and_the_score_does_not_depend_on_length(extractor: FbankExtractor) -> None:
    quality = measured(extractor, noise(120))
    assert quality.speech_score < 0.5


def test_level_hardly_changes_the_score(extractor: FbankExtractor, demo: list[Path]) -> None:
    speech = read_audio(str(demo[0]))
    scores = [measured(extractor, np.float32(gain) * speech).speech_score for gain in (0.3, 1.0)]
    assert abs(scores[0] - scores[1]) < 0.05


def test_only_numpy_and_soundfile_are_imported() -> None:
    heavy = "{'torch', 'lhotse', 'sklearn', 'scipy', 'polars', 'onnxruntime'}"
    code = f"import sys, deepspeaker.inference.checks; print(sorted({heavy} & set(sys.modules)))"
    package = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert package.stdout.strip() == "[]"
