"""Data directories: reading, writing and errors."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir, Segment, parse_segment

GOOD = {
    "utt2spk": "a-1 a\na-2 a\nb-1 b\n",
    "wav.scp": "a-1 /x/1.wav\na-2 flac -c -d -s /x/2.flac |\nb-1 /x/a b.ark:12\n",
    "text": "a-1 WORDS WITH BLANKS\na-2\n",
    "spk2gender": "a m\nb f\n",
    "spk2utt": "a a-2 a-1\nb b-1\n",
}


def make(folder: Path, **changed: str | None) -> Path:
    """Write ``GOOD`` with some tables changed, added or (None) left out; ``_scp`` stands for ``.scp``."""
    folder.mkdir()
    tables = {**GOOD, **{name.replace("_scp", ".scp"): content for name, content in changed.items()}}
    for name, content in tables.items():
        if content is not None:
            (folder / name).write_text(content)
    return folder


def test_reads_the_tables(tmp_path: Path) -> None:
    data = DataDir.read(make(tmp_path / "data"))
    assert data.utt2spk == {"a-1": "a", "a-2": "a", "b-1": "b"}
    assert data.wav_scp["a-2"] == "flac -c -d -s /x/2.flac |"
    assert data.text == {"a-1": "WORDS WITH BLANKS", "a-2": ""}
    assert data.spk2utt == {"a": ["a-1", "a-2"], "b": ["b-1"]}
    assert data.feats_scp == {}


def test_written_tables_are_sorted_and_equal(tmp_path: Path) -> None:
    data = DataDir.read(make(tmp_path / "data", utt2spk="b-1 b\na-2 a\na-1 a\n"))
    data.write(tmp_path / "copy")
    assert DataDir.read(tmp_path / "copy") == data
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(GOOD)
    assert (tmp_path / "copy" / "utt2spk").read_text() == GOOD["utt2spk"]
    assert (tmp_path / "copy" / "spk2utt").read_text() == "a a-1 a-2\nb b-1\n"


def test_an_empty_table_has_no_file(tmp_path: Path) -> None:
    data = DataDir.read(make(tmp_path / "data"))
    data.text = {}
    data.write(tmp_path / "data")
    assert not (tmp_path / "data" / "text").exists()


def test_a_subset_has_only_its_speakers(tmp_path: Path) -> None:
    part = DataDir.read(make(tmp_path / "data")).subset(["b-1"])
    assert part == DataDir(utt2spk={"b-1": "b"}, wav_scp={"b-1": "/x/a b.ark:12"}, spk2gender={"b": "f"})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"utt2spk": None}, "/utt2spk: no such file"),
        ({"utt2spk": "", "wav_scp": None, "text": None, "feats_scp": ""}, "/utt2spk: has no utterance"),
        ({"wav_scp": None}, ": has neither wav.scp nor feats.scp"),
        ({"wav_scp": ""}, ": has neither wav.scp nor feats.scp"),
        ({"segments": "a-1 r 0 1\n"}, "/segments: a-1 is in r, which is not in wav.scp"),
        ({"segments": "c-1 a-1 0 1\n"}, "/segments: c-1 is not in utt2spk"),
        ({"segments": "a-1 a-1 0\n"}, "/segments: a-1 needs recording, start and end"),
        ({"segments": "a-1 a-1 0 1 A\n"}, "/segments: a-1 has a channel column"),
        ({"segments": "a-1 a-1 0 x\n"}, "/segments: a-1 start and end must be seconds, are 0 and x"),
        ({"segments": "a-1 a-1 2 1.5\n"}, "/segments: a-1 ends at 1.5 s, not after its start"),
        ({"segments": "a-1 a-1 -1 1.5\n"}, "/segments: a-1 cannot extend from -1 to 1.5 s"),
        ({"segments": "a-1 a-1 0 nan\n"}, "/segments: a-1 cannot extend from 0 to nan s"),
        ({"utt2spk": "a-1 a\na-2\nb-1 b\n"}, "/utt2spk: a-2 needs one speaker"),
        ({"utt2spk": "a-1 a\na-2 a a\nb-1 b\n"}, "/utt2spk: a-2 needs one speaker"),
        ({"wav_scp": "a-1 /x\nc-1 /x\n"}, "/wav.scp: c-1 is not in utt2spk"),
        ({"wav_scp": "a-1 /x\na-2\n"}, "/wav.scp: a-2 has no value"),
        ({"feats_scp": "z /x:1\n"}, "/feats.scp: z is not in utt2spk"),
        ({"spk2utt": "a a-1\nb b-1\n"}, "/spk2utt: contradicts utt2spk"),
        ({"utt2spk": "a-1 a\na-1 b\n"}, "/utt2spk:2: a-1 is duplicated"),
    ],
)
def test_errors_name_file_and_id(tmp_path: Path, changed: dict[str, str | None], message: str) -> None:
    with pytest.raises(InputError) as raised:
        DataDir.read(make(tmp_path / "data", **changed))
    assert str(raised.value).startswith(f"{tmp_path}/data{message}")
    assert "\n" not in str(raised.value)


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such data directory"):
        DataDir.read(tmp_path / "nothing")


def test_segments_of_recordings(tmp_path: Path) -> None:
    wav_scp = "r-1 /x/1.wav\nr-2 cat /x/2.wav |\nr-3 /x/3.wav\n"
    segments = "a-1 r-1 0.5 1.25\na-2 r-1 1.25 -1\nb-1 r-2 0 3\n"
    path = make(tmp_path / "data", wav_scp=wav_scp, segments=segments, reco2dur="r-1 9\nr-2 3\n")
    data = DataDir.read(path)
    assert data.segment_of("a-1") == Segment("r-1", 0.5, 1.25)
    assert data.segment_of("a-2") == Segment("r-1", 1.25, None)
    part = data.subset(["b-1"])
    assert (part.wav_scp, part.segments) == ({"r-2": "cat /x/2.wav |"}, {"b-1": "r-2 0 3"})
    assert part.reco2dur == {"r-2": "3"}
    data.write(tmp_path / "copy")
    assert DataDir.read(tmp_path / "copy") == data
    without = DataDir.read(make(tmp_path / "plain"))
    assert without.segment_of("a-1") == Segment("a-1", 0.0, None)
    del without.wav_scp["a-1"]
    assert without.segment_of("a-1") is None


def test_an_end_of_minus_one_is_that_of_the_recording() -> None:
    assert parse_segment("r 1 -1") == parse_segment("r\t1.0  -1.00") == Segment("r", 1.0, None)


names = st.text("abcXYZ019-_.é", min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(names, names, min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 10**6)), min_size=8, max_size=8),
    st.booleans(),
)
def test_reading_reverses_writing(utt2spk: dict[str, str], times: list[tuple[int, int]], segmented: bool) -> None:
    genders = dict.fromkeys(utt2spk.values(), "f")
    data = DataDir(utt2spk=utt2spk, text=dict.fromkeys(utt2spk, "W  X"), spk2gender=genders)
    if segmented:
        for (utterance, speaker), (start, length) in zip(utt2spk.items(), times, strict=False):
            data.segments[utterance] = f"r{speaker} {start / 16000:.6f} {(start + length) / 16000:.6f}"
            data.wav_scp[f"r{speaker}"] = "cat x |"
    else:
        data.wav_scp = dict.fromkeys(utt2spk, "/x y.wav")
    with tempfile.TemporaryDirectory() as folder:
        data.write(folder)
        assert DataDir.read(folder) == data
    for utterance, (start, length) in zip(data.segments, times, strict=False):
        segment = data.segment_of(utterance)
        assert segment is not None and segment.end is not None
        assert (round(segment.start * 16000), round(segment.end * 16000)) == (start, start + length)
    part = data.subset(list(utt2spk)[::2])
    assert set(part.wav_scp) == {segment.recording for u in part.utt2spk if (segment := part.segment_of(u))}
