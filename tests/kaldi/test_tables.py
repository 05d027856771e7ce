"""Text tables against the real ``sort`` and hypothesis."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepspeaker.errors import InputError
from deepspeaker.kaldi import read_table, spk2utt_of, write_spk2utt, write_table

BLANKS = " \t\n\r\f\v"
characters = st.characters(exclude_categories=["Cs"])
keys = st.text(characters, min_size=1, max_size=12).filter(lambda text: not set(text) & set(BLANKS))
values = st.text(characters, max_size=30).filter(lambda text: "\n" not in text and text == text.strip(BLANKS))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(keys, values, max_size=8))
def test_what_was_written_is_read(table: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        write_table(path, table)
        read = read_table(path)
        assert read == table
        assert list(read) == sorted(table, key=lambda key: key.encode())


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(keys, st.just(""), min_size=1, max_size=20))
def test_order_is_that_of_sort(table: dict[str, str]) -> None:
    # NUL is no character of a text file for sort.
    table = {key: "" for key in table if "\0" not in key}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        write_table(path, table)
        environment = {**os.environ, "LC_ALL": "C"}
        assert subprocess.run(["sort", path], env=environment, capture_output=True, check=True).stdout == (
            path.read_bytes()
        )


def test_order_of_a_whole_line_is_that_of_sort_by_the_first_column(tmp_path: Path) -> None:
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
        (b"a 1\nb 2\na 3\n", ":3: a comes twice"),
        (b"a 1\nb \xff\n", ":2: not UTF-8"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_table(tmp_path / "text")
    assert str(raised.value).startswith(f"{tmp_path}/text{message}")
    assert "\n" not in str(raised.value)


def test_a_missing_table_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing: no such file"):
        read_table(tmp_path / "nothing")
    with pytest.raises(InputError, match="is a folder"):
        read_table(tmp_path)


def test_an_empty_table_is_empty(tmp_path: Path) -> None:
    write_table(tmp_path / "table", {})
    assert (tmp_path / "table").read_bytes() == b""
    assert read_table(tmp_path / "table") == {}


@given(st.dictionaries(keys, st.sampled_from(["s", "s2", "S", "t-1"]), max_size=12))
def test_spk2utt_turns_utt2spk_round(utt2spk: dict[str, str]) -> None:
    spk2utt = spk2utt_of(utt2spk)
    assert list(spk2utt) == sorted(set(utt2spk.values()))
    assert {u: s for s, utterances in spk2utt.items() for u in utterances} == utt2spk
    assert all(utterances == sorted(utterances) for utterances in spk2utt.values())


def test_spk2utt_file(tmp_path: Path) -> None:
    write_spk2utt(tmp_path / "spk2utt", spk2utt_of({"b-2": "b", "a-1": "a", "b-1": "b"}))
    assert (tmp_path / "spk2utt").read_text() == "a a-1\nb b-1 b-2\n"
