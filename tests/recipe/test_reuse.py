"""Experiments that are reused, names that a shell would take for commands, and Ctrl-C."""

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
import soundfile
import torch

from tests.recipe.tiny import EXP, Recipe, copy_audio_tables, make_recipe

#: A folder and a name with everything that is special to shells, launchers and tables.
ODD_FOLDER = "R&D $(touch pwned1) it's;JOB"
ODD_NAME = "x;touch${IFS}pwned2 JOB & 'y' \"z\""


def networks(exp: Path) -> dict[str, bytes]:
    return {str(path.relative_to(exp)): path.read_bytes() for path in sorted(exp.glob("*/checkpoint_*.pt"))}


# ---- finished networks -----------------------------------------------------------------------------------


def test_a_finished_network_is_never_replaced_unasked(copied: Recipe) -> None:
    exp = copied.folder / EXP
    before = networks(exp)
    for setting, stage, changed in (
        ("softmax.epochs=3", "softmax", "softmax.epochs changed from 2 to 3"),
        ("triplet.margin=0.3", "triplet", "triplet.margin changed from 0.2 to 0.3"),
        ("model.blocks=2", "softmax", "model.blocks changed from 1 to 2"),
    ):
        done = copied.run("--set", setting)
        assert done.returncode == 1
        assert done.stderr == (
            f"deepspeaker: {EXP}/{stage}: contains a network of another training ({changed}); name another "
            "--exp, or replace the network with --overwrite true\n"
        )
        assert networks(exp) == before
    # The old results still count as finished.
    assert copied.run().stdout.count("finished already, skipped") == 11


def test_the_saved_configuration_of_an_experiment_changes_nothing(copied: Recipe) -> None:
    exp = copied.folder / EXP
    before = networks(exp)
    copied.settings = {}
    for saved in (exp / "softmax/config.yaml", exp / "config.yaml"):
        done = copied.run("--exp", Path(EXP).name, "--config", str(saved))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("finished already, skipped") == 11
    assert networks(exp) == before


def train_softmax(recipe: Recipe, *options: str) -> subprocess.CompletedProcess[str]:
    """Run stage 3 as run.sh does."""
    options = ("--config", "conf/demo.yaml", "--if-needed", "true", *options)
    return recipe.run(*options, "data/demo", EXP, script="local/3_softmax.sh")


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


def test_a_share_of_the_training_part_uses_the_features_of_the_whole(copied: Recipe) -> None:
    options = ("--train-speakers-share", "0.5", "--stop-stage", "3")
    done = copied.run(*options)
    assert done.returncode == 0, done.stderr
    assert "stage 2 (data/demo/train): finished already, skipped" in done.stdout
    assert "data/demo_speakers50/train: 3 of 6 speakers, 33 of 66 utterances" in done.stdout
    network = torch.load(
        copied.folder / "exp/demo_speakers50_demo/softmax/checkpoint_last.pt", weights_only=True, map_location="cpu"
    )
    assert len(network["speakers"]) == 3
    assert copied.run(*options).stdout.count("finished already, skipped") == 7
    assert copied.run().stdout.count("finished already, skipped") == 11  # the whole is as it was


@pytest.mark.parametrize("pretrained", [True, False])
def test_triplets_alone_make_an_experiment_of_two_systems(finished: Recipe, recipe: Recipe, pretrained: bool) -> None:
    (recipe.folder / "data").mkdir()
    (recipe.folder / "data/demo").symlink_to(finished.folder / "data/demo")
    options = ["--exp", "alone", "--pretraining", "false"]
    start = finished.folder / EXP / "softmax/checkpoint_last.pt"
    if pretrained:
        options += ["--init-from", str(start)]
    done = recipe.run(*options)
    assert done.returncode == 0, done.stdout + done.stderr
    exp = recipe.folder / "exp/alone"
    assert "stage 3" not in done.stdout and not (exp / "softmax").exists()
    results = json.loads((exp / "results.json").read_text())
    assert [s["name"] for s in results["systems"] if s["trials"] == "trials_all"] == ["untrained", "triplet"]
    first = start if pretrained else finished.folder / EXP / "untrained/checkpoint_last.pt"
    weights = [torch.load(p, weights_only=True)["network"] for p in (first, exp / "untrained/checkpoint_last.pt")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
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


# ---- odd names -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(finished: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A run on a corpus in a folder with an odd name, in an experiment with an odd name."""
    recipe = make_recipe(tmp_path_factory.mktemp("odd"))
    corpus = recipe.folder.parents[1] / ODD_FOLDER / "LibriSpeech"
    shutil.copytree(finished.folder / "data/demo/corpus", corpus, copy_function=os.link)
    done = recipe.run(*odd_options(recipe), "--test-parts", "demo-test", "--nj", "2", "--max-skipped", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    return recipe


def odd_options(recipe: Recipe) -> list[str]:
    corpus = recipe.folder.parents[1] / ODD_FOLDER / "LibriSpeech"
    options = ["--corpus", "librispeech", "--corpus-dir", str(corpus), "--exp", ODD_NAME, "--config", "conf/demo.yaml"]
    return [*options, "--train-parts", "demo-train", "--dev-parts", "demo-dev"]


def test_odd_names_reach_every_stage_and_are_never_run(odd: Recipe, finished: Recipe) -> None:
    exp = odd.folder / "exp" / ODD_NAME
    ours, theirs = (json.loads((e / "results.json").read_text()) for e in (exp, finished.folder / EXP))
    assert ours["systems"] == theirs["systems"]
    assert networks(exp).keys() == networks(finished.folder / EXP).keys()
    assert (exp / "report.html").is_file()
    assert not list(odd.folder.parents[1].rglob("pwned*"))
    assert sorted(path.name for path in (odd.folder / "exp").iterdir()) == [ODD_NAME]


def test_another_test_part_does_not_touch_features_or_networks(odd: Recipe) -> None:
    exp, data = odd.folder / "exp" / ODD_NAME, odd.folder / "data/librispeech"
    corpus = odd.folder.parents[1] / ODD_FOLDER / "LibriSpeech"
    speakers = sorted(path.name for path in (corpus / "demo-test").iterdir())
    for speaker in speakers[:7]:
        shutil.copytree(corpus / "demo-test" / speaker, corpus / "other-test" / speaker, copy_function=os.link)
    before = networks(exp), {path: path.stat().st_mtime_ns for path in data.glob("*_nosil/*.ark")}
    options = ["--test-parts", "other-test", "--max-skipped", "7", "--set", "scoring.bootstrap=0"]
    done = odd.run(*odd_options(odd), *options)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for finished in ("2 (data/librispeech/train)", "2 (data/librispeech/dev)", *(
        f"{n} (exp/{ODD_NAME}/{name})" for n, name in ((3, "softmax"), (4, "triplet"))
    )):  # fmt: skip
        assert f"stage {finished}: finished already, skipped" in lines
    for again in ("stage 1", "stage 2 (data/librispeech/test)", "stage 5", "stage 6", "stage 7"):
        assert any(line.startswith(again) and "starts" in line for line in lines), again
    assert networks(exp) == before[0]
    for path, time_ns in before[1].items():
        assert "test_nosil" in str(path) or path.stat().st_mtime_ns == time_ns
    results = json.loads((exp / "results.json").read_text())
    assert results["trials"]["trials_all"]["speakers"] == 7


def test_the_printed_commands_reproduce_the_results(odd: Recipe) -> None:
    """The test above has changed the test part, and the commands must reproduce that."""
    exp = odd.folder / "exp" / ODD_NAME
    markdown = (exp / "RESULTS.md").read_text(encoding="utf-8")
    commands = markdown.partition("## Commands\n\n")[2].partition("\n\n##")[0]
    assert "--max-skipped 7.0" in commands
    script = "set -e\n" + "\n".join(line.removeprefix("    ") for line in commands.splitlines())
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=odd.folder.parents[1],
        env=odd.environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-2].endswith(": OK")
    assert not list(odd.folder.parents[1].rglob("pwned*"))


# ---- a few recordings ------------------------------------------------------------------------------------


def few_recordings(folder: Path, speakers: int = 3, utterances: int = 8) -> Path:
    """Write Kaldi data directories train and test of noise with pauses."""
    generator = np.random.default_rng(0)
    for part, first in (("train", 0), ("test", 50)):
        utt2spk, wav_scp = [], []
        (folder / part / "audio").mkdir(parents=True)
        for speaker in range(first, first + speakers):
            for number in range(utterances):
                name = f"s{speaker:02d}-{number}"
                samples = 0.1 * generator.normal(size=12000)
                samples[6000:] *= 1e-3
                soundfile.write(folder / part / "audio" / f"{name}.wav", samples, 16000)
                utt2spk.append(f"{name} s{speaker:02d}\n")
                wav_scp.append(f"{name} {folder.resolve()}/{part}/audio/{name}.wav\n")
        (folder / part / "utt2spk").write_text("".join(utt2spk))
        (folder / part / "wav.scp").write_text("".join(wav_scp))
    return folder


def test_a_kaldi_corpus_in_an_odd_folder_and_a_bad_file_among_many(recipe: Recipe, tmp_path: Path) -> None:
    corpus = few_recordings(tmp_path / ODD_FOLDER)
    options = ["--corpus", "kaldi", "--corpus-dir", str(corpus), "--stop-stage", "2", "--nj", "2"]
    for name in ("s00-0", "s01-5"):
        (corpus / "train/audio" / f"{name}.wav").write_bytes(b"RIFF no audio")
    done = recipe.run(*options)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("deepspeaker: 2 of 24 train utterances had to be skipped, more than 5 % (first s00-0: ")
    assert last.endswith("or raise --max-skipped")
    done = recipe.run(*options, "--max-skipped", "10")
    assert done.returncode == 0, done.stderr
    assert f"data/{ODD_FOLDER}/train: 22 utterances" in done.stdout
    assert recipe.run(*options, "--max-skipped", "10").stdout.count("finished already, skipped") == 3
    assert not list(tmp_path.rglob("pwned*"))


def test_a_corpus_in_the_folder_that_the_recipe_writes_to_is_refused(recipe: Recipe) -> None:
    corpus = few_recordings(recipe.folder / "data/mine", speakers=2, utterances=2)
    (corpus / "test/trials").write_text("s50-0 s50-1 target\n")
    before = {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    done = recipe.run("--corpus", "kaldi", "--corpus-dir", str(corpus))
    assert (done.returncode, done.stdout) == (1, "")
    error = f"--corpus-dir {corpus}: run.sh writes to this folder; move the corpus elsewhere"
    assert done.stderr == f"deepspeaker: {error}\n"
    assert {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()} == before


def test_environment_variables_are_not_options(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("seed", "max_skipped", "nj", "corpus", "stage"):
        monkeypatch.setenv(name, "7")
    corpus = few_recordings(recipe.folder / "few", speakers=2, utterances=2)
    options = ("--corpus", "kaldi", "--corpus-dir", str(corpus), "data/x")
    done = recipe.run("--seed", "3", *options, script="local/1_data.sh")
    assert done.returncode == 0, done.stderr
    settings = json.loads((recipe.folder / "data/x/.done.1").read_text())["settings"]
    assert (settings["--seed"], settings["--max-skipped"]) == (3, 5.0)


def test_unknown_arguments_and_options_of_a_stage_are_refused(recipe: Recipe) -> None:
    for script, options, error in (
        ("local/6_score.sh", ["data/x", "exp/x", "--trials", "list"], "give options and then the arguments data/C"),
        ("local/7_report.sh", ["--bogus", "1", "data/x", "exp/x"], "No such option '--bogus'"),
        ("local/0_corpus.sh", ["--bogus", "1", "data/x"], "No such option '--bogus'"),
        ("local/3_softmax.sh", ["data/typo", "exp/typo"], "data/typo: no such folder; run the earlier stages first"),
    ):
        done = recipe.run(*options, script=script)
        assert done.returncode > 0 and len(done.stderr.splitlines()) == 1 and error in done.stderr, done.stderr
    assert not (recipe.folder / "exp").exists() and not (recipe.folder / "data").exists()


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
    for name in ("fbank.1.ark", "fbank.2.ark", "vad.1.ark", "utt2num_frames"):
        assert (data / name).read_bytes() == (before / name).read_bytes()


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
