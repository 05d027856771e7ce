"""Fit the classifier of ``deepspeaker.inference.speech_score`` and measure it.

    python -m benchmarks.speech_check CORPORA            prints the coefficients

CORPORA has the folders libri, speechocean, words and spelled, each with train/audio and test/audio; the name of a file
begins with its speaker. Only the training parts, demo speech and the kinds ``DESIGN`` of ``benchmarks.nonspeech`` are
used.
"""

from __future__ import annotations

import io
import multiprocessing
import sys
import textwrap
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, resample_poly, sosfilt

from benchmarks import nonspeech
from deepspeaker.audio import read_audio
from deepspeaker.features import FbankExtractor, energy_vad
from deepspeaker.inference import log_odds, window_statistics, with_products

RATE = 16000
Samples = NDArray[np.float32]
_extractor: list[FbankExtractor] = []


def features(samples: Samples) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    if not _extractor:
        import torch

        torch.set_num_threads(1)
        _extractor.append(FbankExtractor())
    log_mel, log_energy = _extractor[0](samples)
    return log_mel, energy_vad(log_energy) > 0


# ---- what happens to a sound on its way


def add_noise(rng: np.random.Generator, sound: Samples, snr: float, exponent: float | None = None) -> Samples:
    noise = nonspeech.coloured(rng, len(sound), rng.uniform(0, 2) if exponent is None else exponent)
    return np.asarray(sound + noise * np.sqrt(np.mean(sound**2) / 10 ** (snr / 10)), np.float32)


def reverberate(rng: np.random.Generator, sound: Samples, seconds: float) -> Samples:
    """Add an echo that decays by 60 dB in this time, as loud as the direct sound."""
    n = int(seconds * RATE)
    echo = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    response = np.concatenate([[1.0], np.zeros(80), echo / np.linalg.norm(echo)])
    return fftconvolve(sound, response)[: len(sound)].astype(np.float32)


def telephone(sound: Samples) -> Samples:
    sos = butter(4, [300, 3400], "bandpass", fs=RATE, output="sos")
    return resample_poly(resample_poly(sosfilt(sos, sound), 1, 2), 2, 1)[: len(sound)].astype(np.float32)


def opus(sound: Samples) -> Samples:
    stream = io.BytesIO()
    soundfile.write(stream, sound, RATE, format="OGG", subtype="OPUS")
    stream.seek(0)
    return np.asarray(soundfile.read(stream, dtype="float32")[0])


def at_level(sound: Samples, level: float) -> Samples:
    """Scale to a level in dBFS, without clipping."""
    scale = 10 ** (level / 20) / (float(np.sqrt(np.mean(sound**2))) + 1e-9)
    return (sound * min(scale, 0.99 / (float(np.abs(sound).max()) + 1e-9))).astype(np.float32)


def travelled(rng: np.random.Generator, sound: Samples) -> Samples:
    """The sound after a random channel."""
    sound = at_level(sound, -20)
    if rng.random() < 0.3:
        sound = reverberate(rng, sound, rng.uniform(0.2, 0.9))
    if rng.random() < 0.5:
        sound = add_noise(rng, sound, rng.uniform(5, 30))
    if rng.random() < 0.15:
        sound = telephone(sound)
    sound = at_level(sound, rng.uniform(-35, -12))
    if rng.random() < 0.3:
        sound = opus(sound)
    return add_noise(rng, sound, rng.uniform(40, 70), 0)


# ---- clips


def speakers(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        found.setdefault(path.stem.split("-")[0].split("_")[0], []).append(path)
    return found


def demo_speakers(folder: Path) -> dict[str, list[Path]]:
    """Synthetic speech, made unless it is there."""
    from deepspeaker.corpora import make_demo_corpus

    if not folder.exists():
        make_demo_corpus(folder, seed=7, train_speakers=80, dev_speakers=10, test_speakers=10, utterances=6)
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.flac")):
        found.setdefault(path.stem.split("-")[0], []).append(path)
    return found


def clip(rng: np.random.Generator, files: list[Path], seconds: float) -> Samples | None:
    """Some speech of this length: a cut from a file, or, of short ones, several files after each other."""
    for _ in range(5):
        chosen = [files[i] for i in rng.permutation(len(files))]
        sound = read_audio(str(chosen[0]))
        while len(sound) < seconds * RATE and len(chosen) > 1:
            chosen = chosen[1:]
            sound = np.concatenate([sound, read_audio(str(chosen[0]))])
        start = int(rng.integers(0, max(len(sound) - int(seconds * RATE), 0) + 1))
        sound = sound[start : start + int(seconds * RATE)]
        if len(sound) > 0.9 * seconds * RATE and features(sound)[1].sum() >= min(60 * seconds, 100):
            return sound
    return None


def statistics(sound: Samples) -> tuple[NDArray[np.float64], float]:
    """The windows' statistics and the seconds of speech."""
    log_mel, speech = features(sound)
    return window_statistics(sound, log_mel, speech), float(speech.sum()) / 100


class Result(NamedTuple):
    """What was measured of a clip."""

    group: str
    how: str
    seconds: float
    windows: NDArray[np.float64]
    speech_seconds: float


class Job:
    """A clip to make: of speech (files) or of a kind of sound."""

    def __init__(self, group: str, seed: str, seconds: float, source: list[Path] | str, how: str = "random") -> None:
        self.group, self.seed, self.seconds, self.source, self.how = group, seed, seconds, source, how

    def run(self) -> Result | None:
        rng = np.random.default_rng(zlib.crc32(self.seed.encode()))
        if isinstance(self.source, str):
            sound = getattr(nonspeech, self.source)(rng, int(self.seconds * RATE)).astype(np.float32)
            if not np.abs(sound).max() > 0:
                return None
            sound = at_level(sound, -20)
        else:
            made = clip(rng, self.source, self.seconds)
            if made is None:
                return None
            sound = made
        if self.how == "random":
            sound = travelled(rng, sound) if rng.random() < 0.75 else sound
        elif self.how.startswith("noise"):
            sound = add_noise(rng, at_level(sound, -20), float(self.how[5:]))
        elif self.how == "echo":
            sound = reverberate(rng, sound, 0.6)
        elif self.how == "both":
            sound = add_noise(rng, reverberate(rng, at_level(sound, -20), 0.6), 10)
        elif self.how == "telephone":
            sound = telephone(sound)
        return Result(self.group, self.how, self.seconds, *statistics(sound))


def run(job: Job) -> Result | None:
    return job.run()


def run_all(jobs: list[Job]) -> list[Result]:
    with multiprocessing.Pool(2) as pool:
        return [done for done in pool.map(run, jobs, chunksize=8) if done is not None]


def design_jobs(corpora: Path, clips: int = 600) -> list[Job]:
    """Clips of the training parts and of the kinds ``DESIGN``."""
    groups = {name: speakers(corpora / name / "train/audio") for name in ("libri", "speechocean", "words", "spelled")}
    groups["demo"] = demo_speakers(Path("/tmp/speech_check_demo"))
    jobs = []
    for name, found in groups.items():
        names = sorted(found)
        for i in range(clips if name != "demo" else clips // 2):
            speaker = names[i % len(names)]
            seconds = (1.1, 1.5, 2, 3, 4, 6)[i % 6]
            jobs.append(Job(f"{name}/{speaker}", f"{name} {i}", seconds, found[speaker]))
    for kind in nonspeech.DESIGN:
        name = kind.__name__
        jobs += [Job(name, f"{name} {i}", (1, 1.5, 2, 3, 4, 6)[i % 6], name) for i in range(clips // 4)]
    return jobs


# ---- the classifier


def is_kind(group: str) -> bool:
    return "/" not in group


def stacked(results: list[Result]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the windows of clips, and weights of sum 1 that are the same for each clip."""
    weights = np.concatenate([np.full(len(result.windows), 1 / len(result.windows)) for result in results])
    return np.vstack([result.windows for result in results]), weights / weights.sum()


def fit(results: list[Result], strength: float = 0.1, filler: float = 0.5) -> tuple[NDArray[np.float64], ...]:
    """Return the means and scales of the statistics, and the coefficients, by logistic regression.

    Each clip weighs the same, and speech as much as all else together. For the share ``filler`` of what is not speech,
    statistics are drawn from different clips, so that the space between the known kinds does not count as speech.
    """
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    results = [result for result in results if len(result.windows) and result.speech_seconds >= 0.8]
    speech, speech_weights = stacked([result for result in results if not is_kind(result.group)])
    other, other_weights = stacked([result for result in results if is_kind(result.group)])
    means, scales = speech.mean(axis=0), speech.std(axis=0)
    drawn = np.column_stack([rng.choice(column, len(other), p=other_weights) for column in other.T])
    base = other[rng.choice(len(other), len(other), p=other_weights)]
    mixed = np.where(rng.random((len(other), 1)) < rng.random(other.shape), base, drawn)
    rows = np.vstack([speech, other, mixed])
    shares = [speech_weights, other_weights * (1 - filler), np.full(len(mixed), filler / len(mixed))]
    inputs = with_products(np.clip((rows - means) / scales, -5, 5))[:, 1:]
    model = LogisticRegression(C=strength, max_iter=3000, tol=1e-4)
    model.fit(inputs, np.arange(len(rows)) < len(speech), sample_weight=np.concatenate(shares) * len(rows) / 2)
    return means, scales, np.concatenate([model.intercept_, model.coef_[0]])


def print_coefficients(means: NDArray[np.float64], scales: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
    for name, values in (("MEANS", means), ("SCALES", scales), ("COEFFICIENTS", weights)):
        text = textwrap.fill(", ".join(f"{value:.4g}" for value in values), 112)
        print(f"{name} = np.array(\n    [\n" + textwrap.indent(text, " " * 8) + ",\n    ]\n)")


# ---- the report


def report_jobs(corpora: Path, clips: int = 240) -> list[Job]:
    """Clips of the test parts, changed in five ways, and of all kinds."""
    jobs = []
    for name in ("libri", "speechocean", "words"):
        found = speakers(corpora / name / "test/audio")
        names = sorted(found)
        for i in range(clips):
            how = ("plain", "noise10", "echo", "both", "telephone")[(i // 4) % 5]
            speaker = names[i % len(names)]
            jobs.append(Job(f"{name}/{speaker}", f"t{name} {i}", (1.2, 2, 4, 8)[i % 4], found[speaker], how))
    for kind in nonspeech.HELD_OUT + nonspeech.DESIGN:
        for i in range(clips // 10):
            name = kind.__name__
            jobs.append(Job(name, f"h{name} {i}", (1.2, 2, 4, 8)[i % 4], name, "plain"))
    return jobs


def print_report(results: list[Result]) -> None:
    refused: dict[str, list[bool]] = {}
    held_out = {kind.__name__ for kind in nonspeech.HELD_OUT}
    for result in results:
        group = result.group.partition("/")[0]
        held = " (held out)" if group in held_out else ""
        name = group + held if is_kind(result.group) else f"speech: {group}, {result.how}"
        logits = np.clip(log_odds(result.windows), -8, 8)
        refused.setdefault(name, []).append(not len(logits) or bool(logits.mean() < 0))
    for name, values in sorted(refused.items()):
        print(f"{name:36} {np.mean(values):6.1%} of {len(values)} refused")


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in ("fit", "report"):
        sys.exit(__doc__)
    if sys.argv[1] == "fit":
        print_coefficients(*fit(run_all(design_jobs(Path(sys.argv[2])))))
    else:
        print_report(run_all(report_jobs(Path(sys.argv[2]))))


if __name__ == "__main__":
    main()
