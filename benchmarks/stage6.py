"""Time stage 6 on a test part like LibriSpeech's, and compare it with the matrix products and files that it needs.

    python -m benchmarks.stage6 [UTTERANCES]      (default 65 of each of 40 test speakers: 3.4 million trials)

The embeddings are random, scattered about the mean of each speaker: 251 training speakers with 20 utterances each, 40
development speakers with 10, 512 dimensions. Three systems are scored by six back ends on all lists of stage 1, with
1000 bootstrap draws. The limit, measured in the same run, is the cosine matrix of the test utterances and a score file
of ``trials_all`` by polars, for each system and back end.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from deepspeaker.config import Config
from deepspeaker.kaldi import ArkWriter, write_table
from deepspeaker.trials import write_trials_1p99, write_trials_all, write_trials_enrol

DIM = 512
BACKENDS = ["cosine", "mean-subtracted", "plda", "as-norm", "calibrated", "fused"]
#: How far the utterances of a speaker scatter, for each system.
NOISE = {"untrained": 4.0, "softmax": 1.6, "triplet": 1.4}


def make_part(root: Path, part: str, speakers: int, utterances: int, seed: int) -> dict[str, str]:
    """Write the tables of a part and its embeddings by all systems."""
    utt2spk = {f"{part}{s:03d}-{u:02d}": f"{part}{s:03d}" for s in range(speakers) for u in range(utterances)}
    for name in (part, f"{part}_nosil"):
        write_table(root / "data" / name / "utt2spk", utt2spk)
        write_table(root / "data" / name / "utt2num_frames", dict.fromkeys(utt2spk, "800"))
    generator = np.random.default_rng(seed)
    means = generator.normal(size=(speakers, DIM))
    for system, noise in NOISE.items():
        folder = root / "exp" / system / f"embeddings_{part}"
        vectors = means.repeat(utterances, axis=0) + noise * generator.normal(size=(len(utt2spk), DIM))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        with ArkWriter(folder / "xvector.1.ark", folder / "xvector.scp") as writer:
            for utterance, vector in zip(utt2spk, vectors.astype(np.float32), strict=True):
                writer.write(utterance, vector)
    return utt2spk


def make_experiment(root: Path, utterances: int) -> tuple[int, int]:
    """Write what stage 6 reads, and return the numbers of target and non-target trials of ``trials_all``."""
    make_part(root, "train", 251, 20, 1)
    make_part(root, "dev", 40, 10, 2)
    utt2spk = make_part(root, "test", 40, utterances, 3)
    (root / "data" / "corpus.json").write_text('{"corpus": "random", "synthetic": true}', encoding="utf-8")
    for system in NOISE:
        config = Config().model_dump()
        network: dict[str, object] = {"checkpoint": "none", "reason": "", "parameters": 0}
        network |= {"stage": system, "config": config, "speakers": []}
        (root / "exp" / system / "network.json").write_text(json.dumps(network), encoding="utf-8")
        if system != "untrained":
            (root / "exp" / system / "train.csv").write_text("epoch,step,loss,dev_eer\n1,1,1.0,0.1\n", encoding="utf-8")
    counts = write_trials_all(root / "data/test/trials_all", utt2spk, 0)
    write_trials_1p99(root / "data/test/trials_1p99", utt2spk, 0)
    write_trials_enrol(root / "data/test", utt2spk, 0)
    return counts


def limit(root: Path, utterances: int) -> float:
    """Return the seconds of one cosine matrix and one score file."""
    vectors = np.random.default_rng(0).normal(size=(40 * utterances, DIM)).astype(np.float32)
    trials = pl.read_csv(root / "data/test/trials_all", separator=" ", has_header=False)
    begin = time.perf_counter()
    scores = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    table = trials.select("column_1", "column_2").with_columns(score=pl.Series(scores[: len(trials)]))
    table.write_csv(root / "scores", separator=" ", include_header=False, float_precision=6)
    return time.perf_counter() - begin


def main() -> None:
    utterances = int(sys.argv[1]) if len(sys.argv) > 1 else 65
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        targets, nontargets = make_experiment(root, utterances)
        scored = f"{len(NOISE)} systems, {len(BACKENDS)} back ends"
        print(f"trials_all: {targets} target, {nontargets} non-target trials; {scored}")
        bare = limit(root, utterances) * len(NOISE) * len(BACKENDS)
        config = root / "config.yaml"
        config.write_text(f"scoring: {{backends: [{', '.join(BACKENDS)}]}}\n", encoding="utf-8")
        command = [sys.executable, "-m", "deepspeaker", "score", "--config", str(config)]
        begin = time.perf_counter()
        subprocess.run(
            [*command, "--data-dir", str(root / "data"), "--exp-dir", str(root / "exp")],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - begin
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"stage 6: {seconds:.0f} s, {usage.ru_utime + usage.ru_stime:.0f} s of processor time, "
            f"{usage.ru_maxrss / 2**20:.1f} GiB; {seconds / bare:.1f} times the matrices and files ({bare:.0f} s)"
        )


if __name__ == "__main__":
    main()
