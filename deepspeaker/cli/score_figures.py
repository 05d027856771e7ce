"""Metrics of score files from any toolkit, as printed by utils/compute_eer.py, compute_min_dcf.py and plot_det.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write
from deepspeaker.kaldi import read_table
from deepspeaker.metrics import (
    P_TARGETS,
    DetPoints,
    SpeakerBootstrap,
    act_dcf,
    cllr,
    det_points,
    equal_error_rate,
    false_acceptance_point,
    min_cllr,
    min_dcf,
    min_dcf_point,
)
from deepspeaker.report import Table, aligned, figure_kind, plot_det
from deepspeaker.results import format_rate
from deepspeaker.trials import LabelledScores, read_labelled_scores


def eer_of_file(
    scores: Path,
    trials: Path | None,
    utt2spk: Path | None,
    replicates: int,
    seed: int,
    left_out: Path | None = None,
    false_acceptance: Sequence[float] = (),
) -> str:
    """Return a line with the EER, its threshold and the number of trials.

    Scores without a trial and trials without a score are left out. A message on stderr counts them and names the first
    ten.

    Parameters
    ----------
    scores, trials : Path
        Score file and trial list. The list is not needed if the scores have labels.
    utt2spk : Path, optional
        Speakers of the ids. With it, the line contains the 95 % confidence interval.
    replicates, seed : int
        Number and seed of the bootstrap draws.
    left_out : Path, optional
        File for all scores without a trial and all trials without a score.
    false_acceptance : sequence of float
        For each of these false-acceptance rates, another line shows threshold and error rates.
    """
    read, points = _read(scores, trials, left_out)
    rate, threshold = equal_error_rate(points)
    interval = None
    if utt2spk is not None:
        bootstrap = _bootstrap(read, scores, utt2spk)
        interval = list(bootstrap.interval(rate, bootstrap.replicates(replicates, seed).eer))
    target = int(read.is_target.sum())
    lines = [
        f"EER {format_rate(rate, interval)} % at threshold {threshold:.6g}; "
        f"{target:,} target and {len(read.is_target) - target:,} non-target trials"
    ]
    for max_rate in false_acceptance:
        at, p_miss, p_fa = false_acceptance_point(points, max_rate)
        lines.append(
            f"at most {100 * max_rate:g} % false acceptance: threshold {at:.6g}, "
            f"misses {100 * p_miss:.2f} %, false alarms {100 * p_fa:.3f} %"
        )
    return "\n".join(lines)


def min_dcf_of_file(
    scores: Path,
    trials: Path | None,
    p_target: float,
    c_miss: float,
    c_fa: float,
    left_out: Path | None = None,
    llr: bool = False,
) -> tuple[float, str]:
    """Return the minimum detection cost, and a line about it in the format of Kaldi's ``compute_min_dcf.py``.

    If the scores are log-likelihood ratios (``llr``), a second line gives the actual detection cost and Cllr. The other
    parameters are those of `eer_of_file` and `min_dcf`.
    """
    read, points = _read(scores, trials, left_out)
    cost = min_dcf(points, p_target, c_miss, c_fa)
    threshold, p_miss, p_fa = min_dcf_point(points, p_target, c_miss, c_fa)
    line = (
        f"minDCF is {cost:.4f} at threshold {threshold:.4f} (p-target={p_target:g}, c-miss={c_miss:g}, "
        f"c-fa={c_fa:g}); misses {100 * p_miss:.2f} %, false alarms {100 * p_fa:.3f} %"
    )
    if not llr:
        return cost, line
    targets, nontargets = read.scores[read.is_target], read.scores[~read.is_target]
    actual = act_dcf(targets, nontargets, p_target, c_miss, c_fa)
    bayes = np.log(c_fa * (1 - p_target) / (c_miss * p_target))
    bits, min_bits = cllr(targets, nontargets), min_cllr(targets, nontargets)
    return cost, f"{line}\nactDCF {actual:.4f} at threshold {bayes:.4f}; Cllr {bits:.4f} bits, minCllr {min_bits:.4f}"


def plot_files(scores: Sequence[Path], trials: Path | None, output: Path, title: str) -> str:
    """Plot the DET curves of score files to a PNG, SVG or PDF, and return their EER and minDCF as a table."""
    figure_kind(output)  # reject a wrong extension before the long computation
    names = [path.name for path in scores]
    if len(set(names)) < len(names):
        names = [str(path) for path in scores]
    curves, rows = {}, []
    for name, path in zip(names, scores, strict=True):
        read, points = _read(path, trials)
        target = int(read.is_target.sum())
        costs = [f"{min_dcf(points, p):.3f}" for p in P_TARGETS]
        counts = [f"{target:,}", f"{len(read.is_target) - target:,}"]
        rows.append([name, *counts, format_rate(equal_error_rate(points)[0]), *costs])
        curves[name] = points
    plot_det(curves, output, title, P_TARGETS)
    head = ["scores", "target", "non-target", "EER %", *(f"minDCF({p:g})" for p in P_TARGETS)]
    return f"{aligned(Table(title, head, rows, 1))}\n\nDET curves: {output}"


def _read(scores: Path, trials: Path | None, left_out: Path | None = None) -> tuple[LabelledScores, DetPoints]:
    read = read_labelled_scores(scores, trials)
    lines = []
    for what, pairs in (("scores without a trial", read.without_trial), ("trials without a score", read.without_score)):
        if pairs:
            shown = "; ".join(pairs[:10]) + ("; ..." if len(pairs) > 10 else "")
            where = f" (all in {left_out})" if left_out else " (--left-out FILE lists all)" if len(pairs) > 10 else ""
            print(f"{scores}: {len(pairs):,} {what} left out{where}: {shown}", file=sys.stderr)
            lines += [f"{pair} {what}\n" for pair in pairs]
    if left_out is not None:
        atomic_write(left_out, "".join(lines))
    try:
        targets, nontargets = read.scores[read.is_target], read.scores[~read.is_target]  # copies
        return read, det_points(targets, nontargets, overwrite_input=True)
    except InputError as error:
        raise InputError(f"{scores}: {error}") from None


def _bootstrap(read: LabelledScores, scores: Path, utt2spk: Path) -> SpeakerBootstrap:
    if not read.ids:
        raise InputError(f"{scores}: has no utterance ids; omit --utt2spk, or give a file with enrolment and test ids")
    table = read_table(utt2spk)
    number = {speaker: n for n, speaker in enumerate(sorted(set(table.values())))}
    speaker = np.array([number[table[name]] if name in table else -1 for name in read.ids])
    sides = [speaker[read.enrolment], speaker[read.test]]
    unknown = np.unique(np.concatenate([read.enrolment[sides[0] < 0], read.test[sides[1] < 0]]))
    if len(unknown):
        raise InputError(
            f"{utt2spk}: {read.ids[unknown[0]]} of {scores} is missing ({len(unknown):,} in all); add the speakers"
        )
    contradicts = (sides[0] == sides[1]) != read.is_target
    if contradicts.any():
        trial = int(np.flatnonzero(contradicts)[0])
        pair = f"{read.ids[read.enrolment[trial]]} {read.ids[read.test[trial]]}"
        raise InputError(f"{utt2spk}: contradicts the label of trial {pair}; correct one of them")
    used = np.unique(np.concatenate(sides))
    return SpeakerBootstrap(
        read.scores, read.is_target, np.searchsorted(used, sides[0]), np.searchsorted(used, sides[1])
    )
