"""The i-vector baseline through the shell scripts, on the tiny demo."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from deepspeaker.kaldi import read_table, read_vector
from tests.recipe.tiny import EXP, Recipe, train_ivectors

SIZES = {"components": 4, "dim": 5, "ubm_iterations": 1, "iterations": 2}


@pytest.fixture
def own(linked: Recipe) -> Recipe:
    """A recipe with tiny i-vectors and a finished experiment."""
    linked.settings |= {f"ivector.{key}": value for key, value in SIZES.items()} | {"scoring.bootstrap": 20}
    return linked


def test_a_killed_baseline_continues_and_is_scored_next_to_the_networks(own: Recipe, tmp_path: Path) -> None:
    exp = own.folder / EXP
    command = own.command("--config", "conf/demo.yaml", "--nj", "1", "data/demo", EXP, script="local/5_ivector.sh")
    with (tmp_path / "output").open("w") as output:
        running = subprocess.Popen(command, cwd=own.folder, env=own.environment(), stdout=output, stderr=output)
        deadline = time.monotonic() + 120
        while not (exp / "ivector/.work/extractor.1.npz").exists():
            assert running.poll() is None and time.monotonic() < deadline, (tmp_path / "output").read_text()
            time.sleep(0.02)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    assert not (exp / "ivector/network.json").exists()

    done = own.run("--ivector", "true", "--nj", "1", "--stop-stage", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stage 5 (exp/demo_demo/ivector): continues: it did not finish" in done.stdout
    assert "stage 5 (data/demo/train_mfcc): finished already, skipped" in done.stdout
    assert "UBM, iteration" not in done.stdout  # finished before
    assert "total variability, iteration 2 of 2: log-likelihood per frame " in done.stdout
    arks = {}
    for num_jobs in (1, 3):
        train_ivectors(own.folder / "data/demo", tmp_path / f"{num_jobs}/ivector", num_jobs, SIZES)
        table = read_table(tmp_path / f"{num_jobs}/ivector/embeddings_test/xvector.scp")
        arks[num_jobs] = np.stack([read_vector(location) for location in table.values()])
    table = read_table(exp / "ivector/embeddings_test/xvector.scp")
    found = np.stack([read_vector(location) for location in table.values()])
    assert np.array_equal(found, arks[1])
    assert np.allclose(found, arks[3], atol=1e-3)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert len(found) == 110 and {path.name for path in exp.glob("ivector/embeddings_*")} == {
        "embeddings_train",
        "embeddings_dev",
        "embeddings_test",
    }

    results = json.loads((exp / "results.json").read_text())
    rows = [(s["name"], s["backend"]) for s in results["systems"] if s["trials"] == "trials_all"]
    networks = ("untrained", "softmax", "triplet")
    assert rows == [("untrained", "cosine"), ("ivector", "plda"), ("softmax", "cosine"), ("triplet", "cosine")]
    (system,) = [s for s in results["systems"] if (s["name"], s["trials"]) == ("ivector", "trials_all")]
    assert (system["model"], system["parameters"]) == ("ivector", 4 + 2 * 4 * 60 + 4 * 60 * 5)
    assert 0 <= system["eer"] < 0.5
    assert results["config"]["ivector"]["dim"] == 5 and results["config"]["ivector"]["backends"] == ["plda"]
    compared = [tuple(c["systems"]) for c in results["comparisons"] if c["trials"] == "trials_all"]
    assert {(network, "ivector") for network in networks} <= set(compared)
    enrolled = [row["utterances"] for row in results["enrolment_table"] if row["name"] == "ivector"]
    assert enrolled == [1, 2, 3, 4, 5] * 2  # averaged and exact
    report = (exp / "RESULTS.md").read_text()
    assert "| ivector | plda |" in report and "- ivector, 1,684 parameters" in report
    assert "--ivector true" in report
    assert "ivector, plda" in (exp / "report.html").read_text()
    assert f"{100 * system['eer']:.2f} % ivector" in done.stdout.splitlines()[-3]

    options = ("--config", "conf/demo.yaml", "--nj", "2", "--set", "ivector.lda_dim=2", "--if-needed", "true")
    changed = own.run(*options, "data/demo", EXP, script="local/5_ivector.sh")
    assert changed.stdout.count("finished already, skipped") == 4  # only stage 6 reads that key


def test_too_many_components_stop_the_run_before_a_network_is_trained(own: Recipe) -> None:
    done = own.run("--exp", "new", "--ivector", "true", "--set", "ivector.components=100000")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("deepspeaker: ivector.components 100000 needs 1000000 frames of speech, data/demo/train has")
    assert not (own.folder / "exp/new").exists()


def test_a_corpus_of_features_stops_the_run_before_anything_starts(own: Recipe, tmp_path: Path) -> None:
    for part in ("train", "test"):
        shutil.copytree(own.folder / f"data/demo/{part}_nosil", tmp_path / "mine" / part)
    done = own.run("--corpus", "kaldi", "--corpus-dir", str(tmp_path / "mine"), "--ivector", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"deepspeaker: --ivector true: {tmp_path}/mine/train has no wav.scp, but the MFCCs of i-vectors are computed "
        "from audio; add it, or leave out --ivector\n"
    )
    done = own.run("--corpus", "kaldi", "--corpus-dir", str(tmp_path / "mine"), "--stop-stage", "2")
    assert done.returncode == 0, done.stderr
    alone = own.run("data/mine", "exp/mine", script="local/5_ivector.sh")
    assert alone.returncode == 1
    assert alone.stderr.startswith("deepspeaker: data/mine/train/wav.scp: no such file, but MFCCs are computed from")
