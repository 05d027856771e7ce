from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepspeaker.errors import InputError
from deepspeaker.trials import labelled_scores, read_trials, write_scores


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_list_is_read_in_its_order(tmp_path: Path) -> None:
    lines = ["b c nontarget", "a b target", "c a nontarget", "B b target", "é a nontarget", '"x b target']
    trials = read_trials(write(tmp_path / "trials", "\n".join(lines) + "\n"))
    assert trials.ids == sorted(trials.ids) == ['"x', "B", "a", "b", "c", "é"]
    read = [
        f"{trials.ids[enrolment]} {trials.ids[test]} {'target' if target else 'nontarget'}"
        for enrolment, test, target in zip(trials.enrolment, trials.test, trials.is_target, strict=True)
    ]
    assert read == lines
    assert (trials.enrolment.dtype, trials.test.dtype, trials.is_target.dtype) == (np.int64, np.int64, np.bool_)


def test_line_ends_of_windows_and_a_missing_last_one(tmp_path: Path) -> None:
    for text in ("a b target\r\na c nontarget\r\n", "a b target\na c nontarget"):
        trials = read_trials(write(tmp_path / "trials", text))
        assert trials.ids == ["a", "b", "c"]
        assert trials.is_target.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a b target\na c impostor\n", 2),
        ("a b target\na c Target\n", 2),
        ("a b\n", 1),
        ("a b target\na c nontarget\na d\n", 3),
        ("a b target\na c target 1\n", 2),
        ("a b target\n\na c target\n", 2),
        ("a  b target\n", 1),
        ("a  target\n", 1),
        ("a\tb\ttarget\n", 1),
        ("a b target \n", 1),
        ("\n", 1),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, line: int) -> None:
    path = write(tmp_path / "trials", text)
    with pytest.raises(InputError) as caught:
        read_trials(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "what"), [(b"", "is empty"), (b"\xff\xfe b target\n", "is not UTF-8")])
def test_an_empty_or_undecodable_list_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(InputError, match=what):
        read_trials(write(tmp_path / "trials", content))


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; run the stage that writes it"):
        read_trials(tmp_path / "none")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50))
def test_the_text_of_a_score_reads_back_as_the_same_float32(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("scores")
    scores = np.array(values, dtype=np.float32)
    ids = [f"u{number:02d}" for number in range(len(values) + 1)]
    enrolment, test = np.zeros(len(values), dtype=np.int64), np.arange(1, len(values) + 1)
    write_scores(folder / "scores", ids, enrolment, test, scores)
    write(folder / "trials", "".join(f"u00 {name} {'non' * (name > 'u05')}target\n" for name in ids[1:]))
    read, is_target = labelled_scores(folder / "scores", folder / "trials")
    assert read.dtype == np.float32
    assert np.array_equal(read.view(np.int32), scores.view(np.int32))
    assert is_target.tolist() == [name <= "u05" for name in ids[1:]]
    for line, name, score in zip((folder / "scores").read_text().splitlines(), ids[1:], scores, strict=True):
        words = line.split(" ")
        assert words[:2] == ["u00", name]
        assert np.float32(words[2]) == score
    assert [path.name for path in sorted(folder.iterdir())] == ["scores", "trials"]


def test_scores_are_joined_by_their_ids_whatever_the_order(tmp_path: Path) -> None:
    trials = write(tmp_path / "trials", "a b target\nb a nontarget\na c nontarget\nc b target\n")
    scores = write(tmp_path / "scores", "c b 4\nb a 2.5\na b -1\n")
    values, is_target = labelled_scores(scores, trials)
    assert values.tolist() == [4.0, 2.5, -1.0]
    assert is_target.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("trials", "scores"),
    [
        ("a b target\n", "a b 1\nb a 1\n"),
        ("a b target\n", "x y 1\n"),
        ("a b target\na b nontarget\n", "a b 1\n"),
        ("a b target\n", "a b 1\na b 2\n"),
    ],
)
def test_scores_of_other_trials_or_twice_are_refused(tmp_path: Path, trials: str, scores: str) -> None:
    listed, scored = write(tmp_path / "trials", trials), write(tmp_path / "scores", scores)
    with pytest.raises(InputError, match=rf"{scored}: has scores of trials that are not in {listed}, or come twice"):
        labelled_scores(scored, listed)


def test_a_score_that_is_not_a_number_or_missing_is_refused(tmp_path: Path) -> None:
    trials = write(tmp_path / "trials", "a b target\na c nontarget\n")
    with pytest.raises(InputError, match="must be a number"):
        labelled_scores(write(tmp_path / "scores", "a b 0.5\na c high\n"), trials)
    with pytest.raises(InputError, match=r"scores:2: every line must have 3 words"):
        labelled_scores(write(tmp_path / "scores", "a b 0.5\na c\n"), trials)


def test_a_trial_that_comes_twice_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "trials", "a b target\nb a target\na c nontarget\na b target\n")
    with pytest.raises(InputError, match=r"trials:4: the trial a b comes twice; keep one$"):
        read_trials(path)
    path = write(tmp_path / "trials", "a b target\n" + "a b target\na c nontarget\n" * 7)
    told = r"trials:2: the trial a b comes twice \(13 lines do: 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, \.\.\.\); keep one$"
    with pytest.raises(InputError, match=told):
        read_trials(path)
