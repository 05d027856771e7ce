from __future__ import annotations

import csv
import re
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

import deepspeaker
from deepspeaker.cli import commands
from deepspeaker.config import Config, Features, dump_config, load_config
from deepspeaker.embedding import choose_checkpoint
from deepspeaker.features import FeatureIndex, vtlp_matrix
from deepspeaker.models import ResCNN, build_model, load_checkpoint, network_of, save_checkpoint
from deepspeaker.report import plot_training
from deepspeaker.training import (
    SoftmaxObjective,
    UtteranceSampler,
    fast_precision,
    train_softmax,
    train_triplet,
    triplet_loss,
)
from tests.training.tiny import SMALL, environment, refusal


def config_with(**sections: dict[str, Any]) -> Config:
    return Config.model_validate({name: {**SMALL[name], **sections.get(name, {})} for name in SMALL})


CONFIG = config_with()


def softmax(data_dir: Path, exp_dir: Path, config: Config = CONFIG, seed: int = 1) -> None:
    train_softmax(config, data_dir, exp_dir, seed, "auto" if not torch.cuda.is_available() else "cpu", False)


def triplet(data_dir: Path, exp_dir: Path, config: Config = CONFIG, seed: int = 1, **start: Any) -> None:
    train_triplet(config, data_dir, exp_dir, seed, "cpu", False, **start)


def test_both_stages_write_the_files_of_the_design(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    softmax(data_dir, tmp_path)
    triplet(data_dir, tmp_path)
    output = capsys.readouterr().out
    assert "8 speakers (0 with a single utterance), 32 utterances, 8 bins\n" in output
    parameters = sum(p.numel() for p in build_model(8, **SMALL["model"]).parameters())
    for stage in ("softmax", "triplet"):
        assert f"rescnn: {parameters:,} parameters; {stage} training, 2 epochs of 4 steps; 1 x cpu, float32, " in output
        checkpoints = {f"checkpoint_{name}.pt" for name in ("last", "best", "average")}
        names = {path.name for path in (tmp_path / stage).iterdir()}
        assert names == checkpoints | {"config.yaml", "train.csv", "tensorboard"}
        used = yaml.safe_load((tmp_path / stage / "config.yaml").read_text(encoding="utf-8"))
        assert used == CONFIG.model_dump()
        assert load_checkpoint(tmp_path / stage / "checkpoint_last.pt")["config"] == used
    assert re.findall(r"epoch \d/2", output) == ["epoch 1/2", "epoch 2/2"] * 2
    assert "active triplets" in output
    assert "utterances/s" in output


def test_the_untrained_network_is_kept(data_dir: Path, tmp_path: Path) -> None:
    softmax(data_dir, tmp_path, seed=7)
    torch.manual_seed(7)
    fresh = build_model(8, **CONFIG.model.model_dump()).state_dict()
    content = load_checkpoint(tmp_path / "untrained" / "checkpoint_last.pt")
    assert content["stage"] == "untrained"
    assert content["speakers"] == [f"t{number:02d}" for number in range(8)]
    assert all(torch.equal(content["network"][name], tensor) for name, tensor in fresh.items())
    trained = load_checkpoint(tmp_path / "softmax" / "checkpoint_last.pt")["network"]
    assert not torch.equal(trained["affine.weight"], fresh["affine.weight"])


def test_triplets_alone_start_from_fresh_weights_or_from_another_trainings(
    data_dir: Path, tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    options = {"sampler": "pairs", "pairs_per_batch": 5, "early_steps": 2, "vtlp": [0.9]}
    config = config_with(triplet=options)
    triplet(data_dir, tmp_path / "fresh", config, seed=7, pretraining=False)
    torch.manual_seed(7)
    fresh = build_model(8, **CONFIG.model.model_dump()).state_dict()
    content = load_checkpoint(tmp_path / "fresh" / "untrained" / "checkpoint_last.pt")
    assert content["stage"] == "untrained" and content["origin"] == ""
    assert all(torch.equal(content["network"][name], tensor) for name, tensor in fresh.items())
    assert not (tmp_path / "fresh" / "softmax").exists()
    last = tmp_path / "fresh" / "triplet" / "checkpoint_last.pt"
    trained = load_checkpoint(last)
    assert trained["config"]["triplet"]["sampler"] == "pairs"
    assert not torch.equal(trained["network"]["affine.weight"], fresh["affine.weight"])
    # Fine-tuning on other speakers.
    write_features(tmp_path / "other" / "train_nosil", 5, 3, prefix="x")
    triplet(tmp_path / "other", tmp_path / "tuned", config_with(triplet={"epochs": 0}), init_from=last)
    for name in ("untrained", "triplet"):
        content = load_checkpoint(tmp_path / "tuned" / name / "checkpoint_last.pt")
        assert all(torch.equal(content["network"][key], tensor) for key, tensor in trained["network"].items())
        assert content["speakers"] == [f"x{number:02d}" for number in range(5)]
        assert len(content["origin"]) == 64
    line = refusal(
        lambda: triplet(data_dir, tmp_path / "none", config_with(model={"blocks": 2}), init_from=last)
    )
    assert line.startswith(f"{last}: its model differs from this configuration's")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("enough", "which"), [(5, "best"), (6, "last")])
def test_triplet_training_starts_from_the_softmax_weights_that_development_speakers_chose(
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    enough: int,
    which: str,
) -> None:
    """There are five development speakers."""
    monkeypatch.setattr("deepspeaker.embedding.shard.CHOOSING_SPEAKERS", enough)
    softmax(data_dir, tmp_path)
    triplet(data_dir, tmp_path, config_with(triplet={"epochs": 0}))
    before = {name: load_checkpoint(tmp_path / "softmax" / f"checkpoint_{name}.pt") for name in ("best", "last")}
    assert not torch.equal(*(content["network"]["affine.weight"] for content in before.values()))
    after = load_checkpoint(tmp_path / "triplet" / "checkpoint_last.pt")
    assert all(torch.equal(after["network"][name], tensor) for name, tensor in before[which]["network"].items())
    assert after["dev_speakers"] == 5
    assert not after["objective"]["cross_batch_speakers"].numel()
    assert f"starts from {tmp_path}/softmax/checkpoint_{which}.pt (5 development speakers " in capsys.readouterr().out


@pytest.mark.parametrize("threads", [1, 2])
def test_runs_with_one_seed_write_equal_bytes(data_dir: Path, tmp_path: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    for name in ("one", "again"):
        softmax(data_dir, tmp_path / name)
        triplet(data_dir, tmp_path / name)
    for stage in ("softmax", "triplet"):
        for name in ("checkpoint_last.pt", "checkpoint_best.pt", "checkpoint_average.pt", "train.csv", "config.yaml"):
            one, again = (tmp_path / run / stage / name for run in ("one", "again"))
            assert one.read_bytes() == again.read_bytes(), f"{stage}/{name}"
    softmax(data_dir, tmp_path / "other", seed=2)
    one, other = (load_checkpoint(tmp_path / run / "softmax" / "checkpoint_last.pt") for run in ("one", "other"))
    assert not torch.equal(one["network"]["affine.weight"], other["network"]["affine.weight"])


def test_training_without_development_part(
    tmp_path: Path, write_features: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_features(tmp_path / "data" / "train_nosil", 4, 3)
    softmax(tmp_path / "data", tmp_path)
    triplet(tmp_path / "data", tmp_path, config_with(triplet={"patience": 1}))
    output = capsys.readouterr().out
    assert output.count("checkpoint_best is the last one, and patience has no effect\n") == 1
    assert output.count("too few development speakers for a development EER; checkpoint_best is the last one") == 2
    assert output.count("no dev EER") == 4
    assert "dev_eer" not in (tmp_path / "triplet" / "train.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(("speakers", "utterances"), [(1, 6), (6, 1)])
def test_too_few_development_speakers_are_reported(
    tmp_path: Path,
    write_features: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    speakers: int,
    utterances: int,
) -> None:
    write_features(tmp_path / "data" / "train_nosil", 4, 3)
    write_features(tmp_path / "data" / "dev_nosil", speakers, utterances, prefix="d")
    softmax(tmp_path / "data", tmp_path)
    output = capsys.readouterr().out
    assert "too few development speakers" in output
    assert output.count("no dev EER") == 2


def test_speakers_with_a_single_utterance(
    tmp_path: Path, write_features: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_features(tmp_path / "data" / "train_nosil", 5, 1, frames=(20, 50), seed=1)
    softmax(tmp_path / "data", tmp_path)
    triplet(tmp_path / "data", tmp_path)
    output = capsys.readouterr().out
    assert "5 speakers (5 with a single utterance)" in output
    short = sum(frames < 32 for frames in FeatureIndex(tmp_path / "data" / "train_nosil").frames)
    assert 0 < short < 4
    assert f"{short} of 5 speakers left out: one utterance, shorter than two crops of 16 frames" in output
    network = load_checkpoint(tmp_path / "triplet" / "checkpoint_last.pt")["network"]
    assert all(bool(tensor.isfinite().all()) for tensor in network.values())


def test_triplet_training_refuses_another_model_or_other_features(
    data_dir: Path, tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    assert f"{tmp_path}/softmax/checkpoint_best.pt: no such checkpoint" in refusal(lambda: triplet(data_dir, tmp_path))
    softmax(data_dir, tmp_path)
    checkpoint = tmp_path / "softmax" / "checkpoint_last.pt"
    for change in ({"channels": [4, 9]}, {"blocks": 2}, {"batch_norm": "channel"}, {"embedding_dim": 9}):
        line = refusal(lambda: triplet(data_dir, tmp_path, config_with(model=change)))  # noqa: B023
        assert line.startswith(f"{checkpoint}: its model differs from this configuration's; run stage 3 again")
    write_features(tmp_path / "other" / "train_nosil", 3, 2, bins=10)
    line = refusal(lambda: triplet(tmp_path / "other", tmp_path))
    assert line.startswith(f"{checkpoint}: was trained on 8 bins, {tmp_path}/other/train_nosil has 10; train on")
    assert not (tmp_path / "triplet").exists()


def test_wrong_data_is_refused(tmp_path: Path, write_features: Callable[..., Path]) -> None:
    assert "train_nosil/feats.scp: no such file; run stage 2" in refusal(lambda: softmax(tmp_path, tmp_path))
    write_features(tmp_path / "lonely" / "train_nosil", 1, 5)
    assert "training needs two speakers" in refusal(lambda: softmax(tmp_path / "lonely", tmp_path))
    write_features(tmp_path / "mixed" / "train_nosil", 3, 2)
    write_features(tmp_path / "mixed" / "dev_nosil", 3, 2, bins=9)
    assert "dev_nosil: has 9 bins, training 8" in refusal(lambda: softmax(tmp_path / "mixed", tmp_path))
    assert not (tmp_path / "softmax").exists()


def test_sigterm_stops_the_command_with_one_line(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(dump_config(config_with(softmax={"epochs": 2000})), encoding="utf-8")
    command = [sys.executable, "-m", "deepspeaker", "train", "softmax", "--config", tmp_path / "small.yaml"]
    command += ["--seed", "1", "--device", "cpu", "--progress", "false", "--data-dir", data_dir, "--exp-dir", tmp_path]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("epoch 3/"):
                process.send_signal(signal.SIGTERM)
                break
        process.stdout.read()
        (line,) = process.stderr.read().strip().splitlines()
        assert process.wait(60) == 1
    found = re.search(r"stopped by SIGTERM at step (\d+) of 8000; saved; the same command ", line)
    assert found
    state = load_checkpoint(tmp_path / "softmax" / "checkpoint_last.pt")
    assert state["step"] == int(found[1]) >= 12
    assert len(state["history"]) == state["step"] // 4
    assert np.isfinite([row["loss"] for row in state["history"]]).all()


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_training_with_other_settings_is_not_resumed(
    data_dir: Path, tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    exp_dir = tmp_path / "exp"
    softmax(data_dir, exp_dir)
    write_features(tmp_path / "bins" / "train_nosil", 8, 4, prefix="t", bins=10)
    write_features(tmp_path / "others" / "train_nosil", 8, 4, prefix="u")
    write_features(tmp_path / "more" / "train_nosil", 9, 4, prefix="t")
    softmax(data_dir, tmp_path / "start", seed=5)
    start = tmp_path / "start" / "softmax" / "checkpoint_last.pt"
    warped = config_with(softmax={"vtlp": [0.9]})
    softmax(data_dir, tmp_path / "warped", warped)
    before = files_of(tmp_path)
    for other, problem in {
        lambda: softmax(data_dir, exp_dir, config_with(softmax={"epochs": 3})): "softmax.epochs was 2, now it is 3",
        lambda: softmax(data_dir, exp_dir, config_with(softmax={"optimizer": {"learning_rate": 0.5}})): (
            "softmax.optimizer.learning_rate was 0.001, now it is 0.5"
        ),
        lambda: softmax(data_dir, exp_dir, config_with(softmax={"precision": "bfloat16"})): (
            "softmax.precision was float32, now it is bfloat16"
        ),
        lambda: softmax(data_dir, exp_dir, config_with(model={"blocks": 2, "channels": [4, 9]})): (
            "model.channels was [4, 8], now it is [4, 9], model.blocks was 1, now it is 2"
        ),
        lambda: softmax(data_dir, exp_dir, seed=2): "seed was 1, now it is 2",
        lambda: softmax(tmp_path / "bins", exp_dir): "feature_dim was 8, now it is 10",
        lambda: softmax(tmp_path / "others", exp_dir): "its 8 speakers are not these 8",
        lambda: softmax(tmp_path / "more", exp_dir): "its 8 speakers are not these 9",
        lambda: train_softmax(CONFIG, data_dir, exp_dir, 1, "cpu", False, start): "it began with other weights",
        lambda: softmax(
            data_dir, tmp_path / "warped", warped.model_copy(update={"features": Features(high_freq=8000)})
        ): "features.high_freq was 7600.0, now it is 8000.0",
    }.items():
        found = refusal(other)
        folder = tmp_path / "warped" / "softmax" if "high_freq" in problem else exp_dir / "softmax"
        assert found.startswith(f"{folder}/checkpoint_last.pt: belongs to another training: {problem}"), found
        assert found.endswith(f"; remove {folder} to start anew, or continue with the settings it was begun with")
        assert files_of(tmp_path) == before
    # Settings that do not affect this training may change.
    softmax(data_dir, exp_dir, config_with(triplet={"epochs": 3}).model_copy(update={"features": Features(num_bins=9)}))


def test_triplet_training_of_another_pre_training_is_not_resumed(data_dir: Path, tmp_path: Path) -> None:
    softmax(data_dir, tmp_path)
    triplet(data_dir, tmp_path)
    shutil.rmtree(tmp_path / "softmax")
    softmax(data_dir, tmp_path, config_with(softmax={"epochs": 3}))
    before = files_of(tmp_path)
    line = refusal(lambda: triplet(data_dir, tmp_path))
    assert f"{tmp_path}/triplet/checkpoint_last.pt: belongs to another training: it began with other weights" in line
    assert files_of(tmp_path) == before


def test_vtlp_copies_are_further_speakers(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    forward = SoftmaxObjective.forward

    def watched(self: SoftmaxObjective, features: torch.Tensor, speakers: torch.Tensor, step: int) -> Any:
        seen.append(speakers)
        return forward(self, features, speakers, step)

    crops = []
    network_forward = ResCNN.forward

    def watched_forward(self: ResCNN, features: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        if self.training:
            crops.append(features)
        return network_forward(self, features, lengths)

    monkeypatch.setattr(SoftmaxObjective, "forward", watched)
    monkeypatch.setattr(ResCNN, "forward", watched_forward)
    softmax(data_dir, tmp_path, config_with(softmax={"vtlp": [0.8, 1.2]}))
    weight = load_checkpoint(tmp_path / "softmax" / "checkpoint_last.pt")["objective"]["classifier.weight"]
    assert weight.shape == (8 * 3, 8)
    index = FeatureIndex(data_dir / "train_nosil")
    sampler = UtteranceSampler(len(index), 8, 1, 3)
    warps = [vtlp_matrix(factor, 8, 20.0, 7600.0) for factor in (1.0, 0.8, 1.2)]
    for step in range(8):
        batch = sampler.batch(step)
        plain = index.crops(batch.utterances, batch.crop_positions, 16)
        for row, copy in enumerate(batch.copies):
            np.testing.assert_allclose(crops[step][row].numpy(), plain[row] @ warps[copy], atol=1e-5)
            assert seen[step][row] == index.speaker[batch.utterances[row]] + 8 * copy
    assert {int(speaker) // 8 for batch in seen for speaker in batch} == {0, 1, 2}


@pytest.mark.parametrize(("flags", "precision"), [
    ("fpu avx2 avx512_bf16", "bfloat16"), ("amx_bf16 amx_tile", "bfloat16"), ("avx512f avx512_bf", "float32")
])  # fmt: skip
def test_auto_precision_depends_on_the_processor_and_is_kept(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, precision: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr("deepspeaker.training.stages._CPUINFO", tmp_path / "cpuinfo")
    auto = config_with(softmax={"precision": "auto"}, triplet={"precision": "auto"})
    softmax(data_dir, tmp_path, auto)
    triplet(data_dir, tmp_path, auto)
    before = files_of(tmp_path)
    monkeypatch.setattr("deepspeaker.training.stages._CPUINFO", tmp_path / "none")  # as on another machine
    softmax(data_dir, tmp_path, auto)
    triplet(data_dir, tmp_path, auto)
    softmax(data_dir, tmp_path, config_with(softmax={"precision": precision}, triplet={"precision": "auto"}))
    for stage in ("softmax", "triplet"):
        state = load_checkpoint(tmp_path / stage / "checkpoint_last.pt")
        assert state["config"][stage]["precision"] == precision
    assert {name: content for name, content in files_of(tmp_path).items() if name.suffix == ".pt"} == {
        name: content for name, content in before.items() if name.suffix == ".pt"
    }


def test_the_configuration_is_kept_as_given_and_can_be_used_again(
    tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    """config.yaml keeps "auto"; the checkpoint has the value in use. The record does not affect the training."""
    write_features(tmp_path / "data" / "train_nosil", 3, 4)

    class VisibleSections:
        """The keys that a stage may read; all others raise ``AttributeError``."""

        def __init__(self, config: Config, section: str) -> None:
            self.model, self.augment = config.model, config.augment
            setattr(self, section, getattr(config, section))
            self.features = SimpleNamespace(low_freq=config.features.low_freq, high_freq=config.features.high_freq)

    def train_both(config: Config, record: dict[str, Any]) -> None:
        place = (tmp_path / "data", tmp_path, 1, "cpu", False)
        train_softmax(VisibleSections(config, "softmax"), *place, record=record)  # type: ignore[arg-type]
        train_triplet(VisibleSections(config, "triplet"), *place, record=record)  # type: ignore[arg-type]

    config = config_with(softmax={"precision": "auto"}, triplet={"precision": "auto"})
    train_both(config, config.model_dump())
    for stage in ("softmax", "triplet"):
        assert (tmp_path / stage / "config.yaml").read_text(encoding="utf-8") == dump_config(config)
        used = load_checkpoint(tmp_path / stage / "checkpoint_last.pt")["config"]
        expected = config.model_dump()
        expected[stage]["precision"] = fast_precision(torch.device("cpu"))
        expected["triplet"]["speakers_per_batch"] = 3 if stage == "triplet" else 4  # there are three
        assert used == expected
        assert list(used) == list(expected)
    before = files_of(tmp_path)
    saved = load_config(tmp_path / "triplet" / "config.yaml")
    train_both(saved, saved.model_dump())
    assert {path: content for path, content in files_of(tmp_path).items() if path in before} == before
    other = config.model_dump() | {"scoring": {"lda_dim": 3}, "demo": {}}
    train_both(config, other)
    assert yaml.safe_load((tmp_path / "triplet" / "config.yaml").read_text(encoding="utf-8")) == other


@pytest.mark.parametrize("stage", ["softmax", "triplet"])
def test_the_command_reaches_the_loss_in_three_calls(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    package = Path(deepspeaker.__file__).parent
    seen = []
    loss, name = {
        "softmax": (torch.nn.functional.cross_entropy, "torch.nn.functional.cross_entropy"),
        "triplet": (triplet_loss, "deepspeaker.training.objectives.triplet_loss"),
    }[stage]

    def watched(*arguments: Any, **named: Any) -> Any:
        frames = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(package)]
        begin = max(number for number, frame in enumerate(frames) if "cli" in Path(frame.filename).parts)
        seen.append([frame.name for frame in frames[begin:]])
        return loss(*arguments, **named)

    (tmp_path / "tiny.yaml").write_text(dump_config(CONFIG), encoding="utf-8")
    for trained in ("softmax", stage):
        arguments = ["train", trained, "--config", tmp_path / "tiny.yaml", "--device", "cpu", "--progress", "false"]
        arguments += ["--data-dir", data_dir, "--exp-dir", tmp_path / "exp"]
        if trained == stage:
            monkeypatch.setattr(name, watched)
            shutil.rmtree(tmp_path / "exp" / stage, ignore_errors=True)
        CliRunner().invoke(commands, [str(argument) for argument in arguments], catch_exceptions=False)
    assert seen[0][1:] == [f"train_{stage}", "train", "forward"]  # after the function of the command


def test_fewer_speakers_than_a_batch_needs_are_reported_and_recorded(
    tmp_path: Path, write_features: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_features(tmp_path / "data" / "train_nosil", 3, 4)
    softmax(tmp_path / "data", tmp_path)
    assert "speakers_per_batch" not in capsys.readouterr().out
    triplet(tmp_path / "data", tmp_path)
    line = "triplet.speakers_per_batch is 4, there are 3 speakers: a batch has all of them, 3 x 2 utterances"
    assert line in capsys.readouterr().out.splitlines()
    used = yaml.safe_load((tmp_path / "triplet" / "config.yaml").read_text(encoding="utf-8"))
    assert used["triplet"]["speakers_per_batch"] == 4
    assert load_checkpoint(tmp_path / "triplet" / "checkpoint_last.pt")["config"]["triplet"]["speakers_per_batch"] == 3
    triplet(tmp_path / "data", tmp_path)  # it can be resumed


def test_a_stale_spk2utt_is_named(tmp_path: Path, write_features: Callable[..., Path]) -> None:
    spk2utt = write_features(tmp_path / "data" / "train_nosil", 3, 2) / "spk2utt"
    right = spk2utt.read_text()
    for wrong, problem in {
        right.replace(" s01-01", ""): "s01 has 1 utterances, by utt2spk and feats.scp 2; fix them by utils/fix_data",
        right.replace("s01 ", "s07 "): "s01 has 0 utterances, by utt2spk and feats.scp 2",
        right + "s99 s99-00\n": "s99 has 1 utterances, by utt2spk and feats.scp 0; fix them by utils/fix_data_dir.sh",
    }.items():
        spk2utt.write_text(wrong)
        assert refusal(lambda: softmax(tmp_path / "data", tmp_path)).startswith(f"{spk2utt}: {problem}")
        assert not (tmp_path / "untrained").exists()
    spk2utt.unlink()
    softmax(tmp_path / "data", tmp_path)
    spk2utt.write_text(right)
    triplet(tmp_path / "data", tmp_path)


def test_the_command_draws_the_training_curves(data_dir: Path, tmp_path: Path) -> None:
    for stage, epochs in (("softmax", 1), ("triplet", 0)):
        (tmp_path / "tiny.yaml").write_text(dump_config(config_with(**{stage: {"epochs": epochs}})), encoding="utf-8")
        arguments = ["train", stage, "--config", tmp_path / "tiny.yaml", "--device", "cpu", "--progress", "false"]
        arguments += ["--data-dir", data_dir, "--exp-dir", tmp_path]
        done = CliRunner().invoke(commands, [str(argument) for argument in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        picture, rows = tmp_path / stage / "training.png", tmp_path / stage / "train.csv"
        assert picture.is_file() == rows.is_file() == (epochs > 0)
    with (tmp_path / "softmax" / "train.csv").open(encoding="utf-8") as stream:
        plot_training(csv.DictReader(stream), tmp_path / "same.png", f"{data_dir.name}: softmax training")
    assert (tmp_path / "softmax" / "training.png").read_bytes() == (tmp_path / "same.png").read_bytes()


def test_fine_tuning_accepts_a_checkpoint_of_other_speakers(
    data_dir: Path, tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    softmax(data_dir, tmp_path / "first")
    start = tmp_path / "first" / "softmax" / "checkpoint_last.pt"
    write_features(tmp_path / "other" / "train_nosil", 5, 3, prefix="x")
    train_softmax(
        config_with(softmax={"epochs": 0}), tmp_path / "other", tmp_path / "second", 4, "cpu", False, init_from=start
    )
    trained = load_checkpoint(tmp_path / "second" / "softmax" / "checkpoint_last.pt")
    for name, tensor in load_checkpoint(start)["network"].items():
        assert torch.equal(trained["network"][name], tensor)
    assert trained["objective"]["classifier.weight"].shape == (5, 8)
    line = refusal(
        lambda: train_softmax(
            config_with(model={"blocks": 2}), tmp_path / "other", tmp_path / "third", 4, "cpu", False, init_from=start
        )
    )
    assert line.startswith(f"{start}: its model differs from this configuration's")
    broken = load_checkpoint(start)
    broken["network"]["affine.weight"][0, 0] = np.nan
    save_checkpoint(tmp_path / "broken.pt", broken)
    line = refusal(
        lambda: train_softmax(CONFIG, tmp_path / "other", tmp_path / "third", 4, "cpu", False, tmp_path / "broken.pt")
    )
    assert line.startswith(f"{tmp_path}/broken.pt: its weights are not finite numbers")
    assert not (tmp_path / "third").exists()


def test_accumulated_batches_are_one_large_step(data_dir: Path, tmp_path: Path) -> None:
    """Two accumulated batches of 8 have the mean of their gradients; batch norm sees each batch alone."""
    one = {"epochs": 1, "steps_per_epoch": 1, "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.0}}
    softmax(data_dir, tmp_path / "twice", config_with(softmax=one | {"accumulate": 2}))
    moved = load_checkpoint(tmp_path / "twice" / "softmax" / "checkpoint_last.pt")
    start = load_checkpoint(tmp_path / "twice" / "untrained" / "checkpoint_last.pt")
    index = FeatureIndex(data_dir / "train_nosil")
    torch.manual_seed(1)
    network = build_model(8, **SMALL["model"])
    objective = SoftmaxObjective(network, 8, 8)
    sampler = UtteranceSampler(len(index), 8, 1)
    for number in range(2):
        batch = sampler.batch(number)
        crops = torch.from_numpy(index.crops(batch.utterances, batch.crop_positions, 16))
        loss, _ = objective(crops, torch.from_numpy(index.speaker[batch.utterances]).long(), number)
        (loss / 2).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        step = start["network"][name] - moved["network"][name]
        torch.testing.assert_close(step, 0.1 * parameter.grad, rtol=1e-4, atol=1e-6)


def test_embeddings_can_come_from_the_average(data_dir: Path, tmp_path: Path) -> None:
    softmax(data_dir, tmp_path)
    chosen = Config.model_validate({"embedding": {"checkpoint": "average"}}).embedding.checkpoint
    network_of(load_checkpoint(choose_checkpoint(tmp_path / "softmax", chosen)[0]))
    assert Config().embedding.checkpoint == "auto"
