"""``trials_hard`` against a loop over all pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepspeaker.evaluation import write_trials_hard


def part(speakers: int, utterances: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    generator = np.random.default_rng(3)
    utt2spk = {f"s{s}-{u}": f"s{s}" for s in range(speakers) for u in range(utterances)}
    return {name: generator.normal(size=5).astype(np.float32) for name in utt2spk}, utt2spk


@pytest.mark.parametrize("nontargets", [1, 4, 1000])
@pytest.mark.parametrize("known", ["all", "some", "none"])
def test_each_utterance_meets_its_nearest_of_other_speakers(tmp_path: Path, nontargets: int, known: str) -> None:
    vectors, utt2spk = part(8, 3)
    gender = {f"s{s}": "fm"[s % 2] for s in range({"all": 8, "some": 5, "none": 0}[known])}
    assert write_trials_hard(tmp_path / "trials_hard", vectors, utt2spk, gender, nontargets)
    found: dict[str, dict[str, list[str]]] = {name: {"target": [], "nontarget": []} for name in utt2spk}
    for line in (tmp_path / "trials_hard").read_text().splitlines():
        one, other, label = line.split(" ")
        found[one][label].append(other)
    for name in utt2spk:
        assert found[name]["target"] == [u for u in sorted(utt2spk) if u > name and utt2spk[u] == utt2spk[name]]
        allowed = [
            u
            for u in sorted(utt2spk)
            if utt2spk[u] != utt2spk[name]
            and ("" in (a := (gender.get(utt2spk[u], ""), gender.get(utt2spk[name], ""))) or a[0] == a[1])
        ]

        def cosine(other: str, name: str = name) -> float:
            one, two = vectors[name].astype(float), vectors[other].astype(float)
            return float(one @ two / np.sqrt((one @ one) * (two @ two)))

        assert found[name]["nontarget"] == sorted(allowed, key=cosine, reverse=True)[:nontargets]


def test_equal_cosines_take_the_lower_id(tmp_path: Path) -> None:
    utt2spk = {"a-1": "a", "a-2": "a", "b-1": "b", "c-1": "c"}
    vectors = dict.fromkeys(utt2spk, np.float32([1, 0]))
    assert write_trials_hard(tmp_path / "trials_hard", vectors, utt2spk, {}, 1)
    assert (tmp_path / "trials_hard").read_text().splitlines() == [
        "a-1 a-2 target",
        "a-1 b-1 nontarget",
        "a-2 b-1 nontarget",
        "b-1 a-1 nontarget",
        "c-1 a-1 nontarget",
    ]


def test_without_a_pair_of_either_class_there_is_no_list(tmp_path: Path) -> None:
    for counts, gender in (((1, 5), {}), ((5, 1), {}), ((2, 3), {"s0": "f", "s1": "m"})):
        vectors, utt2spk = part(*counts)
        assert not write_trials_hard(tmp_path / "trials_hard", vectors, utt2spk, gender, 3)
        assert list(tmp_path.iterdir()) == []


def test_utterances_without_an_embedding_are_in_no_trial(tmp_path: Path) -> None:
    vectors, utt2spk = part(4, 3)
    del vectors["s1-1"]
    assert write_trials_hard(tmp_path / "trials_hard", vectors, utt2spk, {}, 2)
    assert "s1-1" not in (tmp_path / "trials_hard").read_text()
