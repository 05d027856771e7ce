"""Names that a shell would take for commands, runs that are killed, and corpora of a few recordings."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.recipe.tiny import EXP, Recipe, make_recipe, networks

#: A folder and a name with everything that is special to shells, launchers and tables.
ODD_FOLDER = "R&D $(touch pwned1) it's;JOB"
ODD_NAME = "x;touch${IFS}pwned2 JOB & 'y' \"z\""


def bytes_of(data: Path, exp: Path) -> dict[str, str]:
    """Digests of everything that the seed decides. The arks of several jobs count as one, in the order of the jobs."""
    digests = {name: digest([data / "test" / name]) for name in ("trials_all", "trials_1p99")}
    for part in ("train", "dev", "test", "train_nosil", "dev_nosil", "test_nosil"):
        for kind in ("fbank", "vad"):
            arks = sorted((data / part).glob(f"{kind}.*.ark"), key=lambda ark: int(ark.name.split(".")[1]))
            digests[f"{part} {kind}"] = digest(arks)
    for system in ("untrained", "softmax", "triplet"):
        digests[f"{system} embeddings"] = digest(sorted((exp / system).glob("embeddings_test/xvector.*.ark")))
    return digests


def digest(paths: list[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


@pytest.fixture(scope="module")
def odd(finished: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A run on a corpus in a folder with an odd name, in an experiment with an odd name. It was killed twice.

    ``test_copies.py`` kills a run in stage 2.
    """
    recipe = make_recipe(tmp_path_factory.mktemp("odd"))
    corpus = recipe.folder.parents[1] / ODD_FOLDER / "LibriSpeech"
    shutil.copytree(finished.folder / "data/demo/corpus", corpus, copy_function=os.link)
    options = [*odd_options(recipe), "--nj", "2"]
    exp = recipe.folder / "exp" / ODD_NAME
    for begun in (  # in stages 4 and 5
        exp / "triplet/checkpoint_last.pt",
        exp / "softmax/embeddings_test/.shards",
    ):
        recipe.kill(begun, *options)
    assert not (exp / "results.json").exists()
    done = recipe.run(*options)
    assert done.returncode == 0, done.stdout + done.stderr
    return recipe


def odd_options(recipe: Recipe, test_part: str = "demo-test") -> list[str]:
    corpus = recipe.folder.parents[1] / ODD_FOLDER / "LibriSpeech"
    options = ["--corpus", "librispeech", "--corpus-dir", str(corpus), "--exp", ODD_NAME, "--config", "conf/demo.yaml"]
    options += ["--train-parts", "demo-train", "--dev-parts", "demo-dev", "--test-parts", test_part]
    return [*options, "--max-skipped", "7"]


def test_odd_names_kills_and_other_jobs_change_no_result(odd: Recipe, finished: Recipe) -> None:
    exp = odd.folder / "exp" / ODD_NAME
    ours, theirs = (json.loads((e / "results.json").read_text()) for e in (exp, finished.folder / EXP))
    assert {k: v for k, v in ours.items() if k not in ("corpus", "synthetic")} == {
        k: v for k, v in theirs.items() if k not in ("corpus", "synthetic")
    }
    assert networks(exp).keys() == networks(finished.folder / EXP).keys()
    expected = bytes_of(finished.folder / "data/demo", finished.folder / EXP)
    assert bytes_of(odd.folder / "data/librispeech", exp) == expected
    assert (exp / "report.html").is_file()
    assert not list(odd.folder.parents[1].rglob("pwned*"))
    assert sorted(path.name for path in (odd.folder / "exp").iterdir()) == [ODD_NAME]


def test_stage_2_again_gives_the_same_bytes_and_replaces_no_network(odd: Recipe) -> None:
    exp, data = odd.folder / "exp" / ODD_NAME, odd.folder / "data/librispeech"
    before = networks(exp), bytes_of(data, exp)
    done = odd.run(*odd_options(odd), "--set", "triplet.margin=0.3", "--stage", "2", "--nj", "1")
    assert done.returncode == 1 and "triplet.margin changed from 0.2 to 0.3" in done.stderr
    assert "stage 2 (data/librispeech/test): finished in" in done.stdout
    assert (networks(exp), bytes_of(data, exp)) == before


def test_another_test_part_does_not_touch_features_or_networks(odd: Recipe) -> None:
    exp, data = odd.folder / "exp" / ODD_NAME, odd.folder / "data/librispeech"
    corpus = odd.folder.parents[1] / ODD_FOLDER / "LibriSpeech"
    speakers = sorted(path.name for path in (corpus / "demo-test").iterdir())
    for speaker in speakers[:7]:
        shutil.copytree(corpus / "demo-test" / speaker, corpus / "other-test" / speaker, copy_function=os.link)
    before = networks(exp), {path: path.stat().st_mtime_ns for path in data.glob("*_nosil/*.ark")}
    done = odd.run(*odd_options(odd, "other-test"), "--set", "scoring.bootstrap=0", "--stop-stage", "7")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for finished in ("2 (data/librispeech/train)", "2 (data/librispeech/dev)", *(
        f"{n} (exp/{ODD_NAME}/{name})" for n, name in ((3, "softmax"), (4, "triplet"))
    )):  # fmt: skip
        assert f"stage {finished}: finished already, skipped" in lines
    for again in ("stage 1", "stage 2 (data/librispeech/test)", "stage 5", "stage 6", "stage 7"):
        assert any(line.startswith(again) and "starts" in line for line in lines), again
    assert networks(exp) == before[0]
    for path, time_ns in before[1].items():
        assert "test_nosil" in str(path) or path.stat().st_mtime_ns == time_ns
    results = json.loads((exp / "results.json").read_text())
    assert results["trials"]["trials_all"]["speakers"] == 7


def test_the_printed_commands_reproduce_the_results(odd: Recipe) -> None:
    """The test above has changed the test part, and the commands must reproduce that."""
    exp = odd.folder / "exp" / ODD_NAME
    markdown = (exp / "RESULTS.md").read_text(encoding="utf-8")
    commands = markdown.partition("## Commands\n\n")[2].partition("\n\n##")[0]
    assert "--max-skipped 7.0" in commands
    script = "set -e\n" + "\n".join(line.removeprefix("    ") for line in commands.splitlines())
    script = script.replace("./run.sh", "./run.sh --stop-stage 6")  # the last that changes results.json
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=odd.folder.parents[1],
        env=odd.environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-2].endswith(": OK")
    assert not list(odd.folder.parents[1].rglob("pwned*"))


# ---- a few recordings ------------------------------------------------------------------------------------


def few_recordings(folder: Path, speakers: int = 3, utterances: int = 8) -> Path:
    """Write Kaldi data directories train and test of noise with pauses."""
    generator = np.random.default_rng(0)
    for part, first in (("train", 0), ("test", 50)):
        utt2spk, wav_scp = [], []
        (folder / part / "audio").mkdir(parents=True)
        for speaker in range(first, first + speakers):
            for number in range(utterances):
                name = f"s{speaker:02d}-{number}"
                samples = 0.1 * generator.normal(size=12000)
                samples[6000:] *= 1e-3
                soundfile.write(folder / part / "audio" / f"{name}.wav", samples, 16000)
                utt2spk.append(f"{name} s{speaker:02d}\n")
                wav_scp.append(f"{name} {folder.resolve()}/{part}/audio/{name}.wav\n")
        (folder / part / "utt2spk").write_text("".join(utt2spk))
        (folder / part / "wav.scp").write_text("".join(wav_scp))
    return folder


def test_a_kaldi_corpus_in_an_odd_folder_and_a_bad_file_among_many(recipe: Recipe, tmp_path: Path) -> None:
    corpus = few_recordings(tmp_path / ODD_FOLDER)
    options = ["--corpus", "kaldi", "--corpus-dir", str(corpus), "--stop-stage", "2", "--nj", "1"]
    for name in ("s00-0", "s01-5"):
        (corpus / "train/audio" / f"{name}.wav").write_bytes(b"RIFF no audio")
    done = recipe.run(*options)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("deepspeaker: 2 of 24 train utterances had to be skipped, more than 5 % (first s00-0: ")
    assert last.endswith("or raise --max-skipped")
    done = recipe.run(*options, "--max-skipped", "10")
    assert done.returncode == 0, done.stderr
    assert f"data/{ODD_FOLDER}/train: 22 utterances" in done.stdout
    assert recipe.run(*options, "--max-skipped", "10").stdout.count("finished already, skipped") == 3
    assert not list(tmp_path.rglob("pwned*"))


def test_a_corpus_in_the_folder_that_the_recipe_writes_to_is_refused(recipe: Recipe) -> None:
    corpus = few_recordings(recipe.folder / "data/mine", speakers=2, utterances=2)
    (corpus / "test/trials").write_text("s50-0 s50-1 target\n")
    before = {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    done = recipe.run("--corpus", "kaldi", "--corpus-dir", str(corpus))
    assert (done.returncode, done.stdout) == (1, "")
    error = f"--corpus-dir {corpus}: run.sh writes to this folder; move the corpus elsewhere"
    assert done.stderr == f"deepspeaker: {error}\n"
    assert {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()} == before


def test_environment_variables_are_not_options(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("seed", "max_skipped", "nj", "corpus", "stage"):
        monkeypatch.setenv(name, "7")
    corpus = few_recordings(recipe.folder / "few", speakers=2, utterances=2)
    options = ("--corpus", "kaldi", "--corpus-dir", str(corpus), "data/x")
    done = recipe.run("--seed", "3", *options, script="local/1_data.sh")
    assert done.returncode == 0, done.stderr
    settings = json.loads((recipe.folder / "data/x/.done.1").read_text())["settings"]
    assert (settings["--seed"], settings["--max-skipped"]) == (3, 5.0)


def test_unknown_arguments_and_options_of_a_stage_are_refused(recipe: Recipe) -> None:
    for script, options, error in (
        ("local/6_score.sh", ["data/x", "exp/x", "--trials", "list"], "give options and then the arguments data/C"),
        ("local/7_report.sh", ["--bogus", "1", "data/x", "exp/x"], "No such option '--bogus'"),
        ("local/0_corpus.sh", ["--bogus", "1", "data/x"], "No such option '--bogus'"),
        ("local/3_softmax.sh", ["data/typo", "exp/typo"], "data/typo: no such folder; run the earlier stages first"),
    ):
        done = recipe.run(*options, script=script)
        assert done.returncode > 0 and len(done.stderr.splitlines()) == 1 and error in done.stderr, done.stderr
    assert not (recipe.folder / "exp").exists() and not (recipe.folder / "data").exists()
