"""``deepspeaker stage``: how commands are parsed and quoted for a launcher, and what decides a stage's result."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import click
import pytest

from deepspeaker.cli import StageCommand, quote_for_launcher, settings_of
from deepspeaker.errors import InputError
from deepspeaker.stages import Mark

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


def passed_through(launcher: list[str], words: list[str], folder: Path) -> list[str]:
    """The words as a command receives them from a launcher."""
    show = [sys.executable, "-c", "import sys; sys.stdout.write('\\0'.join(sys.argv[1:]))"]
    command = [*launcher, "log", *map(quote_for_launcher, [*show, *words])]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().split("\0")


def test_words_arrive_unchanged(tmp_path: Path) -> None:
    assert passed_through([str(RUN), "--follow", "true"], WORDS, tmp_path) == WORDS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]


def test_words_have_no_white_space_for_the_launcher(tmp_path: Path) -> None:
    """run.pl puts words with white space between double quotes, where bash expands $(...)."""
    generator = random.Random(0)
    letters = " \t\n'\"\\$`;&|<>(){}[]*?~!#%=ab0é"
    words = ["".join(generator.choices(letters, k=generator.randint(0, 12))) for _ in range(300)]
    quoted = [quote_for_launcher(word) for word in words]
    assert not any(character.isspace() for word in quoted for character in word)
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {' '.join(quoted)}"], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words


def fbank(data: str, launcher: tuple[str, ...] = ("utils/run.py", "JOB=1:4")) -> list[str]:
    words = [*launcher, f"{data}/log/fbank.JOB.log", "deepspeaker", "fbank", "--config", "conf/x.yaml"]
    return [*words, "--job", "JOB", "--num-jobs", "4", data]


def test_a_command_is_parsed() -> None:
    command = StageCommand.parse(fbank("data/x/train"))
    assert (command.array, command.stage.number) == ("JOB", 2)
    assert command.options["data_dir"] == (Path("data/x/train"),)
    assert (command.options["job"], command.options["num_jobs"], command.options["max_skipped"]) == (1, 4, 5.0)
    assert command.words() == fbank("data/x/train")
    alone = StageCommand.parse(["deepspeaker", "collect-fbank", "--config", "c", "a b"])
    assert alone.words() == ["deepspeaker", "collect-fbank", "--config", "c", "a b"]  # no launcher, no shell
    first, second = StageCommand.parse([*fbank("data/x/train"), "data/x/test/"]).split()
    assert first.words() == fbank("data/x/train") and first.options["data_dir"] == Path("data/x/train")
    assert second.words()[-1] == "data/x/test/" and second.root == Path("data/x/test")
    softmax = ["deepspeaker", "train", "softmax", "--config", "c", "--data-dir", "d", "--exp-dir", "e"]
    assert StageCommand.parse(softmax).stage.trains


@pytest.mark.parametrize("data", ["/data/JOBS/train", "/data/JOB", "JOB", "/d/JOBX JOB/train"])
def test_a_path_may_contain_the_name_of_the_job_number(data: str, tmp_path: Path) -> None:
    words = StageCommand.parse(fbank(data)).words()
    (array,) = [word.partition("=")[0] for word in words if word.endswith("=1:4")]
    for job in ("1", "4"):
        replaced = [word.replace(array, job) for word in words]
        assert replaced[2] == f"{data}/log/fbank.{job}.log"
        assert replaced[-5:] == ["--job", job, "--num-jobs", "4", quote_for_launcher(data)]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["utils/run.py", "x.log", "fbank"], "is not a deepspeaker command"),
        (["deepspeaker", "look", "--corpus", "kaldi", "x"], "'look' does not belong to a stage"),
        (["deepspeaker", "fbnk", "x"], "is not a deepspeaker command"),
        (["deepspeaker", "fbank", "--config", "c", "--max-skiped", "3", "x"], "--max-skiped"),
        (["deepspeaker", "fbank", "--config", "c", "--max-skipped", "101", "x"], "101"),
        (["deepspeaker", "train", "--config", "c"], "--config"),
    ],
)
def test_wrong_commands_are_refused_before_anything_runs(words: list[str], error: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        StageCommand.parse(words)
    assert error in caught.value.format_message()


def test_an_option_of_the_launcher_may_be_called_deepspeaker() -> None:
    words = fbank("data/x", ("utils/slurm.py", "-A", "deepspeaker", "JOB=1:4"))
    assert StageCommand.parse(words).words() == words


def test_a_log_name_that_kaldis_launchers_would_cut_off_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "run.pl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    StageCommand.parse(fbank("data/a-b.c", (str(program), "JOB=1:4"))).check_launcher()
    with pytest.raises(Exception, match="cannot write a log of this name; use letters"):
        StageCommand.parse(fbank("data/a b", (str(program), "JOB=1:4"))).check_launcher()
    with pytest.raises(click.UsageError, match=r"--cmd nothere\.pl: no such program"):
        StageCommand.parse(fbank("data/a", ("nothere.pl", "JOB=1:4"))).check_launcher()


# ---- what decides a stage's result -----------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "x.yaml").write_text("model: {blocks: 1}\n")
    return tmp_path / "x.yaml"


def mark(folder: Path, number: int, content: object = 0) -> None:
    Mark(folder, number).end({"content": content}, {})


def settings(*words: object) -> dict[str, object]:
    return settings_of(StageCommand.parse(["deepspeaker", *map(str, words)]).split())


def differing(one: dict[str, object], other: dict[str, object]) -> set[str]:
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def test_embeddings_depend_on_the_number_of_training_utterances(tmp_path: Path, config: Path) -> None:
    for folder, number in (("data/test", 2), ("exp/softmax", 3), ("exp/triplet", 4)):
        mark(tmp_path / folder, number)
    words = ("embed-systems", "--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp", "--config", config)
    more = settings(*words, "--set", "scoring.training_utterances=1000000")
    assert differing(settings(*words), more) == {"scoring.training_utterances"}
    assert settings(*words) == settings(*words, "--set", "scoring.bootstrap=0", "--num-jobs", 7, "--device", "cpu")


def test_prepared_data_depend_on_the_frame_shift(tmp_path: Path, config: Path) -> None:
    (tmp_path / "corpus").mkdir()
    words = ("prepare", "--config", config, "--corpus", "librispeech", "--name", "x")
    words = (*words, "--corpus-dir", tmp_path / "corpus", tmp_path / "data")
    changed = settings(*words, "--set", "features.frame_shift=0.02")
    assert differing(settings(*words), changed) == {"features.frame_shift"}
    assert settings(*words) == settings(*words, "--set", "features.num_bins=40")
    (tmp_path / "corpus" / "a.flac").write_bytes(b"x")
    assert differing(settings(*words), {}) and "list of the corpus' files" in settings(*words)


def test_another_folder_of_the_same_name_does_not_replace_the_data(tmp_path: Path, config: Path) -> None:
    for folder in ("one/x", "two/x"):
        (tmp_path / folder / "train").mkdir(parents=True)

    def prepare(corpus: str, folder: Path) -> tuple[object, ...]:
        options = ("--config", config, "--corpus", corpus, "--name", "x", "--corpus-dir", folder)
        return "prepare", *options, tmp_path / "data"

    data = tmp_path / "data"
    Mark(data, 1).end({}, {"corpus": "kaldi", "corpus_dir": str(tmp_path / "one/x")})
    assert settings(*prepare("kaldi", tmp_path / "one/../one/x"))
    with pytest.raises(InputError, match=rf"^{data}: has the data of another corpus, kaldi in "):
        settings(*prepare("kaldi", tmp_path / "two/x"))
    for before, now in (("demo", "kaldi"), ("kaldi", "demo"), ("librispeech", "demo")):
        Mark(data, 1).end({}, {"corpus": before, "corpus_dir": str(tmp_path / "one/x")})
        with pytest.raises(InputError, match=rf"{before} in .*--data, or delete"):
            settings(*prepare(now, tmp_path / "one/x"))


def test_scores_depend_on_the_embeddings_of_the_experiment_to_fuse_with(tmp_path: Path, config: Path) -> None:
    """Even if the other experiment's folder has the same name."""
    mine, other = tmp_path / "mine" / "exp", tmp_path / "other" / "exp"
    for folder, number in ((tmp_path / "data", 1), (mine, 5), (other, 5)):
        mark(folder, number)
    words = ("score", "--config", config, "--data-dir", tmp_path / "data", "--exp-dir", mine)
    words = (*words, "--set", f"scoring.fuse_with={other}")
    before = settings(*words)
    mark(other, 5, "embedded again")
    assert differing(before, settings(*words)) == {f"stage 5 of {other}"}
    mark(mine, 5, "embedded again")
    assert differing(before, settings(*words)) == {f"stage 5 of {other}", "stage 5"}


def test_scores_depend_on_the_content_of_lists_and_models(tmp_path: Path, config: Path) -> None:
    for folder, number in ((tmp_path / "data", 1), (tmp_path / "exp", 5)):
        mark(folder, number)
    for name in ("mine", "models"):
        (tmp_path / name).write_text("a b target\n")
    words = ("score", "--config", config, "--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp")
    lists = ("--trials", tmp_path / "mine")
    assert differing(settings(*words), settings(*words, *lists)) == {"--trials mine"}
    before = settings(*words, *lists)
    (tmp_path / "mine.spk2utt").write_text("a u1 u2\n")
    assert differing(before, settings(*words, *lists)) == {"enrolment models mine.spk2utt"}
    with pytest.raises(InputError, match="none: no such file"):
        settings(*words, *lists, "--enrolment", tmp_path / "none")


def test_features_depend_on_the_data_directory_without_the_files_of_stage_2(tmp_path: Path, config: Path) -> None:
    data = tmp_path / "data" / "train"
    data.mkdir(parents=True)
    (tmp_path / "a.wav").write_bytes(b"12345")
    (data / "utt2spk").write_text("a-1 a\n")
    (data / "wav.scp").write_text(f"a-1 {tmp_path}/a.wav\n")
    before = settings("fbank", "--config", config, data)
    (data / "feats.scp").write_text(f"a-1 {data}/fbank.1.ark:5\n")
    (data / "vad.scp").write_text(f"a-1 {data}/vad.1.ark:5\n")
    assert settings("fbank", "--config", config, data) == before
    (tmp_path / "a.wav").write_bytes(b"123456")
    assert differing(before, settings("fbank", "--config", config, data)) == {"content of the data directory"}
    (tmp_path / "a.wav").write_bytes(b"12345")
    (data / "feats.scp").write_text(f"a-1 {tmp_path}/given.ark:5\n")
    assert differing(before, settings("fbank", "--config", config, data)) == {"content of the data directory"}


def test_a_list_and_its_models_may_have_the_same_name(tmp_path: Path, config: Path) -> None:
    for folder, number in ((tmp_path / "data", 1), (tmp_path / "exp", 5)):
        mark(folder, number)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "list").write_text("x y target\n")
    words = ("score", "--config", config, "--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp")
    words = (*words, "--trials", tmp_path / "a" / "list", "--enrolment", tmp_path / "b" / "list")
    before = settings(*words)
    (tmp_path / "a" / "list").write_text("x y nontarget\n")
    assert differing(before, settings(*words)) == {"--trials list"}


def test_a_training_depends_on_its_section_of_the_configuration(tmp_path: Path, config: Path) -> None:
    mark(tmp_path / "data" / "train", 2)
    words = ("train", "softmax", "--config", config, "--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp")
    before = settings(*words)
    assert before == settings(*words, "--set", "triplet.epochs=1", "--set", "demo.test_speakers=3", "--nproc", 2)
    assert differing(before, settings(*words, "--set", "softmax.epochs=1")) == {"softmax.epochs"}
    (tmp_path / "data" / "dev_nosil").mkdir()
    with pytest.raises(InputError, match="dev: stage 2 has not finished"):
        settings(*words)
    mark(tmp_path / "data" / "dev", 2)
    assert differing(before, settings(*words)) == {"stage 2 (dev)"}


def test_triplet_training_depends_on_what_it_starts_from(tmp_path: Path, config: Path) -> None:
    data, exp, weights = tmp_path / "data", tmp_path / "exp", tmp_path / "weights.pt"
    mark(data / "train", 2)
    weights.write_bytes(b"1")
    folders = ("--config", config, "--data-dir", data, "--exp-dir", exp)
    words = ("train", "triplet", *folders)
    with pytest.raises(InputError, match="softmax: stage 3 has not finished"):
        settings(*words)
    fresh, given = settings(*words, "--pretraining", "false"), settings(*words, "--init-from", weights)
    assert differing(fresh, given) == {"--init-from"}
    assert given == settings(*words, "--pretraining", "false", "--init-from", weights)
    mark(data / "train", 2, "other speakers")
    assert differing(fresh, settings(*words, "--pretraining", "false")) == {"stage 2 (train)"}
    weights.write_bytes(b"2")
    assert "--init-from" in differing(given, settings(*words, "--init-from", weights))
    # Neither kind of experiment becomes the other.
    (exp / "triplet").mkdir(parents=True)
    (exp / "triplet" / "checkpoint_last.pt").touch()
    with pytest.raises(InputError, match="was trained without pre-training; name another --exp, or add --pretraining"):
        settings("train", "softmax", *folders)
    mark(exp / "softmax", 3)
    (exp / "softmax" / "checkpoint_last.pt").touch()
    with pytest.raises(InputError, match="has a network with pre-training; name another --exp"):
        settings(*words, "--pretraining", "false")
    assert differing(fresh, settings(*words)) == {"--pretraining", "stage 2 (train)", "stage 3 (softmax)"}


def test_embeddings_depend_on_pre_training_if_there_was_one(tmp_path: Path, config: Path) -> None:
    data, exp = tmp_path / "data", tmp_path / "exp"
    mark(data / "test", 2)
    words = ("embed-systems", "--config", config, "--data-dir", data, "--exp-dir", exp)
    for given, label in (({}, True), ({"pretraining": True, "init_from": None}, True), ({"pretraining": False}, False)):
        Mark(exp / "triplet", 4).end({}, given)
        if label:
            with pytest.raises(InputError, match="softmax: stage 3 has not finished"):
                settings(*words)
            mark(exp / "softmax", 3)
        assert ("stage 3 (softmax)" in settings(*words)) == label
        (exp / "softmax" / ".done.3").unlink(missing_ok=True)
        parsed = StageCommand.parse(["deepspeaker", *map(str, words)])
        assert callable(parsed.stage.required)
        assert ("softmax/network.json" in parsed.stage.required(parsed.options)) == label
