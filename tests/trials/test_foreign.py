"""Score files of other toolkits: every form gives the same trials; wrong lines are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.trials import LabelledScores, read_foreign_trials, read_labelled_scores

TRIALS = [("a", "b", True, 1.5), ("a", "c", False, -2.0), ("7", "8", False, 1e-3), ("b", "c", True, 0.25)]


def kaldi(label: bool) -> str:
    return "target" if label else "nontarget"


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def by_score(read: LabelledScores) -> list[tuple[float, bool]]:
    return sorted(zip(read.scores.tolist(), read.is_target.tolist(), strict=True))


SCORES: dict[str, Callable[[str, str, bool, float], str]] = {
    "kaldi": lambda one, other, _, score: f"{one} {other} {score}",
    "tabs": lambda one, other, _, score: f"{one}\t{other}\t {score} ",
    "score first": lambda one, other, _, score: f"{score} {one}x {other}x",
}
LISTS: dict[str, Callable[[str, str, bool], str]] = {
    "kaldi": lambda one, other, label: f"{one} {other} {kaldi(label)}",
    "voxceleb": lambda one, other, label: f"{int(label)} {one} {other}",
    "numbers last": lambda one, other, label: f"{one} {other} {int(label)}",
}


@pytest.mark.parametrize("form", SCORES)
@pytest.mark.parametrize("listed", LISTS)
def test_scores_with_a_trial_list(tmp_path: Path, form: str, listed: str) -> None:
    scores = write(tmp_path / "scores", [SCORES[form](*trial) for trial in TRIALS])
    end = "x" if form == "score first" else ""
    lines = [LISTS[listed](one + end, other + end, label) for one, other, label, _ in reversed(TRIALS)]
    read = read_labelled_scores(scores, write(tmp_path / "trials", lines))
    assert by_score(read) == sorted((score, label) for *_, label, score in TRIALS)
    pairs = [(read.ids[one], read.ids[other]) for one, other in zip(read.enrolment, read.test, strict=True)]
    assert pairs == [(one + end, other + end) for one, other, *_ in TRIALS]
    assert (read.without_score, read.without_trial) == ([], [])


def test_scores_with_labels_of_their_own(tmp_path: Path) -> None:
    expected = sorted((score, label) for *_, label, score in TRIALS)
    wespeaker = write(tmp_path / "four", [f"{one} {two} {score} {kaldi(label)}" for one, two, label, score in TRIALS])
    assert by_score(read_labelled_scores(wespeaker)) == expected
    turned = write(tmp_path / "turned", [f"{int(label)} {score}" for *_, label, score in TRIALS])
    assert by_score(read_labelled_scores(turned)) == expected
    two = write(tmp_path / "two", [f"{score} {kaldi(label)}" for *_, label, score in TRIALS])
    read = read_labelled_scores(two)
    assert by_score(read) == expected
    assert read.ids == []


def test_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    scores = write(tmp_path / "scores", ["a b 1", "a c 2", "x y 3"])
    read = read_labelled_scores(scores, write(tmp_path / "trials", ["a b target", "a c nontarget", "c d target"]))
    assert (read.without_trial, read.without_score) == (["x y"], ["c d"])
    assert np.array_equal(read.scores, [1.0, 2.0])


@pytest.mark.parametrize(
    ("scores", "trials", "message"),
    [
        (["a b 1", "a c"], ["a b target"], r"scores:2: 2 words, the lines before have 3"),
        (["a b 1", "a c x"], ["a b target"], r"scores:2: x is not a score"),
        (["a b 1", "a c nan"], ["a b target"], r"scores:2: nan is not a score"),
        (["a b 1", "a c 2"], ["a b target", "a c maybe"], r"trials:2: maybe is not a label"),
        (["a b 1", "a b 2"], ["a b target"], r"scores:2: a b appears twice"),
        (["a b 1"], ["a b target", "a b target"], r"trials:2: a b appears twice"),
        (["a b 1"], ["c d target"], r"scores: has no pair of .*trials; the first pairs are a b and c d"),
        (["a b 1"], None, r"scores: has no labels; give the trial list too"),
        (["a b c d e"], None, r"scores: lines of 5 words; known forms are"),
        ([], None, r"scores: is empty"),
        (["a b 1", "", "a c 2"], ["a b target"], r"scores:2: "),
        (["1 perhaps"], None, r"scores:1: perhaps is not a label"),
    ],
)
def test_wrong_files_are_one_line(tmp_path: Path, scores: list[str], trials: list[str] | None, message: str) -> None:
    given = None if trials is None else write(tmp_path / "trials", trials)
    with pytest.raises(InputError, match=message) as raised:
        read_labelled_scores(write(tmp_path / "scores", scores), given)
    assert "\n" not in str(raised.value)


def test_files_in_a_list_are_the_utterances_whose_audio_ends_so(tmp_path: Path) -> None:
    wav_scp = {"a-v-1": "/x/a/v/1.wav", "a-w-1": "/x/a/w/1.wav", "b-v-1": "/x/b/v/1.wav", "z": "/y/b/v/1.wav"}
    trials = write(tmp_path / "trials", ["1 a/v/1.wav a/w/1.wav", "0 a/v/1.wav x/b/v/1.wav", "0 b/v/1.wav v/1.wav"])
    read = read_foreign_trials(trials, wav_scp)
    pairs = [(read.utterances[a], read.utterances[b]) for a, b in zip(read.enrolment, read.test, strict=True)]
    # The last two are the end of several paths.
    assert pairs == [("a-v-1", "a-w-1"), ("a-v-1", "b-v-1"), ("b/v/1.wav", "v/1.wav")]
    assert read.utterances == sorted(read.utterances) and read.is_target.tolist() == [True, False, False]
    assert "a/v/1.wav" in read_foreign_trials(trials).utterances


def test_a_long_file_in_another_order_and_with_odd_blanks_far_down(tmp_path: Path) -> None:
    """The form is known from the head; what comes later may need the slower way."""
    generator = np.random.default_rng(0)
    values, labels = generator.normal(size=3000), np.arange(3000) % 7 == 0
    lines = [f"{n} u{n % 13} {values[n]}" for n in range(3000)]
    trials = write(tmp_path / "trials", [f"{n} u{n % 13} {kaldi(bool(labels[n]))}" for n in range(3000)])
    order = generator.permutation(3000)
    plain = write(tmp_path / "plain", [lines[n] for n in order])
    odd = write(tmp_path / "odd", [lines[n].replace(" ", "  ") if n == order[2500] else lines[n] for n in order])
    for path in (plain, odd):
        read = read_labelled_scores(path, trials)
        assert np.array_equal(read.scores, values[order])
        assert np.array_equal(read.is_target, labels[order])
    lines[order[2500]] = "x"
    with pytest.raises(InputError, match="broken:2501: 1 words, the lines before have 3"):
        read_labelled_scores(write(tmp_path / "broken", [lines[n] for n in order]), trials)
