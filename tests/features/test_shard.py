"""Stage 2 on small data directories: shards, their collection, skipped utterances."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import kaldi_native_io
import kaldiio
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from deepspeaker.audio import read_audio
from deepspeaker.errors import InputError
from deepspeaker.features import (
    FbankExtractor,
    collect_shards,
    compute_shard,
    energy_vad,
    mean_variance_normalised,
    nosil_dir,
    shard_of,
)
from deepspeaker.kaldi import DataDir, read_matrix, read_table, read_vector
from tests.features.small import OPTIONS, make_audio, run


def contents(folder: Path) -> dict[str, bytes]:
    """Return the tables without ark offsets, and the concatenated arks of all jobs."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("*")):
        if path.name in ("feats.scp", "vad.scp"):
            found[path.name] = " ".join(read_table(path)).encode()
        elif path.suffix != ".ark":
            found[path.name] = path.read_bytes()
    for kind in ("fbank", "vad"):
        arks = sorted(folder.glob(f"{kind}.*.ark"), key=lambda path: int(path.name.split(".")[1]))
        found[kind] = b"".join(ark.read_bytes() for ark in arks)
    return found


@given(st.lists(st.integers(), max_size=30), st.integers(1, 12))
def test_shards_keep_the_order_and_have_nearly_equal_lengths(items: list[int], num_jobs: int) -> None:
    shards = [shard_of(items, job, num_jobs) for job in range(1, num_jobs + 1)]
    assert [item for shard in shards for item in shard] == items
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_shards_match_split_scp(tmp_path: Path, seed: int) -> None:
    """Nearly equal lengths are not enough: the same shards must be the longer ones."""
    generator = np.random.default_rng(seed)
    num_jobs = int(generator.integers(2, 9))
    lines = [f"u{number:03d} x" for number in range(int(generator.integers(num_jobs, 60)))]
    (tmp_path / "scp").write_text("".join(f"{line}\n" for line in lines))
    pieces = [tmp_path / f"scp.{job}" for job in range(1, num_jobs + 1)]
    program = Path(__file__).parents[2] / "utils" / "split_scp.pl"
    environment = os.environ | {"DEEPSPEAKER_PYTHON": sys.executable}
    subprocess.run([program, tmp_path / "scp", *pieces], check=True, env=environment)
    for job, piece in enumerate(pieces, 1):
        assert shard_of(lines, job, num_jobs) == piece.read_text().splitlines()


def test_tables_and_arks_hold_the_computed_features(tmp_path: Path) -> None:
    data_dir = make_audio(tmp_path)
    before = DataDir.read(data_dir)
    line = run(data_dir, 2)
    data, nosil = DataDir.read(data_dir), DataDir.read(nosil_dir(data_dir))
    assert nosil_dir(data_dir) == tmp_path / "data_nosil"
    assert (data.utt2spk, data.wav_scp, data.text) == (before.utt2spk, before.wav_scp, before.text)
    assert nosil.utt2spk == data.utt2spk
    assert (nosil.wav_scp, nosil.vad_scp) == ({}, {})
    assert (nosil.text, nosil.spk2gender) == (before.text, before.spk2gender)
    extractor = FbankExtractor()
    frames = speech_frames = 0
    for utterance, path in data.wav_scp.items():
        feats, log_energy = extractor(read_audio(path))
        speech = energy_vad(log_energy)
        assert 0 < speech.sum() < len(speech)
        assert np.array_equal(read_matrix(data.feats_scp[utterance]), feats)
        assert np.array_equal(read_vector(data.vad_scp[utterance]), speech)
        assert data.utt2num_frames[utterance] == str(len(feats))
        normalised = mean_variance_normalised(feats[speech > 0])
        stored = read_matrix(nosil.feats_scp[utterance])
        assert nosil.utt2num_frames[utterance] == str(len(normalised)) == str(len(stored))
        assert np.abs(stored - normalised).max() <= np.ptp(normalised) / 255
        frames, speech_frames = frames + len(feats), speech_frames + len(normalised)
    assert line == f"{data_dir}: 7 utterances, {frames} frames, {100 * speech_frames / frames:.1f} % of them speech"
    assert not (data_dir / ".shards").exists()


def test_number_and_order_of_jobs_do_not_change_the_bytes(tmp_path: Path) -> None:
    data_dir = make_audio(tmp_path)
    run(data_dir, 1)
    one, one_nosil = contents(data_dir), contents(nosil_dir(data_dir))
    assert one["fbank"] and one["vad"] and one_nosil["fbank"]
    for num_jobs, order in ((3, (3, 1, 2)), (9, (1, 2, 3, 4, 5, 6, 7, 8, 9)), (2, (2, 1))):
        run(data_dir, num_jobs, order)
        assert contents(data_dir) == one
        assert contents(nosil_dir(data_dir)) == one_nosil


def test_fewer_jobs_remove_old_arks(tmp_path: Path) -> None:
    data_dir = make_audio(tmp_path)
    (data_dir / "mine.9.ark").touch()
    run(data_dir, 4)
    run(data_dir, 2)
    arks = ["fbank.1.ark", "fbank.2.ark", "mine.9.ark", "vad.1.ark", "vad.2.ark"]
    assert sorted(path.name for path in data_dir.glob("*.ark")) == arks
    assert sorted(path.name for path in nosil_dir(data_dir).glob("*.ark")) == ["fbank.1.ark", "fbank.2.ark"]


def spoil(data_dir: Path) -> None:
    """Silence one file, truncate one, shorten one, remove one, and drop the wav.scp entry of one."""
    audio = data_dir.parent / "audio"
    soundfile.write(audio / "a-0.flac", np.zeros(16000), 16000)
    whole = (audio / "b-1.flac").read_bytes()
    (audio / "b-1.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(audio / "a-2.flac", np.full(100, 0.1), 16000)
    (audio / "b-3.flac").unlink()
    data = DataDir.read(data_dir)
    del data.wav_scp["a-4"]
    data.write(data_dir)


@pytest.mark.parametrize("num_jobs", [1, 5])
def test_bad_files_are_skipped_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str], num_jobs: int) -> None:
    data_dir = make_audio(tmp_path, 100)
    spoil(data_dir)
    line = run(data_dir, num_jobs)
    assert line.startswith(f"{data_dir}: 95 utterances")
    skipped = read_table(data_dir / "skipped")
    assert list(skipped) == ["a-0", "a-2", "a-4", "b-1", "b-3"]
    assert skipped["a-0"] == "has no speech frame"
    assert skipped["a-2"].endswith("a-2.flac: has 100 samples, less than one frame")
    assert skipped["a-4"] == "is not in wav.scp"
    assert "b-1.flac: " in skipped["b-1"]
    assert skipped["b-3"].endswith("b-3.flac: no such file")
    error = capsys.readouterr().err
    assert f"skipped 5 of 100 utterances of {data_dir}; all in {data_dir}/skipped" in error
    assert "  b-3: " in error
    nosil = DataDir.read(nosil_dir(data_dir))
    assert len(nosil.utt2spk) == len(nosil.feats_scp) == 95
    assert not skipped.keys() & DataDir.read(data_dir).feats_scp.keys()


def test_more_than_five_percent_skipped_is_an_error(tmp_path: Path) -> None:
    data_dir = make_audio(tmp_path)
    spoil(data_dir)
    with pytest.raises(InputError, match=r"5 of 7 utterances of .* more than 5 % \(first a-0: has no speech") as raised:
        run(data_dir, 2)
    assert "--max-skipped" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (data_dir / "feats.scp").exists()
    assert not (nosil_dir(data_dir) / "feats.scp").exists()
    assert len(read_table(data_dir / "skipped")) == 5


def test_a_repaired_corpus_has_no_skipped_list(tmp_path: Path) -> None:
    data_dir = make_audio(tmp_path, 21)
    whole = (tmp_path / "audio" / "b-1.flac").read_bytes()
    (tmp_path / "audio" / "b-1.flac").write_bytes(whole[:500])
    run(data_dir, 2)
    assert list(read_table(data_dir / "skipped")) == ["b-1"]
    (tmp_path / "audio" / "b-1.flac").write_bytes(whole)
    run(data_dir, 2)
    assert not (data_dir / "skipped").exists()
    assert "b-1" in DataDir.read(nosil_dir(data_dir)).utt2spk


def test_a_missing_shard_is_an_error(tmp_path: Path) -> None:
    data_dir = make_audio(tmp_path)
    compute_shard(data_dir, 1, 3, **OPTIONS)
    compute_shard(data_dir, 3, 3, **OPTIONS)
    with pytest.raises(InputError, match="shard 2 of 3 is missing; run stage 2 again"):
        collect_shards(data_dir, 3, 5.0)
    assert not (data_dir / "feats.scp").exists()


def test_a_full_disk_keeps_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing them again may take hours."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    data_dir = make_audio(tmp_path)
    compute_shard(data_dir, 1, 1, **OPTIONS)
    with monkeypatch.context() as patched, pytest.raises(InputError, match="no space left on device"):
        patched.setattr(Path, "write_text", fail)
        collect_shards(data_dir, 1, 5.0)
    collect_shards(data_dir, 1, 5.0)
    assert len(DataDir.read(nosil_dir(data_dir)).feats_scp) == 7


def test_audio_whose_features_overflow_is_skipped(tmp_path: Path) -> None:
    """The samples are finite, but the squares of their spectrum are not: this once wrote NaN into the ark."""
    data_dir = make_audio(tmp_path, 21)
    samples = 1e25 * np.random.default_rng(0).normal(size=16000)
    soundfile.write(tmp_path / "audio" / "loud.wav", samples, 16000, subtype="FLOAT")
    data = DataDir.read(data_dir)
    data.wav_scp["a-0"] = str(tmp_path / "audio" / "loud.wav")
    data.write(data_dir)
    run(data_dir, 2)
    assert read_table(data_dir / "skipped") == {"a-0": "has features that are not finite numbers"}
    for folder in (data_dir, nosil_dir(data_dir)):
        table = read_table(folder / "feats.scp")
        assert len(table) == 20
        assert all(np.isfinite(read_matrix(location)).all() for location in table.values())


@pytest.mark.parametrize("num_jobs", [1, 3])
def test_segments_have_the_features_of_separate_files(tmp_path: Path, num_jobs: int) -> None:
    """Recordings are a pipe, a file, and a stereo file at another rate."""
    data_dir = make_audio(tmp_path / "whole", 6)
    whole, cuts = DataDir.read(data_dir), DataDir(utt2spk={})
    segmented = DataDir(utt2spk={})
    for number, (recording, location) in enumerate(whole.wav_scp.items()):
        samples, rate = soundfile.read(location)
        if number == 1:
            rate = 8000
            location = str(tmp_path / "stereo.wav")
            soundfile.write(location, np.stack([samples, 0.5 * samples], axis=1), rate)
            samples = soundfile.read(location, dtype="float32")[0].mean(axis=1)
        segmented.wav_scp[f"rec{number}"] = location if number else f"cat {location} |"
        for piece, (first, stop) in enumerate(((7, 6001), (6001, 12503))):
            utterance = f"{recording}-{piece}"
            path = tmp_path / "cuts" / f"{utterance}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, samples[first:stop], rate, subtype="FLOAT")
            segmented.segments[utterance] = f"rec{number} {first / rate:.6f} {stop / rate:.6f}"
            cuts.wav_scp[utterance] = str(path)
            cuts.utt2spk[utterance] = segmented.utt2spk[utterance] = utterance[0]
    segmented.reco2dur = dict.fromkeys(segmented.wav_scp, "1.0")
    segmented.write(tmp_path / "segmented")
    cuts.write(tmp_path / "files")
    said = run(tmp_path / "segmented", num_jobs, allow_pipes=True).splitlines()
    assert said[0].endswith("resampled from 8000 to 16000 Hz: 2 utterances (first: a-2-0)")
    assert said[1].endswith("channels averaged: 2 utterances (first: a-2-0)")
    run(tmp_path / "files", 1)
    ours, theirs = DataDir.read(tmp_path / "segmented"), DataDir.read(tmp_path / "files")
    assert ours.segments == segmented.segments
    assert list(ours.feats_scp) == sorted(segmented.segments)
    for utterance, location in ours.feats_scp.items():
        assert np.array_equal(read_matrix(location), read_matrix(theirs.feats_scp[utterance]))
        assert np.array_equal(read_vector(ours.vad_scp[utterance]), read_vector(theirs.vad_scp[utterance]))
    nosil = DataDir.read(tmp_path / "segmented_nosil")
    assert (nosil.wav_scp, nosil.segments, nosil.reco2dur) == ({}, {}, {})


@pytest.mark.parametrize(
    ("raw_compression", "raw_header", "compression", "header"),
    [
        ("none", b"FM ", "one-byte", b"CM3 "),
        ("two-byte", b"CM2 ", "none", b"FM "),
        ("speech-feature", b"CM ", "two-byte", b"CM2 "),
    ],
)
def test_kaldi_native_io_and_kaldiio_read_the_arks(
    tmp_path: Path, raw_compression: str, raw_header: bytes, compression: str, header: bytes
) -> None:
    data_dir = make_audio(tmp_path, 4)
    run(data_dir, 2, raw_compression=raw_compression, compression=compression)
    for folder, expected in ((data_dir, raw_header), (nosil_dir(data_dir), header)):
        assert b"\0B" + expected in (folder / "fbank.1.ark").read_bytes()[:20]
        ours = {u: read_matrix(location) for u, location in read_table(folder / "feats.scp").items()}
        with kaldi_native_io.SequentialFloatMatrixReader(f"scp:{folder}/feats.scp") as reader:
            theirs = {utterance: np.array(matrix) for utterance, matrix in reader}
        assert list(ours) == list(theirs) == sorted(ours)
        for utterance, matrix in ours.items():
            scale = float(np.abs(matrix).max())
            np.testing.assert_allclose(theirs[utterance], matrix, rtol=0, atol=1e-6 * scale)
            location = read_table(folder / "feats.scp")[utterance]
            np.testing.assert_allclose(kaldiio.load_mat(location), matrix, rtol=0, atol=1e-6 * scale)
            assert Path(location.rpartition(":")[0]).is_absolute()
    with kaldi_native_io.SequentialFloatVectorReader(f"scp:{data_dir}/vad.scp") as reader:
        speech = {utterance: np.array(vector) for utterance, vector in reader}
    assert {u: int(v.sum()) for u, v in speech.items()} == {
        u: int(frames) for u, frames in read_table(nosil_dir(data_dir) / "utt2num_frames").items()
    }
