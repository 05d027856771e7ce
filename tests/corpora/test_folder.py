"""Folders of recordings without tables: speakers, ids, sessions, the choice of test speakers, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from deepspeaker.corpora import FolderCorpus, find_speakers, fingerprint, read_folder
from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir, read_table, validate_data_dir
from tests.corpora.small import add_audio, contents, run, speakers


def make_folder(folder: Path, *names: str) -> Path:
    for name in names:
        add_audio(folder / name)
    return folder


def make_speakers(folder: Path, count: int, files: int = 2, first: int = 0) -> Path:
    return make_folder(folder, *(f"s{s:02d}/{n}.wav" for s in range(first, first + count) for n in range(files)))


def read(folder: Path, session_level: int | None = None, seed: int = 0) -> tuple[FolderCorpus, list[str]]:
    lines: list[str] = []
    return read_folder(folder, seed, session_level, lines.append), lines


def ids_of(folder: Path) -> dict[str, str]:
    """Path below the folder -> utterance, over all parts, after checking the tables with Kaldi's rules."""
    found = {}
    for part, data in read(folder)[0].parts.items():
        output = folder.parent / f"{folder.name}-{part}"
        data.write(output)
        assert not [finding for finding in validate_data_dir(output, feats=False, text=False) if not finding.warning]
        found |= {str(Path(place).relative_to(folder.resolve())): name for name, place in data.wav_scp.items()}
    return found


def test_ids_are_speaker_and_path(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "x", "anna/1.wav", "anna/mo/a/1.FLAC", "ben/1.ogg", "ben/v1.2.aiff")
    assert ids_of(folder) == {
        "anna/1.wav": "anna-1",
        "anna/mo/a/1.FLAC": "anna-mo-a-1",
        "ben/1.ogg": "ben-1",
        "ben/v1.2.aiff": "ben-v1.2",
    }


def test_given_parts_are_kept(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "test", "dev")):
        make_speakers(tmp_path / "x" / part, 2, first=10 * number)
    make_speakers(tmp_path / "x" / "more", 1)
    corpus, lines = read(tmp_path / "x")
    assert lines == [f"note: {tmp_path}/x: 1 folders other than train, dev, test are left out (first: more)"]
    run(corpus.parts, tmp_path / "data", same_speakers=corpus.same_speakers)
    assert speakers(tmp_path / "data") == {"train": ["s00", "s01"], "dev": ["s20", "s21"], "test": ["s10", "s11"]}
    add_audio(tmp_path / "x/test/s01/9.wav")
    with pytest.raises(InputError, match=r"1 speakers are in both train and test \(first: s01\)"):
        run(read(tmp_path / "x")[0].parts, tmp_path / "data")


def test_names_that_tables_cannot_hold_are_replaced_and_reported_once(tmp_path: Path) -> None:
    names = ["a b/x 1.wav", "a_b/x_1.wav", "$(touch pwned)/;&|.wav", "é\u3000/1\u00a0.wav"]
    folder = make_folder(tmp_path / "x", *names, *(name.replace(".wav", "2.wav") for name in names))
    ids = ids_of(folder)
    assert [ids[name] for name in names] == ["a_b_2-x_1", "a_b-x_1", "$(touch_pwned)-;&|", "é_-1_"]
    (line,) = [line for line in read(folder)[1] if "utterance ids" in line]
    assert line.startswith(f"note: {folder}: 6 utterance ids are not the path of their file, because ")
    assert "(first: $(touch pwned)/;&|.wav is $(touch_pwned)-;&|; wav.scp has all)" in line


def test_ids_are_distinct_and_do_not_depend_on_the_order_of_the_files(tmp_path: Path) -> None:
    names = ["a/x y.wav", "a/x_y.wav", "a/x_y.flac", "a/b-c.wav", "a/b/c.wav", "b/1.wav", "b/2.wav"]
    folder = make_folder(tmp_path / "x", *names)
    ids = ids_of(folder)
    assert [ids[name] for name in names] == ["a-x_y_3", "a-x_y_2", "a-x_y", "a-b-c", "a-b-c_2", "b-1", "b-2"]
    assert ids_of(make_folder(tmp_path / "y", *reversed(names))) == ids
    (line,) = [line for line in read(folder)[1] if "extension" in line]
    assert "1 files differ from another one only in their extension (first: a/x_y.wav)" in line


def test_speakers_whose_names_begin_alike_stay_apart_and_sorted(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "x", "anna/m-1.wav", "anna/z.wav", "anna-m/1.wav", "anna-m/2.wav", "anna+/1.wav")
    assert set(ids_of(folder).values()) == {"anna-m-1", "anna-z", "anna_m-1", "anna_m-2", "anna_-1"}
    apart = make_folder(tmp_path / "y", "an-na/1.wav", "anna/1.wav", "anna/2.wav", "an-na/2.wav")
    assert set(ids_of(apart).values()) == {"an-na-1", "an-na-2", "anna-1", "anna-2"}


def test_hidden_files_and_other_files_are_left_out(tmp_path: Path) -> None:
    folder = make_speakers(tmp_path / "x", 4)
    make_folder(folder, ".hidden/1.wav", "s00/._0.wav", "s00/.git/1.wav", "stray.wav")
    (folder / "s01/notes.txt").write_text("x")
    (folder / "empty").mkdir()
    corpus, lines = read(folder)
    assert lines[:3] == [
        f"note: {folder}: 1 audio files that are in no speaker's folder are left out (first: stray.wav)",
        f"note: {folder}: 1 files without the extension of an audio format are left out (first: s01/notes.txt)",
        f"note: {folder}: 1 folders without audio are left out (first: empty)",
    ]
    assert sum(len(data.utt2spk) for data in corpus.parts.values()) == 8


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    folder = make_speakers(tmp_path / "x", 2)
    make_folder(tmp_path / "elsewhere", "1.wav", "sub/2.wav")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "s00/up").symlink_to("..")
    (folder / "s00/self").symlink_to(".")
    assert find_speakers(folder)[""]["linked"] == ["linked/1.wav", "linked/sub/2.wav"]
    assert find_speakers(folder)[""]["s00"] == ["s00/0.wav", "s00/1.wav"]


def test_what_looks_like_audio_but_cannot_be_read_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_speakers(tmp_path / "x", 8, files=5)
    (folder / "s00/9.m4a").write_text("no audio")
    (folder / "s01/9.wav").symlink_to("nowhere.wav")
    corpus, _ = read(folder, seed=1)
    run(corpus.parts, tmp_path / "data", max_skipped=20.0)
    skipped = {u: w for path in (tmp_path / "data").glob("skipped_t*") for u, w in read_table(path).items()}
    assert sorted(skipped) == ["s00-9", "s01-9"]
    assert "cannot be read as audio" in skipped["s00-9"] and skipped["s01-9"].endswith("no such file")
    assert "skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "tested"), [(4, 2), (5, 2), (10, 2), (12, 3), (18, 4), (20, 5), (160, 40), (200, 40)]
)
def test_a_quarter_of_the_speakers_is_tested(tmp_path: Path, count: int, tested: int) -> None:
    names = [f"s{s:03d}/{n}.wav" for s in range(count) for n in (0, 1)]
    for name in names:  # nothing is opened
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "single").mkdir()
    (tmp_path / "single/0.wav").touch()
    corpus, (line,) = read(tmp_path)
    train, test = (corpus.parts[part].spk2utt for part in ("train", "test"))
    assert (len(train), len(test), len(train.keys() | test.keys())) == (count + 1 - tested, tested, count + 1)
    assert "single" in train  # it cannot make a target trial
    assert not corpus.same_speakers
    assert line.startswith(f"no folders train and test were given: seed 0 chose {tested} of {count + 1} speakers")
    assert ("there are no confidence intervals below 5" in line) == (tested < 5)


def test_the_seed_decides_the_test_speakers(tmp_path: Path) -> None:
    folder = make_speakers(tmp_path / "x", 30)
    chosen = {seed: tuple(read(folder, seed=seed)[0].parts["test"].spk2utt) for seed in range(4)}
    assert len(set(chosen.values())) > 1
    for name in ("one", "two"):
        run(read(folder)[0].parts, tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    parts = speakers(tmp_path / "one")
    assert {part: len(names) for part, names in parts.items()} == {"train": 20, "dev": 2, "test": 8}
    assert len({name for names in parts.values() for name in names}) == 30


@pytest.mark.parametrize("count", [2, 3])
def test_too_few_speakers_are_in_both_parts_and_the_user_is_told(tmp_path: Path, count: int) -> None:
    corpus, (line,) = read(make_speakers(tmp_path / "x", count))
    assert line.startswith(f"note: {count} speakers are too few to test on other speakers than those of training")
    assert "tell nothing about the voices of other speakers" in line
    assert corpus.same_speakers
    with pytest.raises(InputError, match="are in both train and test"):
        run(corpus.parts, tmp_path / "data")
    lines = run(corpus.parts, tmp_path / "data", same_speakers=True)
    assert not any("--allow-speaker-overlap" in line for line in lines)
    assert speakers(tmp_path / "data")["train"] == speakers(tmp_path / "data")["test"]
    assert '"same_speakers": true' in (tmp_path / "data/corpus.json").read_text()


def test_sessions_are_those_of_the_test_part(tmp_path: Path) -> None:
    names = [f"s{s}/{day}/{n}/x.wav" for s in range(4) for day in ("mo 1", "mo_1", "tu.1", "tu.2") for n in (0, 1)]
    folder = make_folder(tmp_path / "x", *names)
    corpus, _ = read(folder, session_level=1)
    run(corpus.parts, tmp_path / "data", utt2session=corpus.utt2session)
    test = DataDir.read(tmp_path / "data/test")
    sessions = read_table(tmp_path / "data/test/utt2session")
    assert sessions.keys() == test.utt2spk.keys()
    first = min(test.spk2utt)
    assert {s for u, s in sessions.items() if test.utt2spk[u] == first} == {
        f"{first}-{day}" for day in ("mo_1", "mo_1_2", "tu.1", "tu.2")
    }
    for utterance, session in sessions.items():
        day = Path(test.wav_scp[utterance]).parts[-3]
        assert session == f"{test.utt2spk[utterance]}-{'mo_1_2' if day == 'mo 1' else day}"
    assert len(set(read(folder, session_level=2)[0].utt2session.values())) == 32
    run(read(folder)[0].parts, tmp_path / "data")
    assert not (tmp_path / "data/test/utt2session").exists()


def test_files_without_a_session(tmp_path: Path) -> None:
    folder = make_speakers(tmp_path / "x", 4)
    with pytest.raises(InputError, match=r"--session-level 1: no file has a folder at this level below .* s00/0\.wav"):
        read(folder, session_level=1)
    make_folder(folder, "s00/day/7.wav", "s00/day/8.wav")
    corpus, lines = read(folder, session_level=1)
    assert corpus.utt2session == {"s00-day-7": "s00-day", "s00-day-8": "s00-day"}
    assert "8 files have no folder at this level; their session is unknown (first: s00/0.wav)" in lines[0]


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_that_are_no_corpus_are_refused(tmp_path: Path) -> None:
    assert "none: no such folder; --corpus-dir needs one" in refusal(tmp_path / "none")
    (tmp_path / "x/a").mkdir(parents=True)
    assert "x: has no audio files; expected" in refusal(tmp_path / "x")
    (tmp_path / "x/a/notes.txt").touch()
    assert "has no audio files (other files: 1, first a/notes.txt)" in refusal(tmp_path / "x")
    make_folder(tmp_path / "x", "1.wav", "2.wav")
    assert "has 2 audio files (first: 1.wav), but no folder for each speaker" in refusal(tmp_path / "x")
    make_folder(tmp_path / "x", "a/1.wav", "a/2.wav")
    assert refusal(tmp_path / "x").endswith("has a single folder with audio, a, but 2 speakers are needed")
    make_folder(tmp_path / "wrapped", "wav/id1/1.wav", "wav/id2/1.wav")
    assert refusal(tmp_path / "wrapped").endswith(f"give them as {tmp_path}/wrapped/wav")
    make_folder(tmp_path / "x", "b/1.wav")
    assert refusal(tmp_path / "x").startswith("1 of 2 speakers have two files or more, but a test needs 2")
    make_speakers(tmp_path / "y/test", 3)
    assert "has the folder test but not train; add it, or rename test if it is a speaker" in refusal(tmp_path / "y")


@pytest.mark.parametrize("name", ["a\nb.wav", "a\tb.wav", os.fsdecode(b"\xff.wav"), "a\u2028.wav"])
def test_a_name_that_no_table_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    folder = make_speakers(tmp_path / "x", 2)
    shutil.copy(folder / "s00/0.wav", folder / "s00" / name)
    assert refusal(folder) == f"{folder}: tables cannot hold the name {f's00/{name}'!a}; rename it"
    assert fingerprint("folder", folder)


def test_fingerprint_depends_on_the_names_and_sizes_of_audio(tmp_path: Path) -> None:
    folder = make_speakers(tmp_path / "x", 2)
    found = [fingerprint("folder", folder)]
    (folder / "notes.txt").touch()
    (folder / "s00/.hidden.wav").touch()
    assert fingerprint("folder", folder) == found[0]
    add_audio(folder / "s00/0.wav", 4000)
    found.append(fingerprint("folder", folder))
    (folder / "s00/0.wav").rename(folder / "s00/00.wav")
    found.append(fingerprint("folder", folder))
    (folder / "s00/gone.wav").symlink_to("nowhere")
    assert len({*found, fingerprint("folder", folder)}) == 4
