"""Fix, split, subset, combine and copy data directories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.kaldi import (
    ArkWriter,
    combine_data,
    copy_data_dir,
    fix_data_dir,
    split_data,
    subset_data_dir,
    validate_data_dir,
)

Tables = dict[str, str]


def make(folder: Path, speakers: str = "abc", utterances: int = 4, segments: bool = False, **more: str) -> Path:
    """Make a directory with this number of utterances per speaker, and more tables with one value for all keys."""
    folder.mkdir(parents=True)
    ids = [f"{speaker}-{number}" for speaker in speakers for number in range(utterances)]
    tables: dict[str, list[str]] = {
        "utt2spk": [f"{utterance} {utterance[0]}" for utterance in ids],
        "spk2utt": [" ".join([s, *(u for u in ids if u[0] == s)]) for s in speakers],
        "wav.scp": [f"{utterance} /x/{utterance}.wav" for utterance in ids],
        "text": [f"{utterance} SOME  WORDS" for utterance in ids],
        "utt2num_frames": [f"{u} {100 - 7 * n % 50}" for n, u in enumerate(ids)],
        "spk2gender": [f"{speaker} m" for speaker in speakers],
    }
    if segments:
        tables["segments"] = [f"{u} rec-{u[0]} {u[2]} {u[2]}.5" for u in ids]
        tables["wav.scp"] = [f"rec-{speaker} cat /x |" for speaker in speakers]
        tables["reco2dur"] = [f"rec-{speaker} 9" for speaker in speakers]
    for name, value in more.items():
        tables[name.replace("_scp", ".scp")] = [f"{utterance} {value}" for utterance in ids]
    for name, lines in tables.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder


def read(folder: Path, *names: str) -> Tables:
    files = [folder / name for name in names] or [path for path in sorted(folder.iterdir()) if path.is_file()]
    return {path.name: path.read_text() for path in files}


def valid(folder: Path, feats: bool = False) -> bool:
    return all(finding.warning for finding in validate_data_dir(folder, feats=feats))


# ---- fix -------------------------------------------------------------------------------------------------


def test_fixing_keeps_shared_ids_and_the_old_files(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", segments=True, vad_scp="/v:1")
    before = read(folder)
    segments = before["segments"].splitlines()
    (folder / "segments").write_text("\n".join([*segments[::-1][:-1], "x-0 rec-x 0 1"]) + "\n")  # a-0 is missing
    (folder / "wav.scp").write_text("rec-c z\nrec-a x\n")
    lines: list[str] = []
    fix_data_dir(folder, say=lines.append)
    assert lines[-2:] == [
        "fix_data_dir.sh: kept 7 utterances out of 12",
        f"fix_data_dir.sh: old files are kept in {folder}/.backup",
    ]
    after = read(folder)
    assert after["wav.scp"] == "rec-a x\nrec-c z\n"
    assert after["spk2utt"] == "a a-1 a-2 a-3\nc c-0 c-1 c-2 c-3\n"
    assert after["reco2dur"] == "rec-a 9\nrec-c 9\n"
    assert after["spk2gender"] == "a m\nc m\n"
    assert after["text"].startswith("a-1 SOME  WORDS\n")
    assert read(folder / ".backup", "utt2spk") == {"utt2spk": before["utt2spk"]}
    assert (folder / ".backup" / "wav.scp").read_text() == "rec-c z\nrec-a x\n"
    assert valid(folder)
    kept = read(folder / ".backup")
    fix_data_dir(folder, say=lines.append)
    assert lines[-1] == "fix_data_dir.sh: kept all 7 utterances."
    assert (read(folder), read(folder / ".backup")) == (after, kept)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-1], "has wrong line ends, fixing them"),
        (lambda content: content.replace(b"\n", b"\r\n"), "has wrong line ends, fixing them"),
        (lambda content: content + content, "is not in sorted order or not unique, sorting it"),
    ],
)
def test_fixing_says_why_a_table_changes(tmp_path: Path, damage: Callable[[bytes], bytes], reason: str) -> None:
    folder = make(tmp_path / "data")
    before = (folder / "text").read_bytes()
    (folder / "text").write_bytes(damage(before))
    lines: list[str] = []
    fix_data_dir(folder, say=lines.append)
    assert lines[0] == f"fix_data_dir.sh: file {folder}/text {reason}"
    assert (folder / "text").read_bytes() == before


def test_fixing_that_only_adds_a_table_keeps_no_old_files(tmp_path: Path) -> None:
    folder = make(tmp_path / "data")
    before = read(folder)
    (folder / "spk2utt").unlink()
    lines: list[str] = []
    fix_data_dir(folder, say=lines.append)
    assert lines == ["fix_data_dir.sh: kept all 12 utterances."]
    assert read(folder) == before
    assert not (folder / ".backup").exists()


def test_extra_tables_are_fixed_on_request(tmp_path: Path) -> None:
    folder = make(tmp_path / "data")
    (folder / "utt2snr").write_text("x 1\nb-1 2\na-1 3\n")
    (folder / "spk2age").write_text("x 1\na 3\n")
    fix_data_dir(folder, ["utt2snr"], ["spk2age"], say=lambda line: None)
    assert read(folder, "utt2snr", "spk2age") == {"utt2snr": "a-1 3\nb-1 2\n", "spk2age": "a 3\n"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("utt2spk", "b-1 b\na-2\na-1 a\n", r"utt2spk:2: expected an utterance and its speaker, found 'a-2'"),
        ("text", "x-1 y\n", r"data: no utterance is in all tables"),
        ("utt2spk", "a-1 b\na-2 b\nb-1 a\n", r"utt2spk: sorted by utterance, it is not sorted by speaker \(b-1 of a"),
        ("segments", "a-1 r 0 1\n", r"segments: names no recording of wav.scp"),
    ],
)
def test_what_cannot_be_fixed_changes_nothing(tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = make(tmp_path / "data")
    (folder / name).write_text(content)
    before = read(folder)
    with pytest.raises(InputError, match=message):
        fix_data_dir(folder, say=lambda line: None)
    assert read(folder) == before
    assert not (folder / ".backup").exists()


# ---- split -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("per_utt", [False, True])
def test_pieces_are_valid_directories(tmp_path: Path, per_utt: bool, segments: bool) -> None:
    folder = make(tmp_path / "data", "abcde", 3, segments)
    output = split_data(folder, 3, per_utt, say=lambda line: None)
    assert output == folder / ("split3utt" if per_utt else "split3")
    pieces = [output / str(number) for number in (1, 2, 3)]
    assert all(valid(piece) for piece in pieces)
    for name in ("utt2spk", "text", "utt2num_frames"):
        assert "".join((piece / name).read_text() for piece in pieces) == (folder / name).read_text()
    sizes = [len((piece / "utt2spk").read_text().splitlines()) for piece in pieces]
    assert sizes == ([5, 5, 5] if per_utt else [6, 6, 3])
    assert split_data(folder, 3, per_utt) is None  # they exist already
    (folder / "text").write_text((folder / "text").read_text() + "f-0 X\n")
    lines: list[str] = []
    assert split_data(folder, 3, per_utt, say=lines.append) == output
    assert "warning, #lines is (utt2spk,text) is (15,16)" in "\n".join(lines)


def test_too_many_pieces(tmp_path: Path) -> None:
    folder = make(tmp_path / "data")
    with pytest.raises(InputError, match="3 speakers cannot be split into 4 pieces"):
        split_data(folder, 4)
    with pytest.raises(InputError, match="12 lines cannot be split into 13 pieces"):
        split_data(folder, 13, per_utt=True)
    assert not (folder / "split4").exists()


# ---- subset ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "count", "utterances"),
    [
        ("", 3, "b-1 c-0 c-3"),
        ("first", 3, "a-0 a-1 a-2"),
        ("last", 2, "c-2 c-3"),
        ("per-spk", 2, "a-0 a-2 b-0 b-2 c-0 c-2"),
        ("per-spk", 3, "a-0 a-1 a-2 b-0 b-1 b-2 c-0 c-1 c-2"),
        ("per-spk", 9, "a-0 a-1 a-2 a-3 b-0 b-1 b-2 b-3 c-0 c-1 c-2 c-3"),
        ("shortest", 2, "b-2 b-3"),
        ("utt-list", None, "a-2 c-1"),
        ("spk-list", None, "b-0 b-1 b-2 b-3 c-0 c-1 c-2 c-3"),
    ],
)
@pytest.mark.parametrize("segments", [False, True])
def test_subsets(tmp_path: Path, mode: str, count: int | None, utterances: str, segments: bool) -> None:
    folder, output = make(tmp_path / "data", segments=segments), tmp_path / "new" / "subset"
    ids = tmp_path / "ids"
    ids.write_text("c-1 more\na-2\nc\nb\n")
    lines: list[str] = []
    subset_data_dir(folder, output, count, mode, ids, lines.append)
    chosen = utterances.split()
    assert [line.split()[0] for line in (output / "utt2spk").read_text().splitlines()] == chosen
    assert lines == [f"subset_data_dir.sh: reducing #utt from 12 to {len(chosen)}"]
    assert valid(output)


def test_whole_speakers(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", "abcdefgh")
    for count, speakers in ((1, 1), (4, 1), (5, 2), (32, 8)):
        subset_data_dir(folder, tmp_path / "subset", count, "speakers", say=lambda line: None)
        assert len((tmp_path / "subset" / "spk2utt").read_text().splitlines()) == speakers
        assert valid(tmp_path / "subset")


def test_lengths_are_read_from_arks_or_durations(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", "ab", 2)
    (folder / "utt2num_frames").unlink()
    with pytest.raises(InputError, match=r"--shortest needs utt2num_frames, feats\.scp or utt2dur"):
        subset_data_dir(folder, tmp_path / "subset", 1, "shortest")
    (folder / "utt2dur").write_text("a-0 2\na-1 10\nb-0 1.5\nb-1 3\n")
    subset_data_dir(folder, tmp_path / "subset", 2, "shortest", say=lambda line: None)
    assert read(tmp_path / "subset", "utt2dur") == {"utt2dur": "a-0 2\nb-0 1.5\n"}
    with ArkWriter(folder / "f.ark", folder / "feats.scp") as writer:
        for rows, utterance in ((9, "a-0"), (10, "a-1"), (11, "b-0"), (8, "b-1")):
            writer.write(utterance, np.zeros((rows, 2), dtype=np.float32))
    subset_data_dir(folder, tmp_path / "subset", 2, "shortest", say=lambda line: None)
    assert read(tmp_path / "subset", "utt2spk") == {"utt2spk": "a-0 a\nb-1 b\n"}


def test_failed_subsets_leave_the_output_unchanged(tmp_path: Path) -> None:
    folder, output = make(tmp_path / "data"), make(tmp_path / "out", "x", 1, utt2lang="en")
    before = read(output)
    (tmp_path / "ids").write_text("nobody\n")
    for arguments, message in (
        ((output, 13), "cannot subset to 13 of 12 utterances"),
        ((output, 0), "cannot subset to 0 of 12"),
        ((output, None, "utt-list", tmp_path / "ids"), "ids: names nothing in"),
        ((folder, 2), "is the source directory"),
    ):
        with pytest.raises(InputError, match=message):
            subset_data_dir(folder, *arguments)
    assert read(output) == before
    subset_data_dir(folder, output, 2, say=lambda line: None)
    assert not (output / "utt2lang").exists()  # its utterances are others
    assert (output / ".backup" / "utt2lang").read_text() == before["utt2lang"]


# ---- combine and copy ------------------------------------------------------------------------------------


def test_combined_directories_have_the_tables_that_all_have(tmp_path: Path) -> None:
    first = make(tmp_path / "1", "ab", segments=True, utt2lang="en", utt2uniq="q")
    second = make(tmp_path / "2", "cd", utt2dur="1.5")
    (second / "text").unlink()
    lines: list[str] = []
    combine_data(tmp_path / "all", [second, first], say=lines.append)
    folder = tmp_path / "all"
    assert validate_data_dir(folder, feats=False, text=False) == []
    assert (folder / "segments").read_text().splitlines()[7:9] == ["b-3 rec-b 3 3.5", "c-0 c-0 0 1.5"]
    assert (folder / "utt2uniq").read_text().splitlines()[7:9] == ["b-3 q", "c-0 c-0"]
    assert not (folder / "text").exists()
    assert "combine_data.sh: combined segments" in lines
    assert "combine_data.sh [info]: **not combining text as it does not exist everywhere**" in lines
    assert "combine_data.sh [info]: not combining cmvn.scp as it does not exist" in lines
    assert lines[-1] == "fix_data_dir.sh: kept all 16 utterances."


def test_contradictions_between_directories_are_errors(tmp_path: Path) -> None:
    first, second = make(tmp_path / "1", "ab"), make(tmp_path / "2", "bc")
    for folder in (first, second):
        (folder / "utt2num_frames").unlink()
    combine_data(tmp_path / "all", [first, second], say=lambda line: None)  # b is the same in both
    assert (tmp_path / "all" / "spk2utt").read_text().splitlines()[1] == "b b-0 b-1 b-2 b-3"
    before = read(tmp_path / "all")
    (second / "text").write_text("b-0 OTHER\n")
    with pytest.raises(InputError, match=r"text: b-0 has different values in .*/1 and .*/2; rename one with a prefix"):
        combine_data(tmp_path / "all", [first, second], say=lambda line: None)
    (second / "utt2spk").unlink()
    with pytest.raises(InputError, match="2/utt2spk: no such file"):
        combine_data(tmp_path / "all", [first, second], say=lambda line: None)
    with pytest.raises(InputError, match="is one of the directories to combine"):
        combine_data(first, [first])
    assert read(tmp_path / "all") == before


@pytest.mark.parametrize("segments", [False, True])
def test_copies_with_new_ids(tmp_path: Path, segments: bool) -> None:
    folder = make(tmp_path / "data", "ab", 1, segments, feats_scp="/f:1")
    assert copy_data_dir(folder, tmp_path / "copy", ("1-", "-x"), ("1-", "-y"), say=lambda line: None)
    copy = read(tmp_path / "copy")
    assert copy["utt2spk"] == "1-a-0-y 1-a-x\n1-b-0-y 1-b-x\n"
    assert copy["spk2gender"] == "1-a-x m\n1-b-x m\n"
    assert copy["utt2uniq"] == "1-a-0-y a-0\n1-b-0-y b-0\n"
    assert copy["feats.scp"] == "1-a-0-y /f:1\n1-b-0-y /f:1\n"
    if segments:
        assert copy["segments"].splitlines()[0] == "1-a-0-y rec-a 0 0.5"
        assert (copy["wav.scp"], copy["reco2dur"]) == ("rec-a cat /x |\nrec-b cat /x |\n", "rec-a 9\nrec-b 9\n")
    else:
        assert copy["wav.scp"].splitlines()[0] == "1-a-0-y /x/a-0.wav"


def test_an_invalid_copy_is_reported(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", "ab", 1)
    lines: list[str] = []
    (folder / "text").write_text("a-0 x\n")
    assert not copy_data_dir(folder, tmp_path / "copy", say=lines.append)
    assert "1 utterance not in text (first: b-0)" in "\n".join(lines)
    with pytest.raises(InputError, match="is the directory to copy"):
        copy_data_dir(folder, folder)
