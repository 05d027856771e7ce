"""The programs with Kaldi's names in ``utils``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

UTILS = Path(__file__).resolve().parents[2] / "utils"


Done = subprocess.CompletedProcess[str]


def run(program: str, *arguments: object, stdin: str = "", by: tuple[str, ...] = ()) -> Done:
    command = [*by, str(UTILS / program), *map(str, arguments)]
    environment = {**os.environ, "DEEPSPEAKER_PYTHON": sys.executable}
    return subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "utt2spk").write_text("a-1 a\na-2 a\nb-1 b\n")
    (folder / "spk2utt").write_text("a a-1 a-2\nb b-1\n")
    (folder / "wav.scp").write_text("a-1 /1\na-2 /2\nb-1 /3\n")
    return folder


def test_every_kaldi_name_exists() -> None:
    names = sorted(path.name for path in UTILS.iterdir() if path.is_symlink())
    shell = ["combine_data", "copy_data_dir", "fix_data_dir", "split_data", "subset_data_dir", "validate_data_dir"]
    perl = ["filter_scp", "spk2utt_to_utt2spk", "split_scp", "utt2spk_to_spk2utt"]
    expected = [f"{name}.{ending}" for name in shell for ending in ("py", "sh")]
    expected += [f"{name}.{ending}" for name in perl for ending in ("py", "pl")]
    assert names == sorted([*expected, "compute_eer.py", "compute_min_dcf.py", "plot_det.py"])


def test_validating_and_fixing(data: Path) -> None:
    done = run("validate_data_dir.sh", "--no-feats", "--no-text", data)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"validate_data_dir.sh: Successfully validated data-directory {data}\n"
    (data / "wav.scp").write_text("b-1 /3\na-1 /1\n")
    done = run("validate_data_dir.py", "--no-feats", "--no-text", data, by=(sys.executable,))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"{data}/wav.scp:2: a-1 after b-1 is not the order of LC_ALL=C sort; utils/fix_data_dir.sh fixes it",
        f"{data}/utt2spk:2: 1 utterance not in wav.scp (first: a-2); add to wav.scp or remove here; "
        "utils/fix_data_dir.sh fixes it",
        f"deepspeaker: {data}: is not a valid data directory (2 problems)",
    ]
    done = run("fix_data_dir.sh", data, by=("bash",))
    assert "kept 2 utterances out of 3" in done.stdout
    assert run("validate_data_dir.sh", "--no-feats", "--no-text", "--non-print", data).returncode == 0
    assert run("validate_data_dir.sh", "--no-such-option", data).returncode == 2


def test_text_utilities_in_pipes(data: Path) -> None:
    spk2utt = run("utt2spk_to_spk2utt.pl", data / "utt2spk").stdout
    assert spk2utt == (data / "spk2utt").read_text()
    assert run("spk2utt_to_utt2spk.pl", stdin=spk2utt).stdout == (data / "utt2spk").read_text()
    ids = data.parent / "ids"
    ids.write_text("a 1\n")
    assert run("filter_scp.pl", "-f", "2", ids, data / "utt2spk").stdout == "a-1 a\na-2 a\n"
    assert run("filter_scp.py", "--exclude", "-f", "2", ids, stdin="x a\ny\tb \n").stdout == "y\tb \n"
    done = run("filter_scp.pl", ids, stdin="a\n\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "deepspeaker: -:2: expected a key, found ''\n"


def test_splitting_lists(data: Path) -> None:
    parts = [data.parent / str(number) for number in (1, 2)]
    assert run("split_scp.pl", f"--utt2spk={data / 'utt2spk'}", data / "wav.scp", *parts).returncode == 0
    assert [part.read_text() for part in parts] == ["a-1 /1\na-2 /2\n", "b-1 /3\n"]
    assert run("split_scp.pl", "-j", 3, 1, data / "wav.scp").stdout == "a-2 /2\n"
    assert run("split_scp.pl", "-j", 3, 1, "--one-based", data / "wav.scp").stdout == "a-1 /1\n"
    assert run("split_scp.pl", "-j", 3, 3, data / "wav.scp").returncode == 2
    assert run("split_scp.pl", data / "wav.scp", *"abcd").returncode == 1


def test_splitting_copying_combining_and_subsets(data: Path) -> None:
    base = data.parent
    assert run("split_data.sh", "--per-utt", data, 3).returncode == 0
    assert (data / "split3utt" / "3" / "wav.scp").read_text() == "b-1 /3\n"
    assert run("copy_data_dir.sh", "--spk-prefix=p-", "--utt-prefix", "p-", data, base / "copy").returncode == 0
    assert run("combine_data.sh", base / "all", data, base / "copy").returncode == 0
    done = run("subset_data_dir.sh", "--per-spk", base / "all", 1, base / "some")
    assert (done.returncode, done.stdout) == (0, "subset_data_dir.sh: reducing #utt from 6 to 4\n")
    assert (base / "some" / "wav.scp").read_text() == "a-1 /1\nb-1 /3\np-a-1 /1\np-b-1 /3\n"
    (base / "ids").write_text("b-1\n")
    assert run("subset_data_dir.sh", "--utt-list", base / "ids", data, base / "one").returncode == 0
    assert (base / "one" / "spk2utt").read_text() == "b b-1\n"
    assert run("subset_data_dir.sh", data, base / "x").returncode == 2
    assert run("copy_data_dir.sh", "--validate-opts", "--nonsense", data, base / "x").returncode == 2
