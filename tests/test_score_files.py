"""The programs for score files of any toolkit, run from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepspeaker.metrics import (
    act_dcf,
    cllr,
    det_points,
    equal_error_rate,
    false_acceptance_point,
    min_dcf,
    min_dcf_point,
)

UTILS = Path(__file__).parents[1] / "utils"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """Return a folder with scores, trials and utt2spk of ten speakers, the scores and the labels."""
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(10), 4)
    embeddings = generator.normal(size=(10, 4))[speakers] + 0.7 * generator.normal(size=(40, 4))
    first, second = np.triu_indices(40, 1)
    values, labels = (embeddings[first] * embeddings[second]).sum(axis=1), speakers[first] == speakers[second]
    names = [f"s{speaker}-{number}" for number, speaker in enumerate(speakers)]
    pairs = [f"{names[a]} {names[b]}" for a, b in zip(first, second, strict=True)]
    (tmp_path / "scores").write_text("".join(f"{p} {v}\n" for p, v in zip(pairs, values, strict=True)))
    words = np.where(labels, "target", "nontarget")
    (tmp_path / "trials").write_text("".join(f"{p} {w}\n" for p, w in zip(pairs, words, strict=True)))
    (tmp_path / "utt2spk").write_text("".join(f"{n} {n.split('-')[0]}\n" for n in names))
    return tmp_path, values, labels


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [UTILS / program, *map(str, arguments)]
    environment = os.environ | {"DEEPSPEAKER_PYTHON": sys.executable}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_eer_with_interval(files: tuple[Path, np.ndarray, np.ndarray]) -> None:
    folder, values, labels = files
    points = det_points(values[labels], values[~labels])
    rate = f"{100 * equal_error_rate(points)[0]:.2f}"
    plain = run("compute_eer.py", folder / "scores", folder / "trials")
    assert plain.returncode == 0
    assert plain.stdout.startswith(f"EER {rate} % at threshold ")
    assert plain.stdout.endswith("60 target and 720 non-target trials\n")
    with_interval = run("compute_eer.py", "--utt2spk", folder / "utt2spk", folder / "scores", folder / "trials")
    assert with_interval.stdout.startswith(f"EER {rate} [")


def test_min_dcf_is_printed_as_by_kaldi(files: tuple[Path, np.ndarray, np.ndarray]) -> None:
    """Only the number is on stdout: scripts read it with ``$(sid/compute_min_dcf.py ... 2>/dev/null)``."""
    folder, values, labels = files
    points = det_points(values[labels], values[~labels])
    for options, costs in (
        ([], (0.01, 1.0, 1.0)),
        (["--p-target", 0.05, "--c-miss", 2], (0.05, 2.0, 1.0)),
        (["--c-fa", 3, "--c-miss=10", "--p-target=0.5"], (0.5, 10.0, 3.0)),
    ):
        done = run("compute_min_dcf.py", *options, folder / "scores", folder / "trials")
        assert done.returncode == 0
        assert done.stdout == f"{min_dcf(points, *costs):.4f}\n"
        at = min_dcf_point(points, *costs).threshold
        assert done.stderr.startswith(
            f"minDCF is {done.stdout.strip()} at threshold {at:.4f} "
            f"(p-target={costs[0]:g}, c-miss={costs[1]:g}, c-fa={costs[2]:g})"
        )


def test_false_acceptance_and_log_likelihood_ratios(files: tuple[Path, np.ndarray, np.ndarray]) -> None:
    folder, values, labels = files
    points = det_points(values[labels], values[~labels])
    pair = (folder / "scores", folder / "trials")
    done = run("compute_eer.py", "--false-acceptance", 0.1, "--false-acceptance", 0.01, *pair)
    for line, rate in zip(done.stdout.splitlines()[1:], (0.1, 0.01), strict=True):
        at, p_miss, p_fa = false_acceptance_point(points, rate)
        assert line == (
            f"at most {100 * rate:g} % false acceptance: threshold {at:.6g}, "
            f"misses {100 * p_miss:.2f} %, false alarms {100 * p_fa:.3f} %"
        )
    done = run("compute_min_dcf.py", "--llr", "--p-target", 0.1, "--c-fa", 3, *pair)
    actual, bits = act_dcf(values[labels], values[~labels], 0.1, 1.0, 3.0), cllr(values[labels], values[~labels])
    assert done.stdout == f"{min_dcf(points, 0.1, 1.0, 3.0):.4f}\n"
    assert f"\nactDCF {actual:.4f} at threshold 3.2958; Cllr {bits:.4f} bits" in done.stderr


def test_det_plot(files: tuple[Path, np.ndarray, np.ndarray]) -> None:
    folder = files[0]
    done = run("plot_det.py", "--trials", folder / "trials", "--output", folder / "det.png", folder / "scores")
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "det.png").read_bytes().startswith(b"\x89PNG")
    points = det_points(files[1][files[2]], files[1][~files[2]])
    lines = done.stdout.splitlines()
    assert lines[0] == "Detection error trade-off" and lines[2].split()[:4] == ["scores", "target", "non-target", "EER"]
    costs = [f"{min_dcf(points, p):.3f}" for p in (0.05, 0.01, 0.001)]
    assert lines[4].split() == ["scores", "60", "720", f"{100 * equal_error_rate(points)[0]:.2f}", *costs]
    assert lines[-1] == f"DET curves: {folder / 'det.png'}"
    refused = run("plot_det.py", "--output", folder / "det.jpg", folder / "none")
    assert "det.jpg: figures are written as png, svg, pdf" in refused.stderr


def test_errors_are_one_line(files: tuple[Path, np.ndarray, np.ndarray]) -> None:
    folder = files[0]
    for program, arguments, message in (
        ("compute_eer.py", [folder / "none"], "none: no such file"),
        ("compute_eer.py", [folder / "scores"], "scores: has no labels; give the trial list too"),
        ("compute_min_dcf.py", ["--p-target", 2, folder / "scores", folder / "trials"], "p_target is 2"),
    ):
        done = run(program, *arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    table = folder / "utt2spk"
    table.write_text(table.read_text().replace("s1-4 s1", "s1-4 s2"))
    done = run("compute_eer.py", "--utt2spk", table, folder / "scores", folder / "trials")
    assert "contradicts the label of trial" in done.stderr
    table.write_text("s0-0 s0\n")
    done = run("compute_eer.py", "--utt2spk", table, folder / "scores", folder / "trials")
    assert "is missing (" in done.stderr


def test_unmatched_scores_and_trials_are_reported(files: tuple[Path, np.ndarray, np.ndarray]) -> None:
    folder = files[0]
    lines = (folder / "trials").read_text().splitlines()
    (folder / "trials").write_text("\n".join(lines[12:]) + "\nx y nontarget\n")
    plain = run("compute_eer.py", folder / "scores", folder / "trials")
    first = " ".join(lines[0].split()[:2])
    assert f"12 scores without a trial left out (--left-out FILE lists all): {first}; " in plain.stderr
    assert "1 trials without a score left out: x y\n" in plain.stderr
    done = run("compute_min_dcf.py", "--left-out", folder / "all", folder / "scores", folder / "trials")
    assert done.returncode == 0
    assert f"left out (all in {folder}/all)" in done.stderr
    listed = (folder / "all").read_text().splitlines()
    assert listed[-1] == "x y trials without a score"
    assert [line.removesuffix(" scores without a trial") for line in listed[:-1]] == [
        line.rpartition(" ")[0] for line in lines[:12]
    ]
