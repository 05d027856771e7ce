"""Compare scoring with its lower limits: a matrix product and a sort, and reading two files.

    python -m benchmarks.scoring [trials] [files]

- trials: score 10^8 trials (10,000 enrolment and 10,000 test embeddings of 512 dimensions) by cosine and compute DET
  curve, EER and minDCF. The limit is the numpy product of the two matrices and one sort of it.
- files: read a score file of 10^7 lines, join it with its trial list and compute EER and minDCF. The limit is polars
  reading the two files.

Both sides run in alternating rounds. The measure is processor time, which other jobs on the machine disturb less. The
process keeps freed memory (see ``_KEEP``), so the kernel's speed at handing out pages is not measured.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from deepspeaker.backends import cosine_scores
from deepspeaker.metrics import det_points, equal_error_rate, min_dcf
from deepspeaker.trials import read_labelled_scores

ROUNDS = 5
P_TARGETS = (0.05, 0.01, 0.001)
_KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36)}


def compare(what: str, ours: Callable[[], object], bare: Callable[[], object]) -> None:
    """Print the medians and the ratio of each round; the first round warms up and is not counted."""
    seconds = []
    for _ in range(ROUNDS + 1):
        of_round = []
        for side in (ours, bare):
            begin = time.process_time()
            side()
            of_round.append(time.process_time() - begin)
        seconds.append(of_round)
    times = np.array(seconds[1:])
    ratios = times[:, 0] / times[:, 1]
    rounds = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    one, other = np.median(times, axis=0)
    print(f"{what}: {one:.2f} s against {other:.2f} s, {np.median(ratios):.2f} times (rounds: {rounds})", flush=True)


def of_trials(number: int = 10_000, dim: int = 512) -> None:
    """Measure the trials of every enrolment against every test embedding."""
    generator = np.random.default_rng(0)
    speaker = np.arange(number) // 20
    means = generator.normal(size=(speaker[-1] + 1, dim)).astype(np.float32)
    embeddings = np.concatenate([means[speaker], means[speaker]])
    embeddings += 4 * generator.standard_normal(size=embeddings.shape, dtype=np.float32)
    enrolment, test = np.repeat(np.arange(number), number), np.tile(np.arange(number, 2 * number), number)
    is_target = (speaker[:, None] == speaker).ravel()

    def ours() -> tuple[float, list[float]]:
        scores = cosine_scores(embeddings, enrolment, test)
        points = det_points(scores[is_target], scores[~is_target], overwrite_input=True)
        return equal_error_rate(points)[0], [min_dcf(points, p) for p in P_TARGETS]

    def bare() -> None:
        product = embeddings[:number] @ embeddings[number:].T
        product.ravel().sort()

    compare(f"{number**2:,} trials scored and evaluated; product and sort", ours, bare)


def of_files(folder: Path, number: int = 10**7) -> None:
    """Measure a score file in the order of its trial list, and one in another order."""
    utterances = int(np.ceil((2 * number) ** 0.5)) + 1
    generator = np.random.default_rng(0)
    speaker = np.arange(utterances) // 20
    ids = pl.Series([f"id1{owner:04d}-{utterance:05d}-0001" for utterance, owner in enumerate(speaker)])
    one, other = (side[:number] for side in np.triu_indices(utterances, 1))
    is_target = speaker[one] == speaker[other]
    scores = (generator.normal(size=number) + 3 * is_target).astype(np.float32)

    def write(name: str, column: pl.Series, order: np.ndarray | slice) -> Path:
        pairs = {"enrolment": ids.gather(one[order]), "test": ids.gather(other[order]), "last": column}
        pl.DataFrame(pairs).write_csv(folder / name, include_header=False, separator=" ")
        return folder / name

    trials = write("trials", pl.Series(np.where(is_target, "target", "nontarget")), slice(None))
    shuffled = generator.permutation(number)
    files = {
        "in the list's order": write("scores", pl.Series(scores), slice(None)),
        "in another order": write("shuffled", pl.Series(scores[shuffled]), shuffled),
    }
    for name, path in files.items():

        def ours(path: Path = path) -> tuple[float, list[float]]:
            read = read_labelled_scores(path, trials)
            points = det_points(read.scores[read.is_target], read.scores[~read.is_target])
            return equal_error_rate(points)[0], [min_dcf(points, p) for p in P_TARGETS]

        def bare(path: Path = path) -> None:
            for file in (path, trials):
                pl.read_csv(file, has_header=False, separator=" ")

        compare(f"{number:,} lines {name} joined and evaluated; polars reading both files", ours, bare)


def main() -> None:
    if any(os.environ.get(name) != value for name, value in _KEEP.items()):
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.scoring", *sys.argv[1:]], os.environ | _KEEP)
    parts = sys.argv[1:] or ["trials", "files"]
    if "trials" in parts:
        of_trials()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"peak memory: {peak:.2f} GiB")
    if "files" in parts:
        with tempfile.TemporaryDirectory() as folder:
            of_files(Path(folder))


if __name__ == "__main__":
    main()
