"""Measure the feature index on a simulation of the paper's largest set: 12.2 million utterances of 249,312 speakers.

    python -m benchmarks.index [UTTERANCES SPEAKERS]

The benchmark writes the tables of such a data directory, in which all utterances point into one small ark. A fresh
process then measures the time to build the index, the memory that it keeps (RssAnon after minus before, without freed
allocations), and the speed of drawing batches. A directory of ten thousand utterances is measured for comparison.
"""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from deepspeaker.kaldi import ArkWriter

UTTERANCES, SPEAKERS = 12_202_181, 249_312


def write_tables(folder: Path, utterances: int, speakers: int) -> None:
    """Write feats.scp, utt2spk and utt2num_frames of ``utterances`` utterances of 400 frames."""
    folder.mkdir()
    with ArkWriter(folder / "all.ark", folder / "all.scp", "one-byte") as writer:
        writer.write("a", np.random.default_rng(0).normal(size=(400, 64)).astype(np.float32))
    location = (folder / "all.scp").read_text().split(maxsplit=1)[1]
    owner = np.sort(np.random.default_rng(1).integers(0, speakers, utterances))
    with (
        (folder / "feats.scp").open("w") as feats,
        (folder / "utt2spk").open("w") as utt2spk,
        (folder / "utt2num_frames").open("w") as num_frames,
    ):
        for number, speaker in enumerate(owner.tolist()):
            name = f"spk{speaker:06d}-{number:08d}"
            feats.write(f"{name} {location}")
            utt2spk.write(f"{name} spk{speaker:06d}\n")
            num_frames.write(f"{name} 400\n")


def anonymous_bytes() -> int:
    """Return RssAnon of this process, after the allocator has returned its free memory."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


def measure(folder: Path) -> None:
    """Build an index and sample from it, in a fresh process."""
    import polars as pl

    from deepspeaker.features import FeatureIndex
    from deepspeaker.training import SpeakerSampler, UtteranceSampler

    pl.DataFrame({"a": ["1"]}).select(pl.col("a").cast(pl.Int64))  # load polars before the memory is measured
    before = anonymous_bytes()
    begin = time.perf_counter()
    index = FeatureIndex(folder)
    seconds = time.perf_counter() - begin
    held = anonymous_bytes() - before
    samplers = {
        "softmax": UtteranceSampler(len(index), 64, 0),
        "triplet": SpeakerSampler(index.of_speaker, 16, 4, 0, frames=index.frames, crop_frames=160),
    }
    arrays = sum(array.nbytes for array in (index.frames, index.speaker, index._line, index._offset, index._file))
    arrays += index.of_speaker._order.nbytes + index.of_speaker._bounds.nbytes
    print(f"{len(index):,} utterances, {len(index.speakers):,} speakers: index built in {seconds:.1f} s")
    print(f"  {arrays / len(index):.1f} bytes per utterance in arrays, {held / len(index):.1f} of RssAnon in all")
    for name, sampler in samplers.items():
        sampler.batch(0)
        begin = time.perf_counter()
        for step in range(1, 201):
            batch = sampler.batch(step)
            index.crops(batch.utterances, batch.crop_positions, 160)
        print(f"  {name}: {200 * 64 / (time.perf_counter() - begin):,.0f} crops/s")
    print(f"  {(anonymous_bytes() - before) / len(index):.1f} bytes of RssAnon with both samplers in use")


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
        return
    utterances, speakers = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (UTTERANCES, SPEAKERS)
    with tempfile.TemporaryDirectory() as folder:
        for name, size in (("small", (10_000, 205)), ("large", (utterances, speakers))):
            write_tables(Path(folder) / name, *size)
            subprocess.run([sys.executable, "-m", "benchmarks.index", "--measure", Path(folder) / name], check=True)


if __name__ == "__main__":
    main()
