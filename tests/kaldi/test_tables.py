"""Text tables, compared with the program ``sort``."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepspeaker.errors import InputError
from deepspeaker.kaldi import read_lines, read_table, scan_table, spk2utt_of, write_spk2utt, write_table

BLANKS = " \t\n\r\f\v"
characters = st.characters(exclude_categories=["Cs"])
keys = st.text(characters, min_size=1, max_size=12).filter(lambda text: not set(text) & set(BLANKS))
values = st.text(characters, max_size=30).filter(lambda text: "\n" not in text and text == text.strip(BLANKS))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(keys, values, max_size=8))
def test_reading_reverses_writing(table: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        write_table(path, table)
        read = read_table(path)
        assert read == table
        assert list(read) == sorted(table, key=lambda key: key.encode())


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(keys, st.just(""), min_size=1, max_size=20))
def test_the_order_is_that_of_sort(table: dict[str, str]) -> None:
    # sort does not support NUL.
    table = {key: "" for key in table if "\0" not in key}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        write_table(path, table)
        environment = {**os.environ, "LC_ALL": "C"}
        assert subprocess.run(["sort", path], env=environment, capture_output=True, check=True).stdout == (
            path.read_bytes()
        )


def test_the_order_of_lines_is_that_of_sort_by_the_first_column(tmp_path: Path) -> None:
    table = dict.fromkeys(("b", "B", "a-1", "a", "a1", "a-10", "a_1", "é", "z", "10", "9", "😀", "字"), "x y")
    write_table(tmp_path / "table", table)
    done = subprocess.run(
        ["sort", "-k1,1", tmp_path / "table"], env={**os.environ, "LC_ALL": "C"}, capture_output=True, check=True
    )
    assert done.stdout == (tmp_path / "table").read_bytes()


def test_blanks_and_line_ends_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "wav.scp"
    path.write_bytes("a \t /x y.wav \r\nb\r\nc\u00a0d\u3000e f\u00a0g\n h i".encode())
    assert read_table(path) == {"a": "/x y.wav", "b": "", "c\u00a0d\u3000e": "f\u00a0g", "h": "i"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 1\n\nb 2\n", ":2: empty line; remove it"),
        (b"a 1\n  \t\n", ":2: empty line"),
        (b"\n", ":1: empty line"),
        (b"a 1\nb 2\na 3\n", ":3: a is duplicated"),
        (b"a 1\nb \xff\n", ":2: not UTF-8"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "text").write_bytes(content)
    for read in (read_table, scan_table):
        with pytest.raises(InputError) as raised:
            read(tmp_path / "text")
        assert str(raised.value).startswith(f"{tmp_path}/text{message}")
        assert "\n" not in str(raised.value)


SCANNED = {
    "usual": b"a-1 x.ark:3\na-2 y y.ark:4\nb x\n",
    "no last newline": b"a-1 x.ark:3\na-2 y",
    "unsorted": "é x\nb y\na z\n".encode(),
    "tabs": b"a-1\tx.ark:3\na-2 y\n",
    "several blanks": b" a-1  x.ark:3 \n  a-2 \t y \n",
    "carriage returns": b"a-1 x.ark:3\r\na-2 y\r\n",
    "no value": b"a-1 x\na-2\n",
    "quotes": b'a-1 "x\na-2 "y" z\n',
    "the separator of the reader": b"a-1 x\x1fy\na-2 z\n",
    "empty": b"",
}


@pytest.mark.parametrize("form", SCANNED)
def test_a_scanned_table_equals_the_table_that_was_read(tmp_path: Path, form: str) -> None:
    (tmp_path / "table").write_bytes(SCANNED[form])
    scanned = scan_table(tmp_path / "table")
    assert scanned.columns == ["key", "value", "line"]
    assert dict(zip(scanned["key"], scanned["value"], strict=True)) == read_table(tmp_path / "table")
    for key, line in zip(scanned["key"], scanned["line"], strict=True):
        assert SCANNED[form][line:].split(maxsplit=1)[0] == key.encode()


def test_a_missing_table_and_a_folder(tmp_path: Path) -> None:
    for read in (read_table, scan_table, read_lines):
        with pytest.raises(InputError, match=r"nothing: no such file"):
            read(tmp_path / "nothing")
        with pytest.raises(InputError, match="is a folder"):
            read(tmp_path)


def test_an_empty_table_is_empty(tmp_path: Path) -> None:
    write_table(tmp_path / "table", {})
    assert (tmp_path / "table").read_bytes() == b""
    assert read_table(tmp_path / "table") == {}


@given(st.dictionaries(keys, st.sampled_from(["s", "s2", "S", "t-1"]), max_size=12))
def test_spk2utt_inverts_utt2spk(utt2spk: dict[str, str]) -> None:
    spk2utt = spk2utt_of(utt2spk)
    assert list(spk2utt) == sorted(set(utt2spk.values()))
    assert {u: s for s, utterances in spk2utt.items() for u in utterances} == utt2spk
    assert all(utterances == sorted(utterances) for utterances in spk2utt.values())


def test_spk2utt_file(tmp_path: Path) -> None:
    write_spk2utt(tmp_path / "spk2utt", spk2utt_of({"b-2": "b", "a-1": "a", "b-1": "b"}))
    assert (tmp_path / "spk2utt").read_text() == "a a-1\nb b-1 b-2\n"
