"""``deepspeaker stage``: how commands are taken apart and put together for a launcher."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import click
import pytest

from deepspeaker.cli.run_stage import Call, _settings, for_shell
from deepspeaker.errors import InputError
from deepspeaker.stages import Mark, flattened

RUN = Path(__file__).resolve().parents[1] / "utils" / "run.py"
WORDS = [
    "plain/path-1.2",
    "R&D",
    "a b",
    "$(touch pwned)",
    "`touch pwned`",
    "x;touch${IFS}pwned",
    "it's",
    'say "so"',
    "both ' and \"",
    "*",
    "~",
    "",
    "tab\tand\nline",
    "a\\nb",
    "grüße",
    "-n",
    "!history",
    "(JOB)",
]


def through(launcher: list[str], words: list[str], folder: Path) -> list[str]:
    """The words as a command gets them that a launcher runs."""
    show = [sys.executable, "-c", "import sys; sys.stdout.write('\\0'.join(sys.argv[1:]))"]
    command = [*launcher, "log", *map(for_shell, [*show, *words])]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().split("\0")


def test_words_arrive_as_they_are(tmp_path: Path) -> None:
    assert through([str(RUN), "--follow", "true"], WORDS, tmp_path) == WORDS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]


def test_words_have_no_white_space_for_the_launcher(tmp_path: Path) -> None:
    """run.pl puts words with white space between double quotes, where bash expands $(...)."""
    generator = random.Random(0)
    letters = " \t\n'\"\\$`;&|<>(){}[]*?~!#%=ab0é"
    words = ["".join(generator.choices(letters, k=generator.randint(0, 12))) for _ in range(300)]
    quoted = [for_shell(word) for word in words]
    assert not any(character.isspace() for word in quoted for character in word)
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {' '.join(quoted)}"], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words


def fbank(data: str, launcher: tuple[str, ...] = ("utils/run.py", "JOB=1:4")) -> list[str]:
    words = [*launcher, f"{data}/log/fbank.JOB.log", "deepspeaker", "fbank", "--config", "conf/x.yaml"]
    return [*words, "--job", "JOB", "--num-jobs", "4", data]


def test_a_command_is_taken_apart() -> None:
    call = Call.of(fbank("data/x/train"))
    assert (call.array, call.stage.number) == ("JOB", 2)
    assert call.options["data_dir"] == Path("data/x/train")
    assert (call.options["job"], call.options["num_jobs"], call.options["max_skipped"]) == (1, 4, 5.0)
    assert call.words() == fbank("data/x/train")
    alone = Call.of(["deepspeaker", "collect-fbank", "--config", "c", "a b"])
    assert alone.words() == ["deepspeaker", "collect-fbank", "--config", "c", "a b"]  # no shell on the way
    training = Call.of(["deepspeaker", "train", "softmax", "--config", "c", "--data-dir", "d", "--exp-dir", "e"])
    assert training.stage.network


@pytest.mark.parametrize("data", ["/data/JOBS/train", "/data/JOB", "JOB", "/d/JOBX JOB/train"])
def test_a_path_may_contain_the_name_of_the_job_number(data: str, tmp_path: Path) -> None:
    words = Call.of(fbank(data)).words()
    (array,) = [word.partition("=")[0] for word in words if word.endswith("=1:4")]
    for job in ("1", "4"):
        replaced = [word.replace(array, job) for word in words]
        assert replaced[2] == f"{data}/log/fbank.{job}.log"
        assert replaced[-5:] == ["--job", job, "--num-jobs", "4", for_shell(data)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["utils/run.py", "x.log", "fbank"], "is not a deepspeaker command"),
        (["deepspeaker", "look", "--corpus", "kaldi", "x"], "'look' does not belong to a stage"),
        (["deepspeaker", "fbnk", "x"], "is not a deepspeaker command"),
        (["deepspeaker", "fbank", "--config", "c", "--max-skiped", "3", "x"], "--max-skiped"),
        (["deepspeaker", "fbank", "--config", "c", "--max-skipped", "101", "x"], "101"),
        (["deepspeaker", "train", "--config", "c"], "--config"),
    ],
)
def test_wrong_commands_are_refused_before_anything_runs(words: list[str], said: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        Call.of(words)
    assert said in caught.value.format_message()


def test_an_option_of_the_launcher_may_be_called_deepspeaker() -> None:
    words = fbank("data/x", ("utils/slurm.py", "-A", "deepspeaker", "JOB=1:4"))
    assert Call.of(words).words() == words


def test_a_log_that_kaldis_launchers_would_cut_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "run.pl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    Call.of(fbank("data/a-b.c", (str(program), "JOB=1:4"))).check_launcher()
    with pytest.raises(Exception, match="cannot write a log of this name; use letters"):
        Call.of(fbank("data/a b", (str(program), "JOB=1:4"))).check_launcher()
    with pytest.raises(click.UsageError, match=r"--cmd nothere\.pl: no such program"):
        Call.of(fbank("data/a", ("nothere.pl", "JOB=1:4"))).check_launcher()


# ---- what decides a stage's result -----------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "x.yaml").write_text("model: {blocks: 1}\n")
    return tmp_path / "x.yaml"


def mark(folder: Path, number: int, content: object = 0) -> None:
    Mark(folder, number).end({"content": content}, {})


def decided(*words: object) -> dict[str, object]:
    return flattened(_settings([Call.of(["deepspeaker", *map(str, words)])]))


def differing(one: dict[str, object], other: dict[str, object]) -> set[str]:
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def test_embeddings_depend_on_the_number_of_training_utterances(tmp_path: Path, config: Path) -> None:
    for folder, number in (("data/test", 2), ("exp/softmax", 3), ("exp/triplet", 4)):
        mark(tmp_path / folder, number)
    words = ("embed-systems", "--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp", "--config", config)
    more = decided(*words, "--set", "scoring.training_utterances=1000000")
    assert differing(decided(*words), more) == {"scoring.training_utterances"}
    assert decided(*words) == decided(*words, "--set", "scoring.bootstrap=0", "--num-jobs", 7, "--device", "cpu")


def test_prepared_data_depend_on_the_frame_shift(tmp_path: Path, config: Path) -> None:
    (tmp_path / "corpus").mkdir()
    words = ("prepare", "--config", config, "--corpus", "librispeech", "--name", "x")
    words = (*words, "--corpus-dir", tmp_path / "corpus", tmp_path / "data")
    assert differing(decided(*words), decided(*words, "--set", "features.frame_shift=0.02")) == {"features.frame_shift"}
    assert decided(*words) == decided(*words, "--set", "features.num_bins=40")
    (tmp_path / "corpus" / "a.flac").write_bytes(b"x")
    assert differing(decided(*words), {}) and "list of the corpus' files" in decided(*words)


def test_scores_depend_on_the_embeddings_of_the_experiment_to_fuse_with(tmp_path: Path, config: Path) -> None:
    """Also where the other experiment's folder has the same name."""
    mine, other = tmp_path / "mine" / "exp", tmp_path / "other" / "exp"
    for folder, number in ((tmp_path / "data", 1), (mine, 5), (other, 5)):
        mark(folder, number)
    words = ("score", "--config", config, "--data-dir", tmp_path / "data", "--exp-dir", mine)
    words = (*words, "--set", f"scoring.fuse_with={other}")
    before = decided(*words)
    mark(other, 5, "embedded again")
    assert differing(before, decided(*words)) == {f"stage 5 of {other}"}
    mark(mine, 5, "embedded again")
    assert differing(before, decided(*words)) == {f"stage 5 of {other}", "stage 5"}


def test_scores_depend_on_the_content_of_lists_and_models(tmp_path: Path, config: Path) -> None:
    for folder, number in ((tmp_path / "data", 1), (tmp_path / "exp", 5)):
        mark(folder, number)
    for name in ("mine", "models"):
        (tmp_path / name).write_text("a b target\n")
    words = ("score", "--config", config, "--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp")
    lists = ("--trials", tmp_path / "mine")
    assert differing(decided(*words), decided(*words, *lists)) == {"--trials mine"}
    before = decided(*words, *lists)
    (tmp_path / "mine.spk2utt").write_text("a u1 u2\n")
    assert differing(before, decided(*words, *lists)) == {"enrolment models mine.spk2utt"}
    with pytest.raises(InputError, match="none: no such file"):
        decided(*words, *lists, "--enrolment", tmp_path / "none")


def test_features_depend_on_what_the_directory_says_and_not_on_what_stage_2_adds(tmp_path: Path, config: Path) -> None:
    data = tmp_path / "data" / "train"
    data.mkdir(parents=True)
    (tmp_path / "a.wav").write_bytes(b"12345")
    (data / "utt2spk").write_text("a-1 a\n")
    (data / "wav.scp").write_text(f"a-1 {tmp_path}/a.wav\n")
    before = decided("fbank", "--config", config, data)
    (data / "feats.scp").write_text(f"a-1 {data}/fbank.1.ark:5\n")
    (data / "vad.scp").write_text(f"a-1 {data}/vad.1.ark:5\n")
    assert decided("fbank", "--config", config, data) == before
    (tmp_path / "a.wav").write_bytes(b"123456")
    assert differing(before, decided("fbank", "--config", config, data)) == {"content of the data directory"}
    (tmp_path / "a.wav").write_bytes(b"12345")
    (data / "feats.scp").write_text(f"a-1 {tmp_path}/given.ark:5\n")
    assert differing(before, decided("fbank", "--config", config, data)) == {"content of the data directory"}


def test_one_file_and_its_models_may_have_the_same_name(tmp_path: Path, config: Path) -> None:
    for folder, number in ((tmp_path / "data", 1), (tmp_path / "exp", 5)):
        mark(folder, number)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "list").write_text("x y target\n")
    words = ("score", "--config", config, "--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp")
    words = (*words, "--trials", tmp_path / "a" / "list", "--enrolment", tmp_path / "b" / "list")
    before = decided(*words)
    (tmp_path / "a" / "list").write_text("x y nontarget\n")
    assert differing(before, decided(*words)) == {"--trials list"}


def test_a_training_depends_on_its_own_part_of_the_configuration(tmp_path: Path, config: Path) -> None:
    mark(tmp_path / "data" / "train", 2)
    words = ("train", "softmax", "--config", config, "--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp")
    before = decided(*words)
    assert before == decided(*words, "--set", "triplet.epochs=1", "--set", "demo.test_speakers=3", "--nproc", 2)
    assert differing(before, decided(*words, "--set", "softmax.epochs=1")) == {"softmax.epochs"}
    (tmp_path / "data" / "dev_nosil").mkdir()
    with pytest.raises(InputError, match="dev: stage 2 has not finished"):
        decided(*words)
    mark(tmp_path / "data" / "dev", 2)
    assert differing(before, decided(*words)) == {"stage 2 (dev)"}
