"""Augmented copies, SpecAugment, random crop lengths and gains in training."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from deepspeaker.config import SpecAugment
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.kaldi import read_table, spk2utt_of, write_spk2utt, write_table
from deepspeaker.training import (
    BatchLoader,
    CropChanges,
    Interrupted,
    Sources,
    SpeakerSampler,
    UtteranceSampler,
    train_softmax,
    train_triplet,
)
from tests.training.conftest import WriteFeatures
from tests.training.tiny import CONFIG, SMALL, assert_same_training, signal_at, train_once

MASKS = SpecAugment(num_feature_masks=1, features_mask_size=3, num_frame_masks=2, frames_mask_size=4)


@pytest.fixture(scope="module")
def copies(data_dir: Path, write_features: WriteFeatures, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """A noisy copy that lacks an utterance, and a copy at another speed, of the training part."""
    folder = data_dir / "train"
    made = []
    for name, new in (("noise", False), ("sp0.9", True)):
        copy = write_features(folder.with_name(f"train_{name}_nosil"), 8, 4, prefix="t", seed=1 + new)
        original = read_table(copy / "utt2spk")
        named = {f"{name}-{u}" if new else f"{u}-{name}": u for u in original}
        for table in ("feats.scp", "utt2num_frames", "utt2spk"):
            values = read_table(copy / table)
            kept = {key: values[u] for key, u in named.items() if new or u != "t00-01"}
            write_table(copy / table, {k: f"{name}-{v}" if new and table == "utt2spk" else v for k, v in kept.items()})
        write_table(copy / "utt2uniq", named)
        write_spk2utt(copy / "spk2utt", spk2utt_of(read_table(copy / "utt2spk")))
        made.append(copy)
    return tuple(made)


def test_sources_are_drawn_by_their_weights_and_voices() -> None:
    sources = Sources([1, 2, 3, 0.5], [False, False, True, True])
    generator = np.random.default_rng(0)
    voices = sources.draw_voices(60000, generator)
    drawn = sources.draw(voices, generator)
    assert np.array_equal(sources.voice_of[drawn], voices)
    np.testing.assert_allclose(np.bincount(drawn) / 60000, np.array([1, 2, 3, 0.5]) / 6.5, atol=0.006)
    never = Sources([0, 1], [False, False])
    assert set(never.draw(never.draw_voices(1000, generator), generator).tolist()) == {1}
    only_new = Sources([0, 1], [False, True])
    assert set(only_new.draw_voices(1000, generator).tolist()) == {1}


def test_rows_are_those_of_the_copies_or_as_recorded(data_dir: Path, copies: tuple[Path, ...]) -> None:
    index = FeatureIndex(data_dir / "train_nosil", copies)
    plain = FeatureIndex(data_dir / "train_nosil")
    assert len(index) == len(plain) == 32 and np.array_equal(index.frames, plain.frames)
    alone = [plain, *map(FeatureIndex, copies)]
    utterances = np.arange(32, dtype=np.int32)
    for source, name in ((0, "{}"), (1, "{}-noise"), (2, "sp0.9-{}")):
        rows = index.rows(utterances, np.full(32, source))
        of_copy = {alone[source].utterance_id(n): n for n in range(len(alone[source]))}
        for utterance, row in zip(utterances.tolist(), rows.tolist(), strict=True):
            original = plain.utterance_id(utterance)
            if source == 1 and original == "t00-01":
                assert index.utterance_id(row) == original and index.folder(row) == data_dir / "train_nosil"
                continue
            assert index.utterance_id(row) == name.format(original)
            assert np.array_equal(index.read(row), alone[source].read(of_copy[index.utterance_id(row)]))
            assert index.folder(row) == alone[source].data_dir


def test_a_speakers_utterances_have_one_voice_and_labels_count_voices(data_dir: Path, copies: tuple[Path, ...]) -> None:
    index = FeatureIndex(data_dir / "train_nosil", copies)
    sources = Sources([1, 1, 1], [False, False, True])
    sampler = SpeakerSampler(index.of_speaker, 4, 3, 5, frames=index.frames, crop_frames=16, sources=sources, copies=2)
    loader = BatchLoader(sampler, index, 16, [1.1], (20.0, 7600.0), torch.device("cpu"), sources)
    seen = set()
    for number, (features, speakers) in enumerate(loader.load(0, 30)):
        batch = sampler.batch(number)
        assert batch.sources is not None and features.shape == (12, 16, 8)
        voices = sources.voice_of[batch.sources].reshape(4, 3)
        assert (voices == voices[:, :1]).all()
        seen |= set(batch.sources.tolist())
        expected = index.speaker[batch.utterances] + 8 * (batch.copies + 2 * voices.ravel())
        assert speakers.tolist() == expected.tolist()
    assert seen == {0, 1, 2}


def test_without_copies_batches_are_those_of_before(data_dir: Path) -> None:
    index = FeatureIndex(data_dir / "train_nosil")
    plain = UtteranceSampler(len(index), 8, 1)
    augmented = UtteranceSampler(len(index), 8, 1, sources=Sources([1, 1], [False, False]))
    for step in range(5):
        one, other = plain.batch(step), augmented.batch(step)
        assert one.sources is None
        assert all(np.array_equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def test_masks_and_gains_are_within_their_bounds_and_the_same_for_each_rank() -> None:
    ones = torch.ones(64, 100, 40)
    masked = CropChanges(3, 0, 100, SpecAugment(num_feature_masks=2, features_mask_size=5), 0.0)
    found = masked.apply(ones, 7, slice(0, 64), 64)
    kept = found[:, 0]
    assert torch.equal(found, kept[:, None].expand_as(found)) and set(kept.unique().tolist()) == {0.0, 1.0}
    widths = (1 - kept).sum(1)
    assert widths.max() <= 10 and widths.float().mean() == pytest.approx(4.7, abs=1.0)
    in_time = CropChanges(3, 0, 100, SpecAugment(num_frame_masks=1, frames_mask_size=20), 0.0).apply(
        ones, 7, slice(0, 64), 64
    )
    gone = 1 - in_time[:, :, 0]
    assert gone.sum(1).max() <= 20 and ((gone[:, 1:] - gone[:, :-1]) == 1).sum(1).max() <= 1  # one run
    gains = CropChanges(3, 0, 100, SpecAugment(), 0.3).apply(torch.zeros_like(ones), 7, slice(0, 64), 64)
    assert torch.equal(gains, gains[:, :1].expand_as(gains))
    assert float(gains[:, 0].std()) == pytest.approx(0.3, rel=0.05)
    changes = CropChanges(3, 0, 100, MASKS, 0.1)
    whole = changes.apply(ones, 7, slice(0, 64), 64)
    assert torch.equal(changes.apply(ones[32:], 7, slice(32, 64), 64), whole[32:])
    assert not torch.equal(changes.apply(ones, 8, slice(0, 64), 64), whole)
    assert CropChanges(3, 0, 100, SpecAugment(), 0.0).apply(ones, 7, slice(0, 64), 64) is ones


def test_crop_lengths_cover_their_range() -> None:
    changes = CropChanges(0, 60, 100, SpecAugment(), 0.0)
    assert {changes.frames(batch) for batch in range(100)} == {60, 76, 92}
    assert {CropChanges(0, 0, 100, SpecAugment(), 0.0).frames(batch) for batch in range(9)} == {100}


@pytest.mark.parametrize("section", ["softmax", "triplet"])
def test_a_resumed_augmented_training_equals_an_uninterrupted_one(
    section: str, data_dir: Path, copies: tuple[Path, ...], tmp_path: Path
) -> None:
    changes = {"spec_augment": MASKS, "bin_gain": 0.1, "min_crop_frames": 8, "crop_frames": 40, "vtlp": []}
    train_once(data_dir, tmp_path / "whole", section, copies=copies, **changes)
    with pytest.raises(Interrupted):
        train_once(data_dir, tmp_path / "parts", section, copies=copies, before=signal_at(7), **changes)
    train_once(data_dir, tmp_path / "parts", section, copies=copies, **changes)
    assert_same_training(tmp_path / "whole", tmp_path / "parts")
    train_once(data_dir, tmp_path / "plain", section, **(changes | {"bin_gain": 0.0}))
    with pytest.raises(AssertionError):
        assert_same_training(tmp_path / "whole", tmp_path / "plain")


def test_stages_3_and_4_train_on_the_configured_copies(
    data_dir: Path, copies: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = CONFIG.model_dump() | {"augment": {"copies": ["noise", "speed"]}}
    for section, values in SMALL.items():
        settings[section] |= values
    config = type(CONFIG).model_validate(settings)
    train_softmax(config, data_dir, tmp_path, 0, "cpu", False)
    train_triplet(config, data_dir, tmp_path, 0, "cpu", False)
    assert "2 augmented copies of each utterance: noise, sp0.9" in capsys.readouterr().out
    changed = config.model_copy(update={"augment": config.augment.model_copy(update={"clean_weight": 2.0})})
    with pytest.raises(InputError, match=r"augment.clean_weight was 1.0, now it is 2.0"):
        train_softmax(changed, data_dir, tmp_path, 0, "cpu", False)
    lacking = tmp_path / "lacking"
    shutil.copytree(data_dir, lacking)
    (lacking / "train_noise_nosil" / "utt2uniq").unlink()
    with pytest.raises(InputError, match="utt2uniq: no such file"):
        train_softmax(config, lacking, tmp_path / "other", 0, "cpu", False)
    shutil.rmtree(lacking / "train_noise_nosil")
    with pytest.raises(InputError, match=r"train_noise_nosil/feats.scp: no such file; run stage 2"):
        train_softmax(config, lacking, tmp_path / "other", 0, "cpu", False)
