from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepspeaker.errors import InputError
from deepspeaker.trials import TrialList, read_labelled_scores, read_trials, write_scores


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_list_is_read_in_its_order(tmp_path: Path) -> None:
    lines = ["b c nontarget", "a b target", "c a nontarget", "B b target", "é a nontarget", '"x b target']
    trials = read_trials(write(tmp_path / "trials", "\n".join(lines) + "\n"))
    assert trials.utterances == trials.model_ids == ['"x', "B", "a", "b", "c", "é"]
    labels = ["target" if target else "nontarget" for target in trials.is_target]
    assert [f"{trials.text_of(number)} {label}" for number, label in enumerate(labels)] == lines
    assert (trials.enrolment.dtype, trials.test.dtype, trials.is_target.dtype) == (np.int64, np.int64, np.bool_)


def test_line_ends_of_windows_and_a_missing_last_one(tmp_path: Path) -> None:
    for text in ("a b target\r\na c nontarget\r\n", "a b target\na c nontarget"):
        trials = read_trials(write(tmp_path / "trials", text))
        assert trials.utterances == ["a", "b", "c"]
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
    is_target = np.array([name <= "u05" for name in ids[1:]])
    trials = TrialList(ids, enrolment, test, is_target)
    write_scores(folder / "scores", trials, scores, np.ones(len(values), dtype=bool))
    write(folder / "trials", "".join(f"u00 {name} {'non' * (name > 'u05')}target\n" for name in ids[1:]))
    read = read_labelled_scores(folder / "scores", folder / "trials")
    assert np.array_equal(read.scores.astype(np.float32).view(np.int32), scores.view(np.int32))
    assert read.is_target.tolist() == is_target.tolist()
    for line, name, score in zip((folder / "scores").read_text().splitlines(), ids[1:], scores, strict=True):
        words = line.split(" ")
        assert words[:2] == ["u00", name]
        assert np.float32(words[2]) == score
    assert [path.name for path in sorted(folder.iterdir())] == ["scores", "trials"]


def test_a_duplicate_trial_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "trials", "a b target\nb a target\na c nontarget\na b target\n")
    with pytest.raises(InputError, match=r"trials:4: the trial a b appears twice; keep one$"):
        read_trials(path)
    path = write(tmp_path / "trials", "a b target\n" + "a b target\na c nontarget\n" * 7)
    message = r"trials:2: the trial a b appears twice \(13 lines: 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, \.\.\.\); keep one$"
    with pytest.raises(InputError, match=message):
        read_trials(path)
