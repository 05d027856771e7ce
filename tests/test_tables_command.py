"""What ``tables.sh`` refuses before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from deepspeaker.cli import commands
from tests.recipe.tiny import PROJECT


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "conf").symlink_to(PROJECT / "conf")
    for name in ("corpus/train", "corpus/test", "words/train", "words/test"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


KALDI = ("--corpus", "kaldi", "--corpus-dir", "corpus")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--table", "12"), "12 is not in the range 1<=x<=11"),
        (("--seeds", "0 0"), "--seeds 0 0: give different numbers"),
        (("--seeds", "one"), "--seeds one: give different numbers"),
        (("--table", "9", *KALDI), "--table 9: no corpus with a fixed phrase; give --phrase-corpus-dir DIR"),
        (("--table", "10", *KALDI), "--table 10: no corpus in another language; give --other-corpus-dir DIR"),
        (("--phrase-corpus-dir", "words", *KALDI), "words/test: has no utt2phrase or utt2word"),
        (("--other-corpus-dir", "nowhere", *KALDI), "--other-corpus-dir nowhere: no such file or folder"),
        (("--gru-config", "conf/default.yaml", *KALDI), "its network is rescnn; the tables need gru here"),
        (("--set", "softmax.epochs=0"), "softmax.epochs and triplet.epochs must be at least 1"),
        (("--set", "softmax.epoch=1"), "softmax.epoch is unknown; did you mean epochs?"),
    ],
)
def test_bad_input_ends_in_one_line_before_anything_runs(recipe: Path, words: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(commands, ["tables", *words])
    assert result.exit_code != 0
    shown = result.output + str(result.exception)
    assert message in shown, shown
    assert not (recipe / "exp").exists()


def test_a_failing_run_is_one_line_with_its_log(recipe: Path) -> None:
    script = recipe / "run.sh"
    script.write_text("#!/bin/sh\necho working\necho 'deepspeaker: the disk is full' >&2\nexit 1\n", encoding="utf-8")
    script.chmod(0o755)
    result = CliRunner().invoke(commands, ["tables", "--table", "6", *KALDI])
    assert str(result.exception).startswith("the disk is full (log: ")
    assert (recipe / "exp/tables_corpus/log/main.log").read_text().startswith("working")
