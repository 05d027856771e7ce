"""Small corpora on disk, and stage 1 on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from deepspeaker.corpora import prepare
from deepspeaker.kaldi import DataDir


def add_audio(path: Path, samples: int = 3200, channels: int = 1) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([*path.name.encode()])
    soundfile.write(path, 0.1 * generator.normal(size=(samples, channels)), 16000)
    return str(path)


def make_librispeech(folder: Path, parts: dict[str, dict[str, int]]) -> Path:
    """Write ``parts``: part -> reader -> number of utterances."""
    for part, readers in parts.items():
        for reader, utterances in readers.items():
            for number in range(utterances):
                add_audio(folder / part / reader / "1" / f"{reader}-1-{number:04d}.flac", 3200 + 160 * number)
    return folder


def readers(first: int, count: int, utterances: int) -> dict[str, int]:
    return {str(number): utterances for number in range(first, first + count)}


def run(data: dict[str, DataDir], output: Path, **changed: Any) -> list[str]:
    """Run stage 1; return the lines that it prints."""
    lines: list[str] = []
    options: dict[str, Any] = {
        "corpus": "small",
        "synthetic": False,
        "seed": 0,
        "max_skipped": 5.0,
        "frame_shift": 0.01,
        "allow_pipes": False,
        "say": lines.append,
    }
    prepare(data, output, **{**options, **changed})
    return lines


def speakers(output: Path) -> dict[str, list[str]]:
    parts = [part for part in ("train", "dev", "test") if (output / part).is_dir()]
    return {part: list(DataDir.read(output / part).spk2utt) for part in parts}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_kaldi(folder: Path, parts: dict[str, list[str]], wav: dict[str, str] | None = None) -> Path:
    """Write data directories whose speakers have two utterances each; ``wav`` replaces entries of wav.scp."""
    for part, names in parts.items():
        data = DataDir(utt2spk={f"{name}-{number}": name for name in names for number in (1, 2)})
        for utterance in data.utt2spk:
            given = (wav or {}).get(utterance)
            data.wav_scp[utterance] = given or add_audio(folder / "audio" / f"{utterance}.ogg", 16000)
        data.write(folder / part)
    return folder
