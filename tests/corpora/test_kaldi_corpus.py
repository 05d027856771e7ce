"""Stage 1 on folders of Kaldi data directories."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from deepspeaker.corpora import chapters_as_sessions, fingerprint, merge_chapters, read_kaldi
from deepspeaker.errors import InputError
from deepspeaker.kaldi import ArkWriter, DataDir, read_table, write_table
from tests.corpora.small import add_audio, make_kaldi, run, speakers


def test_kaldi_directories_with_audio_of_any_kind(tmp_path: Path) -> None:
    from lhotse import RecordingSet

    flac = add_audio(tmp_path / "a.flac", 16000)
    wav = Path(add_audio(tmp_path / "a.wav", 16000, channels=2)).read_bytes()
    (tmp_path / "it's.ark").write_bytes(b"key " + wav + b"next " + wav)
    entries = {
        "a-1": f"flac -c -d -s {flac} |",
        "a-2": f"{tmp_path}/it's.ark:4",
        "b-1": f"cat {tmp_path}/a.wav |",
    }
    folder = make_kaldi(tmp_path / "corpus", {"train": ["a", "b"], "dev": ["c"], "test": ["d", "e"]}, entries)
    output = tmp_path / "data"
    message = r"corpus/train/wav\.scp:3: b-1 is a pipe, which runs a command \(1 such lines\); give --allow-pipes true"
    with pytest.raises(InputError, match=message):
        read_kaldi(folder, allow_pipes=False)
    with pytest.raises(InputError, match=r"1 of 4 train utterances .*--allow-pipes"):
        run(read_kaldi(folder), output)
    run(read_kaldi(folder), output, allow_pipes=True)
    assert DataDir.read(output / "train").wav_scp["a-1"] == entries["a-1"]
    recordings = {r.id: r for r in RecordingSet.from_file(output / "manifests" / "train_recordings.jsonl.gz")}
    assert recordings["a-1"].sources[0].type == "file"
    assert recordings["a-1"].sources[0].source == flac
    stereo = soundfile.read(io.BytesIO(wav), dtype="float32")[0].T
    for utterance in ("a-2", "b-1"):
        assert recordings[utterance].sources[0].type == "command"
        assert np.array_equal(recordings[utterance].load_audio(), stereo)
    assert speakers(output) == {"train": ["a", "b"], "dev": ["c"], "test": ["d", "e"]}


@pytest.mark.parametrize("below", [".", "corpus", "corpus/sub"])
def test_relative_paths_of_three_kinds_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    folder = tmp_path / "corpus" / "sub"
    folder.mkdir(parents=True)
    add_audio(tmp_path / below / "audio" / "a.flac")
    with ArkWriter(tmp_path / below / "audio" / "f.ark", tmp_path / "f.scp") as writer:
        writer.write("x", np.ones((3, 2), dtype=np.float32))
    entries = {"a-1": "audio/a.flac", "a-2": "flac -c -d -s audio/a.flac |", "b-1": "cat audio/a.flac |"}
    make_kaldi(folder, {"train": ["a", "b"], "test": ["c", "d"]}, entries)
    data = DataDir.read(folder / "test")
    data.feats_scp = {"c-1": "audio/f.ark:2", "c-2": "audio/f.ark:2", "d-1": "none/f.ark:2"}
    data.write(folder / "test")
    monkeypatch.chdir(tmp_path)
    read = read_kaldi(folder)
    base = (tmp_path / below).resolve()
    assert read["train"].wav_scp["a-1"] == f"{base}/audio/a.flac"
    assert read["train"].wav_scp["a-2"] == f"flac -c -d -s {base}/audio/a.flac |"
    assert read["train"].wav_scp["b-1"] == "cat audio/a.flac |"  # commands stay unchanged
    assert read["test"].feats_scp == {
        "c-1": f"{base}/audio/f.ark:2",
        "c-2": f"{base}/audio/f.ark:2",
        "d-1": "none/f.ark:2",
    }


def make_features(folder: Path, speaker_prefix: str = "") -> Path:
    """Write data directories train and test with features but no audio, of two speakers with two utterances each."""
    for part, names in {"train": "ab", "test": "cd"}.items():
        data = DataDir(utt2spk={f"{name}-{number}": speaker_prefix + name for name in names for number in (1, 2)})
        with ArkWriter(folder / f"{part}.ark", folder / f"{part}.scp") as writer:
            for frames, utterance in enumerate(sorted(data.utt2spk), 50):
                writer.write(utterance, np.zeros((frames, 7), dtype=np.float32))
        data.feats_scp = read_table(folder / f"{part}.scp")
        data.write(folder / part)
    return folder


def test_kaldi_directories_with_features_only(tmp_path: Path) -> None:
    from lhotse import SupervisionSet, validate

    folder, output = make_features(tmp_path / "corpus"), tmp_path / "data"
    assert any("2 target, 4 nontarget trials" in line for line in run(read_kaldi(folder), output))
    supervisions = SupervisionSet.from_file(output / "manifests" / "test_supervisions.jsonl.gz")
    validate(supervisions)
    assert [s.duration for s in supervisions] == [0.5, 0.51, 0.52, 0.53]
    assert not (output / "manifests" / "test_recordings.jsonl.gz").exists()
    assert DataDir.read(output / "test").feats_scp == read_table(folder / "test.scp")
    (folder / "train.ark").write_bytes(b"")
    with pytest.raises(InputError, match=r"4 of 4 train utterances .*train\.ark"):
        run(read_kaldi(folder), output)


def test_ids_that_do_not_begin_with_their_speaker_are_reported(tmp_path: Path) -> None:
    lines = run(read_kaldi(make_features(tmp_path / "corpus", "x")), tmp_path / "data")
    assert "note: 4 utterance ids of train do not begin with their speaker's id (first: a-1)" in "\n".join(lines)
    assert sum(line.startswith("note: ") for line in lines) == 2


def test_wrong_kaldi_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder; --corpus-dir needs"):
        read_kaldi(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"train: no such data directory"):
        read_kaldi(tmp_path)


def test_fingerprint_of_kaldi_directories_depends_on_tables_and_files(tmp_path: Path) -> None:
    folder = make_kaldi(tmp_path / "corpus", {"train": ["a", "b"], "test": ["c", "d"]})
    found = [fingerprint("kaldi", folder)]
    assert fingerprint("kaldi", folder) == found[0]
    audio = folder / "audio" / "a-1.ogg"
    audio.write_bytes(audio.read_bytes() + b"x")
    found.append(fingerprint("kaldi", folder))
    (folder / "train" / "text").write_text("a-1 WORDS\n")
    found.append(fingerprint("kaldi", folder))
    for name in ("trials", "enrol_spk2utt", "utt2channel"):
        (folder / "test" / name).write_text("c-1 c-2 target\n")
        found.append(fingerprint("kaldi", folder))
    assert len(set(found)) == 6


def test_trials_models_and_utterance_tables_of_a_kaldi_corpus_are_copied(tmp_path: Path) -> None:
    folder = make_kaldi(tmp_path / "corpus", {"train": ["a", "b"], "test": ["c", "d"]})
    output, source = tmp_path / "data", folder / "test"
    (source / "trials").write_text("m c-2 target\n")
    (source / "enrol_spk2utt").write_text("m c-1\n")
    (source / "utt2channel").write_text("c-1 phone\nd-2 studio\nx-1 phone\n")
    run(read_kaldi(folder), output, test_source=source)
    for name in ("trials", "enrol_spk2utt"):
        assert (output / "test" / name).read_bytes() == (source / name).read_bytes()
    assert read_table(output / "test" / "utt2channel") == {"c-1": "phone", "d-2": "studio"}
    for name in ("trials", "enrol_spk2utt", "utt2channel"):
        (source / name).unlink()
    run(read_kaldi(folder), output, test_source=source)
    assert not {"trials", "enrol_spk2utt", "utt2channel"} & {path.name for path in (output / "test").iterdir()}


def test_the_corpora_of_development_utterances_are_copied_and_counted(tmp_path: Path) -> None:
    folder = make_kaldi(tmp_path / "corpus", {"train": ["a", "b"], "dev": ["c", "d"], "test": ["e", "f"]})
    output, before = tmp_path / "data", fingerprint("kaldi", folder)
    (folder / "dev/utt2corpus").write_text("c-1 phone\nd-2 studio\nx-1 phone\n")
    assert fingerprint("kaldi", folder) != before
    run(read_kaldi(folder), output, dev_source=folder / "dev")
    assert read_table(output / "dev/utt2corpus") == {"c-1": "phone", "d-2": "studio"}
    (folder / "dev/utt2corpus").unlink()
    run(read_kaldi(folder), output, dev_source=folder / "dev")
    assert not (output / "dev/utt2corpus").exists()


@pytest.mark.parametrize(("number", "split"), [(10, False), (60, True)])
def test_development_speakers_out_of_training_keep_their_corpora(tmp_path: Path, number: int, split: bool) -> None:
    names = [f"t{speaker}" for speaker in range(number)]
    folder, output = make_kaldi(tmp_path / "corpus", {"train": names, "test": ["x", "y"]}), tmp_path / "data"
    utterances = read_table(folder / "train/utt2spk")
    write_table(folder / "train/utt2corpus", {u: str(place % 2) for place, u in enumerate(utterances)})
    run(read_kaldi(folder), output, dev_source=folder / "train")
    assert (output / "dev/utt2corpus").is_file() == split
    if split:
        kept, given = read_table(output / "dev/utt2corpus"), read_table(folder / "train/utt2corpus")
        assert kept == {u: given[u] for u in read_table(output / "dev/utt2spk")} != {}


def segmented(folder: Path, parts: dict[str, str]) -> Path:
    """Write data directories with one recording per speaker, named alike in all parts, and two segments of each."""
    for part, names in parts.items():
        data = DataDir(utt2spk={})
        for number, name in enumerate(names):
            location = add_audio(folder / part / f"{name}.flac", 8000 + 1000 * number)
            data.wav_scp[f"r{number}"] = location if number else f"cat {location} |"
            for utterance, segment in ((f"{name}-1", "0.1 0.30002"), (f"{name}-2", "0.30002 -1")):
                data.utt2spk[utterance] = name
                data.segments[utterance] = f"r{number} {segment}"
        data.reco2dur = dict.fromkeys(data.wav_scp, "1")
        data.write(folder / part)
    return folder


def test_segments_keep_their_samples_in_tables_and_manifests(tmp_path: Path) -> None:
    from lhotse import CutSet, RecordingSet, SupervisionSet

    folder, output = segmented(tmp_path / "corpus", {"train": "ab", "test": "cde"}), tmp_path / "data"
    lines = run(read_kaldi(folder), output, allow_pipes=True)
    data = DataDir.read(output / "test")
    assert data.segments == DataDir.read(folder / "test").segments
    assert data.reco2dur == {"r0": "0.500000", "r1": "0.562500", "r2": "0.625000"}
    assert [data.utt2dur[u] for u in ("c-1", "c-2", "e-2")] == ["0.200000", "0.200000", "0.325000"]
    recordings = RecordingSet.from_file(output / "manifests" / "test_recordings.jsonl.gz")
    supervisions = SupervisionSet.from_file(output / "manifests" / "test_supervisions.jsonl.gz")
    assert [r.num_samples for r in recordings] == [8000, 9000, 10000]
    cuts = CutSet.from_manifests(recordings=recordings, supervisions=supervisions).trim_to_supervisions()
    whole = soundfile.read(folder / "test" / "e.flac", dtype="float32")[0]
    pieces = {cut.supervisions[0].id: cut.load_audio()[0] for cut in cuts}
    assert np.array_equal(pieces["e-1"], whole[1600:4800])
    assert np.array_equal(pieces["e-2"], whole[4800:])
    assert not any("note" in line for line in lines)
    assert fingerprint("kaldi", folder) != fingerprint("kaldi", segmented(tmp_path / "corpus", {"test": "cd"}))


def test_segments_outside_their_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = segmented(tmp_path / "corpus", {"train": "ab", "test": "cde"})
    data = DataDir.read(folder / "test")
    data.segments |= {"c-1": "r0 0.1 0.6", "d-1": "r1 0.6 0.7", "e-1": "r2 0.1 2"}
    data.utt2spk |= {"e-3": "e"}
    data.write(folder / "test")
    lines = run(read_kaldi(folder), tmp_path / "data", allow_pipes=True, max_skipped=50)
    assert read_table(tmp_path / "data" / "skipped_test") == {
        "d-1": "begins at 0.6 s, its recording ends at 0.5625 s",
        "e-1": "ends at 2 s, its recording at 0.625 s",
        "e-3": "is in neither segments nor feats.scp",
    }
    assert "note: 1 segments of test end less than half a second after their recording" in "\n".join(lines)
    assert DataDir.read(tmp_path / "data" / "test").utt2dur["c-1"] == "0.400000"
    (folder / "test" / "c.flac").unlink()
    with pytest.raises(InputError, match=r"test utterances had .* \(first c-1: cat .*the pipe failed with status 1"):
        run(read_kaldi(folder), tmp_path / "data", allow_pipes=True)


def test_given_frame_counts_are_checked_and_given_durations_kept(tmp_path: Path) -> None:
    from lhotse import SupervisionSet

    folder, output = make_features(tmp_path / "corpus"), tmp_path / "data"
    for part in ("train", "test"):
        data = DataDir.read(folder / part)
        data.utt2num_frames = dict(zip(data.utt2spk, ("50", "51", "49", "53"), strict=True))
        data.utt2dur = dict.fromkeys(data.utt2spk, "0.52")
        data.write(folder / part)
    lines = run(read_kaldi(folder), output)
    assert [line for line in lines if line.startswith("note")] == [
        "note: utt2num_frames of train is wrong for 1 utterances (first: b-1); using the arks",
        "note: utt2num_frames of test is wrong for 1 utterances (first: d-1); using the arks",
    ]
    assert list(DataDir.read(output / "test").utt2num_frames.values()) == ["50", "51", "52", "53"]
    assert set(DataDir.read(output / "train").utt2dur.values()) == {"0.52"}
    supervisions = SupervisionSet.from_file(output / "manifests" / "test_supervisions.jsonl.gz")
    assert {s.duration for s in supervisions} == {0.52}


def test_chapters_are_merged_on_request(tmp_path: Path) -> None:
    folder = make_kaldi(tmp_path / "corpus", {"train": ["lbi-84-1", "lbi-84-2", "lbi-9-1"], "test": ["lbi-7-1", "8-3"]})
    for part, genders in {"train": {"lbi-84-1": "f", "lbi-84-2": "f", "lbi-9-1": "m"}, "test": {}}.items():
        data = DataDir.read(folder / part)
        data.spk2gender = genders
        data.write(folder / part)
    lines = run(read_kaldi(folder), tmp_path / "data")
    assert "note: the 5 speakers look like chapters of 4 readers (first: 8-3)" in lines[0]
    data = read_kaldi(folder)
    merge_chapters(data)
    lines = run(data, tmp_path / "data")
    assert speakers(tmp_path / "data") == {"train": ["lbi-84", "lbi-9"], "test": ["8", "lbi-7"]}
    assert DataDir.read(tmp_path / "data" / "train").spk2gender == {"lbi-84": "f", "lbi-9": "m"}
    assert not any(line.startswith("note") for line in lines)
    data = read_kaldi(folder)
    data["train"].spk2gender["lbi-84-1"] = "m"
    with pytest.raises(InputError, match="train/spk2gender: the chapters of reader lbi-84 differ in gender"):
        merge_chapters(data)
    data["test"].utt2spk["8-3-1"] = "anna"
    with pytest.raises(InputError, match="test/utt2spk: the speaker anna does not have the form reader-chapter"):
        merge_chapters({"test": data["test"]})


@pytest.mark.parametrize(
    ("ids", "speaker_of", "sessions"),
    [
        (["84-1-0000", "84-22-0000", "7-1-0000"], "{0}", 3),
        (["lbi-84-1-0000", "lbi-84-22-0000"], "{0}-{1}", 2),  # after --merge-chapters
        (["84-1-0000", "84-1-0001", "7-1-0000"], "{0}", 0),  # no reader has two chapters
        (["84-1-0000", "84-22-0000"], "{0}-{1}", 0),  # chapters as speakers, as in Kaldi's recipe
        (["84-1-0000", "84-22-000"], "{0}", 0),
        (["84-1-0000", "84-22-0000", "anna-1-0000"], "{0}", 0),
    ],
)
def test_chapters_count_as_sessions_only_in_librispeech(ids: list[str], speaker_of: str, sessions: int) -> None:
    found = chapters_as_sessions({utterance: speaker_of.format(*utterance.split("-")) for utterance in ids})
    assert len(set(found.values())) == sessions
    assert all(utterance.rpartition("-")[0] == session for utterance, session in found.items())


def test_chapters_become_the_sessions_of_the_test_part_unless_it_has_sessions(tmp_path: Path) -> None:
    corpus = make_kaldi(tmp_path / "corpus", {"train": ["s1", "s2"], "test": ["84", "85"]})
    test = DataDir.read(corpus / "test")
    chapters = {u: u.replace("-", "-7-000" if u[-1] == "1" else "-8-000") for u in test.utt2spk}
    wav = {chapters[utterance]: location for utterance, location in test.wav_scp.items()}
    DataDir({chapters[u]: speaker for u, speaker in test.utt2spk.items()}, wav_scp=wav).write(corpus / "test")

    def stage_1() -> dict[str, str]:
        nonlocal lines
        lines = run(read_kaldi(corpus), tmp_path / "data", test_source=corpus / "test")
        return read_table(tmp_path / "data/test/utt2session")

    lines: list[str] = []
    assert stage_1() == {"84-7-0001": "84-7", "84-8-0002": "84-8", "85-7-0001": "85-7", "85-8-0002": "85-8"}
    assert "test/utt2session: 4 chapters (ids reader-chapter-number) count as sessions" in lines
    own = dict.fromkeys(wav, "monday")
    write_table(corpus / "test/utt2session", own)
    assert stage_1() == own
    assert not any("count as sessions" in line for line in lines)
