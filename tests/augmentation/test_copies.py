"""Copies of data directories, and stage 2 on them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from deepspeaker.audio import load_audio, read_audio
from deepspeaker.augmentation import CONDITIONS_PART, Augmenter, write_copies
from deepspeaker.config import Augment, Conditions
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.kaldi import DataDir, read_table
from tests.features.small import make_audio, run

KINDS = ["noise", "babble", "reverb", "speed", "bandwidth", "telephone", "gain", "clipping"]
ALL_KINDS = [*KINDS, {"kind": "codec", "codecs": ["mp3", "vorbis"]}]
#: Copies in which nothing is random.
FIXED = ("train_sp0.9", "train_telephone")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """``train`` and ``test`` with six utterances of two speakers each."""
    for part in ("train", "test"):
        made = make_audio(tmp_path / part / "made", utterances=6)
        data = DataDir.read(made)
        for utterance, path in data.wav_scp.items():
            info = soundfile.info(path)
            data.utt2dur[utterance] = f"{info.duration:.3f}"
        data.write(tmp_path / "data" / part)
    return tmp_path / "data"


def write(data_dir: Path, copies: Any = (), conditions: Any = (), seed: int = 0) -> tuple[list[Path], str]:
    said: list[str] = []
    folders = write_copies(
        data_dir,
        Augment.model_validate({"copies": list(copies)}),
        Conditions.model_validate({"copies": list(conditions)}),
        seed,
        sampling_rate=16000,
        bytes_per_second=6400.0,
        say=said.append,
    )
    return folders, "\n".join(said)


def changed(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The changed samples of all utterances."""
    data = DataDir.read(folder)
    augmenter = Augmenter(folder, data, 16000, lambda utterance: load_audio(data.wav_scp[utterance], 16000))
    return {u: augmenter.samples(u, read_audio(data.wav_scp[u])) for u in data.utt2spk}


def refusal(data_dir: Path, *copies: Any) -> str:
    with pytest.raises(InputError) as caught:
        write(data_dir, list(copies))
    assert "\n" not in str(caught.value)
    assert not list(data_dir.glob("train_*"))
    return str(caught.value)


def test_copies_have_kaldis_names_and_a_line_tells_what_they_cost(data_dir: Path) -> None:
    folders, said = write(data_dir, ["noise", {"kind": "speed", "factor": 0.8}])
    assert [folder.name for folder in folders] == ["train_noise", "train_sp0.8"]
    noise, fast = map(DataDir.read, folders)
    original = DataDir.read(data_dir / "train")
    assert noise.utt2spk == {f"{u}-noise": speaker for u, speaker in original.utt2spk.items()}
    assert fast.utt2spk == {f"sp0.8-{u}": f"sp0.8-{speaker}" for u, speaker in original.utt2spk.items()}
    assert read_table(folders[1] / "utt2uniq")["sp0.8-a-0"] == "a-0"
    assert float(fast.utt2dur["sp0.8-a-0"]) == pytest.approx(1.25 * float(original.utt2dur["a-0"]), abs=1e-3)
    once = sum(map(float, original.utt2dur.values()))
    assert f"2 copies of {once / 3600:.2f} h (noise, sp0.8) have {2.25 * once / 3600:.2f} h of audio" in said
    assert "at most 0 MB" in said and "min of one core" in said


def test_an_unchanged_copy_keeps_its_features(data_dir: Path) -> None:
    (folder,), _ = write(data_dir, ["noise"])
    run(folder, 1)
    before = (folder / "utt2num_frames").stat().st_mtime_ns
    write(data_dir, ["noise"])
    assert (folder / "utt2num_frames").stat().st_mtime_ns == before
    write(data_dir, ["noise"], seed=1)
    assert json.loads((folder / "augmentation.json").read_text())["seed"] == 1
    assert not (folder / "utt2num_frames").exists()


def test_the_number_of_jobs_changes_no_byte_and_the_seed_changes_all_random_copies(data_dir: Path) -> None:
    folders, _ = write(data_dir, ALL_KINDS)

    def features() -> dict[str, dict[str, np.ndarray[Any, Any]]]:
        indices = {folder.name: FeatureIndex(folder.with_name(f"{folder.name}_nosil")) for folder in folders}
        return {name: {i.utterance_id(n): i.read(n) for n in range(len(i))} for name, i in indices.items()}

    for folder in folders:
        run(folder, 1)
        assert not (folder / "feats.scp").exists()  # only normalised features are kept
    once = features()
    for folder in folders:
        run(folder, 4, order=(3, 1, 4, 2))
    for name, utterances in features().items():
        for utterance, feats in utterances.items():
            assert np.array_equal(feats, once[name][utterance]), utterance
    first = {folder.name: changed(folder) for folder in folders}
    write(data_dir, ALL_KINDS, seed=1)
    for folder in folders:
        same = [np.array_equal(s, first[folder.name][u]) for u, s in changed(folder).items()]
        assert all(same) == (folder.name in FIXED), folder.name


def test_snr_is_within_its_range_and_within_a_tenth_of_a_db(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "noises").mkdir()
    generator = np.random.default_rng(0)
    for name, seconds, rate in (("short", 0.2, 8000), ("long", 70, 22050)):
        soundfile.write(tmp_path / "noises" / f"{name}.wav", 0.1 * generator.standard_normal(int(seconds * rate)), rate)
    copies = [
        {"kind": "noise", "snr": [7, 7]},
        {"kind": "noise", "name": "own", "folder": str(tmp_path / "noises"), "snr": [7, 7]},
        {"kind": "babble", "snr": [7, 7]},
    ]
    for folder in write(data_dir, copies)[0]:
        data = DataDir.read(folder)
        for utterance, mixed in changed(folder).items():
            speech = read_audio(data.wav_scp[utterance]).astype(np.float64)
            noise = mixed - speech
            assert len(mixed) == len(speech)
            assert 10 * np.log10(np.mean(speech**2) / np.mean(noise**2)) == pytest.approx(7, abs=0.1)


def test_conditions_are_one_part_with_a_trial_list(data_dir: Path) -> None:
    wanted = ["clean", {"kind": "noise", "snr": [5, 5]}, {"kind": "seconds", "seconds": 0.6}]
    (folder,), _ = write(data_dir, conditions=wanted)
    assert folder.name == CONDITIONS_PART
    said = run(folder, 2)
    index = FeatureIndex(folder.with_name(f"{CONDITIONS_PART}_nosil"))
    condition = read_table(folder.with_name(f"{CONDITIONS_PART}_nosil") / "utt2condition")
    lengths = {index.utterance_id(n): int(index.frames[n]) for n in range(len(index))}
    assert {length for u, length in lengths.items() if condition[u] == "0.6s"} == {60}
    run(data_dir / "test", 1)
    whole = read_table(data_dir / "test_nosil" / "utt2num_frames")
    long_enough = [u for u, frames in whole.items() if int(frames) >= 60]
    assert 0 < len(long_enough) < 6
    assert Counter(condition.values()) == {"clean": 6, "noise5dB": 6, "0.6s": len(long_enough)}
    assert f"{6 - len(long_enough)} utterances have less speech" in said
    clean = [u for u in condition if condition[u] == "clean"]
    assert all(lengths[u] == int(whole[u.removesuffix("-clean")]) for u in clean)


def test_bad_input_is_one_line_and_nothing_is_written(data_dir: Path, tmp_path: Path, monkeypatch: Any) -> None:
    noises = tmp_path / "noises"
    assert "no such folder or manifest of noises" in refusal(data_dir, {"kind": "noise", "folder": str(noises)})
    noises.mkdir()
    assert "has no audio file; give a folder of impulse" in refusal(data_dir, {"kind": "reverb", "folder": str(noises)})
    soundfile.write(noises / "silent.wav", np.zeros(4000), 8000)
    assert "silent.wav: is silent; remove it" in refusal(data_dir, {"kind": "noise", "folder": str(noises)})
    (noises / "silent.wav").write_bytes(b"RIFF")
    assert "silent.wav: " in refusal(data_dir, {"kind": "noise", "folder": str(noises)})
    manifest = tmp_path / "x.jsonl"
    manifest.write_text("no manifest\n")
    assert "cannot be read as a Lhotse manifest" in refusal(data_dir, {"kind": "noise", "folder": str(manifest)})
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    assert "the disk has 0 MB left" in refusal(data_dir, "telephone")
    monkeypatch.undo()
    data = DataDir.read(data_dir / "train")
    data.feats_scp, data.wav_scp = dict.fromkeys(data.utt2spk, "x.ark:5"), {}
    data.write(data_dir / "train")
    assert "features came with the corpus" in refusal(data_dir, "speed")


def test_a_manifest_names_noises(data_dir: Path, tmp_path: Path) -> None:
    from lhotse import Recording, RecordingSet

    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(0).standard_normal(9000) * 0.1, 16000)
    RecordingSet.from_recordings([Recording.from_file(path)]).to_file(tmp_path / "noises.jsonl.gz")
    (folder,), _ = write(data_dir, [{"kind": "noise", "folder": str(tmp_path / "noises.jsonl.gz")}])
    assert list(read_table(folder / "sources_noise.scp").values()) == [str(path)]
    assert len(changed(folder)) == 6


def test_babble_is_of_other_speakers_and_needs_one(data_dir: Path) -> None:
    data = DataDir.read(data_dir / "train")
    alone = data.subset([u for u, speaker in data.utt2spk.items() if speaker == "a"])
    alone.write(data_dir / "train")
    (folder,), _ = write(data_dir, ["babble"])
    with pytest.raises(InputError, match="no other speaker who could babble"):
        changed(folder)
