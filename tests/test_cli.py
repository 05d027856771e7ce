"""The ``deepspeaker`` command: exit status, messages and imports."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import soundfile

import deepspeaker
from deepspeaker.cli import main
from deepspeaker.kaldi import DataDir, read_table

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command in this process."""
    words, out, err = ["deepspeaker", *map(str, arguments)], io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            main()
    assert isinstance(end.value.code, int)
    return subprocess.CompletedProcess(words, end.value.code, out.getvalue(), err.getvalue())


def run_alone(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "deepspeaker", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=60)


def one_line(done: subprocess.CompletedProcess[str], status: int, *parts: object) -> bool:
    lines = done.stderr.splitlines()
    return done.returncode == status and len(lines) == 1 and all(str(part) in lines[0] for part in parts)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "x.yaml").write_text("model: {blocks: 1}\n")
    return tmp_path / "x.yaml"


def test_help_names_the_commands_and_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from deepspeaker.cli import commands\n"
        "for command in ('prepare', 'fbank', 'train', 'stage', 'look', 'check-run', None):\n"
        "    commands.main([*filter(None, [command]), '--help'], standalone_mode=False)\n"
        "heavy = ['torch', 'lhotse', 'numpy', 'scipy', 'kaldiio', 'soundfile', 'pydantic', 'matplotlib', 'polars']\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.count("Usage: ") == 7
    for name in ("prepare", "fbank", "train", "embed", "score", "report"):
        assert f"  {name} " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_command_starts_fast() -> None:
    def seconds(*command: str) -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, check=True)
        return time.perf_counter() - begin

    # Compare with the bare interpreter in the same run, because the machine may be busy.
    bare = min(seconds("-c", "pass") for _ in range(3))
    ours = min(seconds("-m", "deepspeaker", "--help") for _ in range(3))
    assert ours - bare < 0.3 or ours < 12 * bare


def test_version() -> None:
    assert deepspeaker.__version__ in run_alone("--version").stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("prepare", "--sed", "3"), ("--sed", "--seed")),
        (("fbank", "--num-job", "3"), ("--num-job", "--num-jobs")),
        (("fbnk",), ("fbnk",)),
        (("prepare", "--corpus", "timit"), ("timit", "librispeech")),
        (("collect-fbank", "--num-jobs", "0", "x"), ("--num-jobs", "0")),
        (("collect-fbank", "--max-skipped", "101", "x"), ("--max-skipped", "101")),
        (("collect-fbank", "--config", "x"), ("DATA_DIR",)),
        (("train", "tripplet"), ("tripplet", "triplet")),
        (("train", "softmax"), ("--data-dir",)),
        (("stage", "--", "utils/run.py", "x.log", "ls"), ("is not a deepspeaker command",)),
        (("look", "--corpus", "kaldi"), ("FOLDER",)),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert one_line(done, 2, *parts), done.stderr
    assert done.stdout == ""


def test_wrong_usage_of_the_program_is_one_line_and_status_2() -> None:
    assert one_line(run_alone("fbnk"), 2, "fbnk")


def test_no_command_shows_the_help_and_status_2() -> None:
    done = run_alone()
    assert done.returncode == 2
    assert "Usage: " in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_an_error_of_the_user_is_one_line_and_status_1(tmp_path: Path, config: Path) -> None:
    done = run_alone("look", "--corpus", "librispeech", tmp_path / "none")
    assert one_line(done, 1, f"{tmp_path}/none: no such folder")
    assert one_line(run("look", "--corpus", "kaldi", tmp_path), 1, f"{tmp_path}/train: no such data directory")
    assert one_line(run("check-config", "--config", tmp_path / "none.yaml"), 1, "no such configuration file")
    done = run("check-config", "--config", config, "--set", "model.block=2")
    assert one_line(done, 1, "deepspeaker: --set model.block=2: model.block is unknown; did you mean blocks?")
    assert one_line(run("fbank", "--config", config, tmp_path / "none"), 1, f"{tmp_path}/none: no such data directory")
    done = run("download", "--parts", "train-clean-6", tmp_path / "d")
    assert one_line(done, 1, "train-clean-6: LibriSpeech has no such part")


def test_an_error_of_the_system_is_also_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "below"
    done = run("stage", "--", "deepspeaker", "report", "--data-dir", tmp_path, "--exp-dir", below)
    assert one_line(done, 1, "file"), done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = run_alone("--debug", "look", "--corpus", "librispeech", tmp_path / "none")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("deepspeaker.errors.InputError: ")


def test_a_valid_configuration_prints_nothing(config: Path) -> None:
    done = run("check-config", "--config", config, "--set", "softmax.epochs=2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def make_corpus(folder: Path) -> Path:
    for part, first in {"train-clean-5": 10, "test-clean": 50}.items():
        for reader in range(first, first + 3):
            for number in range(2):
                path = folder / part / str(reader) / "1" / f"{reader}-1-{number:04d}.flac"
                path.parent.mkdir(parents=True, exist_ok=True)
                samples = 0.1 * np.random.default_rng([reader, number]).normal(size=8000)
                samples[4000:] *= 1e-3
                soundfile.write(path, samples, 16000)
    return folder


def test_the_commands_of_stages_1_and_2(tmp_path: Path, config: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    assert run("look", "--corpus", "librispeech", corpus).stdout == f"{corpus}: parts test-clean train-clean-5\n"
    prepare = ("prepare", "--config", config, "--corpus", "librispeech", "--name", "small", "--corpus-dir", corpus)
    done = run(*prepare, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert "train: 3 speakers, 6 utterances" in done.stdout
    assert "trials_all: 3 target, 12 nontarget trials, sha256 " in done.stdout
    for job in (1, 2):
        done = run("fbank", "--config", config, "--job", job, "--num-jobs", 2, tmp_path / "data" / "train")
        assert done.returncode == 0, done.stderr
    done = run("collect-fbank", "--config", config, "--num-jobs", 2, tmp_path / "data" / "train")
    assert done.stdout.startswith(f"{tmp_path}/data/train: 6 utterances, 300 frames, ")
    assert len(DataDir.read(tmp_path / "data" / "train_nosil").feats_scp) == 6
    assert len(read_table(tmp_path / "data" / "train" / "vad.scp")) == 6

    done = run(*prepare, "--test-parts", "test-other", tmp_path / "other")
    assert one_line(done, 1, "no part test-other (--test-parts); it has: test-clean train-clean-5")
    assert not (tmp_path / "other").exists()
    done = run(*prepare, "--session-level", "1", tmp_path / "other")
    assert one_line(done, 1, "--session-level is for --corpus folder, not for librispeech")
    kaldi = ("prepare", "--config", config, "--corpus", "kaldi", "--name", "x", "--corpus-dir", corpus)
    assert one_line(run(*kaldi, "--dev-parts", "a", tmp_path / "other"), 1, "--dev-parts")


def test_the_stage_command(tmp_path: Path, config: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    data = tmp_path / "data"

    def stage(*more: object, if_needed: bool = True) -> subprocess.CompletedProcess[str]:
        words = ("deepspeaker", "prepare", "--config", config, "--corpus", "librispeech", "--name", "small", *more)
        words = (*words, "--corpus-dir", corpus, data)
        environment = {**os.environ, "PATH": f"{ROOT}/utils:{os.environ['PATH']}", "DEEPSPEAKER_PYTHON": sys.executable}
        command = [sys.executable, "-m", "deepspeaker", "stage", "--if-needed", if_needed, "--", *words]
        return subprocess.run(
            list(map(str, command)), cwd=ROOT, text=True, capture_output=True, timeout=60, env=environment
        )

    first = stage()
    assert first.stdout.splitlines()[0] == f"stage 1 ({data}): starts"
    assert first.stdout.splitlines()[-1].startswith(f"stage 1 ({data}): finished in ")
    assert stage().stdout == f"stage 1 ({data}): finished already, skipped\n"
    assert stage(if_needed=False).stdout.splitlines()[0] == f"stage 1 ({data}): starts"
    assert f"stage 1 ({data}): starts: --seed changed from 0 to 1\n" in stage("--seed", 1).stdout
    (data / "corpus.json").unlink()
    again = stage("--seed", 1)
    assert f"stage 1 ({data}): starts: {data}/corpus.json is missing\n" in again.stdout
    failed = stage("--test-parts", "none")
    assert one_line(failed, 1, f"{corpus}: has no part none (--test-parts)"), failed.stderr
    assert f"stage 1 ({data}): starts: it did not finish\n" in stage("--seed", 1).stdout.replace("continues", "starts")
    assert one_line(stage("--sed", 1), 2, "--sed", "--seed")


def checked(*options: str) -> list[str]:
    """Return the lines of ``check-run``, the plan of run.sh."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT / "recipes" / "librispeech")
        done = run("check-run", "--from", ".", "--cmd", "bash", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_data_folder_is_named_after_the_corpus_or_by_the_user_and_a_share_has_its_own() -> None:
    share = ("--train-speakers-share", "0.25", "--train-utterances-share", "0.5")
    for options, data, exp, shared in (
        ((), "data/demo", "exp/demo_demo", ""),
        (("--data", "german"), "data/german", "exp/german_demo", ""),
        (share, "data/demo", "exp/demo_speakers25_utterances50_demo", "data/demo_speakers25_utterances50"),
        (("--data", "x", *share[:2], "--exp", "e"), "data/x", "exp/e", "data/x_speakers25"),
    ):
        plan = checked(*options)
        assert (plan[3], plan[4], plan[7]) == (data, exp, shared)
