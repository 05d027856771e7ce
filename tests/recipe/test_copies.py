"""run.sh with augmented copies of the training part and degraded copies of the test part."""

from __future__ import annotations

import json

from deepspeaker.kaldi import read_table
from deepspeaker.models import load_checkpoint
from tests.recipe.tiny import Recipe


def test_a_run_with_copies_killed_in_stage_2_trains_and_tests_on_them(linked: Recipe) -> None:
    linked.settings |= {
        "augment.copies": "[noise, {kind: speed, factor: 0.9}]",
        "conditions.copies": "[clean, {kind: noise, snr: [10, 10]}, {kind: seconds, seconds: 1}]",
    }
    options = ("--exp", "copies", "--stop-stage", "6")
    data, exp = linked.folder / "data/demo", linked.folder / "exp/copies"
    linked.kill(data / "train_noise_nosil", *options, "--nj", "2")
    assert not (data / "train_noise/.done.2").exists()
    done = linked.run(*options, "--nj", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "data/demo/train: 2 copies of " in done.stderr and "(noise, sp0.9) have " in done.stderr

    utterances = read_table(data / "train/utt2spk")
    for copy, speaker_prefix in (("noise", ""), ("sp0.9", "sp0.9-")):
        speakers = read_table(data / f"train_{copy}_nosil/utt2spk")
        originals = read_table(data / f"train_{copy}_nosil/utt2uniq")
        assert sorted(originals.values()) == sorted(utterances)
        assert all(speakers[name] == speaker_prefix + utterances[originals[name]] for name in speakers)
    softmax = load_checkpoint(exp / "softmax/checkpoint_last.pt")
    (classifier,) = [value for name, value in softmax["objective"].items() if name == "classifier.weight"]
    assert len(classifier) == 2 * len(set(utterances.values()))  # the speakers as recorded, and slower

    results = json.loads((exp / "results.json").read_text())
    (tested,) = [s for s in results["systems"] if (s["name"], s["trials"]) == ("triplet", "trials_conditions")]
    assert [group["value"] for group in tested["conditions"] if group["by"] == "condition"] == [
        "clean", "noise10dB", "1s"
    ]  # fmt: skip
