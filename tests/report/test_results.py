from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deepspeaker.errors import InputError
from deepspeaker.results import Results


def changed(results: Results, path: Path, change: Any) -> Path:
    results.write(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_round_trip_is_bit_identical(results: Results, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("1.json", "2.json", "3.json"))
    results.write(first)
    Results.read(first).write(second)
    shuffled = results.model_copy(update={"config": dict(reversed(results.config.items()))})
    shuffled.write(third)
    assert Results.read(first) == results
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    assert first.read_bytes().endswith(b"}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.json", "2.json", "3.json"]


def test_the_keys_and_their_order(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "results.json")
    content = json.loads((tmp_path / "results.json").read_text())
    top = ["schema", "corpus", "synthetic", "seed", "config", "trials", "systems", "comparisons", "enrolment_table"]
    assert list(content) == top
    assert content["schema"] == 1
    assert list(content["trials"]["trials_all"]) == ["target", "nontarget", "speakers", "sha256", "models", "chosen_by"]
    named = ["name", "model", "parameters", "backend", "trials", "eer", "eer_threshold", "min_dcf", "rank1"]
    later = ["min_cllr", "roc_auc", "cllr", "act_dcf", "eer_ci95", "min_dcf_ci95", "min_dcf_threshold"]
    later += ["at_false_acceptance", "trials_left_out", "shared_speakers", "conditions"]
    assert list(content["systems"][0]) == named + later
    assert list(content["systems"][2]["conditions"][0]) == [
        "by", "value", "target", "nontarget", "speakers", "eer", "eer_ci95", "min_dcf",
    ]  # fmt: skip
    assert list(content["systems"][0]["min_dcf"].items()) == [("0.05", 0.25), ("0.01", 1 / 3), ("0.001", 0.75)]
    assert content["systems"][0]["rank1"] is None
    assert content["systems"][0]["eer_threshold"] == 0.1 + 0.2


def test_unknown_keys_are_kept(results: Results, tmp_path: Path) -> None:
    def change(content: Any) -> None:
        content["later"] = [1, 2]
        content["systems"][0]["cllr"] = 0.2
        content["systems"][0]["min_dcf"]["0.5"] = 0.9
        content["trials"]["trials_all"]["source"] = "own"

    path = changed(results, tmp_path / "results.json", change)
    Results.read(path).write(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c.pop("corpus"), "key corpus"),
        (lambda c: c.update(schema=2), "key schema"),
        (lambda c: c.update(synthetic="yes"), "key synthetic"),
        (lambda c: c["systems"][1].update(eer=4.2), r"key systems\.1\.eer"),
        (lambda c: c["systems"][1].update(eer=float("nan")), r"key systems\.1\.eer"),
        (lambda c: c["systems"][0]["min_dcf"].pop("0.01"), r"key systems\.0\.min_dcf: the target prior 0\.01"),
        (lambda c: c["systems"][0]["min_dcf"].update(low=0.1), r"key systems\.0\.min_dcf"),
        (lambda c: c["trials"]["trials_all"].update(target=-1), r"key trials\.trials_all\.target"),
        (lambda c: c["trials"]["trials_all"].update(sha256="?"), r"key trials\.trials_all\.sha256"),
        (lambda c: c["systems"][0].update(trials="mine"), "trial list mine"),
        (lambda c: c["enrolment_table"][1].update(trials="mine"), "enrolment_table names the trial list mine"),
        (lambda c: c["enrolment_table"][0].update(enrolment="sum"), r"key enrolment_table\.0\.enrolment"),
        (lambda c: c["systems"].append(c["systems"][0]), "untrained / cosine / trials_all appears twice"),
    ],
)
def test_the_error_names_the_invalid_key_in_one_line(results: Results, tmp_path: Path, change: Any, named: str) -> None:
    path = changed(results, tmp_path / "results.json", change)
    with pytest.raises(InputError, match=named) as caught:
        Results.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_and_invalid_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(InputError, match="no such file"):
        Results.read(path)
    for content in (b'{"schema": 1,', b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not JSON") as caught:
            Results.read(path)
        assert "\n" not in str(caught.value)
    path.write_text("[]")
    with pytest.raises(InputError, match="stage 6"):
        Results.read(path)
