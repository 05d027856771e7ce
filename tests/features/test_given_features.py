"""Stage 2 on data directories that come with features."""

from __future__ import annotations

from pathlib import Path

import kaldiio
import numpy as np
import pytest

from deepspeaker.features import collect_shards, compute_shard, mean_variance_normalised, nosil_dir
from deepspeaker.kaldi import ArkWriter, DataDir, read_matrix, read_table
from tests.features.small import OPTIONS, make_audio, run


def make_features(folder: Path, dim: int, with_vad: bool = False, ark: str = "mine.ark") -> Path:
    """Write a data directory with features but no audio."""
    generator = np.random.default_rng(dim)
    utterances = [f"{speaker}-{number}" for speaker in "ab" for number in range(3)]
    frames = {utterance: int(generator.integers(5, 40)) for utterance in utterances}
    data = DataDir(utt2spk={utterance: utterance[0] for utterance in utterances})
    with ArkWriter(folder / ark, folder / "given.scp") as writer:
        for utterance in utterances:
            writer.write(utterance, generator.normal(size=(frames[utterance], dim)).astype("f4"))
    data.feats_scp = read_table(folder / "given.scp")
    if with_vad:
        with ArkWriter(folder / "given_vad.ark", folder / "given_vad.scp") as writer:
            for utterance in utterances:
                writer.write(utterance, (np.arange(frames[utterance]) % 3 > 0).astype("f4"))
        data.vad_scp = read_table(folder / "given_vad.scp")
    data.write(folder)
    return folder


@pytest.mark.parametrize("dim", [1, 13, 40])
@pytest.mark.parametrize("with_vad", [False, True])
def test_given_features_of_any_dimension_are_used(tmp_path: Path, dim: int, with_vad: bool) -> None:
    data_dir = make_features(tmp_path / "given", dim, with_vad)
    before = DataDir.read(data_dir)
    line = run(data_dir, 2)
    assert line.endswith("(features as given)")
    data, nosil = DataDir.read(data_dir), DataDir.read(nosil_dir(data_dir))
    assert data.feats_scp == before.feats_scp
    assert data.vad_scp == before.vad_scp
    for utterance, location in before.feats_scp.items():
        feats = read_matrix(location)
        kept = feats[np.arange(len(feats)) % 3 > 0] if with_vad else feats
        assert data.utt2num_frames[utterance] == str(len(feats))
        stored = read_matrix(nosil.feats_scp[utterance])
        assert stored.shape == (len(kept), dim)
        expected = mean_variance_normalised(kept)
        assert np.abs(stored - expected).max() <= np.ptp(expected) / 255
    run(data_dir, 1)
    assert DataDir.read(data_dir) == data


@pytest.mark.parametrize("num_jobs", [1, 3])
def test_given_features_named_like_our_ark_are_not_overwritten(tmp_path: Path, num_jobs: int) -> None:
    data_dir = make_features(tmp_path / "given", 20, ark="fbank.1.ark")
    before = (data_dir / "fbank.1.ark").read_bytes()
    run(data_dir, num_jobs)
    assert (data_dir / "fbank.1.ark").read_bytes() == before
    assert [path.name for path in data_dir.glob("*.ark")] == ["fbank.1.ark"]


def test_given_features_take_precedence_over_audio(tmp_path: Path) -> None:
    data_dir = make_audio(tmp_path)
    data = DataDir.read(data_dir)
    with ArkWriter(tmp_path / "given.ark", tmp_path / "given.scp") as writer:
        for utterance in sorted(data.utt2spk):
            writer.write(utterance, np.random.default_rng(0).normal(size=(9, 3)).astype("f4"))
    data.feats_scp = read_table(tmp_path / "given.scp")
    data.write(data_dir)
    assert run(data_dir, 2).endswith("(features as given)")
    assert DataDir.read(data_dir).feats_scp == data.feats_scp


def test_unusable_given_features_are_skipped(tmp_path: Path) -> None:
    data_dir = make_features(tmp_path / "given", 4, with_vad=True)
    data = DataDir.read(data_dir)
    with ArkWriter(tmp_path / "bad.ark", tmp_path / "bad.scp") as writer:
        writer.write("nan", np.full((8, 4), np.nan, dtype=np.float32))
        writer.write("short", np.ones(2, dtype=np.float32))
        writer.write("silent", np.zeros(100, dtype=np.float32))
    bad = read_table(tmp_path / "bad.scp")
    frames = {u: len(read_matrix(location)) for u, location in data.feats_scp.items()}
    data.feats_scp["a-0"] = bad["nan"]
    data.vad_scp["a-1"] = bad["short"]
    del data.feats_scp["a-2"]
    data.feats_scp["b-0"] = f"{tmp_path}/none.ark:5"
    data.feats_scp["b-1"] = "copy-feats scp:x ark:- |"
    data.write(data_dir)
    for job in (1, 2):
        compute_shard(data_dir, job, 2, **OPTIONS)
    collect_shards(data_dir, 2, 90.0)
    assert read_table(data_dir / "skipped") == {
        "a-0": "has features that are not finite numbers",
        "a-1": f"has {frames['a-1']} frames in feats.scp and 2 in vad.scp",
        "a-2": "is not in feats.scp",
        "b-0": f"{tmp_path}/none.ark: No such file or directory",
        "b-1": "copy-feats scp:x ark:- |: pipes and row ranges are not supported; write an ark with copy-feats first",
    }
    assert list(DataDir.read(nosil_dir(data_dir)).utt2spk) == ["b-2"]


def test_large_features_stay_finite(tmp_path: Path) -> None:
    """Only float64 can hold the squares and sums of the largest float32; utterances with larger values are skipped."""
    largest = np.finfo(np.float32).max
    values = np.random.default_rng(0).uniform(-largest, largest, size=(50, 4))
    kaldiio.save_ark(str(tmp_path / "given.ark"), {"a-0": values, "b-0": 10 * values}, scp=str(tmp_path / "given.scp"))
    data = DataDir(utt2spk={"a-0": "a", "b-0": "b"}, feats_scp=read_table(tmp_path / "given.scp"))
    data.write(tmp_path / "given")
    compute_shard(tmp_path / "given", 1, 1, **OPTIONS)
    collect_shards(tmp_path / "given", 1, 90.0)
    assert read_table(tmp_path / "given" / "skipped") == {"b-0": "has features that are not finite numbers"}
    stored = read_matrix(read_table(tmp_path / "given_nosil" / "feats.scp")["a-0"])
    assert np.abs(stored - mean_variance_normalised(values.astype("f4"))).max() < 0.02
