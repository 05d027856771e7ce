"""Batches of P speakers and K cuts in the DataLoader of PyTorch and the samplers of Lhotse."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet
from lhotse.dataset import UnsupervisedDataset
from lhotse.dataset.sampling.base import CutSampler
from torch.utils.data import DataLoader

from deepspeaker.audio import read_audio
from deepspeaker.cuts import SpeakerCropDataset, SpeakerCutSampler
from deepspeaker.errors import InputError
from deepspeaker.features import FbankExtractor, mean_variance_normalised
from deepspeaker.kaldi import read_matrix
from tests.cuts.conftest import MakeCuts

SPEAKERS = {f"s{n}": [60 + 7 * n, 45, 30 + n] for n in range(7)}


def batches(sampler: SpeakerCutSampler, epochs: int = 1) -> list[list[tuple[str, str, float, float]]]:
    """Speaker, id, start and duration of each cut of each batch."""
    seen = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        seen += [[(c.supervisions[0].speaker, c.id, c.start, c.duration) for c in batch] for batch in sampler]
    return seen


def test_a_batch_has_p_speakers_with_k_different_cuts_each(feature_cuts: MakeCuts) -> None:
    cuts = feature_cuts(SPEAKERS)
    sampler = SpeakerCutSampler(cuts, 3, 2, crop_seconds=0.3, seed=1)
    assert isinstance(sampler, CutSampler) and isinstance(sampler, torch.utils.data.Sampler)
    assert (len(sampler), sampler.num_cuts, sampler.left_out) == (2, 21, 0)
    assert sampler.speakers == sorted(SPEAKERS)
    whole = {cut.id: cut for cut in cuts}
    seen = batches(sampler, epochs=20)
    assert len(seen) == 40
    for batch in seen:
        speakers = [speaker for speaker, *_ in batch]
        assert speakers[::2] == speakers[1::2] and len(set(speakers)) == 3
        assert len({name for _, name, *_ in batch}) == 6
        for _, name, start, duration in batch:
            assert duration == pytest.approx(0.3)
            assert start * 100 == pytest.approx(round(start * 100), abs=1e-6)
            assert start >= 0 and start + duration <= whole[name].duration + 1e-9
    starts = {(name, round(start * 100)) for batch in seen for _, name, start, _ in batch}
    assert {start for name, start in starts if name == "s0-2"} == {0}  # 30 frames, one place for 30
    assert len({start for name, start in starts if name == "s6-0"}) > 8
    # A pass has two batches of three of the seven speakers, and one speaker is left for the next pass.
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        assert len({speaker for speaker, *_ in first + second}) == 6


def test_batches_are_those_of_the_recipes_training(feature_cuts: MakeCuts) -> None:
    from deepspeaker.training import SpeakerSampler

    cuts = list(feature_cuts(SPEAKERS))
    frames = np.array([cut.num_frames for cut in cuts], dtype=np.int32)
    of_speaker = [np.flatnonzero([c.supervisions[0].speaker == s for c in cuts]).astype(np.int32) for s in SPEAKERS]
    expected = SpeakerSampler(of_speaker, 3, 2, 5, frames=frames, crop_frames=30)
    for number, batch in enumerate(batches(SpeakerCutSampler(CutSet.from_cuts(cuts), 3, 2, 0.3, seed=5), epochs=3)):
        chosen = expected.batch(number)
        assert [name for _, name, *_ in batch] == [cuts[u].id for u in chosen.utterances]
        starts = (chosen.crop_positions * (frames[chosen.utterances] - 30 + 1)).astype(int)
        assert [round(start * 100) for *_, start, _ in batch] == starts.tolist()


def test_one_seed_gives_the_same_batches_lazily_too(feature_cuts: MakeCuts, tmp_path: Path) -> None:
    cuts = feature_cuts(SPEAKERS)
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    lazy = CutSet.from_jsonl_lazy(tmp_path / "cuts.jsonl.gz")
    assert lazy.is_lazy
    first = batches(SpeakerCutSampler(cuts, 3, 2, 0.3, seed=1), 4)
    assert batches(SpeakerCutSampler(lazy, 3, 2, 0.3, seed=1), 4) == first
    assert batches(SpeakerCutSampler(cuts, 3, 2, 0.3, seed=2), 4) != first


def test_ranks_share_the_batches_of_one_process(feature_cuts: MakeCuts, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = feature_cuts(SPEAKERS)
    single = batches(SpeakerCutSampler(cuts, 2, 2, 0.3, steps_per_epoch=6), 2)
    ranks = [batches(SpeakerCutSampler(cuts, 2, 2, 0.3, 2, world_size=3, rank=rank), 2) for rank in range(3)]
    assert [ranks[number % 3][number // 3] for number in range(12)] == single
    assert all(len(seen) == 4 for seen in ranks)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert batches(SpeakerCutSampler(cuts, 2, 2, 0.3, 2), 2) == ranks[1]


def test_a_state_resumes_within_an_epoch(feature_cuts: MakeCuts) -> None:
    cuts = feature_cuts(SPEAKERS)

    def make(**changed: object) -> SpeakerCutSampler:
        options = {"speakers_per_batch": 2, "cuts_per_speaker": 2, "crop_seconds": 0.3}
        return SpeakerCutSampler(cuts, **{**options, **changed})

    whole = batches(make(), 3)
    started = make()
    started.set_epoch(1)
    stream = iter(started)
    names = [[cut.id for cut in next(stream)] for _ in range(2)]
    assert names == [[name for _, name, *_ in batch] for batch in whole[3:5]]
    state = json.loads(json.dumps({k: v for k, v in started.state_dict().items() if k != "diagnostics"}))
    state["diagnostics"] = started.state_dict()["diagnostics"]
    kept = dict(state)
    resumed = make()
    resumed.load_state_dict(state)
    assert state == kept
    assert [[cut.id for cut in batch] for batch in resumed] == [[name for _, name, *_ in whole[5]]]
    resumed.set_epoch(2)
    assert [[c.id for c in batch] for batch in resumed] == [[name for _, name, *_ in b] for b in whole[6:9]]
    jumped = make()
    jumped.seek(1, 2)
    assert [[cut.id for cut in batch] for batch in jumped] == [[name for _, name, *_ in whole[5]]]
    for option in ({"seed": 1}, {"cuts_per_speaker": 3}, {"crop_seconds": 0.2}, {"world_size": 2, "rank": 0}):
        with pytest.raises(InputError, match="the sampler's state has another"):
            make(**option).load_state_dict(kept)
    with pytest.raises(InputError, match="state has another cuts"):
        make().filter(lambda cut: cut.id != "s0-0").load_state_dict(kept)


def test_few_cuts_are_used_again_with_other_crops(feature_cuts: MakeCuts) -> None:
    cuts = feature_cuts({"a": [100, 100], "b": [95], "c": [59]})
    sampler = SpeakerCutSampler(cuts, 9, 3, crop_seconds=0.3)
    assert (sampler.speakers, sampler.left_out, len(sampler)) == (["a", "b"], 1, 1)
    for batch in batches(sampler, 20):
        assert sorted(Counter(speaker for speaker, *_ in batch).values()) == [3, 3]
        assert {name for speaker, name, *_ in batch if speaker == "b"} == {"b-0", "b-0-1", "b-0-2"}
        starts = sorted(round(start * 100) for speaker, _, start, _ in batch if speaker == "b")
        assert starts[0] >= 0 and starts[1] - starts[0] >= 30 and starts[2] - starts[1] >= 30 and starts[2] <= 65


def test_cuts_of_no_or_two_speakers_are_named(feature_cuts: MakeCuts) -> None:
    cuts = list(feature_cuts({"a": [50, 50], "b": [50, 50]}))
    cuts[1].supervisions[0].speaker = None
    with pytest.raises(InputError, match="cut a-1: none of its supervisions has a speaker"):
        SpeakerCutSampler(CutSet.from_cuts(cuts), 2, 2, 0.3)
    cuts[1].supervisions = cuts[0].supervisions + cuts[2].supervisions
    with pytest.raises(InputError, match="cut a-1: has several speakers \\(a, b\\); split it"):
        SpeakerCutSampler(CutSet.from_cuts(cuts), 2, 2, 0.3)
    with pytest.raises(ValueError, match="must be positive"):
        SpeakerCutSampler(CutSet.from_cuts(cuts), 0, 2, 0.3)


@pytest.mark.parametrize("compression", ["none", "speech-feature", "two-byte", "one-byte"])
@pytest.mark.parametrize("workers", [0, 2])
def test_crops_of_archives_in_a_dataloader(feature_cuts: MakeCuts, compression: str, workers: int) -> None:
    cuts = feature_cuts(SPEAKERS, compression=compression)
    whole = {cut.id: read_matrix(cut.features.storage_path) for cut in cuts}
    sampler = SpeakerCutSampler(cuts, 3, 4, crop_seconds=0.4, steps_per_epoch=3)
    dataset = SpeakerCropDataset(sampler.speakers, frames=40)
    loader = DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=workers)
    assert len(loader) == 3
    expected = batches(SpeakerCutSampler(cuts, 3, 4, 0.4, steps_per_epoch=3))
    for batch, chosen in zip(loader, expected, strict=True):
        assert batch["features"].shape == (12, 40, 5) and batch["features"].dtype == torch.float32
        assert batch["speakers"].tolist() == [int(speaker[1:]) for speaker, *_ in chosen]
        for crop, (_, name, start, _) in zip(batch["features"].numpy(), chosen, strict=True):
            features = whole.get(name, whole[name[:4]])  # s1-0-1 is s1-0 again
            rows = features[round(start * 100) : round(start * 100) + 40]
            assert np.array_equal(crop, rows[np.arange(40) % len(rows)])


def test_lhotse_loads_the_same_rows(feature_cuts: MakeCuts) -> None:
    sampler = SpeakerCutSampler(feature_cuts(SPEAKERS), 3, 2, crop_seconds=0.3)
    dataset = SpeakerCropDataset(sampler.speakers, frames=30)
    for batch in sampler:
        crops = dataset[batch]["features"].numpy()
        assert np.array_equal(crops, np.stack([cut.load_features() for cut in batch]))
    loaded = next(iter(DataLoader(UnsupervisedDataset(), sampler=sampler, batch_size=None)))
    assert loaded["features"].shape == (6, 30, 5)


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (8000, 1), (16000, 2)])
def test_crops_of_audio_are_the_recipes_features(audio_cuts: MakeCuts, rate: int, channels: int) -> None:
    cuts = audio_cuts({name: [rate, rate // 2 + 11] for name in "ab"}, rate=rate, channels=channels)
    sampler = SpeakerCutSampler(cuts, 2, 2, crop_seconds=0.6)
    dataset = SpeakerCropDataset(sampler.speakers, frames=60, normalise=True)
    extractor = FbankExtractor()
    (chosen,) = list(sampler)
    batch = dataset[chosen]
    assert batch["features"].shape == (4, 60, 64)
    for cut, crop in zip(chosen, batch["features"].numpy(), strict=True):
        samples, _ = soundfile.read(cut.recording.sources[0].source, dtype="float32", always_2d=True)
        first, count = round(cut.start * rate), cut.num_samples
        path = Path(cut.recording.sources[0].source).with_name("crop.wav")
        soundfile.write(path, samples[first : first + count], rate, subtype="FLOAT")
        rows = extractor(read_audio(str(path)))[0]
        assert np.allclose(crop, mean_variance_normalised(rows[np.arange(60) % len(rows)][:60]), atol=1e-4)


def test_the_dataset_names_invalid_cuts(feature_cuts: MakeCuts, audio_cuts: MakeCuts, tmp_path: Path) -> None:
    cuts = feature_cuts({"a": [50], "b": [50]})
    with pytest.raises(InputError, match="cut b-0: the speaker b is not in the dataset"):
        SpeakerCropDataset(["a"], 30)[cuts]
    other = feature_cuts({"c": [50]}, name="g", dim=3)
    with pytest.raises(InputError, match="cut c-0: has features of shape"):
        SpeakerCropDataset(["a", "b", "c"], 30)[CutSet.from_cuts([*cuts, *other])]
    (tmp_path / "g.ark").unlink()
    with pytest.raises(InputError, match=r"cut c-0: .*g\.ark: No such file"):
        SpeakerCropDataset(["c"], 30)[other]
    with pytest.raises(InputError, match="cut d-0: has 50 samples, less than one frame"):
        SpeakerCropDataset(["d"], 30)[audio_cuts({"d": [50]})]
