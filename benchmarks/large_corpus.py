"""Time stages 1 and 2 on a corpus of LibriSpeech's size, and compare them with the work that they cannot avoid.

    python -m benchmarks.large_corpus [--utterances N] [--sample N] [--source DIR]

The corpus has the layout and the numbers of train-clean-100, dev-clean and test-clean: 251 + 40 + 40 speakers and
33,814 files. They are hard links to 32 FLAC files of 12.5 s of noise with the long-term spectrum of speech, or to all
FLAC files below DIR. Stage 1 reads all of it; limit: stat and soundfile.info of each file. Stage 2 computes a sample of
training utterances in one process; limit: decoding and bare log-mel features of the same files on one thread. Imports
are part of the stages, but not of the limits.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from deepspeaker.features import FbankExtractor, shard_of
from deepspeaker.kaldi import read_table

SPEAKERS = {"train-clean-100": 251, "dev-clean": 40, "test-clean": 40}


def make_sources(folder: Path, number: int = 32, seconds: float = 12.5) -> None:
    """Write FLAC files of noise that falls by 6 dB per octave, in bursts of syllables."""
    generator = np.random.default_rng(0)
    samples = round(16000 * seconds)
    envelope = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(samples) / 16000)
    for file in range(number):
        spectrum = np.fft.rfft(generator.normal(size=samples))
        noise = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), samples // 100), samples)
        soundfile.write(folder / f"{file}.flac", 0.3 * noise * envelope / np.abs(noise).max(), 16000)


def make_corpus(folder: Path, sources: list[Path], utterances: int) -> list[Path]:
    """Link ``utterances`` files, as many for each speaker, and return them."""
    readers = [(part, reader) for part, number in SPEAKERS.items() for reader in range(number)]
    files = []
    for number in range(utterances):
        speaker, (part, reader) = number % len(readers), readers[number % len(readers)]
        chapter = folder / part / str(1000 + speaker) / str(reader)
        chapter.mkdir(parents=True, exist_ok=True)
        file = chapter / f"{1000 + speaker}-{reader}-{number // len(readers):04d}.flac"
        os.link(sources[number % len(sources)], file)
        files.append(file)
    return files


def run(*arguments: str) -> tuple[float, float, float]:
    """Run a command of ``deepspeaker``; return its seconds, its processor time and its peak memory in GiB."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "deepspeaker", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"deepspeaker {arguments[0]} failed")
    return time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--utterances", type=int, default=33814)
    parser.add_argument("--sample", type=int, default=400, help="utterances of stage 2")
    parser.add_argument("--source", type=Path, help="folder with FLAC files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "sources").mkdir()
        if options.source:
            for number, file in enumerate(sorted(options.source.rglob("*.flac"))):
                shutil.copyfile(file, root / "sources" / f"{number}.flac")
        else:
            make_sources(root / "sources")
        files = make_corpus(root / "corpus", sorted((root / "sources").iterdir()), options.utterances)
        (root / "config.yaml").touch()
        config = ("--config", str(root / "config.yaml"))
        data = root / "data"

        begin = time.perf_counter()
        speech = sum(soundfile.info(file).duration for file in files if file.stat().st_size)
        limit = time.perf_counter() - begin
        corpus = ("--corpus", "librispeech", "--corpus-dir", str(root / "corpus"), "--name", "large")
        seconds, processor, memory = run("prepare", *config, *corpus, str(data))
        print(
            f"stage 1, {len(files)} files, {speech / 3600:.1f} h: {seconds:.1f} s, {processor:.1f} s of processor, "
            f"{1000 * seconds / len(files):.2f} s for 1000 files, {memory:.2f} GiB; "
            f"{seconds / limit:.1f} times stat and soundfile.info ({limit:.1f} s)"
        )

        wav = read_table(data / "train" / "wav.scp")
        jobs = max(1, len(wav) // options.sample)
        seconds, processor, memory = run("fbank", *config, "--num-jobs", str(jobs), str(data / "train"))
        done = shard_of(sorted(wav), 1, jobs)
        import torch  # not earlier, because the peak memory of a command includes that of its parent

        torch.set_num_threads(1)
        extractor = FbankExtractor()
        begin = time.process_time()
        speech = 0.0
        for utterance in done:
            samples, rate = soundfile.read(wav[utterance], dtype="float32")
            speech += len(samples) / rate
            extractor(samples)
        limit = time.process_time() - begin
        print(
            f"stage 2, {len(done)} files, {speech / 60:.0f} min: {seconds:.1f} s, {processor:.1f} s of processor, "
            f"{speech / processor:.0f} times real time per core second, {memory:.2f} GiB; "
            f"{processor / limit:.2f} times decoding and bare features ({limit:.1f} s)"
        )


if __name__ == "__main__":
    main()
