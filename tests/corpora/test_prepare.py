"""Stage 1 on small corpora in LibriSpeech's layout: parts, manifests, disjoint speakers, and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from deepspeaker.corpora import fingerprint, read_librispeech
from deepspeaker.errors import InputError
from deepspeaker.files import sha256_of
from deepspeaker.kaldi import DataDir, read_table
from tests.corpora.small import add_audio, contents, make_librispeech, readers, run, speakers


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
