"""Small data directories, and stage 2 on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from deepspeaker.features import collect_shards, compute_shard
from deepspeaker.kaldi import DataDir

OPTIONS: dict[str, Any] = {
    "sampling_rate": 16000,
    "fbank": {},
    "vad": {},
    "variance_floor": 0.01,
    "raw_compression": "none",
    "compression": "one-byte",
    "allow_pipes": False,
}


def make_audio(folder: Path, utterances: int = 7) -> Path:
    """Write a data directory of two speakers; each file is half noise and tones, half near silence."""
    (folder / "audio").mkdir(parents=True)
    generator = np.random.default_rng(0)
    data = DataDir(utt2spk={})
    for number in range(utterances):
        samples = 16000 + 1000 * number
        signal = 0.2 * np.sin(2 * np.pi * (200 + 50 * number) * np.arange(samples) / 16000)
        signal += 0.05 * generator.normal(size=samples)
        signal[samples // 2 :] *= 1e-4
        utterance = f"{'ab'[number % 2]}-{number}"
        path = folder / "audio" / f"{utterance}.flac"
        soundfile.write(path, signal, 16000)
        data.utt2spk[utterance] = utterance[0]
        data.wav_scp[utterance] = str(path)
        data.text[utterance] = "WORDS"
    data.spk2gender = {"a": "f", "b": "m"}
    data.write(folder / "data")
    return folder / "data"


def run(data_dir: Path, num_jobs: int, order: Sequence[int] | None = None, **changed: Any) -> str:
    for job in order or range(1, num_jobs + 1):
        compute_shard(data_dir, job, num_jobs, **{**OPTIONS, **changed})
    return collect_shards(data_dir, num_jobs, 5.0)
