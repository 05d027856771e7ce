"""The findings in data directories: file, line and fix."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepspeaker.kaldi import fix_data_dir, validate_data_dir

GOOD = {
    "utt2spk": "a-1 a\na-2 a\nb-1 b\n",
    "spk2utt": "a a-1 a-2\nb b-1\n",
    "wav.scp": "a-1 /x/1.wav\na-2 flac -c -d -s /x/2.flac |\nb-1 /x/a b.ark:12\n",
    "feats.scp": "a-1 /f:1\na-2 /f:2\nb-1 /f:3\n",
    "text": "a-1 SOME WORDS\na-2\nb-1 ÄÖ\u4e2d\n",
    "spk2gender": "a m\nb f\n",
    "utt2dur": "a-1 1.5\na-2 2\nb-1 0.1\n",
    "reco2dur": "a-1 1.5\na-2 2\nb-1 0.1\n",
    "utt2num_frames": "a-1 150\na-2 2\nb-1 1\n",
}
SEGMENTS = {
    "segments": "a-1 r1 0 1.5\na-2 r1 1.5 2\nb-1 r2 0 1\n",
    "wav.scp": "r1 /x\nr2 /y\n",
    "reco2dur": "r1 9\nr2 8\n",
}


def make(folder: Path, changed: dict[str, str | None]) -> Path:
    folder.mkdir()
    for name, content in {**GOOD, **changed}.items():
        if content is not None:
            (folder / name).write_bytes(content.encode())
    return folder


def findings(folder: Path, **options: bool) -> list[str]:
    return [str(finding).removeprefix(f"{folder}/") for finding in validate_data_dir(folder, **options)]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        SEGMENTS,
        {**SEGMENTS, "reco2file_and_channel": "r1 f A\nr2 f B\n"},
        {**SEGMENTS, "segments": "a-1 r1 0 1.5\na-2 r1 1.5 -1\nb-1 r2 0 1\n"},
    ],
)
def test_good_directories(tmp_path: Path, changed: dict[str, str | None]) -> None:
    assert findings(make(tmp_path / "data", changed)) == []


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        ({"utt2spk": None}, "utt2spk: no such file; create it"),
        ({"utt2spk": ""}, "utt2spk: is empty; write a line for each utterance"),
        ({"spk2utt": None}, "spk2utt: no such file; create it: utils/utt2spk_to_spk2utt.pl "),
        ({"spk2utt": ""}, "spk2utt: is empty; create it: utils/utt2spk_to_spk2utt.pl "),
        ({"utt2spk": "a-1 a\na-2 a b\nb-1 b\n"}, "utt2spk:2: expected an utterance and its speaker, found 'a-2 a b'"),
        ({"utt2spk": "a-2 a\na-1 a\nb-1 b\n"}, "utt2spk:2: a-1 after a-2 is not the order of LC_ALL=C sort; utils/fix"),
        ({"utt2spk": "a-1 a\na-1 a\na-2 a\nb-1 b\n"}, "utt2spk:2: a-1 is already in line 1; keep one"),
        ({"utt2spk": "a-1 a\n\na-2 a\nb-1 b\n"}, "utt2spk:2: empty line; utils/fix_data_dir.sh fixes it"),
        ({"utt2spk": "a-1 a\na-2 a\nb-1 b"}, "utt2spk:3: the last line does not end; end it with a newline"),
        ({"utt2spk": "a-1 a\r\na-2 a\nb-1 b\n"}, "utt2spk:1: ends in a carriage return"),
        ({"spk2utt": "a a-1\nb b-1\n"}, "spk2utt: contradicts utt2spk: a-2 of a is only in utt2spk"),
        ({"spk2utt": "a a-2 a-1\nb b-1\n"}, "spk2utt: has other utterances than utt2spk, or another order"),
        ({"text": None}, "text: no such file; create it, or give --no-text"),
        ({"wav.scp": None, "reco2dur": None}, "wav.scp: no such file; create it, or give --no-wav"),
        ({"feats.scp": None}, "feats.scp: no such file; create it, or give --no-feats"),
        ({"feats.scp": "a-1 /f:1\n"}, "utt2spk:2: 2 utterances not in feats.scp (first: a-2); add to feats.scp"),
        ({"text": GOOD["text"] + "c-1 X\n"}, "text:4: 1 utterance not in utt2spk (first: c-1); add to utt2spk"),
        ({"text": "a-1 A <s> B\na-2\nb-1 x\n"}, "text:1: expected a text without Kaldi's symbol <s>, found"),
        ({"text": "a-1 A\u00a0B\na-2\nb-1 x\n"}, "text:1: expected no white space but blanks and tabs (U+00A0)"),
        ({"text": "a-1 A\x07B\na-2\nb-1 x\n"}, "text:1: expected printable characters (or --non-print)"),
        ({"wav.scp": "a-1 ~/1.wav\na-2 /2\nb-1 /3\n"}, "wav.scp:1: expected a path without ~, which is not"),
        ({"wav.scp": "a-1 /1\na-2\nb-1 /3\n"}, "wav.scp:2: expected a file or a command after the id"),
        ({**SEGMENTS, "wav.scp": None, "reco2dur": None}, "segments: needs wav.scp, which does not exist; add wav.scp"),
        ({**SEGMENTS, "segments": "a-1 r1 0 1\na-2 r1 5 4\nb-1 r2 0 1\n"}, "segments:2: expected an utterance, its"),
        ({**SEGMENTS, "segments": "a-1 r1 0 1\na-2 r1 5\nb-1 r2 0 1\n"}, "segments:2: expected an utterance, its"),
        ({**SEGMENTS, "wav.scp": "r1 /x\n", "reco2dur": None}, "segments:3: 1 recording not in wav.scp (first: r2)"),
        ({**SEGMENTS, "reco2dur": "r1 3\n"}, "wav.scp:2: 1 recording not in reco2dur (first: r2)"),
        ({**SEGMENTS, "reco2file_and_channel": "r1 f C\nr2 f A\n"}, "reco2file_and_channel:1: expected a recording,"),
        ({"spk2gender": "a male\nb f\n"}, "spk2gender:1: expected a speaker and m or f, found 'a male'"),
        ({"spk2gender": "b f\n"}, "spk2utt:1: 1 speaker not in spk2gender (first: a)"),
        ({"utt2dur": "a-1 0\na-2 1\nb-1 1\n"}, "utt2dur:1: expected an utterance and its seconds"),
        ({"utt2dur": "a-1 x\na-2 1\nb-1 1\n"}, "utt2dur:1: expected an utterance and its seconds"),
        ({"utt2num_frames": "a-1 1\na-2 1.5\nb-1 1\n"}, "utt2num_frames:2: expected an utterance and its number"),
        ({"vad.scp": "a-1 /v:1\n"}, "utt2spk:2: 2 utterances not in vad.scp (first: a-2)"),
        ({"cmvn.scp": "a /c:1\n"}, "spk2utt:2: 1 speaker not in cmvn.scp (first: b)"),
        ({"utt2warp": "a-1 1\na-2 3\nb-1 1\n"}, "utt2warp:2: expected an utterance and a factor between 0.5 and 1.5"),
    ],
)
def test_findings_name_file_and_fix(tmp_path: Path, changed: dict[str, str | None], finding: str) -> None:
    found = findings(make(tmp_path / "data", changed))
    assert any(line.startswith(finding) for line in found), found
    assert all("\n" not in line for line in found)


@pytest.mark.parametrize("spk2utt", [None, "", "a a-1\nb b-1\n"])
@pytest.mark.parametrize("name", ["data", "it's mine & $(yours)"])
def test_the_command_that_creates_spk2utt_can_be_copied(tmp_path: Path, name: str, spk2utt: str | None) -> None:
    """``wav.scp`` and ``utt2spk`` are enough for run.sh, but not for Kaldi's validate_data_dir.sh."""
    folder = make(tmp_path / name, {"spk2utt": spk2utt, "spk2gender": None})
    (finding,) = validate_data_dir(folder)
    command = str(finding).partition("create it: ")[2]
    environment = os.environ | {"DEEPSPEAKER_PYTHON": sys.executable}
    subprocess.run(["bash", "-c", command], check=True, cwd=Path(__file__).parents[2], env=environment)
    assert findings(folder) == []


def test_optional_tables_are_checked_if_they_exist(tmp_path: Path) -> None:
    bare = make(tmp_path / "bare", dict.fromkeys(["text", "wav.scp", "feats.scp", "reco2dur"]))
    assert findings(bare, text=False, wav=False, feats=False) == []
    bad = make(tmp_path / "bad", {"text": "a-1 \x07\na-2\n"})
    assert len(findings(bad, text=False)) == 2
    assert len(findings(bad, text=False, printable=False)) == 1
    assert findings(tmp_path / "none") == [f"{tmp_path}/none: no such data directory; give an existing one"]


def test_speakers_must_be_sorted_like_utterances_unless_disabled(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", {"utt2spk": "a-1 b\na-2 b\nb-1 a\n", "spk2utt": "a b-1\nb a-1 a-2\n"})
    (folder / "spk2utt").write_text("b a-1 a-2\na b-1\n")
    expected = (
        "utt2spk:3: the speaker a of b-1 comes after b; start each id with that of its speaker, or give --no-spk-sort"
    )
    assert expected in findings(folder)
    assert expected not in findings(folder, spk_sort=False)


def test_a_single_speaker_is_only_a_warning(tmp_path: Path) -> None:
    changed = {"utt2spk": "a-1 a\na-2 a\nb-1 a\n", "spk2utt": "a a-1 a-2 b-1\n", "spk2gender": "a m\n"}
    (found,) = validate_data_dir(make(tmp_path / "data", changed))
    assert found.warning
    assert str(found).endswith("spk2utt:1: warning: there is only one speaker; check that this is intended")


@pytest.mark.parametrize(
    "changed",
    [
        {"utt2spk": "b-1 b\na-2 a\r\na-1 a", "spk2utt": None},
        {"text": "b-1 x\n\na-1 y\na-1 z\nc-1\n", "vad.scp": "a-1 /v:1\nb-1 /v:2\nc-9 /v:3\n"},
        {"feats.scp": "a-1 /f:1\n", "spk2gender": "a m\nc f\nb m\n"},
        {**SEGMENTS, "segments": "b-1 r9 0 1\na-1 r1 0 1\n", "wav.scp": "r2 /x\nr1 /y\n"},
    ],
)
def test_fixed_directories_are_valid(tmp_path: Path, changed: dict[str, str | None]) -> None:
    folder = make(tmp_path / "data", changed)
    assert findings(folder)
    fix_data_dir(folder, say=lambda line: None)
    assert [line for line in findings(folder) if "warning" not in line] == []
