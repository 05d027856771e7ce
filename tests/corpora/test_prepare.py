"""Stage 1 on small corpora: parts, manifests, disjoint speakers, and errors."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from deepspeaker.corpora import fingerprint, merge_chapters, prepare, read_kaldi, read_librispeech
from deepspeaker.errors import InputError
from deepspeaker.files import sha256_of
from deepspeaker.kaldi import ArkWriter, DataDir, read_table


def add_audio(path: Path, samples: int = 3200, channels: int = 1) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([*path.name.encode()])
    soundfile.write(path, 0.1 * generator.normal(size=(samples, channels)), 16000)
    return str(path)


def make_librispeech(folder: Path, parts: dict[str, dict[str, int]]) -> Path:
    """Write ``parts``: part -> reader -> number of utterances."""
    for part, readers in parts.items():
        for reader, utterances in readers.items():
            for number in range(utterances):
                add_audio(folder / part / reader / "1" / f"{reader}-1-{number:04d}.flac", 3200 + 160 * number)
    return folder


def readers(first: int, count: int, utterances: int) -> dict[str, int]:
    return {str(number): utterances for number in range(first, first + count)}


def run(data: dict[str, DataDir], output: Path, **changed: Any) -> list[str]:
    """Run stage 1; return the lines that it prints."""
    lines: list[str] = []
    options: dict[str, Any] = {
        "corpus": "small",
        "synthetic": False,
        "seed": 0,
        "max_skipped": 5.0,
        "frame_shift": 0.01,
        "allow_pipes": False,
        "say": lines.append,
    }
    prepare(data, output, **{**options, **changed})
    return lines


def speakers(output: Path) -> dict[str, list[str]]:
    parts = [part for part in ("train", "dev", "test") if (output / part).is_dir()]
    return {part: list(DataDir.read(output / part).spk2utt) for part in parts}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    train = {"train-clean-100": readers(10, 30, 2), "train-clean-360": readers(50, 3, 1)}
    return make_librispeech(tmp_path / "LibriSpeech", {**train, "test-clean": readers(80, 4, 3)})


def test_default_parts_are_those_on_disk(corpus: Path) -> None:
    data = read_librispeech(corpus, [], [], [])
    assert list(data) == ["train", "test"]
    assert len(data["train"].spk2utt) == 33
    make_librispeech(corpus, {"dev-clean": readers(70, 2, 2), "dev-other": readers(75, 1, 2)})
    data = read_librispeech(corpus, ["train-clean-100"], ["dev-other"], ["test-clean", "dev-clean"])
    assert {part: len(directory.spk2utt) for part, directory in data.items()} == {"train": 30, "dev": 1, "test": 6}


def test_a_missing_part_is_an_error_that_lists_the_others(corpus: Path) -> None:
    for arguments, message in {
        (("train-clean-500",), (), ()): r"no part train-clean-500 \(--train-parts\)",
        ((), ("dev-clean",), ()): r"no part dev-clean \(--dev-parts\)",
        ((), (), ("test-clean", "x")): r"no part x \(--test-parts\)",
    }.items():
        with pytest.raises(InputError, match=message + "; it has: test-clean train-clean-100 train-clean-360"):
            read_librispeech(corpus, *arguments)
    with pytest.raises(InputError, match="no part for train; name some of dev-clean-2 with --train-parts"):
        read_librispeech(make_librispeech(corpus / "x", {"dev-clean-2": {"1": 1}}), [], [], [])
    with pytest.raises(InputError, match="no part for test; name some of dev-clean train-clean-5 with --test-parts"):
        read_librispeech(make_librispeech(corpus / "y", {"dev-clean": {"1": 1}, "train-clean-5": {"2": 1}}), [], [], [])


def test_mini_librispeech_uses_its_development_part_as_test_part(tmp_path: Path) -> None:
    mini = make_librispeech(tmp_path, {"train-clean-5": readers(10, 30, 2), "dev-clean-2": readers(80, 4, 3)})
    data = read_librispeech(mini, [], [], [])
    assert {part: sorted(directory.spk2utt) for part, directory in data.items()} == {
        "train": [str(reader) for reader in range(10, 40)],
        "test": ["80", "81", "82", "83"],
    }
    lines = run(data, tmp_path / "data")
    assert "no development part was given: 3 of 30 training speakers become it" in lines


def test_a_part_named_for_one_use_is_not_a_default_for_another(corpus: Path) -> None:
    make_librispeech(corpus, {"dev-clean": readers(70, 2, 2)})
    data = read_librispeech(corpus, [], [], ["dev-clean"])
    assert list(data) == ["train", "test"]


def test_an_utterance_in_two_parts_is_refused(corpus: Path) -> None:
    make_librispeech(corpus, {"train-other-500": {"10": 1}})
    with pytest.raises(InputError, match="--train-parts: the utterance 10-1-0000 is in two"):
        read_librispeech(corpus, [], [], [])


def test_directories_manifests_and_trials_are_written(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "data"
    (corpus / "train-clean-100/10/1/10-1.trans.txt").write_text("10-1-0000 WORDS OF É\n10-1-0009 NO AUDIO\n")
    (corpus / "SPEAKERS.TXT").write_text("10 | F | x | 1 | A\n11 | M | x | 1 | B\n")
    lines = run(read_librispeech(corpus, [], [], []), output)
    assert [line.partition(":")[0] for line in lines if "sha256" in line] == ["trials_all"]
    digest = sha256_of(output / "test" / "trials_all")
    assert f"trials_all: 12 target, 54 nontarget trials, sha256 {digest}" in lines
    assert any(line.startswith("no list trials_1p99: ") for line in lines)
    assert (output / "corpus.json").read_text() == '{\n  "corpus": "small",\n  "synthetic": false,\n  "seed": 0\n}\n'
    test = DataDir.read(output / "test")
    assert test.utt2dur == {f"{s}-1-{n:04d}": f"{0.2 + 0.01 * n:.6f}" for s in range(80, 84) for n in range(3)}
    train, dev = DataDir.read(output / "train"), DataDir.read(output / "dev")
    assert len(train.spk2utt) + len(dev.spk2utt) == 33
    assert {**train.text, **dev.text} == {"10-1-0000": "WORDS OF É"}
    assert {**train.spk2gender, **dev.spk2gender} == {"10": "f", "11": "m"}


def test_manifests_load_with_lhotse_and_are_valid(corpus: Path, tmp_path: Path) -> None:
    from lhotse import CutSet, RecordingSet, SupervisionSet, validate, validate_recordings_and_supervisions
    from lhotse.bin.modes import cli

    output = tmp_path / "data"
    run(read_librispeech(corpus, [], [], []), output)
    for part in ("train", "dev", "test"):
        data = DataDir.read(output / part)
        recordings = RecordingSet.from_file(output / "manifests" / f"{part}_recordings.jsonl.gz")
        supervisions = SupervisionSet.from_file(output / "manifests" / f"{part}_supervisions.jsonl.gz")
        validate(recordings, read_data=True)
        validate(supervisions)
        validate_recordings_and_supervisions(recordings, supervisions)
        assert {s.id: s.speaker for s in supervisions} == data.utt2spk
        cuts = CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
        for cut in cuts:
            expected, _ = soundfile.read(data.wav_scp[cut.recording_id], dtype="float32")
            assert np.array_equal(cut.load_audio()[0], expected)
    for path in (*(output / "manifests").iterdir(), output / "corpus.json"):
        done = CliRunner().invoke(cli, ["validate", str(path)])
        assert (done.exit_code == 0) == path.name.endswith(".jsonl.gz"), done.output


def test_two_runs_give_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(read_librispeech(corpus, [], [], []), tmp_path / name, seed=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    run(read_librispeech(corpus, [], [], []), tmp_path / "two", seed=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_seed_decides_the_development_speakers(corpus: Path, tmp_path: Path) -> None:
    chosen = {}
    for seed in range(4):
        run(read_librispeech(corpus, [], [], []), tmp_path / "data", seed=seed)
        parts = speakers(tmp_path / "data")
        assert len(parts["dev"]) == 3  # a tenth of the 30 with two utterances
        assert not {"50", "51", "52"} & set(parts["dev"])  # single-utterance readers
        assert sorted(parts["train"] + parts["dev"]) == sorted([*readers(10, 30, 2), *readers(50, 3, 1)])
        assert not set(parts["train"]) & set(parts["dev"])
        chosen[seed] = tuple(parts["dev"])
    assert len(set(chosen.values())) > 1


def test_too_few_speakers_for_a_development_part_are_reported_and_the_old_part_removed(
    corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "data"
    run(read_librispeech(corpus, [], [], []), output)
    assert (output / "dev").is_dir()
    (output / "dev_nosil").mkdir()
    lines = run(read_librispeech(corpus, ["train-clean-360"], [], []), output)
    assert (
        "no development speakers: only 0 training speakers have two utterances or more, fewer than the 20 " in lines[0]
    )
    assert "calibrated, fused and plda-adapted cannot be trained" in lines[0]
    for remedy in ("--dev-parts", "DIR/dev", "20 speakers or more that have two utterances"):
        assert remedy in lines[0]
    assert list(speakers(output)) == ["train", "test"]
    assert not (output / "dev_nosil").exists()
    assert list((output / "manifests").glob("dev_*")) == []


@pytest.mark.parametrize(("training_speakers", "dev_speakers"), [(19, 0), (20, 2)])
def test_the_smallest_training_part_with_a_development_part(
    tmp_path: Path, training_speakers: int, dev_speakers: int
) -> None:
    corpus = make_librispeech(
        tmp_path, {"train-clean-5": readers(10, training_speakers, 2), "test-clean": readers(80, 4, 3)}
    )
    run(read_librispeech(corpus, [], [], []), tmp_path / "data")
    assert len(speakers(tmp_path / "data").get("dev", [])) == dev_speakers


def test_given_development_speakers_are_kept(corpus: Path, tmp_path: Path) -> None:
    make_librispeech(corpus, {"dev-clean": readers(70, 2, 2)})
    lines = run(read_librispeech(corpus, [], [], []), tmp_path / "data")
    parts = speakers(tmp_path / "data")
    assert parts["dev"] == ["70", "71"]
    assert len(parts["train"]) == 33
    assert not any("become" in line for line in lines)


@pytest.mark.parametrize("part", ["dev-clean", "test-other"])
def test_shared_speakers_are_an_error_before_any_file_is_written(corpus: Path, tmp_path: Path, part: str) -> None:
    add_audio(corpus / part / "11" / "9" / "11-9-0000.flac")
    add_audio(corpus / part / "12" / "9" / "12-9-0000.flac")
    with pytest.raises(InputError, match=r"2 speakers are in both train and \w+ \(first: 11\)"):
        run(read_librispeech(corpus, [], [], []), tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_shared_speakers_can_be_allowed(corpus: Path, tmp_path: Path) -> None:
    add_audio(corpus / "test-other" / "11" / "9" / "11-9-0000.flac")
    lines = run(read_librispeech(corpus, [], [], []), tmp_path / "data", allow_speaker_overlap=True)
    assert "note: 1 speakers are in both train and test (first: 11), which --allow-speaker-overlap allows" in lines


def test_an_unreadable_file_is_skipped_and_listed(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "train-clean-100/20/1/20-1-0001.flac").write_bytes(b"junk")
    (corpus / "train-clean-360/51/1/51-1-0000.flac").write_bytes(b"")
    output = tmp_path / "data"
    run(read_librispeech(corpus, [], [], []), output)
    skipped = read_table(output / "skipped_train")
    assert list(skipped) == ["20-1-0001", "51-1-0000"]
    assert skipped["51-1-0000"].endswith("51-1-0000.flac: is empty")
    assert "skipped 2 of 63 train utterances" in capsys.readouterr().err
    kept = {**DataDir.read(output / "train").utt2spk, **DataDir.read(output / "dev").utt2spk}
    assert len(kept) == 61
    assert "51" not in kept.values()
    add_audio(corpus / "train-clean-100/20/1/20-1-0001.flac")
    add_audio(corpus / "train-clean-360/51/1/51-1-0000.flac")
    run(read_librispeech(corpus, [], [], []), output)
    assert not (output / "skipped_train").exists()


def test_more_than_five_percent_unreadable_is_an_error(corpus: Path, tmp_path: Path) -> None:
    (corpus / "test-clean/80/1/80-1-0001.flac").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"1 of 12 test utterances had to be skipped, more than 5 % \(first 80-1-0001"):
        run(read_librispeech(corpus, [], [], []), tmp_path / "data")
    assert not (tmp_path / "data" / "test").exists()
    run(read_librispeech(corpus, [], [], []), tmp_path / "data", max_skipped=10.0)
    assert len(DataDir.read(tmp_path / "data" / "test").utt2spk) == 11


def test_too_few_speakers_or_utterances_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 target and 3 non-target pairs; a test needs two speakers"):
        run(read_librispeech(corpus, ["train-clean-100"], [], ["train-clean-360"]), tmp_path / "data")
    one = make_librispeech(tmp_path / "x", {"train-clean-5": {"1": 3}, "test-other": readers(5, 2, 2)})
    with pytest.raises(InputError, match="training has fewer than two speakers"):
        run(read_librispeech(one, [], [], []), tmp_path / "other")


def test_the_papers_protocol_needs_enough_test_utterances(corpus: Path, tmp_path: Path) -> None:
    make_librispeech(corpus, {"test-other": readers(200, 35, 3)})
    lines = run(read_librispeech(corpus, [], [], []), tmp_path / "data")
    assert [line.partition(":")[0] for line in lines if "sha256" in line] == ["trials_all", "trials_1p99"]
    assert (tmp_path / "data" / "test" / "trials_1p99").is_file()
    run(read_librispeech(corpus, [], [], ["test-clean"]), tmp_path / "data")
    assert not (tmp_path / "data" / "test" / "trials_1p99").exists()


def make_kaldi(folder: Path, parts: dict[str, list[str]], wav: dict[str, str] | None = None) -> Path:
    """Write data directories whose speakers have two utterances each; ``wav`` replaces entries of wav.scp."""
    for part, names in parts.items():
        data = DataDir(utt2spk={f"{name}-{number}": name for name in names for number in (1, 2)})
        for utterance in data.utt2spk:
            given = (wav or {}).get(utterance)
            data.wav_scp[utterance] = given or add_audio(folder / "audio" / f"{utterance}.ogg", 16000)
        data.write(folder / part)
    return folder


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


def test_fingerprint_depends_on_names_and_sizes(corpus: Path) -> None:
    first = fingerprint("librispeech", corpus)
    assert fingerprint("librispeech", corpus) == first
    audio = corpus / "test-clean/80/1/80-1-0001.flac"
    audio.write_bytes(audio.read_bytes() + b"x")
    second = fingerprint("librispeech", corpus)
    audio.rename(audio.with_name("80-1-0009.flac"))
    assert len({first, second, fingerprint("librispeech", corpus)}) == 3
    with pytest.raises(InputError, match="no such folder"):
        fingerprint("librispeech", corpus / "none")


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
