"""run.sh on a folder of recordings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from deepspeaker.kaldi import read_table
from tests.recipe.tiny import Recipe

SPEAKERS = ["anna", "ben", "it's $(touch pwned);"]


def record(path: Path, seed: int) -> None:
    """Write half a second of noise, then near silence."""
    samples = 0.1 * np.random.default_rng(seed).normal(size=16000)
    samples[8000:] *= 1e-3
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, 16000)


def test_three_speakers_with_two_files_each_are_enough_for_a_whole_run(recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "my recordings"
    for number, speaker in enumerate(SPEAKERS):
        record(folder / speaker / "monday/1.wav", 2 * number)
        record(folder / speaker / "tuesday/1.flac", 2 * number + 1)
    trials = tmp_path / "veri_test.txt"
    trials.write_text("1 anna/monday/1.wav anna/tuesday/1.flac\n0 anna/monday/1.wav ben/tuesday/1.flac\n")
    options = ["--corpus", "folder", "--corpus-dir", str(folder), "--session-level", "1", "--trials", str(trials)]
    done = recipe.run(*options, "--nj", "1", "--set", "scoring.hard_nontargets=0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 speakers are too few to test on other speakers than those of training" in done.stdout
    assert "Expect worse results for new speakers." in done.stdout
    data, exp = recipe.folder / "data/my recordings", recipe.folder / "exp/my recordings_default"
    assert (exp / "report.html").is_file()
    assert read_table(data / "test/utt2session")["it's_$(touch_pwned);-monday-1"] == "it's_$(touch_pwned);-monday"
    results = json.loads((exp / "results.json").read_text())
    triplet, mine = results["systems"][-2:]
    assert [(s["name"], s["trials"], s["shared_speakers"]) for s in (triplet, mine)] == [
        ("triplet", "trials_all", 3),
        ("triplet", "veri_test.txt", 2),
    ]
    conditions = {(c["by"], c["value"]): (c["target"], c["nontarget"]) for c in triplet["conditions"]}
    assert conditions["session", "different"] == (3, 12)
    assert ("session", "same") not in conditions
    pairs = [line.split()[:2] for line in (exp / "trials/veri_test.txt").read_text().splitlines()]
    assert pairs == [["anna-monday-1", "anna-tuesday-1"], ["anna-monday-1", "ben-tuesday-1"]]
    assert not list(tmp_path.rglob("pwned*"))
