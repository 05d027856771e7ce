"""Trial lists against itertools and the protocol's rules."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from deepspeaker.corpora import write_trials_1p99, write_trials_all
from deepspeaker.errors import InputError


def utterances_of(speakers: int, utterances: int) -> dict[str, str]:
    """In an order that is not sorted."""
    pairs = [(f"s{s}-{u}", f"s{s}") for s in range(speakers) for u in range(utterances)]
    return dict(np.random.default_rng(0).permutation(pairs).tolist())


def read(path: Path) -> list[tuple[str, ...]]:
    return [tuple(line.split(" ")) for line in path.read_text().splitlines()]


def test_every_pair_once_in_c_order(tmp_path: Path) -> None:
    utt2spk = {**utterances_of(5, 3), "é-1": "é", "B-1": "B", "a-1": "a"}
    trials = write_trials_all(tmp_path / "trials_all", utt2spk, seed=0)
    expected = [
        (first, second, "target" if utt2spk[first] == utt2spk[second] else "nontarget")
        for first, second in itertools.combinations(sorted(utt2spk, key=str.encode), 2)
    ]
    assert read(tmp_path / "trials_all") == expected
    assert trials.name == "trials_all"
    assert (trials.target, trials.nontarget) == (15, 18 * 17 // 2 - 15)
    assert trials.sha256 == hashlib.sha256((tmp_path / "trials_all").read_bytes()).hexdigest()


def test_a_whole_list_does_not_depend_on_seed_or_order(tmp_path: Path) -> None:
    utt2spk = utterances_of(4, 3)
    first = write_trials_all(tmp_path / "trials_all", utt2spk, seed=0, largest=66)
    second = write_trials_all(tmp_path / "trials_all", dict(sorted(utt2spk.items())), seed=1, largest=66)
    assert first == second
    assert first.target + first.nontarget == 66


def test_over_the_largest_all_targets_and_a_sample_of_the_others(tmp_path: Path) -> None:
    utt2spk = utterances_of(40, 5)
    path = tmp_path / "trials_all"
    whole = write_trials_all(path, utt2spk, seed=3)
    every = read(path)
    sample = write_trials_all(path, utt2spk, seed=3, largest=5000)
    rows = read(path)
    assert sample.target == whole.target == 40 * 10
    assert sample.target + sample.nontarget == len(rows) == len(set(rows))
    assert abs(len(rows) - 5000) < 5 * 4600**0.5
    assert set(rows) <= set(every)
    kept = set(rows)
    assert rows == [row for row in every if row in kept]
    assert Counter(row[2] for row in rows) == {"target": sample.target, "nontarget": sample.nontarget}
    # The sample is spread over the list.
    position = {row: index for index, row in enumerate(every)}
    quarters = np.histogram([position[row] for row in rows if row[2] == "nontarget"], 4, (0, len(every)))[0]
    assert quarters.min() > 0.8 * quarters.max()

    again = write_trials_all(path, dict(sorted(utt2spk.items())), seed=3, largest=5000)
    assert again == sample
    assert write_trials_all(path, utt2spk, seed=4, largest=5000).sha256 != sample.sha256


def test_fewer_than_the_targets_keeps_the_targets_alone(tmp_path: Path) -> None:
    trials = write_trials_all(tmp_path / "trials_all", utterances_of(6, 4), seed=0, largest=10)
    assert (trials.target, trials.nontarget) == (36, 0)


def test_one_speaker_over_the_largest(tmp_path: Path) -> None:
    with np.errstate(all="raise"):
        trials = write_trials_all(tmp_path / "trials_all", utterances_of(1, 6), seed=0, largest=5)
    assert (trials.target, trials.nontarget) == (15, 0)


def test_rows_of_one_and_ninety_nine_obey_the_protocol(tmp_path: Path) -> None:
    utt2spk = {**utterances_of(40, 3), "alone-1": "alone"}
    trials = write_trials_1p99(tmp_path / "trials_1p99", utt2spk, seed=0)
    trial_rows = read(tmp_path / "trials_1p99")
    assert (trials.name, trials.target, trials.nontarget) == ("trials_1p99", 120, 120 * 99)
    assert trials.sha256 == hashlib.sha256((tmp_path / "trials_1p99").read_bytes()).hexdigest()
    assert len(trial_rows) == 12000
    enrolments = []
    for begin in range(0, len(trial_rows), 100):
        row = trial_rows[begin : begin + 100]
        enrolment = row[0][0]
        enrolments.append(enrolment)
        assert {trial[0] for trial in row} == {enrolment}
        assert [trial[2] for trial in row] == ["target"] + ["nontarget"] * 99
        assert row[0][1] != enrolment
        assert utt2spk[row[0][1]] == utt2spk[enrolment]
        others = [trial[1] for trial in row[1:]]
        assert len(set(others)) == 99
        assert all(utt2spk[other] != utt2spk[enrolment] for other in others)
    assert enrolments == sorted(utterance for utterance in utt2spk if utterance != "alone-1")
    # A speaker without a second utterance enrols nobody and is a non-target of the others.
    assert any(trial[1] == "alone-1" for trial in trial_rows)


def test_rows_depend_on_the_seed_and_on_nothing_else(tmp_path: Path) -> None:
    utt2spk = utterances_of(40, 3)
    first = write_trials_1p99(tmp_path / "trials_1p99", utt2spk, seed=5)
    assert write_trials_1p99(tmp_path / "trials_1p99", dict(sorted(utt2spk.items())), seed=5) == first
    other = write_trials_1p99(tmp_path / "trials_1p99", utt2spk, seed=6)
    assert other.sha256 != first.sha256
    assert other.target == first.target


@pytest.mark.parametrize("counts", [(33, 3), (200, 1), (1, 200)])
def test_too_few_for_a_row_says_what_is_wanted_and_leaves_no_file(tmp_path: Path, counts: tuple[int, int]) -> None:
    # 33 speakers of 3 utterances: 96 of other speakers.
    with pytest.raises(InputError, match="no row of 1 target and 99 non-targets"):
        write_trials_1p99(tmp_path / "trials_1p99", utterances_of(*counts), seed=0)
    assert list(tmp_path.iterdir()) == []


def test_just_enough_for_a_row(tmp_path: Path) -> None:
    trials = write_trials_1p99(tmp_path / "trials_1p99", utterances_of(34, 3), seed=0)
    assert trials.target == 102
