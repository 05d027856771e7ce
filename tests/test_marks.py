"""Done-marks: when a stage runs, and what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deepspeaker.errors import InputError
from deepspeaker.marks import Mark, digest_of, flattened

SETTINGS: dict[str, Any] = {
    "seed": 3,
    "parts": "a b",
    "stage 2 (train)": "1234",
    "softmax": {"epochs": 2, "optimiser": {"name": "adamw", "learning_rate": 1e-3}, "channels": [1, 2]},
}


def changed(**values: object) -> dict[str, Any]:
    return {**SETTINGS, **values}


def test_flattened_names_the_way_to_each_value() -> None:
    assert flattened(SETTINGS) == {
        "seed": 3,
        "parts": "a b",
        "stage 2 (train)": "1234",
        "softmax.epochs": 2,
        "softmax.optimiser.name": "adamw",
        "softmax.optimiser.learning_rate": 1e-3,
        "softmax.channels": [1, 2],
    }


def test_a_stage_is_not_done_then_begun_then_done(tmp_path: Path) -> None:
    mark = Mark(tmp_path / "exp", 3)
    assert mark.difference(SETTINGS) == "not done yet"
    assert mark.begin(SETTINGS, []) is False
    assert mark.difference(SETTINGS) == "was begun and not finished"
    mark.end(SETTINGS)
    assert mark.difference(SETTINGS) is None
    assert sorted(path.name for path in (tmp_path / "exp").iterdir()) == [".done.3"]


def test_values_that_json_changes_are_no_difference(tmp_path: Path) -> None:
    settings = {"path": Path("/a"), "pair": (1, 2), "nested": {"number": 1}}
    Mark(tmp_path, 1).end(settings)
    assert Mark(tmp_path, 1).difference(settings) is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (changed(seed=4), "seed changed from 3 to 4"),
        (changed(parts=""), "parts changed from a b to "),
        (
            changed(softmax={**SETTINGS["softmax"], "channels": [1, 3]}),
            "softmax.channels changed from [1, 2] to [1, 3]",
        ),
        (changed(**{"stage 2 (train)": "5678"}), "stage 2 (train) changed"),
        (changed(nproc=2), "nproc is new (2)"),
        ({k: v for k, v in SETTINGS.items() if k != "seed"}, "seed is gone (was 3)"),
    ],
)
def test_the_difference_is_named(tmp_path: Path, settings: dict[str, Any], reason: str) -> None:
    Mark(tmp_path, 2).end(SETTINGS)
    assert Mark(tmp_path, 2).difference(settings) == reason
    assert Mark(tmp_path, 1).difference(settings) == "not done yet"


def test_begin_clears_what_an_older_run_left(tmp_path: Path) -> None:
    output = tmp_path / "exp" / "softmax"
    mark = Mark(tmp_path / "exp", 3)
    mark.begin(SETTINGS, [output])
    output.mkdir()
    (output / "checkpoint").touch()
    mark.end(SETTINGS)
    assert mark.begin(SETTINGS, [output]) is False  # finished and run again: from the start
    assert not output.exists()
    assert not mark.done.exists()


def test_an_interrupted_stage_goes_on_with_the_same_settings_only(tmp_path: Path) -> None:
    output = tmp_path / "exp" / "softmax"
    mark = Mark(tmp_path / "exp", 3)
    mark.begin(SETTINGS, [output])
    output.mkdir()
    assert mark.begin(SETTINGS, [output]) is True
    assert output.exists()
    assert mark.begin(changed(seed=9), [output]) is False
    assert not output.exists()
    assert mark.begin(changed(seed=9), [output]) is True


def test_begin_removes_the_mark_so_that_a_killed_rerun_is_not_taken_for_done(tmp_path: Path) -> None:
    mark = Mark(tmp_path, 3)
    mark.end(SETTINGS)
    mark.begin(changed(seed=4), [])
    assert mark.difference(SETTINGS) == "was begun and not finished"


def test_the_digest_depends_on_every_setting_and_on_no_order(tmp_path: Path) -> None:
    def digest(settings: dict[str, Any]) -> str:
        Mark(tmp_path, 1).end(settings)
        return digest_of(tmp_path / ".done.1")

    assert len(digest(SETTINGS)) == 64
    assert digest(dict(reversed(SETTINGS.items()))) == digest(SETTINGS)
    others = [digest(changed(seed=4)), digest(changed(new=None)), digest(changed(softmax={"epochs": 2}))]
    assert len({digest(SETTINGS), *others}) == 4


def test_a_later_stage_wants_the_mark(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.done\.2: no such mark; run stage 2 first"):
        digest_of(tmp_path / ".done.2")


@pytest.mark.parametrize("content", ["", "junk", "[]", '{"sha256": 1}', "\x00", json.dumps({"settings": {}})])
def test_a_damaged_mark_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / ".done.2").write_text(content)
    assert Mark(tmp_path, 2).difference(SETTINGS) == "not done yet"
    with pytest.raises(InputError):
        digest_of(tmp_path / ".done.2")


def test_shards_go_on_only_where_nothing_changed(tmp_path: Path) -> None:
    mark = Mark(tmp_path, 5)
    patterns = ["*/.shards", "*/log/embed.*.log"]

    def leave_some_work() -> None:
        for name in ("a/.shards/1", "a/log/embed.1.log", "a/log/collect.log"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    assert mark.begin(SETTINGS, [], patterns, "3 jobs") is False
    leave_some_work()
    assert mark.begin(SETTINGS, [], patterns, "3 jobs") is True
    assert (tmp_path / "a/.shards/1").exists() and (tmp_path / "a/log/embed.1.log").exists()
    for settings, work in ((SETTINGS, "4 jobs"), (changed(seed=5), "4 jobs")):
        leave_some_work()
        assert mark.begin(settings, [], patterns, work) is False
        assert [path.name for path in tmp_path.glob("a/**/*")] == ["log", "collect.log"]
    mark.end(changed(seed=5))
    leave_some_work()
    assert mark.begin(changed(seed=5), [], patterns, "4 jobs") is False
    assert not (tmp_path / "a/.shards").exists()
