"""Features with values that are not finite numbers."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.kaldi import ArkWriter
from deepspeaker.models import build_model, load_checkpoint
from deepspeaker.training import Interrupted, SpeakerSampler, UtteranceSampler, development, not_finite
from deepspeaker.training.batches import Batches, Sampler
from deepspeaker.training.development import Development
from deepspeaker.training.distributed import processes
from deepspeaker.training.not_finite import NotFinite
from tests.training.test_distributed import start
from tests.training.tiny import assert_same_training, index_of, kill_me, rows_of, train_once

CPU = torch.device("cpu")


def spoil(folder: Path, frames: dict[int, slice]) -> list[str]:
    """Puts a NaN into these frames of utterances, by number; gives their ids."""
    index = FeatureIndex(folder)
    rows = [index.read(number).copy() for number in range(len(index))]
    names = index.utterances
    index.close()
    index_of.cache_clear()  # the file is replaced
    with ArkWriter(folder / "feats.ark", folder / "feats.scp") as writer:
        for number, (name, values) in enumerate(zip(names, rows, strict=True)):
            if number in frames:
                values[frames[number], 3] = np.nan
            writer.write(name, values)
    return [names[number] for number in sorted(frames)]


def listed(folder: Path) -> list[str]:
    return [name for path in sorted(folder.glob("not_finite.*")) for name in path.read_text().split()]


ALL = slice(None)


@pytest.fixture
def some(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the utterances may be bad: corpora of more than a hundred take longer."""
    monkeypatch.setattr(not_finite, "MOST_NOT_FINITE", 0.1)
    monkeypatch.setattr(development, "MOST_NOT_FINITE", 0.1)


@pytest.mark.parametrize("section", ["softmax", "triplet"])
@pytest.mark.usefixtures("some")
def test_a_resumed_training_takes_the_same_substitutes(
    tmp_path: Path, write_features: Callable[..., Path], section: str
) -> None:
    write_features(tmp_path / "train_nosil", 6, 12, prefix="t", frames=(60, 61))
    names = spoil(tmp_path / "train_nosil", {0: slice(40, 50), 1: slice(14, 24), 15: ALL})
    shape = {"epochs": 2, "steps_per_epoch": 20}
    train_once(tmp_path, tmp_path / "straight", section, dev=False, **shape)
    assert sorted(listed(tmp_path / "straight" / "log")) == names
    for at in (9, 17, 30):
        folder = tmp_path / f"stopped_{at}"
        with pytest.raises(Interrupted):
            train_once(
                tmp_path, folder, section, dev=False, before=lambda n: kill_me(signal.SIGTERM) if n == at else None, **shape  # noqa: B023, E501
            )
        train_once(tmp_path, folder, section, dev=False, **shape)
        assert_same_training(tmp_path / "straight", folder)
        assert sorted(listed(folder / "log")) == names


@pytest.mark.parametrize("section", ["softmax", "triplet"])
def test_a_speaker_whose_only_utterance_is_bad_is_left_out_and_named(
    tmp_path: Path, write_features: Callable[..., Path], section: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_features(tmp_path / "train_nosil", 100, 1, prefix="t", frames=(32, 50))
    (name,) = spoil(tmp_path / "train_nosil", {7: ALL})
    train_once(tmp_path, tmp_path / "training", section, dev=False, epochs=2, steps_per_epoch=30)
    said = capsys.readouterr().out
    assert said.count(f"left out: {name} has values that are not finite numbers; all in {tmp_path}/training/log/") == 1
    assert said.count("left out: t07, where no other utterance can be taken") == 1
    assert listed(tmp_path / "training" / "log") == [name]
    assert np.isfinite([float(row["loss"]) for row in rows_of(tmp_path / "training")]).all()


@pytest.mark.usefixtures("some")
def test_batches_stay_full_of_finite_crops_under_the_right_speaker(
    tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    """Each speaker's features are its number: whose crop it is shows."""
    write_features(tmp_path / "data", 5, 4, noise=0.0)
    index = FeatureIndex(tmp_path / "data")
    names = index.utterances
    speaker, frames = index.speaker, index.frames
    with ArkWriter(tmp_path / "data" / "feats.ark", tmp_path / "data" / "feats.scp") as writer:
        for number, name in enumerate(names):
            value = np.nan if speaker[number] == 2 or number == 5 else float(speaker[number])
            writer.write(name, np.full((frames[number], 8), value, dtype=np.float32))
    index = FeatureIndex(tmp_path / "data")
    samplers: list[Sampler] = [
        UtteranceSampler(20, 6, 0),
        SpeakerSampler(index.of_speaker, 3, 3, 0, frames=index.frames, crop_frames=16),
    ]
    for sampler in samplers:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(not_finite, "MOST_NOT_FINITE", 0.3)
            batches = Batches(sampler, index, 16, [], (20.0, 7600.0), CPU, tmp_path / "log")
            read = list(batches.numbers(0, 20))
            for number, (features, speakers) in enumerate(read):
                assert features.isfinite().all()
                assert torch.equal(features[:, 0, 0].long(), speakers)
                wanted = index.speaker[sampler.batch(number).utterances]
                own = wanted != 2
                np.testing.assert_array_equal(speakers.numpy()[own], wanted[own])
                gone = set(speakers.numpy()[~own].tolist())
                assert len(gone) <= 1  # all of a speaker give way to one
                if isinstance(sampler, SpeakerSampler):
                    assert not gone & set(wanted.tolist())
            # A batch read alone is the same: nothing hangs on what was met before.
            alone = Batches(sampler, index, 16, [], (20.0, 7600.0), CPU, tmp_path / "alone")
            (eleventh,) = alone.numbers(11, 12)
            assert all(torch.equal(one, other) for one, other in zip(read[11], eleventh, strict=True))


def test_more_than_one_percent_stops_training_and_mended_ones_are_forgotten(
    tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    good = write_features(tmp_path / "good" / "train_nosil", 8, 20, prefix="t", frames=(40, 41))
    bad = tmp_path / "bad" / "train_nosil"
    shutil.copytree(good, bad)
    for table in ("feats.scp",):
        (bad / table).write_text((good / table).read_text().replace(str(good), str(bad)))
    names = spoil(bad, {5: ALL, 95: ALL})
    with pytest.raises(InputError, match=r"2 of 160 utterances have values that are not finite numbers, more than 1 %"):
        train_once(tmp_path / "bad", tmp_path / "training", dev=False, epochs=8)
    assert sorted(listed(tmp_path / "training" / "log")) == names
    assert load_checkpoint(tmp_path / "training" / "checkpoint_last.pt")["step"] > 0  # nothing is lost
    spoil(good, {95: ALL})  # one of them was mended
    train_once(tmp_path / "good", tmp_path / "training", dev=False, epochs=8)
    assert listed(tmp_path / "training" / "log") == names[1:]
    assert load_checkpoint(tmp_path / "training" / "checkpoint_last.pt")["step"] == 40


def test_the_list_begins_anew_with_a_training(tmp_path: Path, write_features: Callable[..., Path]) -> None:
    index = FeatureIndex(write_features(tmp_path / "data", 10, 11))
    NotFinite(index, tmp_path / "log", resumed=False).note(3)
    again = NotFinite(index, tmp_path / "log", resumed=False)
    assert listed(tmp_path / "log") == []
    (tmp_path / "log" / "not_finite.1").write_text(f"{index.utterance_id(4)}\n")  # another process'
    again.note(4)
    assert listed(tmp_path / "log") == [index.utterance_id(4)]
    with pytest.raises(InputError, match="2 of 110 utterances"):  # the list of all processes counts
        again.note(5)


def test_development_utterances_that_are_bad_are_named_and_left_out_before_training(
    tmp_path: Path, write_features: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_features(tmp_path / "train_nosil", 4, 4, prefix="t")
    index = FeatureIndex(write_features(tmp_path / "dev_nosil", 11, 10, prefix="d"))
    network = build_model(8, channels=[2], blocks=0, embedding_dim=4)
    whole = Development(index, tmp_path / "log" / "not_finite_dev", CPU)
    (name,) = spoil(tmp_path / "dev_nosil", {42: slice(0, 1)})
    capsys.readouterr()
    train_once(tmp_path, tmp_path / "training", epochs=1)
    assert "dev_eer" in rows_of(tmp_path / "training")[0]
    said = capsys.readouterr().err
    assert "left out of the development EER: 1 of 110 utterances; all in" in said
    assert f"  {name}: has values that are not finite numbers" in said
    assert (tmp_path / "training" / "log" / "not_finite_dev").read_text().split()[0] == name
    left = Development(FeatureIndex(tmp_path / "dev_nosil"), tmp_path / "log" / "not_finite_dev", CPU)
    whole.chosen = np.delete(whole.chosen, 42)
    assert left.eer(network, autocast=False) == whole.eer(network, autocast=False)

    spoil(tmp_path / "dev_nosil", {3: ALL})
    with pytest.raises(InputError, match=r"2 of 110 development utterances have .* more than 1 % \(list: .*_dev\)"):
        train_once(tmp_path / ".", tmp_path / "other", epochs=1)
    assert not list((tmp_path / "other").glob("*.pt"))


def test_processes_agree_on_who_took_the_place(tmp_path: Path, write_features: Callable[..., Path]) -> None:
    write_features(tmp_path / "train_nosil", 100, 1, prefix="t", frames=(32, 50))
    spoil(tmp_path / "train_nosil", {7: ALL})
    for process in start(2, [__file__, str(tmp_path), str(tmp_path / "2")]):
        assert process.wait(120) == 0, process.communicate()
    train_both(tmp_path, tmp_path / "1")
    for section in ("softmax", "triplet"):
        one, two = (rows_of(tmp_path / str(count) / section) for count in (1, 2))
        assert [float(row["loss"]) for row in one] == pytest.approx([float(row["loss"]) for row in two], rel=1e-3)
        assert len(listed(tmp_path / "2" / section / "log")) == 1


def train_both(data_dir: Path, folder: Path) -> None:
    sizes = {"softmax": {"batch_size": 24}, "triplet": {"speakers_per_batch": 12}}
    for section, size in sizes.items():
        train_once(data_dir, folder / section, section, dev=False, epochs=1, steps_per_epoch=9, **size)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with processes(CPU):
        train_both(Path(sys.argv[1]), Path(sys.argv[2]))
