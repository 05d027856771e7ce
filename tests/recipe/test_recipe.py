"""run.sh on a tiny synthetic corpus."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deepspeaker.cli import main
from deepspeaker.kaldi import read_matrix, read_table, read_vector
from tests.recipe.tiny import EXP, PROJECT, Recipe


def test_a_run_writes_the_documented_files(finished: Recipe) -> None:
    data, exp = finished.folder / "data/demo", finished.folder / EXP
    for path in (
        *(data / part / name for part in ("train", "dev", "test") for name in ("feats.scp", "vad.scp", "wav.scp")),
        *(data / "manifests" / f"{part}_recordings.jsonl.gz" for part in ("train", "dev", "test")),
        *(
            exp / stage / f"checkpoint_{kind}.pt"
            for stage in ("softmax", "triplet")
            for kind in ("last", "best", "average")
        ),
        *(
            exp / stage / name
            for stage in ("softmax", "triplet")
            for name in ("config.yaml", "train.csv", "log/train.log")
        ),
        *(exp / system / "embeddings_test/spk_xvector.scp" for system in ("untrained", "softmax", "triplet")),
        *(exp / name for name in ("det.png", "RESULTS.md", "report.html")),
    ):
        assert path.is_file(), path
    results = json.loads((exp / "results.json").read_text())
    assert results["synthetic"] is True
    assert [s["name"] for s in results["systems"] if s["trials"] == "trials_all"] == ["untrained", "softmax", "triplet"]
    assert results["trials"]["trials_all"]["target"] == 10 * 11 * 10 // 2
    assert results["trials"]["trials_1p99"]["target"] == 110
    speakers = [set(read_table(data / part / "utt2spk").values()) for part in ("train", "dev", "test")]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 18


def test_written_features_and_embeddings_have_the_right_shape(finished: Recipe) -> None:
    data = finished.folder / "data/demo"
    frames = read_table(data / "test" / "utt2num_frames")
    vad = read_table(data / "test" / "vad.scp")
    nosil = read_table(data / "test_nosil" / "feats.scp")
    for utterance, location in list(read_table(data / "test" / "feats.scp").items())[::20]:
        speech = read_vector(vad[utterance])
        assert read_matrix(location).shape == (int(frames[utterance]), 64)
        assert read_matrix(nosil[utterance]).shape == (int(speech.sum()), 64)
    for location in read_table(finished.folder / EXP / "triplet/embeddings_test/xvector.scp").values():
        assert np.linalg.norm(read_vector(location)) == pytest.approx(1, abs=1e-5)


def test_a_second_run_skips_everything_and_changes_nothing(finished: Recipe) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*.ark")}
    again = finished.run()
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished already, skipped") == 11
    assert {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*.ark")} == before
    assert len(again.stdout.splitlines()[-3:]) == 3 and again.stdout.splitlines()[-3].startswith("result: EER")


def test_a_changed_setting_reruns_its_stage_and_names_itself(copied: Recipe) -> None:
    changed = copied.run("--set", "embedding.checkpoint=best", "--stop-stage", "5")
    assert changed.returncode == 0, changed.stderr
    assert "embedding.checkpoint changed from auto to best" in changed.stdout


def test_a_killed_synthesis_of_the_corpus_starts_again(finished: Recipe, recipe: Recipe) -> None:
    recipe.kill(recipe.folder / "data/demo/.corpus.tmp*", "--nj", "2")
    done = recipe.run("--nj", "2", "--stop-stage", "0")
    assert done.returncode == 0, done.stderr
    ours, theirs = (sorted((one.folder / "data/demo/corpus").rglob("*.*")) for one in (recipe, finished))
    assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]
    assert [path.name for path in ours] == [path.name for path in theirs]


def test_the_second_of_two_runs_at_once_stops_with_one_line(copied: Recipe) -> None:
    lock = copied.folder / EXP / ".lock"
    before = lock.read_text()
    only = ("--stage", "6", "--stop-stage", "6")
    first = copied.start(*only, "--set", "scoring.bootstrap=1000", stdout=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while lock.read_text() in (before, "") and time.monotonic() < deadline:
        time.sleep(0.02)
    second = copied.run(*only)
    assert second.returncode == 1
    error = f"another run (process {lock.read_text()}) is working in {EXP}; wait for it, or name another --exp"
    assert second.stderr == f"deepspeaker: {error}\n"
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 0 and "stage 6" in output and "finished in" in output


def test_additional_lists_are_scored_and_decide_the_mark(copied: Recipe, tmp_path: Path) -> None:
    exp = copied.folder / EXP
    utt2spk = read_table(copied.folder / "data/demo/test/utt2spk")
    ids = sorted(utt2spk)
    mine, models = tmp_path / "mine", tmp_path / "models"
    mine.write_text(
        "".join(f"model {u} {'target' if utt2spk[u] == utt2spk[ids[0]] else 'nontarget'}\n" for u in ids[3:])
    )
    models.write_text(f"model {' '.join(ids[:3])}\n")
    other = tmp_path / "other"
    other.write_text(f"{ids[0]} {ids[1]} target\n{ids[0]} {ids[-1]} nontarget\n")

    def score(*options: str) -> tuple[int, str, str]:
        quick = ("--config", "conf/demo.yaml", "--set", "scoring.bootstrap=0", "--if-needed", "true")
        done = copied.run(*quick, *options, "data/demo", EXP, script="local/6_score.sh")
        return done.returncode, done.stdout, done.stderr

    lists = ("--trials", str(mine), "--trials", str(other), "--enrolment", str(models))
    stale = exp / "triplet/scores_of_a_deleted_list_cosine"
    stale.touch()
    status, stdout, stderr = score(*lists)
    assert (status, stderr) == (0, "")
    assert not stale.exists()
    changed = "scoring.bootstrap changed from 20 to 0, --trials mine is new, --trials other is new and 1 more"
    assert f"stage 6 ({EXP}): starts: {changed}\n" in stdout
    results = json.loads((exp / "results.json").read_text())
    assert {"mine", "other", "trials_hard"} <= results["trials"].keys()
    assert (results["trials"]["mine"]["models"], results["trials"]["other"]["models"]) == (1, None)
    assert [row["utterances"] for row in results["enrolment_table"]] == [1, 2, 3, 4, 5] * 3
    assert "finished already, skipped" in score(*lists)[1]
    models.write_text(f"model {' '.join(ids[:2])}\n")
    assert "starts: --enrolment changed\n" in score(*lists)[1]
    assert score("--trials", str(tmp_path / "none"))[0] == 1


def test_data_that_another_run_uses_are_not_replaced(finished: Recipe) -> None:
    data = finished.folder / "data/demo"
    with (data / ".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        same = finished.run("--exp", "shares", "--stop-stage", "2")
        assert same.returncode == 0, same.stderr
        assert same.stdout.count("finished already, skipped") == 5
        before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file() and path.name != ".lock"}
        other = finished.run("--exp", "other", "--seed", "5", "--stop-stage", "2")
        assert other.returncode == 1
        assert "must run: --seed changed from 0 to 5; wait for it, or use another copy" in other.stderr
        assert len(other.stderr.splitlines()) == 1
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file() and path.name != ".lock"} == before


def test_options_in_any_order_and_help_from_any_folder(finished: Recipe) -> None:
    assert finished.run("--max-skipped", "10", "--allow-pipes=false", "--stop-stage", "0").returncode == 0
    text = subprocess.run(
        ["recipes/librispeech/run.sh", "--help"], cwd=finished.folder.parents[1], capture_output=True, text=True
    )
    assert (text.returncode, text.stderr) == (0, "")
    assert text.stdout.startswith("usage: run.sh [--stage N]")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--stages", "2"], "unknown option --stages; --help lists all"),
        (["--from", "/"], "unknown option --from; --help lists all"),
        (["--seed"], "--seed needs a value"),
        (["exp"], "unexpected argument exp"),
        (["--stage", "9"], "'--stage': 9 is not in the range 0<=x<=8"),
        (["--exp", "a\nb"], "use no line breaks"),
    ],
)
def test_wrong_options_are_one_line_before_anything_is_done(recipe: Recipe, options: list[str], error: str) -> None:
    done = recipe.run(*options)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (recipe.folder / "data").exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--stage", "5", "--stop-stage", "3"], "--stop-stage 3 comes before --stage 5"),
        (["--seed", "x"], "'--seed': 'x' is not a valid integer range"),
        (["--max-skipped", "200"], "'--max-skipped': 200.0 is not in the range"),
        (["--pretraining", "no"], "'--pretraining': 'no' is not one of 'true', 'false'"),
        (["--mini", "maybe"], "'--mini': 'maybe' is not a valid boolean"),
        (["--device", "tpu"], "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["--corpus", "timit"], "'timit' is not one of 'demo', 'librispeech'"),
        (["--corpus", "kaldi"], "--corpus kaldi needs --corpus-dir DIR"),
        (["--corpus", "folder"], "--corpus folder needs --corpus-dir DIR"),
        (["--corpus", "folder", "--corpus-dir", ".", "--dev-parts", "x"], "are for librispeech, not for folder"),
        (["--session-level", "1"], "--session-level 1 is for --corpus folder, not for demo"),
        (["--corpus", "folder", "--corpus-dir", ".", "--session-level", "0"], "0 is not in the range x>=1"),
        (["--exp", "../x"], "--exp ../x: give a name"),
        (["--data", ".."], "--data ..: give a name"),
        (["--train-speakers-share", "0"], "0.0 is not in the range 0<x<=1"),
        (["--train-parts", "a\nb"], "use no line breaks"),
        (["--cmd", "nothere.pl"], "--cmd nothere.pl: no such program"),
        (["--nnodes", "2"], "--nnodes 2 needs --rdzv-endpoint"),
        (["--enrolment", "x"], "--enrolment x needs --trials"),
        (["--posteriors", "x"], "--posteriors x needs --ivector true"),
        (["--ivector", "maybe"], "'--ivector': 'maybe' is not a valid boolean"),
    ],
)
def test_wrong_values_are_one_line(
    options: list[str], error: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """run.sh checks all values by this command before it does anything."""
    monkeypatch.chdir(PROJECT / "recipes/librispeech")
    monkeypatch.setattr(sys, "argv", ["deepspeaker", "check-run", "--from", ".", "--cmd", "utils/run.py", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    output, errors = capsys.readouterr()
    assert (ended.value.code, output) == (2, "")
    assert error in errors
    assert len(errors.splitlines()) == 1


def test_missing_files_are_one_line_before_anything_is_done(finished: Recipe) -> None:
    for option in ("--trials", "--init-from", "--config"):
        done = finished.run(option, "none")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"deepspeaker: {option} none: no such file\n"
    done = finished.run("--corpus", "kaldi", "--corpus-dir", "none")
    assert done.stderr == "deepspeaker: --corpus-dir none: no such folder\n"
