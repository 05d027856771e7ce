"""The condition of every trial, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.evaluation import (
    EVERY_VALUE,
    Conditions,
    Scored,
    condition_figures,
    read_conditions,
    read_list,
    trial_conditions,
)
from deepspeaker.kaldi import write_table

UTT2SPK = {f"{speaker}-{number}": speaker for speaker in "abc" for number in (1, 2, 3)}
LINES = ["a-1 a-2 target", "a-1 b-1 nontarget", "b-1 c-2 nontarget", "c-1 c-3 target", "c-2 a-3 nontarget"]


def values(folder: Path, conditions: Conditions, models: dict[str, str] | None = None) -> dict[str, list[str]]:
    """Condition -> the value of each trial."""
    path = folder / "own"
    path.write_text("\n".join(LINES) + "\n")
    if models:
        write_table(folder / "own.spk2utt", models)
    found = trial_conditions(conditions, read_list(path, UTT2SPK))
    return {one.by: [one.values[code] for code in one.codes] for one in found}


def test_gender_and_tables_of_one_and_two_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "spk2gender", {"a": "f", "b": "m"})
    write_table(tmp_path / "utt2channel", {utterance: "phone" if utterance < "b" else "room" for utterance in UTT2SPK})
    write_table(tmp_path / "utt2where", {"a-1": "x 1", "a-2": "x 2", "b-1": "y 1"})
    write_table(tmp_path / "utt2dur", dict.fromkeys(UTT2SPK, "3.0"))
    found = values(tmp_path, read_conditions(tmp_path, UTT2SPK, {}, [2]))
    assert found == {
        "gender": ["f", "f, m", "m, unknown", "unknown", "f, unknown"],
        "channel": ["phone", "phone, room", "room", "room", "phone, room"],
        "where.1": ["x", "x, y", "unknown, y", "unknown", "unknown"],
        "where.2": ["1, 2", "1", "1, unknown", "unknown", "unknown"],
    }


def test_the_shorter_side_decides_the_duration_and_models_last_as_long_as_their_utterances(tmp_path: Path) -> None:
    seconds = {u: {"1": 1.9, "2": 4.0, "3": 9.5}[u[-1]] for u in UTT2SPK}
    conditions = read_conditions(tmp_path, UTT2SPK, seconds, [2, 4, 8])
    short, middle = "below 2 s", "4 s to 8 s"
    assert values(tmp_path, conditions) == {"duration": [short, short, short, short, middle]}
    # A lasts 11.4 s, C 5.9 s: A and a-2 make 4 s, A and b-1 1.9 s, C and c-3 5.9 s.
    path = tmp_path / "models"
    path.write_text("A a-2 target\nA b-1 nontarget\nC c-3 target\n")
    write_table(tmp_path / "models.spk2utt", {"A": "a-1 a-3", "C": "c-1 c-2"})
    (found,) = trial_conditions(conditions, read_list(path, UTT2SPK))
    assert [found.values[code] for code in found.codes] == [middle, short, middle]


def test_a_model_whose_utterances_differ_is_several(tmp_path: Path) -> None:
    write_table(tmp_path / "utt2channel", {u: "room" if u == "a-3" else "phone" for u in UTT2SPK})
    path = tmp_path / "models"
    path.write_text("A a-2 target\nB a-2 nontarget\n")
    write_table(tmp_path / "models.spk2utt", {"A": "a-1 a-3", "B": "b-1 b-2"})
    (found,) = trial_conditions(read_conditions(tmp_path, UTT2SPK, {}, [2]), read_list(path, UTT2SPK))
    assert [found.values[code] for code in found.codes] == ["phone, several", "phone"]


def test_target_trials_are_of_one_session_or_of_two_and_nontargets_count_with_both(tmp_path: Path) -> None:
    sessions = {utterance: f"{utterance}-day" for utterance in UTT2SPK if utterance != "c-3"}
    write_table(tmp_path / "utt2session", sessions | {"a-1": "a-mo", "a-2": "a-mo"})
    path = tmp_path / "own"
    path.write_text("a-1 a-2 target\na-1 a-3 target\na-1 b-1 nontarget\nc-1 c-3 target\nb-1 c-3 nontarget\n")
    conditions = read_conditions(tmp_path, UTT2SPK, {}, [2])
    (found,) = trial_conditions(conditions, read_list(path, UTT2SPK))
    every = EVERY_VALUE
    assert (found.by, found.codes.tolist()) == ("session", [0, 1, every, 3, every])
    assert found.values == ["same", "different", "several", "unknown"]
    is_target = np.array([True, True, False, True, False])
    speakers = (np.array([0, 0, 0, 2, 1]), np.array([0, 0, 1, 2, 2]))
    trials = Scored(np.array([3.0, 1.0, 2.0, 3.0, 0.0], dtype=np.float32), is_target, *speakers)
    same, different, unknown = condition_figures(trials, found.by, found.values, found.codes, 0, 0)
    assert [(c.value, c.target, c.nontarget) for c in (same, different, unknown)] == [
        ("same", 1, 2),
        ("different", 1, 2),
        ("unknown", 1, 2),
    ]
    assert (same.eer, different.eer) == (0.0, 0.5)


def test_a_model_of_one_session_is_compared_and_of_several_is_not(tmp_path: Path) -> None:
    write_table(tmp_path / "utt2session", {u: "mo" if u[-1] < "3" else "tu" for u in UTT2SPK})
    path = tmp_path / "models"
    path.write_text("A a-1 target\nA a-3 target\nB b-1 target\nA b-1 nontarget\n")
    write_table(tmp_path / "models.spk2utt", {"A": "a-1 a-2", "B": "b-2 b-3"})
    (found,) = trial_conditions(read_conditions(tmp_path, UTT2SPK, {}, [2]), read_list(path, UTT2SPK))
    assert [found.values[code] for code in found.codes[:3]] == ["same", "different", "several"]


def test_the_sides_of_a_trial_say_the_same_phrase_or_different_ones(tmp_path: Path) -> None:
    phrases = {utterance: f"hey computer {n % 3}" for n, utterance in enumerate(UTT2SPK)}
    write_table(tmp_path / "utt2phrase", phrases | {"a-1": "hello"})
    write_table(tmp_path / "utt2word", {utterance: f"word-{utterance}" for utterance in UTT2SPK})  # nine words
    path = tmp_path / "own"
    path.write_text("a-2 b-2 nontarget\na-2 a-3 target\na-1 b-1 nontarget\nb-1 c-1 nontarget\n")
    phrase, word = trial_conditions(read_conditions(tmp_path, UTT2SPK, {}, [2]), read_list(path, UTT2SPK))
    assert (phrase.by, word.by) == ("phrase", "word")
    assert [phrase.values[code] for code in phrase.codes] == ["same", "different", "different", "same"]
    assert {word.values[code] for code in word.codes} == {"different"}


def test_numbers_are_cut_in_three_and_many_words_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "utt2snr", {u: f"{n}.5" for n, u in enumerate(UTT2SPK)})
    write_table(tmp_path / "utt2name", {u: f"name-{u}" for u in UTT2SPK})
    conditions = read_conditions(tmp_path, UTT2SPK, {}, [2])
    assert list(conditions.columns) == ["snr"]
    column = conditions.columns["snr"]
    assert [list(column.values()).count(v) for v in dict.fromkeys(column.values())] == [3, 3, 3]
    assert list(dict.fromkeys(column.values())) == ["below 3.5", "3.5 to 6.5", "from 6.5"]
    assert "utt2name: no breakdown by a column with 9 values, more than 8" in capsys.readouterr().err


def test_rows_of_different_width_are_named(tmp_path: Path) -> None:
    write_table(tmp_path / "utt2where", {"a-1": "x 1", "a-2": "x"})
    with pytest.raises(InputError, match=r"utt2where: a-2 has 1 values, others have 2"):
        read_conditions(tmp_path, UTT2SPK, {}, [2])


def test_codes_stay_small(tmp_path: Path) -> None:
    write_table(tmp_path / "utt2n", {u: str(n % 8) for n, u in enumerate(UTT2SPK)})
    path = tmp_path / "own"
    path.write_text("\n".join(LINES) + "\n")
    (found,) = trial_conditions(read_conditions(tmp_path, UTT2SPK, {}, [2]), read_list(path, UTT2SPK))
    assert found.codes.dtype == np.uint8
    assert len(found.values) <= 256
