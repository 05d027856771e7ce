"""Kaldi's text utilities: properties, and examples worked out by hand from the rules of the programs."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepspeaker.errors import InputError
from deepspeaker.kaldi import filter_lines, spk2utt_lines, split_by_speaker, split_lines, spread, utt2spk_lines

ids = st.binary(min_size=1, max_size=6).filter(lambda word: not set(word) & set(b" \t\n\r\f\v"))
blanks = st.sampled_from([b" ", b"\t", b"  ", b" \t "])


@st.composite
def tables(draw: st.DrawFn, min_size: int = 0) -> list[bytes]:
    """Lines ``key value...`` with any bytes and blanks, the last perhaps without a line end."""
    lines = []
    for key in draw(st.lists(ids, min_size=min_size, max_size=20, unique=True)):
        words = [key, *draw(st.lists(ids, max_size=3))]
        lines.append(draw(blanks).join(words) + draw(st.sampled_from([b"\n", b" \n"])))
    if lines and draw(st.booleans()):
        lines[-1] = lines[-1].rstrip(b"\n")
    return lines


@given(st.dictionaries(ids, ids, max_size=20))
def test_utt2spk_and_spk2utt_convert_into_each_other(pairs: dict[bytes, bytes]) -> None:
    utt2spk = [b"%s %s\n" % pair for pair in pairs.items()]
    spk2utt = spk2utt_lines(utt2spk)
    assert [line.split()[0] for line in spk2utt] == list(dict.fromkeys(pairs.values()))
    assert sorted(utt2spk_lines(spk2utt)) == sorted(utt2spk)
    assert spk2utt_lines(utt2spk_lines(spk2utt)) == spk2utt


@given(tables(), st.sets(ids, max_size=5), st.booleans())
def test_filtering_does_not_change_lines(lines: list[bytes], more: set[bytes], exclude: bool) -> None:
    ids = more | {line.split()[0] for line in lines[::2]}
    kept = filter_lines(lines, ids, exclude=exclude)
    assert kept == [line for line in lines if (line.split()[0] in ids) is not exclude]
    rest = filter_lines(lines, ids, exclude=not exclude)
    assert sorted(kept + rest) == sorted(lines)


@given(tables(min_size=1), st.integers(1, 8))
def test_pieces_have_equal_lengths_and_all_lines(lines: list[bytes], pieces: int) -> None:
    if len(lines) < pieces:
        with pytest.raises(InputError, match=f"x: {len(lines)} lines cannot be split into {pieces} pieces"):
            split_lines(lines, pieces, "x")
        return
    split = split_lines(lines, pieces, "x")
    assert [line for piece in split for line in piece] == lines
    lengths = [len(piece) for piece in split]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] - lengths[-1] <= 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=25), st.integers(1, 8))
def test_speakers_stay_whole_and_no_move_makes_pieces_more_equal(sizes: list[int], pieces: int) -> None:
    utt2spk = {b"%03d-%d" % (speaker, n): b"%03d" % speaker for speaker, size in enumerate(sizes) for n in range(size)}
    lines = [utterance + b" x\n" for utterance in utt2spk]
    try:
        split = split_by_speaker(lines, pieces, utt2spk, "x")
    except InputError as error:
        assert len(sizes) < pieces or "would be empty" in str(error)
        return
    assert [line for piece in split for line in piece] == lines
    speakers = [[utt2spk[line.split()[0]] for line in piece] for piece in split]
    for left, right in itertools.pairwise(speakers):
        assert not set(left) & set(right)
        difference = abs(len(left) - len(right))
        for speaker, change in ((left[-1], -1), (right[0], 1)):
            count = change * (left + right).count(speaker)
            assert abs((len(left) + count) - (len(right) - count)) >= difference


@given(tables(min_size=1), st.data())
def test_half_of_a_spread_subset_is_from_each_half(lines: list[bytes], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(lines)))
    chosen = spread(lines, count)
    assert len(chosen) == count
    assert chosen == [line for line in lines if line in chosen]
    if len(lines) > 1:
        assert len([line for line in chosen if line in lines[: len(lines) // 2]]) == count // 2


def test_hand_worked_examples() -> None:
    lines = [b"%d\n" % number for number in range(10)]
    assert b"".join(spread(lines, 4)) == b"1\n4\n6\n9\n"
    speakers = {b"%d" % number: b"a" if number < 7 else b"bcd"[number - 7 : number - 6] for number in range(10)}
    # First two speakers each (8 and 2 lines), then b moves, which gives 7 and 3.
    assert [len(piece) for piece in split_by_speaker(lines, 2, speakers, "x")] == [7, 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spk2utt_lines([b"u s\n", b"u\n"]), "utt2spk:2: expected an utterance and its speaker, found 'u'"),
        (lambda: utt2spk_lines([b"s\n"]), "spk2utt:1: expected a speaker and utterances, found 's'"),
        (lambda: filter_lines([b"a 1\n", b" \n"], {b"a"}), "input:2: expected a key, found ''"),
        (lambda: filter_lines([b"a\n"], {b"a"}, column=2), "input:1: expected 2 columns, found 'a'"),
        (lambda: split_by_speaker([b"a\n"], 1, {}, Path("f")), "f:1: a is not in utt2spk"),
        (lambda: split_by_speaker([b"a\n"], 2, {b"a": b"s"}, "f"), "f: 1 speakers cannot be split into 2 pieces"),
    ],
)
def test_errors_name_file_and_line(call: object, message: str) -> None:
    with pytest.raises(InputError) as raised:
        call()  # type: ignore[operator]
    assert str(raised.value).startswith(message)
