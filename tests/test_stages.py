"""Marks, locks, and the configuration keys that a stage can read."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

from deepspeaker.cli import commands
from deepspeaker.config import Config, GRUModel
from deepspeaker.errors import InputError
from deepspeaker.stages import Lock, Mark, Stage, digest_of, flattened, options_of, visible, with_defaults

SETTINGS: dict[str, Any] = {
    "seed": 3,
    "parts": "a b",
    "softmax": {"epochs": 2, "channels": [1, 2]},
    "stage 2 (train)": "f" * 64,
}


def changed(**more: Any) -> dict[str, Any]:
    return {**SETTINGS, **more}


def begin(mark: Mark, settings: dict[str, Any], stale: list[Path] | None = None, work: str = "") -> bool:
    return mark.begin(settings, {}, stale or [], work)


# ---- declarations ----------------------------------------------------------------------------------------


def stage_commands() -> dict[str, click.Command]:
    """Every command that declares a stage."""
    found = {}

    def collect(name: str, command: click.Command) -> None:
        if isinstance(command, click.Group):
            for below, inner in command.commands.items():
                collect(f"{name} {below}".strip(), inner)
        elif hasattr(command.callback, "stage"):
            found[name] = command

    collect("", commands)
    return found


def keys_of(section: BaseModel, prefix: str = "") -> list[str]:
    keys = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        keys += keys_of(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [prefix + name]
    return keys


def readable(config: Config, key: str) -> bool:
    value: Any = config
    try:
        for name in key.split("."):
            value = getattr(value, name)
    except AttributeError:
        return False
    return True


def test_all_stages_are_declared() -> None:
    stages = {name: command.callback.stage.number for name, command in stage_commands().items()}  # type: ignore[union-attr]
    assert stages == {
        "make-demo": 0,
        "download": 0,
        "prepare": 1,
        "fbank": 2,
        "collect-fbank": 2,
        "share-training": 2,
        "train softmax": 3,
        "train triplet": 4,
        "ivector mfcc": 5,
        "ivector collect-mfcc": 5,
        "ivector accumulate": 5,
        "ivector update": 5,
        "ivector statistics": 5,
        "ivector extract": 5,
        "ivector collect": 5,
        "embed-systems": 5,
        "collect-systems": 5,
        "score": 6,
        "report": 7,
        "export": 8,
    }


@pytest.mark.parametrize("name", sorted(stage_commands()))
def test_the_function_of_a_stage_reads_only_the_keys_that_decide_its_mark(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration that reaches the function is captured, and each key is read from it."""
    command = stage_commands()[name]
    stage: Stage = command.callback.stage  # type: ignore[union-attr]
    caught: list[Any] = []
    inner = getattr(command.callback, "__wrapped__", None)
    assert (inner is None) == (not stage.keys)  # without keys it gets no configuration at all
    if inner is None:
        assert not {"config", "overrides"} & {parameter.name for parameter in command.params}
        return
    variables = inner.__code__.co_varnames[: inner.__code__.co_argcount]
    assert variables[0] == "config"

    def catch(config: Config, **_: Any) -> None:
        caught.append(config)

    (cell,) = [c for c in command.callback.__closure__ if c.cell_contents is inner]  # type: ignore[union-attr]
    monkeypatch.setattr(cell, "cell_contents", catch)
    (tmp_path / "x.yaml").write_text("{}\n")
    command.callback(config=tmp_path / "x.yaml", overrides=())  # type: ignore[misc]
    for key in keys_of(Config()):
        declared = any(f"{key}.".startswith(f"{readable_key}.") for readable_key in stage.keys)
        assert readable(caught[0], key) == declared, key
    # The mark has exactly the keys that the function can read.
    assert flattened(visible(Config(), stage.keys).model_dump()) == flattened(caught[0].model_dump())


#: Options that do not change the result of a stage.
WITHOUT_EFFECT = {
    *("config", "overrides", "data_dir", "exp_dir", "output", "folder", "corpus_dir"),
    *("job", "num_jobs", "jobs", "device", "nproc", "nnodes", "rdzv_endpoint", "progress"),
    *("mirror", "md5sums", "allow_pipes"),
    *("model", "iteration"),  # which step of a training
}


#: Options that the ``extra`` of a stage turns into settings.
FUNCTION_OF = {"train triplet": {"pretraining"}}


@pytest.mark.parametrize("name", sorted(stage_commands()))
def test_every_option_of_a_stage_is_in_its_mark_or_changes_nothing(name: str) -> None:
    command = stage_commands()[name]
    options = {parameter.name for parameter in command.params}
    decides = set(command.callback.stage.options) | FUNCTION_OF.get(name, set())  # type: ignore[union-attr]
    assert decides <= options
    assert options - decides <= WITHOUT_EFFECT


def test_undeclared_keys_cannot_be_read() -> None:
    config = visible(Config(), ["features.num_bins", "features.vad.frames_context", "embedding"])
    assert (config.features.num_bins, config.features.vad.frames_context) == (64, 2)
    assert config.embedding.checkpoint == Config().embedding.checkpoint
    for read in (
        lambda: config.model,
        lambda: config.features.frame_shift,
        lambda: config.features.vad.energy_threshold,
    ):
        with pytest.raises(AttributeError):
            read()
    assert Config().features.frame_shift == 0.01  # the complete configuration is unchanged


# ---- marks -----------------------------------------------------------------------------------------------


def test_flattened() -> None:
    assert flattened({"a": 1, "b": {"c": [2], "d": {"e": "f"}}}) == {"a": 1, "b.c": [2], "b.d.e": "f"}


def test_a_stage_is_first_not_done_then_interrupted_then_done(tmp_path: Path) -> None:
    mark = Mark(tmp_path / "exp", 3)
    assert mark.reason_to_run(SETTINGS) == ""
    assert begin(mark, SETTINGS) is False
    assert mark.reason_to_run(SETTINGS) == "it did not finish"
    mark.end(SETTINGS, {"nj": 3})
    assert mark.reason_to_run(SETTINGS) is None
    assert options_of(mark.done) == {"nj": 3}
    assert sorted(path.name for path in (tmp_path / "exp").iterdir()) == [".done.3"]


def test_values_that_json_converts_count_as_equal(tmp_path: Path) -> None:
    settings = {"path": Path("/a"), "pair": (1, 2), "nested": {"number": 1}}
    Mark(tmp_path, 1).end(settings, {})
    assert Mark(tmp_path, 1).reason_to_run(settings) is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (changed(seed=4), "seed changed from 3 to 4"),
        (changed(parts=""), "parts changed from a b to ''"),
        (
            changed(softmax={**SETTINGS["softmax"], "channels": [1, 3]}),
            "softmax.channels changed from [1, 2] to [1, 3]",
        ),
        (changed(**{"stage 2 (train)": "e" * 64}), "stage 2 (train) changed"),
        (changed(nproc=2), "nproc is new (2)"),
        ({k: v for k, v in SETTINGS.items() if k != "seed"}, "seed is gone (was 3)"),
    ],
)
def test_the_difference_is_named(tmp_path: Path, settings: dict[str, Any], reason: str) -> None:
    Mark(tmp_path, 2).end(SETTINGS, {})
    assert Mark(tmp_path, 2).reason_to_run(settings) == reason
    assert Mark(tmp_path, 2).changed(settings) == reason
    assert Mark(tmp_path, 1).reason_to_run(settings) == ""


def test_the_first_three_differences_are_named(tmp_path: Path) -> None:
    Mark(tmp_path, 2).end({"a": 1, "b": 2, "c": 3, "d": 4}, {})
    expected = "b changed from 2 to 3, e is new (5), c is gone (was 3) and 1 more"
    assert Mark(tmp_path, 2).reason_to_run({"a": 1, "b": 3, "e": 5}) == expected


def test_a_key_that_an_older_version_did_not_have_counts_as_its_default(tmp_path: Path) -> None:
    old = {"--seed": 0, "model": {"name": "gru"}, "softmax": {"epochs": 2}}
    now = {"--seed": 0, "model": {"name": "gru", "layers": 3}, "softmax": {"epochs": 2, "accumulate": 1}}
    Mark(tmp_path, 3).end(old, {})
    digest = digest_of(tmp_path / ".done.3")
    assert Mark(tmp_path, 3).reason_to_run(now) is None
    assert digest_of(tmp_path / ".done.3") == digest  # so the later stages do not run again either
    now["softmax"] = {"epochs": 2, "accumulate": 4}
    assert Mark(tmp_path, 3).reason_to_run(now) == "softmax.accumulate changed from 1 to 4"

    interrupted = Mark(tmp_path / "interrupted", 3)
    begin(interrupted, old)
    assert begin(interrupted, now) is False
    assert begin(interrupted, old) is False
    assert begin(interrupted, {**old, "softmax": {"epochs": 2, "accumulate": 1}}) is True


def test_defaults_of_the_network_are_those_of_its_model() -> None:
    now = flattened({"model": GRUModel().model_dump()})
    assert with_defaults({"model.name": "gru", "model.channels": 8}, now) == {**now, "model.channels": 8}
    assert with_defaults({"a": 1}, {"a": 2, "b": 3}) == {"a": 1}


def test_begin_removes_files_of_an_earlier_run(tmp_path: Path) -> None:
    output = tmp_path / "exp" / "softmax"
    mark = Mark(tmp_path / "exp", 3)
    begin(mark, SETTINGS, [output])
    output.mkdir()
    (output / "checkpoint").touch()
    mark.end(SETTINGS, {})
    assert begin(mark, SETTINGS, [output]) is False  # it had finished, so it starts from the beginning
    assert not output.exists()
    assert not mark.done.exists()


def test_an_interrupted_stage_continues_only_with_the_same_settings(tmp_path: Path) -> None:
    output = tmp_path / "exp" / "softmax"
    mark = Mark(tmp_path / "exp", 3)
    begin(mark, SETTINGS, [output])
    output.mkdir()
    assert begin(mark, SETTINGS, [output]) is True
    assert output.exists()
    assert mark.changed(changed(seed=9)) == "seed changed from 3 to 9"
    assert begin(mark, changed(seed=9), [output]) is False
    assert not output.exists()
    assert begin(mark, changed(seed=9), [output]) is True


def test_a_finished_stage_that_is_killed_when_it_runs_again_is_not_done(tmp_path: Path) -> None:
    mark = Mark(tmp_path, 3)
    mark.end(SETTINGS, {})
    begin(mark, changed(seed=4))
    assert mark.reason_to_run(SETTINGS) == "it did not finish"


def test_the_digest_depends_on_every_setting_but_not_on_their_order(tmp_path: Path) -> None:
    def digest(settings: dict[str, Any]) -> str:
        Mark(tmp_path, 1).end(settings, {})
        return digest_of(tmp_path / ".done.1")

    assert len(digest(SETTINGS)) == 64
    assert digest(dict(reversed(SETTINGS.items()))) == digest(SETTINGS)
    others = [digest(changed(seed=4)), digest(changed(new=None)), digest(changed(softmax={"epochs": 2}))]
    assert len({digest(SETTINGS), *others}) == 4


def test_a_later_stage_needs_the_mark(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stage 2 has not finished; run it first"):
        digest_of(tmp_path / ".done.2")


@pytest.mark.parametrize("content", ["", "junk", "[]", '{"sha256": 1}', "\x00", json.dumps({"settings": {}})])
def test_a_damaged_mark_counts_as_missing(tmp_path: Path, content: str) -> None:
    (tmp_path / ".done.2").write_text(content)
    assert Mark(tmp_path, 2).reason_to_run(SETTINGS) == ""
    assert options_of(tmp_path / ".done.2") == {}
    with pytest.raises(InputError):
        digest_of(tmp_path / ".done.2")


def test_shards_continue_only_if_nothing_changed(tmp_path: Path) -> None:
    mark = Mark(tmp_path, 5)

    def write_some_shards() -> list[Path]:
        for name in ("a/.shards/1", "a/log/embed.1.log", "a/log/collect.log"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return [tmp_path / "a/.shards", tmp_path / "a/log/embed.1.log"]

    assert begin(mark, SETTINGS, write_some_shards(), "3 jobs") is False
    assert begin(mark, SETTINGS, write_some_shards(), "3 jobs") is True
    assert (tmp_path / "a/.shards/1").exists() and (tmp_path / "a/log/embed.1.log").exists()
    for settings, work in ((SETTINGS, "4 jobs"), (changed(seed=5), "4 jobs")):
        assert begin(mark, settings, write_some_shards(), work) is False
        assert [path.name for path in tmp_path.glob("a/**/*")] == ["log", "collect.log"]
    mark.end(changed(seed=5), {})
    assert begin(mark, changed(seed=5), write_some_shards(), "4 jobs") is False
    assert not (tmp_path / "a/.shards").exists()


def test_a_stage_stops_if_old_files_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards that remained could count as done later."""
    (tmp_path / "a" / ".shards").mkdir(parents=True)

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Permission denied"):
        begin(Mark(tmp_path, 5), SETTINGS, [tmp_path / "a" / ".shards"])
    assert not (tmp_path / ".begun.5").exists()


# ---- locks -----------------------------------------------------------------------------------------------


def hold(folder: Path, exclusive: bool) -> subprocess.Popen[str]:
    """Another process that holds the lock until its stdin closes."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom deepspeaker.stages import Lock\n"
        f"lock = Lock(Path(sys.argv[1])); lock.take({exclusive}, 'x'); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(folder)]
    root = str(Path(__file__).resolve().parents[1])
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(("held", "taken"), list(itertools.product([True, False], repeat=2)))
def test_one_writer_or_many_readers(tmp_path: Path, held: bool, taken: bool) -> None:
    other = hold(tmp_path, held)
    lock = Lock(tmp_path)
    try:
        if held or taken:
            owner = rf" \(process {other.pid}\)" if held else ""
            with pytest.raises(InputError, match=rf"^another run{owner} is working here$"):
                lock.take(taken, "is working here", patience=0)
        else:
            lock.take(taken, "is working here", patience=0)
    finally:
        other.communicate()
    lock.take(True, "is working here", patience=0)  # a lock ends with its process
    lock.take(False, "is working here", patience=0)
    lock.close()


def test_a_run_waits_for_the_jobs_of_a_killed_run(tmp_path: Path) -> None:
    other = hold(tmp_path, True)
    (tmp_path / ".lock").write_text("999999999")  # the run has ended, but one of its jobs still holds the lock
    lock = Lock(tmp_path)
    with pytest.raises(InputError, match=r"^another run is working here$"):
        lock.take(True, "is working here", patience=0.3)
    other.communicate()
    lock.take(True, "is working here", patience=0.3)
    lock.close()
