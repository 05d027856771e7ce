"""Trial lists against itertools and the protocol's rules."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.trials import write_trials_1p99, write_trials_all, write_trials_enrol


def utterances_of(speakers: int, utterances: int) -> dict[str, str]:
    """In an order that is not sorted."""
    pairs = [(f"s{s}-{u}", f"s{s}") for s in range(speakers) for u in range(utterances)]
    return dict(np.random.default_rng(0).permutation(pairs).tolist())


def read(path: Path) -> list[tuple[str, ...]]:
    return [tuple(line.split(" ")) for line in path.read_text().splitlines()]


def test_every_pair_once_in_c_order(tmp_path: Path) -> None:
    utt2spk = {**utterances_of(5, 3), "é-1": "é", "B-1": "B", "a-1": "a"}
    counts = write_trials_all(tmp_path / "trials_all", utt2spk, seed=0)
    expected = [
        (first, second, "target" if utt2spk[first] == utt2spk[second] else "nontarget")
        for first, second in itertools.combinations(sorted(utt2spk, key=str.encode), 2)
    ]
    assert read(tmp_path / "trials_all") == expected
    assert counts == (15, 18 * 17 // 2 - 15)


def test_a_whole_list_does_not_depend_on_seed_or_order(tmp_path: Path) -> None:
    utt2spk = utterances_of(4, 3)
    first, second = tmp_path / "first", tmp_path / "second"
    assert sum(write_trials_all(first, utt2spk, seed=0, max_trials=66)) == 66
    write_trials_all(second, dict(sorted(utt2spk.items())), seed=1, max_trials=66)
    assert first.read_bytes() == second.read_bytes()


def test_over_the_largest_all_targets_and_a_sample_of_the_others(tmp_path: Path) -> None:
    utt2spk = utterances_of(40, 5)
    path = tmp_path / "trials_all"
    assert write_trials_all(path, utt2spk, seed=3)[0] == 40 * 10
    every = read(path)
    target, nontarget = write_trials_all(path, utt2spk, seed=3, max_trials=5000)
    rows = read(path)
    assert target == 40 * 10
    assert target + nontarget == len(rows) == len(set(rows))
    assert abs(len(rows) - 5000) < 5 * 4600**0.5
    assert set(rows) <= set(every)
    kept = set(rows)
    assert rows == [row for row in every if row in kept]
    assert Counter(row[2] for row in rows) == {"target": target, "nontarget": nontarget}
    # The sample is spread over the list.
    position = {row: index for index, row in enumerate(every)}
    quarters = np.histogram([position[row] for row in rows if row[2] == "nontarget"], 4, (0, len(every)))[0]
    assert quarters.min() > 0.8 * quarters.max()

    write_trials_all(path, dict(sorted(utt2spk.items())), seed=3, max_trials=5000)
    assert read(path) == rows
    write_trials_all(path, utt2spk, seed=4, max_trials=5000)
    assert read(path) != rows


def test_fewer_than_the_targets_keeps_the_targets_alone(tmp_path: Path) -> None:
    assert write_trials_all(tmp_path / "trials_all", utterances_of(6, 4), seed=0, max_trials=10) == (36, 0)


def test_one_speaker_over_the_largest(tmp_path: Path) -> None:
    with np.errstate(all="raise"):
        assert write_trials_all(tmp_path / "trials_all", utterances_of(1, 6), seed=0, max_trials=5) == (15, 0)


def test_rows_of_one_and_ninety_nine_obey_the_protocol(tmp_path: Path) -> None:
    utt2spk = {**utterances_of(40, 3), "alone-1": "alone"}
    assert write_trials_1p99(tmp_path / "trials_1p99", utt2spk, seed=0) == (120, 120 * 99)
    trial_rows = read(tmp_path / "trials_1p99")
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
    path = tmp_path / "trials_1p99"
    counts = write_trials_1p99(path, utt2spk, seed=5)
    first = path.read_bytes()
    write_trials_1p99(path, dict(sorted(utt2spk.items())), seed=5)
    assert path.read_bytes() == first
    assert write_trials_1p99(path, utt2spk, seed=6) == counts
    assert path.read_bytes() != first


@pytest.mark.parametrize("counts", [(33, 3), (200, 1), (1, 200)])
def test_too_few_for_a_row_says_what_is_needed_and_leaves_no_file(tmp_path: Path, counts: tuple[int, int]) -> None:
    # 33 speakers of 3 utterances: 96 of other speakers.
    with pytest.raises(InputError, match="a row of 1 target and 99 non-targets needs"):
        write_trials_1p99(tmp_path / "trials_1p99", utterances_of(*counts), seed=0)
    assert list(tmp_path.iterdir()) == []


def test_just_enough_for_a_row(tmp_path: Path) -> None:
    assert write_trials_1p99(tmp_path / "trials_1p99", utterances_of(34, 3), seed=0)[0] == 102


def models_of(path: Path) -> dict[str, list[str]]:
    return {words[0]: list(words[1:]) for words in read(path.with_name(path.name + ".spk2utt"))}


def test_enrolment_lists_have_the_same_tests_and_growing_models(tmp_path: Path) -> None:
    utt2spk = {**utterances_of(20, 7), **{f"few-{n}": "few" for n in range(5)}}
    lists, left_out = write_trials_enrol(tmp_path, utt2spk, seed=0)
    assert left_out == {"few": "has 5 utterances; 6 are needed"}
    assert lists == {f"trials_enrol_{n}": (140, 140 * 99) for n in range(1, 6)}
    rows = [read(tmp_path / name) for name in lists]
    models = [models_of(tmp_path / name) for name in lists]
    for trials in rows:
        assert [trial[1:] for trial in trials] == [trial[1:] for trial in rows[0]]
    for begin in range(0, 14000, 100):
        held: list[str] = []
        for count, (trials, own) in enumerate(zip(rows, models, strict=True), 1):
            row = trials[begin : begin + 100]
            (model,) = {trial[0] for trial in row}
            assert model not in utt2spk
            assert own[model][:-1] == held
            held = own[model]
            assert len(set(held)) == count
            (speaker,) = {utt2spk[utterance] for utterance in held}
            assert [trial[2] for trial in row] == ["target"] + ["nontarget"] * 99
            assert utt2spk[row[0][1]] == speaker
            assert row[0][1] not in held
            assert len({trial[1] for trial in row}) == 100
            assert all(utt2spk[trial[1]] != speaker for trial in row[1:])
    assert sorted(own[0] for own in models[0].values()) == sorted(u for u in utt2spk if utt2spk[u] != "few")
    # A speaker with too few utterances enrols nobody and is a non-target of the others.
    assert any(trial[1].startswith("few") for trial in rows[0])
    write_trials_enrol(tmp_path, dict(sorted(utt2spk.items())), seed=0)
    assert [read(tmp_path / name) for name in lists] == rows
    write_trials_enrol(tmp_path, utt2spk, seed=1)
    assert [read(tmp_path / name) for name in lists] != rows


def test_over_the_largest_number_of_rows_some_are_drawn(tmp_path: Path) -> None:
    lists, _ = write_trials_enrol(tmp_path, utterances_of(20, 7), seed=0, max_utterances=2, max_rows=30)
    assert [target for target, _ in lists.values()] == [30, 30]
    assert len(models_of(tmp_path / "trials_enrol_2")) == 30


@pytest.mark.parametrize(("counts", "left_out"), [((40, 5), 40), ((14, 7), 0)])
def test_no_enrolment_lists_where_there_can_be_no_row(tmp_path: Path, counts: tuple[int, int], left_out: int) -> None:
    lists, named = write_trials_enrol(tmp_path, utterances_of(*counts), seed=0)
    assert lists == {}
    assert len(named) == left_out
    assert list(tmp_path.iterdir()) == []
