"""Compare the alignment of frames with the matrix products that it needs, and estimate a training's time.

    OMP_NUM_THREADS=1 python -m benchmarks.ivector [--components 512] [--dim 200] [--hours 10]

Features are random, drawn around the UBM's means. Both sides run in alternating rounds. The measure is processor time,
which other jobs on the machine disturb less, the median over the rounds. The estimate multiplies the time of a frame or
an utterance on a small part. It counts 100 frames a second, all of them speech, in utterances of 4 seconds. That is
short, and the cost of the extractor is one of utterances. Decoding the audio is not in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deepspeaker.ivector import (
    MfccExtractor,
    Ubm,
    UtteranceStatistics,
    accumulate_extractor,
    accumulate_ubm,
    initial_extractor,
    initial_ubm,
    ivectors,
    speech_features,
    update_extractor,
    update_ubm,
    utterance_statistics,
)

DIM = 60
FRAMES = 400
UTTERANCES = 96
SAMPLE = 100_000
UBM_ITERATIONS = EXTRACTOR_ITERATIONS = 10


def seconds(*functions: Callable[[], object], rounds: int = 7) -> list[float]:
    """Return the median processor time of each function over alternating rounds."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, measured in zip(functions, times, strict=True):
            begin = time.process_time()
            function()
            measured.append(time.process_time() - begin)
    return [float(np.median(measured)) for measured in times]


def made_up(components: int) -> tuple[Ubm, list[NDArray[np.float32]]]:
    """Return a UBM and utterances drawn from it."""
    generator = np.random.default_rng(0)
    means = generator.normal(size=(components, DIM))
    ubm = Ubm(np.full(components, 1 / components), means, np.full((components, DIM), 0.5))
    frames = means[generator.integers(0, components, (UTTERANCES, FRAMES))]
    frames += np.sqrt(0.5) * generator.normal(size=frames.shape)
    return ubm, list(frames.astype(np.float32))


def compare_alignment(ubm: Ubm, utterances: list[NDArray[np.float32]]) -> tuple[float, float]:
    """Print the alignment's times next to those of its products; return them, for an utterance and a frame."""
    generator = np.random.default_rng(1)
    columns = 1 + 2 * DIM
    parameters = generator.normal(size=(columns, len(ubm.weights))).astype(np.float32)

    def products(rows: int, kept: int) -> Callable[[], None]:
        """The two products of all frames, in blocks of some rows: densities, and sums of some columns."""
        expanded = generator.normal(size=(rows, columns)).astype(np.float32)

        def run() -> None:
            for _ in range(UTTERANCES * FRAMES // rows):
                (expanded @ parameters).T @ expanded[:, :kept]

        return run

    print(f"{len(ubm.weights)} components                      ours us/frame  products  ratio (limit 2)")
    results = []
    for name, run, rows, kept in (
        ("Baum-Welch statistics", lambda: utterance_statistics(ubm, utterances), FRAMES, 1 + DIM),
        ("E step of the UBM", lambda: accumulate_ubm(ubm, utterances), 960, columns),
    ):
        ours, needed = (value / (UTTERANCES * FRAMES) for value in seconds(run, products(rows, kept)))
        print(f"{name:<34}{ours * 1e6:13.2f}{needed * 1e6:10.2f}{ours / needed:7.2f}")
        results.append(ours)
    return results[0], results[1]


def estimate(
    ubm: Ubm, utterances: list[NDArray[np.float32]], dim: int, hours: float, aligned: tuple[float, float]
) -> None:
    """Print how long each step of a training takes."""
    total_frames = hours * 360_000
    total_utterances = total_frames / FRAMES
    samples = np.random.default_rng(2).normal(scale=0.1, size=160 * FRAMES).astype(np.float32)
    mfcc = MfccExtractor()
    sample = np.concatenate(utterances)
    sample = np.tile(sample, (SAMPLE // len(sample) + 1, 1))[:SAMPLE]
    few = utterance_statistics(ubm, utterances)
    copies = 6  # so that allocating the sums is a small part
    statistics = UtteranceStatistics(np.tile(few.counts, (copies, 1)), np.tile(few.first, (copies, 1, 1)))
    extractor = initial_extractor(ubm, dim, seed=0)
    sums = accumulate_extractor(extractor, statistics)
    many = type(sums)(**{**vars(sums), "utterances": np.asarray(total_utterances)})
    front, first, step, update, extraction = seconds(
        lambda: speech_features(mfcc(samples)),
        lambda: initial_ubm(sample, len(ubm.weights), seed=0),
        lambda: accumulate_extractor(extractor, statistics),
        lambda: update_extractor(extractor, many),
        lambda: ivectors(extractor, statistics),
        rounds=3,
    )
    (m_step,) = seconds(lambda: update_ubm(accumulate_ubm(ubm, utterances)), rounds=1)
    share = total_utterances / len(statistics)
    steps = [
        ("MFCC, VAD, deltas, CMVN", front * total_utterances),
        (f"k-means on {SAMPLE} frames", first),
        (f"UBM, {UBM_ITERATIONS} iterations", UBM_ITERATIONS * (aligned[1] * total_frames + m_step)),
        ("Baum-Welch statistics", aligned[0] * total_frames),
        (f"extractor, {EXTRACTOR_ITERATIONS} iterations", EXTRACTOR_ITERATIONS * (step * share + update)),
        ("i-vectors", extraction * share),
    ]
    print(f"\n{hours:g} hours of speech, {len(ubm.weights)} components, {dim} dimensions      processor minutes")
    for name, duration in [
        *steps,
        ("total (limit 60: half an hour on two cores)", sum(duration for _, duration in steps)),
    ]:
        print(f"{name:<52}{duration / 60:8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--components", type=int, default=512)
    parser.add_argument("--dim", type=int, default=200)
    parser.add_argument("--hours", type=float, default=10.0)
    options = parser.parse_args()
    ubm, utterances = made_up(options.components)
    aligned = compare_alignment(ubm, utterances)
    estimate(ubm, utterances, options.dim, options.hours, aligned)


if __name__ == "__main__":
    main()
