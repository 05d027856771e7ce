"""Degraded test speech: its trial list and its conditions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from deepspeaker.config import Conditions
from deepspeaker.errors import InputError
from deepspeaker.evaluation import Conditions as ConditionsOfTest
from deepspeaker.evaluation import find_lists, read_degraded, read_list, trial_conditions
from deepspeaker.kaldi import write_table
from deepspeaker.trials import write_trials_conditions

UTT2SPK = {f"{speaker}-{number}": speaker for speaker in "abc" for number in (1, 2, 3)}
NOISY = {utterance: f"{utterance}-noise5dB" for utterance in UTT2SPK}
SHORT = {utterance: f"{utterance}-1s" for utterance in UTT2SPK if not utterance.endswith("3")}


def test_every_condition_has_the_same_pairs_as_far_as_it_has_copies(tmp_path: Path) -> None:
    path = tmp_path / "trials_conditions"
    counts = write_trials_conditions(path, UTT2SPK, {"noise5dB": NOISY, "1s": SHORT}, seed=0)
    lines = [line.split() for line in path.read_text().splitlines()]
    assert counts == tuple(sum(line[2] == kind for line in lines) for kind in ("target", "nontarget"))
    pairs: dict[str, list[tuple[str, str]]] = {}
    for enrolment, test, _ in lines:
        original, _, condition = test.rpartition("-")
        pairs.setdefault(condition, []).append((enrolment, original))
    names = sorted(UTT2SPK)
    assert pairs["noise5dB"] == [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]
    assert pairs["1s"] == [pair for pair in pairs["noise5dB"] if pair[1] in SHORT]
    for enrolment, test, label in lines:
        assert (label == "target") == (enrolment[0] == test[0])
    write_trials_conditions(path, UTT2SPK, {"noise5dB": NOISY, "1s": SHORT}, seed=0, max_pairs=20)
    kept = [line.split() for line in path.read_text().splitlines()]
    assert sum(line[2] == "target" and line[1].endswith("dB") for line in kept) == 9
    assert len(kept) < len(lines)


def test_trials_are_grouped_by_the_condition_of_the_test_side(tmp_path: Path) -> None:
    path = tmp_path / "trials_conditions"
    write_trials_conditions(path, UTT2SPK, {"noise5dB": NOISY, "1s": SHORT}, seed=0)
    utt2spk = UTT2SPK | {new: UTT2SPK[old] for copies in (NOISY, SHORT) for old, new in copies.items()}
    (tmp_path / "test_conditions").mkdir()
    table = {new: name for name, copies in (("noise5dB", NOISY), ("1s", SHORT)) for new in copies.values()}
    write_table(tmp_path / "test_conditions" / "utt2condition", table)
    wanted = [{"kind": "noise", "snr": [5, 5]}, {"kind": "seconds", "seconds": 1}]
    degraded = read_degraded(tmp_path, Conditions.model_validate({"copies": wanted}))
    columns = {"condition": dict.fromkeys(UTT2SPK, "a user's"), "gender": dict.fromkeys(utt2spk, "f")}
    trials = read_list(path, utt2spk)
    found = {one.by: one for one in trial_conditions(ConditionsOfTest(columns, {}, [2], degraded), trials)}
    assert list(found) == ["condition", "gender"]
    assert found["condition"].values == ["noise5dB", "1s"]  # in the order of the configuration
    of_trials = [found["condition"].values[code] for code in found["condition"].codes]
    assert Counter(of_trials) == Counter(line.split()[1].rpartition("-")[2] for line in path.read_text().splitlines())
    # Other lists keep the user's table.
    own = tmp_path / "own"
    own.write_text("a-1 a-2 target\na-1 b-1 nontarget\n")
    others = trial_conditions(ConditionsOfTest(columns, {}, [2], degraded), read_list(own, utt2spk))
    assert [(one.by, one.values[one.codes[0]]) for one in others] == [("condition", "a user's"), ("gender", "f")]


def test_the_list_is_asked_for_by_the_configuration_only(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "trials_all").write_text("a b target\n")
    assert [path.name for path in find_lists(tmp_path, tmp_path / "exp", [], None)] == ["trials_all"]
    with pytest.raises(InputError, match="trials_conditions: no such trial list; run stage 2"):
        find_lists(tmp_path, tmp_path / "exp", [], None, degraded=True)
    (tmp_path / "test_conditions").mkdir()
    (tmp_path / "test_conditions" / "trials_conditions").write_text("a b target\n")
    found = find_lists(tmp_path, tmp_path / "exp", [], None, degraded=True)
    assert [path.name for path in found] == ["trials_all", "trials_conditions"]
