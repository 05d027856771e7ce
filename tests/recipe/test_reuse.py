"""Experiments that are reused, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from deepspeaker.config import load_config
from tests.recipe.tiny import EXP, Recipe, copy_audio_tables, networks

# ---- finished networks -----------------------------------------------------------------------------------


def train_softmax(recipe: Recipe, *options: str) -> subprocess.CompletedProcess[str]:
    """Run stage 3 as run.sh does."""
    options = ("--config", "conf/demo.yaml", "--if-needed", "true", *options)
    return recipe.run(*options, "data/demo", EXP, script="local/3_softmax.sh")


def test_a_finished_network_is_never_replaced_unasked(copied: Recipe) -> None:
    exp = copied.folder / EXP
    before = networks(exp)
    for done, stage, changed in (
        (copied.run("--set", "triplet.margin=0.3"), "triplet", "triplet.margin changed from 0.2 to 0.3"),
        (train_softmax(copied, "--set", "softmax.epochs=3"), "softmax", "softmax.epochs changed from 2 to 3"),
        (train_softmax(copied, "--set", "model.blocks=2"), "softmax", "model.blocks changed from 1 to 2"),
    ):
        assert done.returncode == 1
        assert done.stderr == (
            f"deepspeaker: {EXP}/{stage}: contains a network of another training ({changed}); name another "
            "--exp, or replace the network with --overwrite true\n"
        )
        assert networks(exp) == before
    # The old results still count as finished. The saved configuration is the one that was used.
    assert load_config(exp / "softmax/config.yaml") == load_config(exp / "config.yaml")
    copied.settings = {}
    done = copied.run("--exp", Path(EXP).name, "--config", str(exp / "config.yaml"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished already, skipped") == 11
    assert networks(exp) == before


def test_a_network_whose_mark_is_lost_is_kept(copied: Recipe) -> None:
    exp = copied.folder / EXP
    before = networks(exp)
    for damage in ("", "junk"):
        (exp / "softmax/.done.3").unlink()
        if damage:
            (exp / "softmax/.done.3").write_text(damage)
        done = train_softmax(copied)
        assert done.returncode == 1 and "contains a network of another training (its mark is lost)" in done.stderr
        assert networks(exp) == before
        (exp / "softmax/.done.3").touch()


def test_an_interrupted_training_with_other_settings_is_also_kept(copied: Recipe) -> None:
    softmax = copied.folder / EXP / "softmax"
    mark = json.loads((softmax / ".done.3").read_text())
    (softmax / ".done.3").rename(softmax / ".begun.3")
    before = networks(softmax.parent)
    done = train_softmax(copied, "--set", "softmax.epochs=3")
    assert done.returncode == 1 and "softmax.epochs changed from 2 to 3" in done.stderr
    assert networks(softmax.parent) == before
    assert mark["settings"] == json.loads((softmax / ".begun.3").read_text())["settings"]


def test_a_training_of_an_older_version_without_a_new_key_continues(copied: Recipe) -> None:
    softmax = copied.folder / EXP / "softmax"
    before = networks(softmax)
    mark = json.loads((softmax / ".done.3").read_text())
    del mark["settings"]["softmax.accumulate"], mark["settings"]["model.embedding_dim"]
    (softmax / ".begun.3").write_text(json.dumps(mark))
    (softmax / ".done.3").unlink()
    checkpoint = torch.load(softmax / "checkpoint_last.pt", weights_only=True)
    del checkpoint["config"]["softmax"]["accumulate"], checkpoint["config"]["model"]["embedding_dim"]
    torch.save(checkpoint, softmax / "checkpoint_last.pt")
    done = train_softmax(copied)
    assert done.returncode == 0, done.stderr
    assert f"stage 3 ({EXP}/softmax): continues: it did not finish" in done.stdout
    assert networks(softmax).keys() == before.keys()


def test_a_network_is_replaced_when_the_user_asks_for_it(copied: Recipe) -> None:
    exp = copied.folder / EXP
    before = networks(exp)
    done = copied.run("--set", "softmax.epochs=1", "--overwrite", "true", "--stop-stage", "3")
    assert done.returncode == 0, done.stderr
    assert f"stage 3 ({EXP}/softmax): starts: softmax.epochs changed from 2 to 1" in done.stdout
    after = networks(exp)
    assert after["softmax/checkpoint_last.pt"] != before["softmax/checkpoint_last.pt"]
    assert after["triplet/checkpoint_last.pt"] == before["triplet/checkpoint_last.pt"]
    # --stage 4 also counts as asking. The network of stage 4 was trained from the old one of stage 3.
    done = copied.run("--set", "softmax.epochs=1", "--stage", "4", "--stop-stage", "4")
    assert done.returncode == 0, done.stderr
    assert f"stage 4 ({EXP}/triplet): starts: stage 3 (softmax) changed" in done.stdout
    assert networks(exp)["triplet/checkpoint_last.pt"] != before["triplet/checkpoint_last.pt"]


def test_a_share_of_the_training_part_uses_the_features_of_the_whole(linked: Recipe) -> None:
    options = ("--train-speakers-share", "0.5", "--stop-stage", "3")
    done = linked.run(*options)
    assert done.returncode == 0, done.stderr
    assert "stage 2 (data/demo/train): finished already, skipped" in done.stdout
    assert "data/demo_speakers50/train: 3 of 6 speakers, 33 of 66 utterances" in done.stdout
    network = torch.load(
        linked.folder / "exp/demo_speakers50_demo/softmax/checkpoint_last.pt", weights_only=True, map_location="cpu"
    )
    assert len(network["speakers"]) == 3
    assert linked.run(*options).stdout.count("finished already, skipped") == 7
    assert linked.run("--stop-stage", "3").stdout.count("finished already, skipped") == 6  # the whole is as it was


@pytest.mark.parametrize("pretrained", [True, False])
def test_triplets_alone_make_an_experiment_of_two_systems(finished: Recipe, recipe: Recipe, pretrained: bool) -> None:
    (recipe.folder / "data").mkdir()
    (recipe.folder / "data/demo").symlink_to(finished.folder / "data/demo")
    options = ["--exp", "alone", "--pretraining", "false"]
    start = finished.folder / EXP / "softmax/checkpoint_last.pt"
    if pretrained:
        options += ["--init-from", str(start)]
    done = recipe.run(*options, "--stop-stage", "8" if pretrained else "4")
    assert done.returncode == 0, done.stdout + done.stderr
    exp = recipe.folder / "exp/alone"
    assert "stage 3" not in done.stdout and not (exp / "softmax").exists()
    first = start if pretrained else finished.folder / EXP / "untrained/checkpoint_last.pt"
    weights = [torch.load(p, weights_only=True)["network"] for p in (first, exp / "untrained/checkpoint_last.pt")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    if not pretrained:
        return  # the later stages do not know where the training started
    results = json.loads((exp / "results.json").read_text())
    assert [s["name"] for s in results["systems"] if s["trials"] == "trials_all"] == ["untrained", "triplet"]
    assert (exp / "model/model.json").is_file() and (exp / "report.html").is_file()
    assert "--pretraining false" in (exp / "RESULTS.md").read_text()
    again = recipe.run(*options)
    assert again.stdout.count("finished already, skipped") == 10
    other = recipe.run("--exp", "alone")
    assert other.returncode == 1
    assert other.stderr == (
        "deepspeaker: exp/alone: has a network that was trained without pre-training; name another --exp, or add "
        "--pretraining false\n"
    )


# ---- Ctrl-C ----------------------------------------------------------------------------------------------


def interrupted(recipe: Recipe, command: list[str], when: Path, text: str = "") -> tuple[int, str]:
    """Press Ctrl-C when a file contains a text; return the status and stderr."""
    running = subprocess.Popen(
        command,
        cwd=recipe.folder,
        env=recipe.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (when.is_file() and text in when.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does; the launcher's jobs are in other sessions
    stderr = running.communicate(timeout=60)[1]
    return running.returncode, stderr


def test_a_stage_script_runs_alone_and_continues_after_ctrl_c(finished: Recipe, recipe: Recipe) -> None:
    before, data = finished.folder / "data/demo/dev", copy_audio_tables(finished, recipe)
    command = recipe.command("--config", "conf/demo.yaml", "--nj", "2", "data/mine", script="local/2_fbank.sh")
    status, stderr = interrupted(recipe, command, data / "log/fbank.1.log", "Started")
    assert status == 130
    assert stderr.splitlines()[-1] == "stage 2 (data/mine): stopped by SIGINT; the same command continues"
    assert "SIGTERM" not in stderr
    done = subprocess.run(command, cwd=recipe.folder, env=recipe.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "stage 2 (data/mine): continues: it did not finish" in done.stdout
    assert "22 utterances" in done.stdout
    for kind in ("fbank", "vad"):
        arks = [(data / f"{kind}.{job}.ark").read_bytes() for job in (1, 2)]
        assert b"".join(arks) == (before / f"{kind}.1.ark").read_bytes()
    assert (data / "utt2num_frames").read_bytes() == (before / "utt2num_frames").read_bytes()


@pytest.mark.parametrize("nproc", ["1", "2"])
def test_ctrl_c_in_training_saves_the_step_and_names_the_signal(copied: Recipe, nproc: str) -> None:
    exp = copied.folder / f"exp/stopped{nproc}"
    options = ["--config", "conf/demo.yaml", "--set", "softmax.epochs=5000", "--nproc", nproc]
    command = copied.command(*options, "data/demo", f"exp/stopped{nproc}", script="local/3_softmax.sh")
    status, stderr = interrupted(copied, command, exp / "softmax/log/train.log", "epoch 2/")
    assert status == 130
    assert "SIGTERM" not in stderr and "Traceback" not in stderr
    stage = f"stage 3 (exp/stopped{nproc}/softmax)"
    assert stderr.splitlines()[-1] == f"{stage}: stopped by SIGINT; the same command continues"
    assert "stopped by SIGINT" in (exp / "softmax/log/train.log").read_text()
    assert (exp / "softmax/checkpoint_last.pt").is_file()
