"""Data directories from CutSets of all kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, NumpyFilesWriter
from lhotse.audio import AudioSource

from deepspeaker.audio import load_audio
from deepspeaker.corpora import fingerprint
from deepspeaker.cuts import data_dir_of_cuts, find_cuts, open_cuts, read_cuts
from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir, read_matrix
from tests.cuts.conftest import MakeCuts


def audio_of(data: DataDir, utterance: str, rate: int = 16000) -> np.ndarray:
    segment = data.segment_of(utterance)
    assert segment is not None
    bounds = (segment.start, segment.end) if data.segments else None
    return load_audio(data.wav_scp[segment.recording], rate, False, bounds)[0]


def test_whole_recordings_are_not_copied(audio_cuts: MakeCuts, tmp_path: Path) -> None:
    cuts = audio_cuts({"a": [3200, 4807], "b": [1600]})
    cuts[0].supervisions[0].text, cuts[0].supervisions[0].gender = "two  words", "Female"
    data = data_dir_of_cuts(cuts, tmp_path / "store")
    assert data.utt2spk == {"a-0": "a", "a-1": "a", "b-0": "b"}
    assert data.wav_scp["a-1"] == f"{tmp_path}/audio/a-1.wav"
    assert (data.segments, data.feats_scp, data.text, data.spk2gender) == ({}, {}, {"a-0": "two words"}, {"a": "f"})
    assert not (tmp_path / "store").exists()
    for cut in cuts:
        assert np.array_equal(audio_of(data, cut.id), cut.load_audio()[0])


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_parts_of_recordings_become_segments_with_their_exact_samples(
    audio_cuts: MakeCuts, tmp_path: Path, rate: int
) -> None:
    (whole,) = audio_cuts({"a": [3 * rate + 17]}, rate=rate)
    generator = np.random.default_rng(0)
    cuts = []
    for number in range(40):
        first, last = np.sort(generator.choice(3 * rate + 17, 2, replace=False)).tolist()
        if last - first < 100:
            continue
        cut = whole.truncate(offset=first / rate, duration=(last - first) / rate).with_id(f"cut-{number}")
        assert cut.num_samples == last - first
        cuts.append((cut, first, last))
    data = data_dir_of_cuts(CutSet.from_cuts(cut for cut, *_ in cuts), tmp_path / "store")
    assert list(data.wav_scp) == ["a-0"] and len(data.segments) == len(cuts) > 30
    samples, _ = soundfile.read(data.wav_scp["a-0"], dtype="float32")
    for cut, first, last in cuts:
        assert np.array_equal(audio_of(data, cut.id, rate), samples[first:last])
        assert np.array_equal(cut.load_audio()[0], samples[first:last])


def test_what_tables_cannot_express_is_stored_as_lhotse_loads_it(audio_cuts: MakeCuts, tmp_path: Path) -> None:
    mono = audio_cuts({"a": [16000, 12000]})
    stereo = audio_cuts({"b": [16000]}, channels=2, folder="stereo")[0]
    left = stereo.to_mono()[0].with_id("left")
    cuts = [
        mono[0].mix(mono[1], snr=10).with_id("mixed"),
        mono[0].perturb_speed(1.1).with_id("fast"),
        mono[1].resample(8000).with_id("slow-rate"),
        mono[0].pad(duration=1.5).with_id("padded"),
        left,
        stereo,
        mono[1],
    ]
    data = data_dir_of_cuts(CutSet.from_cuts(cuts), tmp_path / "store")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [f"{n:09d}.wav" for n in range(1, 6)]
    for cut in cuts:
        expected = cut.load_audio().mean(axis=0)
        assert np.array_equal(audio_of(data, cut.id, cut.sampling_rate), expected.astype(np.float32)), cut.id
    assert data.wav_scp["b-0" if not data.segments else stereo.recording_id].endswith("stereo/b-0.wav")


def test_features_in_archives_are_not_copied_unless_cut(feature_cuts: MakeCuts, tmp_path: Path) -> None:
    cuts = feature_cuts({"a": [50, 60], "b": [70]}, compression="two-byte")
    data = data_dir_of_cuts(cuts, tmp_path / "store")
    assert data.feats_scp == {cut.id: cut.features.storage_path for cut in cuts}
    assert data.utt2dur == {"a-0": "0.500000", "a-1": "0.600000", "b-0": "0.700000"}
    assert not (tmp_path / "store").exists()
    by_scp = list(cuts)
    for cut in by_scp:
        cut.features.storage_path = str(tmp_path / "f.scp")
    assert data_dir_of_cuts(by_scp, tmp_path / "store").feats_scp == data.feats_scp
    parts = [cut.truncate(offset=0.1, duration=0.2, preserve_id=True) for cut in by_scp]
    part = data_dir_of_cuts(parts, tmp_path / "store")
    for cut in cuts:
        assert np.array_equal(read_matrix(part.feats_scp[cut.id]), read_matrix(data.feats_scp[cut.id])[10:30])


def test_features_in_other_storages_are_copied(feature_cuts: MakeCuts, tmp_path: Path) -> None:
    cuts = feature_cuts({"a": [50, 60]})
    with NumpyFilesWriter(tmp_path / "numpy") as writer:
        moved = cuts.map(lambda cut: cut.move_to_memory(load_custom=False))
        stored = CutSet.from_cuts(
            _with_features(cut, writer.write(cut.id, cut.load_features()), writer) for cut in cuts
        )
    for changed in (stored, moved):
        data = data_dir_of_cuts(changed, tmp_path / "store")
        assert list(data.feats_scp) == ["a-0", "a-1"]
        for cut in changed:
            assert np.array_equal(read_matrix(data.feats_scp[cut.id]), cut.load_features())


def _with_features(cut: object, key: str, writer: NumpyFilesWriter) -> object:
    from lhotse.utils import fastcopy

    features = fastcopy(
        cut.features, storage_type=writer.name, storage_path=str(writer.storage_path), storage_key=key  # type: ignore[attr-defined]
    )
    return fastcopy(cut, features=features)


def test_commands_run_only_when_allowed(audio_cuts: MakeCuts, tmp_path: Path) -> None:
    cuts = audio_cuts({"a": [1600]})
    (cut,) = cuts
    path = cut.recording.sources[0].source
    cut.recording.sources = [AudioSource(type="command", channels=[0], source=f"touch {tmp_path}/ran; cat {path}")]
    with pytest.raises(InputError, match=r"cut a-0: its audio is a command \(touch .*--allow-pipes true"):
        data_dir_of_cuts(cuts, tmp_path / "store")
    data = data_dir_of_cuts(cuts, tmp_path / "store", allow_pipes=True)
    assert data.wav_scp["a-0"] == f"touch {tmp_path}/ran; cat {path} |"
    assert not (tmp_path / "ran").exists()


def test_a_pipe_of_features_is_refused(feature_cuts: MakeCuts, tmp_path: Path) -> None:
    cuts = feature_cuts({"a": [50]})
    cuts[0].features.storage_path = f"touch {tmp_path}/ran |"
    with pytest.raises(InputError, match="cut a-0: its features are a pipe"):
        data_dir_of_cuts(cuts, tmp_path / "store")
    (tmp_path / "x.scp").write_text(f"a-0 touch {tmp_path}/ran |\n")
    cuts[0].features.storage_path = str(tmp_path / "x.scp")
    with pytest.raises(InputError, match="pipes and row ranges are not supported"):
        data_dir_of_cuts(cuts, tmp_path / "store")
    assert not (tmp_path / "ran").exists()


def test_invalid_cuts_are_named(audio_cuts: MakeCuts, feature_cuts: MakeCuts, tmp_path: Path) -> None:
    a = audio_cuts({"a": [1600]})[0]
    f = feature_cuts({"f": [50]})[0]
    gone = feature_cuts({"g": [50]}, name="gone")[0]
    gone.features.storage_type = "numpy_files"
    nameless = audio_cuts({"n": [1600]})[0]
    nameless.supervisions[0].speaker = "two words"
    bare = MonoCut(id="bare", start=0, duration=1, channel=0, supervisions=a.supervisions)
    other = audio_cuts({"a": [1600]}, folder="other")[0].with_id("other")
    for cuts, message in (
        ([], "the CutSet has no cut"),
        ([a, a], "cut a-0: the id is duplicated"),
        ([a.with_id("a 0")], "cut 'a 0': Kaldi's tables need an id without blanks"),
        ([a, f], "cut f-0: only some of the cuts have features"),
        ([a.drop_supervisions()], "cut a-0: none of its supervisions has a speaker"),
        ([nameless], "cut n-0: the speaker 'two words' has blanks"),
        ([bare], "cut bare: has neither audio nor features"),
        ([a, other], "cut other: the recording a-0 is "),
        ([gone], "cut g-0: Lhotse cannot load its features"),
    ):
        with pytest.raises(InputError, match=message) as raised:
            data_dir_of_cuts(cuts, tmp_path / "store")
        assert "\n" not in str(raised.value)
    assert list(tmp_path.glob("store/*")) == []


def test_folders_of_manifests(audio_cuts: MakeCuts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    with pytest.raises(InputError, match=r"train_cuts\.jsonl\.gz: no such file; write it with CutSet\.to_file"):
        find_cuts(folder)
    for part, speakers in {"train": "ab", "test": "cd"}.items():
        cuts = audio_cuts({speaker: [3200, 1600] for speaker in speakers})
        for cut in cuts:  # relative to the folder above
            cut.recording.sources[0].source = f"audio/{cut.id}.wav"
        cuts.to_file(folder / f"{part}_cuts.{'jsonl' if part == 'test' else 'jsonl.gz'}")
    monkeypatch.chdir("/")
    data = read_cuts(folder, tmp_path / "store")
    assert {part: sorted(set(directory.utt2spk.values())) for part, directory in data.items()} == {
        "train": ["a", "b"],
        "test": ["c", "d"],
    }
    assert data["train"].wav_scp["a-1"] == f"{tmp_path}/audio/a-1.wav"
    fingerprints = [fingerprint("lhotse", folder)]
    assert fingerprint("lhotse", folder) == fingerprints[0]
    (tmp_path / "audio" / "c-1.wav").write_bytes(b"shorter")
    fingerprints.append(fingerprint("lhotse", folder))
    (folder / "test_cuts.jsonl").write_text((folder / "test_cuts.jsonl").read_text() + "\n")
    fingerprints.append(fingerprint("lhotse", folder))
    assert len(set(fingerprints)) == 3
    (folder / "train_cuts.jsonl.gz").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"train_cuts\.jsonl\.gz: cannot be read"):
        fingerprint("lhotse", folder)


def test_files_without_cuts_are_named(audio_cuts: MakeCuts, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    cuts = audio_cuts({"a": [1600]})
    for content, message in (
        ("{\n", "x.jsonl:1: no valid cut"),
        ('{"id": "a"}\n', "x.jsonl:1: no valid cut"),
        ("3\n", "x.jsonl:1: no valid cut"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            list(open_cuts(path))
    recordings = tmp_path / "r.jsonl.gz"
    cuts.decompose(tmp_path)
    with pytest.raises(InputError, match=r"recordings\.jsonl\.gz:1: a Recording instead of a cut"):
        list(open_cuts(tmp_path / "recordings.jsonl.gz"))
    recordings.write_bytes(b"\x1f\x8bjunk")
    with pytest.raises(InputError, match=r"r\.jsonl\.gz:1: no valid cut"):
        list(open_cuts(recordings))
    cuts.to_file(tmp_path / "cut.jsonl.gz")
    whole = (tmp_path / "cut.jsonl.gz").read_bytes()
    for damaged in (whole[:-20], whole[:30] + b"\xff" * 20 + whole[50:]):
        recordings.write_bytes(damaged)
        with pytest.raises(InputError, match=r"r\.jsonl\.gz:\d: no valid cut"):
            list(open_cuts(recordings))
        recordings.rename(tmp_path / "train_cuts.jsonl.gz")
        with pytest.raises(InputError, match=r"train_cuts\.jsonl\.gz: cannot be read"):
            fingerprint("lhotse", tmp_path)
