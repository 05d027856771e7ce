"""How fast stage 2 makes augmented copies, next to plain features of the same speech.

    python -m benchmarks.augmentation [DATA_DIR]

DATA_DIR is a Kaldi data directory with audio; without it, a demo corpus is synthesised. Everything runs in one process
on one thread, in processor seconds. Speeds are multiples of real time of the audio whose features are written.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.audio import AudioInfo, audio_info, load_audio
from deepspeaker.augmentation import Augmenter, write_copies
from deepspeaker.config import Augment, Conditions, Copy, Features
from deepspeaker.corpora import make_demo_corpus, read_librispeech
from deepspeaker.features import compute_shard
from deepspeaker.kaldi import DataDir

#: The five copies of Kaldi's recipes.
FIVE = ["noise", "babble", "reverb", {"kind": "speed", "factor": 0.9}, {"kind": "speed", "factor": 1.1}]
OTHERS = ["bandwidth", "telephone", "gain", "clipping"]
CODECS = [{"kind": "codec", "name": codec, "codecs": [codec]} for codec in ("mp3", "opus")]
ROUNDS = 3
UTTERANCES = 60


def data_of(folder: Path, source: Path | None) -> DataDir:
    """Return some utterances of the source, with durations."""
    if source is None:
        make_demo_corpus(folder / "corpus", 0, train_speakers=12, dev_speakers=1, test_speakers=2, utterances=10)
        data = read_librispeech(folder / "corpus", ["train"], [], ["test"])["train"]
    else:
        data = DataDir.read(source)
    chosen = sorted(data.utt2spk)[:: max(len(data.utt2spk) // UTTERANCES, 1)][:UTTERANCES]
    data = data.subset(chosen)
    for utterance in chosen:
        info = audio_info(data.wav_scp[utterance])
        data.utt2dur[utterance] = f"{info.samples / info.sampling_rate:.3f}"
    return data


def stage_2(folder: Path) -> float:
    """Compute the features of a directory and return the processor seconds that it took."""
    features = Features()
    begin = time.process_time()
    compute_shard(
        folder,
        1,
        1,
        sampling_rate=features.sampling_rate,
        fbank=features.model_dump(include={"num_bins", "low_freq", "high_freq", "frame_length", "frame_shift"}),
        vad=features.vad.model_dump(),
        variance_floor=features.variance_floor,
        raw_compression=features.raw_compression,
        compression=features.compression,
        allow_pipes=False,
    )
    return time.process_time() - begin


def seconds_of(folder: Path) -> float:
    return sum(float(duration) for duration in DataDir.read(folder).utt2dur.values())


def main() -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = data_of(folder, Path(sys.argv[1]) if len(sys.argv) > 1 else None)
        data.write(folder / "train")
        copies = [Copy.model_validate(copy) for copy in (*FIVE, *OTHERS, *CODECS)]
        folders = write_copies(
            folder,
            Augment(copies=copies),
            Conditions(),
            0,
            sampling_rate=16000,
            bytes_per_second=6400.0,
            say=lambda line: None,
        )
        stage_2(folder / "train")  # imports, caches
        best: dict[Path, float] = {}
        for _ in range(ROUNDS):  # in turn, so that another load meets all alike
            for one in (folder / "train", *folders):
                shutil.rmtree(one / ".shards", ignore_errors=True)
                best[one] = min(best.get(one, 1e9), stage_2(one))
        plain = seconds_of(folder / "train") / best[folder / "train"]
        minutes = seconds_of(folder / "train") / 60
        print(f"{len(data.utt2spk)} utterances, {minutes:.1f} min; plain: {plain:.0f} x real time")
        for one in folders:
            copied = DataDir.read(one)

            def load(utterance: str, copied: DataDir = copied) -> tuple[NDArray[np.float32], AudioInfo]:
                return load_audio(copied.wav_scp[utterance], 16000)

            augmenter = Augmenter(one, copied, 16000, load)
            speed = seconds_of(one) / best[one]
            samples = {u: load(u)[0] for u in sorted(copied.utt2spk)[:20]}
            begin = time.process_time()
            for utterance, signal in samples.items():
                augmenter.samples(utterance, signal)
            change = sum(map(len, samples.values())) / 16000 / (time.process_time() - begin)
            print(f"{one.name:16} {speed:5.0f} x real time, {speed / plain:.2f} of plain; change alone {change:.0f} x")
        five = [folder / "train", *folders[: len(FIVE)]]
        speed = sum(map(seconds_of, five)) / sum(best[one] for one in five)
        print(f"as recorded and five copies: {speed:.0f} x real time, {speed / plain:.2f} of plain (goal: 100 x)")


if __name__ == "__main__":
    main()
