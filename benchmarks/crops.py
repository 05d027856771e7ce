"""Compare reading a crop of 160 frames from an ark with loading its whole utterance through kaldiio.

    python -m benchmarks.crops [DATA_DIR]     (a folder such as data/C/train_nosil; default: random features)

Both sides read the same random crops in alternating rounds, with a warm page cache. The measure is processor time,
which other jobs on the machine disturb less.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import kaldiio
import numpy as np

from benchmarks.corpus import make_features
from deepspeaker.features import FeatureIndex
from deepspeaker.kaldi import read_table


def microseconds(folder: Path) -> tuple[float, float]:
    """Return the time per crop of this project and of kaldiio, medians over nine rounds."""
    index = FeatureIndex(folder)
    locations = list(read_table(folder / "feats.scp").values())
    bins, long_enough = index.feature_dim, np.flatnonzero(index.frames >= 160)
    generator = np.random.default_rng(1)
    ours, peer = [], []
    for _ in range(9):
        chosen, uniform = generator.choice(long_enough, 256).astype(np.int32), generator.random(256)
        begin = time.process_time()
        for first in range(0, 256, 64):
            index.crops(chosen[first : first + 64], uniform[first : first + 64], 160)
        ours.append(time.process_time() - begin)
        begin = time.process_time()
        for first in range(0, 256, 64):
            batch = np.empty((64, 160, bins), dtype=np.float32)
            for row in range(64):
                matrix = kaldiio.load_mat(locations[chosen[first + row]])
                start = int(uniform[first + row] * (len(matrix) - 160 + 1))
                batch[row] = matrix[start : start + 160]
        peer.append(time.process_time() - begin)
    return float(np.median(ours)) / 256 * 1e6, float(np.median(peer)) / 256 * 1e6


def main() -> None:
    print("crops of 160 frames                          ours us  kaldiio us  ratio")
    if len(sys.argv) > 1:
        ours, peer = microseconds(Path(sys.argv[1]))
        print(f"{sys.argv[1]:<42}{ours:9.0f}{peer:12.0f}{peer / ours:7.1f}")
        return
    for seconds, bins in ((12, 64), (4, 40)):
        for compression in ("one-byte", "two-byte", "speech-feature", "none"):
            with tempfile.TemporaryDirectory() as folder:
                ours, peer = microseconds(make_features(Path(folder), 20, 20, seconds * 100, bins, compression))
            print(f"{seconds:3d} s utterances, {bins} bins, {compression:<16}{ours:9.0f}{peer:12.0f}{peer / ours:7.1f}")


if __name__ == "__main__":
    main()
