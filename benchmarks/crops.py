"""How fast a crop of 160 frames is read from a one-byte ark, against loading its utterance through kaldiio.

    python -m benchmarks.crops

Random crops of random utterances, rounds of both by turns, the page cache warm.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import kaldiio
import numpy as np

from benchmarks.corpus import make_features
from deepspeaker.features import FeatureIndex
from deepspeaker.kaldi import read_table


def ratio(folder: Path, frames: int, bins: int, compression: str) -> tuple[float, float]:
    """Microseconds a crop, ours and kaldiio's; medians over nine rounds."""
    make_features(folder, 20, 20, frames, bins, compression)
    index = FeatureIndex(folder)
    locations = list(read_table(folder / "feats.scp").values())
    generator = np.random.default_rng(1)
    ours, peer = [], []
    for _ in range(9):
        chosen, uniform = generator.integers(0, len(index), 256).astype(np.int32), generator.random(256)
        begin = time.perf_counter()
        for first in range(0, 256, 64):
            index.crops(chosen[first : first + 64], uniform[first : first + 64], 160)
        ours.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        for first in range(0, 256, 64):
            batch = np.empty((64, 160, bins), dtype=np.float32)
            for row in range(64):
                matrix = kaldiio.load_mat(locations[chosen[first + row]])
                start = int(uniform[first + row] * (len(matrix) - 160 + 1))
                batch[row] = matrix[start : start + 160]
        peer.append(time.perf_counter() - begin)
    return float(np.median(ours)) / 256 * 1e6, float(np.median(peer)) / 256 * 1e6


def main() -> None:
    print("crops of 160 frames                          ours us  kaldiio us  ratio")
    for seconds, bins in ((12, 64), (4, 40)):
        for compression in ("one-byte", "two-byte", "speech-feature", "none"):
            with tempfile.TemporaryDirectory() as folder:
                ours, peer = ratio(Path(folder), seconds * 100, bins, compression)
            print(f"{seconds:3d} s utterances, {bins} bins, {compression:<16}{ours:9.0f}{peer:12.0f}{peer / ours:7.1f}")


if __name__ == "__main__":
    main()
