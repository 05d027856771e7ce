"""Measure the anonymous memory of the loader on corpora of two sizes; it should grow by the index only.

Usage: ``python -m benchmarks.memory``
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.corpus import make_features
from benchmarks.index import anonymous_bytes
from deepspeaker.features import FeatureIndex
from deepspeaker.training import BatchLoader, UtteranceSampler


def measure(folder: Path) -> None:
    """Print RssAnon with the index, and after every utterance was read twice; in a fresh process."""
    index = FeatureIndex(folder)
    sampler = UtteranceSampler(len(index), 64, 0)
    loader = BatchLoader(sampler, index, 160, [], (20.0, 7600.0), torch.device("cpu"))
    for _ in loader.load(0, 20):
        pass
    before = anonymous_bytes()
    for _ in loader.load(20, 20 + 2 * len(index) // 64):
        pass
    after = anonymous_bytes()
    size = sum(path.stat().st_size for path in folder.glob("*.ark"))
    print(
        f"{len(index)} utterances, arks of {size / 2**20:.0f} MiB: RssAnon {before / 2**20:.1f} MiB before, "
        f"{after / 2**20:.1f} MiB after reading all of it twice"
    )


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        for utterances in (50, 400):
            path = make_features(Path(folder) / str(utterances), 100, utterances, 400, 64, "one-byte")
            subprocess.run([sys.executable, "-m", "benchmarks.memory", "--measure", path], check=True)


if __name__ == "__main__":
    main()
