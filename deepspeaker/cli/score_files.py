"""Sub-commands for score files of any toolkit: compute-eer, compute-min-dcf and plot-det."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deepspeaker.cli.options import FILE, commands, seed_option

_left_out_option = click.option(
    "--left-out", type=FILE, default=None, help="file for the scores without a trial and the trials without a score"
)


@commands.command("compute-eer")
@click.option("--utt2spk", type=FILE, default=None, help="speakers of the ids; adds a 95 % confidence interval")
@click.option("--bootstrap", type=click.IntRange(2), default=1000, show_default=True, help="number of bootstrap draws")
@seed_option
@click.option(
    "--false-acceptance",
    type=float,
    multiple=True,
    metavar="RATE",
    help="adds threshold and misses at this rate, such as 0.01",
)
@_left_out_option
@click.argument("scores", type=FILE)
@click.argument("trials", type=FILE, required=False)
def compute_eer(
    utt2spk: Path | None,
    bootstrap: int,
    seed: int,
    false_acceptance: tuple[float, ...],
    left_out: Path | None,
    scores: Path,
    trials: Path | None,
) -> None:
    """Print the EER of a score file of any toolkit. TRIALS is not needed if the scores have labels."""
    from deepspeaker.cli.score_figures import eer_of_file

    print(eer_of_file(scores, trials, utt2spk, bootstrap, seed, left_out, false_acceptance))


@commands.command("compute-min-dcf")
@click.option("--p-target", type=float, default=0.01, show_default=True, help="prior probability of a target trial")
@click.option("--c-miss", type=float, default=1.0, show_default=True, help="cost of a miss")
@click.option("--c-fa", type=float, default=1.0, show_default=True, help="cost of a false alarm")
@click.option("--llr", is_flag=True, help="scores are log-likelihood ratios; adds actDCF and Cllr (on stderr)")
@_left_out_option
@click.argument("scores", type=FILE)
@click.argument("trials", type=FILE, required=False)
def compute_min_dcf(
    p_target: float,
    c_miss: float,
    c_fa: float,
    llr: bool,
    left_out: Path | None,
    scores: Path,
    trials: Path | None,
) -> None:
    """Print the minimum detection cost of a score file of any toolkit. TRIALS is not needed if the scores have labels.

    Like Kaldi's program, it prints only the number on stdout, and everything else on stderr.
    """
    from deepspeaker.cli.score_figures import min_dcf_of_file

    cost, line = min_dcf_of_file(scores, trials, p_target, c_miss, c_fa, left_out, llr)
    print(f"{cost:.4f}")
    print(line, file=sys.stderr)


@commands.command("plot-det")
@click.option("--trials", type=FILE, default=None, help="trial list; not needed if the scores have labels")
@click.option("--output", type=FILE, required=True, help="a PNG, SVG or PDF file")
@click.option("--title", default="Detection error trade-off", show_default=True)
@click.argument("scores", type=FILE, nargs=-1, required=True)
def plot_det(trials: Path | None, output: Path, title: str, scores: tuple[Path, ...]) -> None:
    """Plot the DET curves of score files of any toolkit, and print their EER and minDCF as a table."""
    from deepspeaker.cli.score_figures import plot_files

    print(plot_files(scores, trials, output, title))
