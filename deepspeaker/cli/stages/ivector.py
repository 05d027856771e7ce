"""Stage 5: the i-vector baseline, in the steps that local/5_ivector.sh runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepspeaker.cli.options import (
    FOLDER,
    allow_pipes_option,
    commands,
    config_options,
    data_dir_option,
    data_dirs_argument,
    exp_dir_option,
    load,
    max_skipped_option,
    num_jobs_option,
    posteriors_option,
    seed_option,
    shard_options,
    stage,
)
from deepspeaker.stages import Stage, digest_of

if TYPE_CHECKING:
    from deepspeaker.config import Config
    from deepspeaker.ivector import IVectorTraining

_MODELS = click.Choice(["ubm", "extractor"])
_MFCC = Stage(
    5,
    root="{data_dir}_mfcc",
    keys=(
        "ivector.mfcc",
        *(f"features.{key}" for key in ("sampling_rate", "low_freq", "high_freq")),
        *(f"features.{key}" for key in ("frame_length", "frame_shift", "vad")),
    ),
    options=("max_skipped",),
    after=("{data_dir}/.done.2",),
    required=("feats.scp",),
    stale=(".shards",),
    in_shards=True,
    each="data_dir",
    lock_dir="{data_dir.parent}",
)


def _dev_mark(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    dev = options["data_dir"] / "dev_mfcc"
    return {"stage 5 (dev_mfcc)": digest_of(dev / ".done.5")} if dev.is_dir() else {}


#: All steps of the training are one stage, with one mark.
_TRAINING = Stage(
    5,
    root="{exp_dir}/ivector",
    keys=(
        *(f"ivector.{key}" for key in ("mfcc", "components", "full_covariance", "ubm_iterations", "variance_floor")),
        *("ivector.dim", "ivector.iterations", "features"),
    ),
    options=("seed", "posteriors"),
    after=("{data_dir}/train_mfcc/.done.5", "{data_dir}/test_mfcc/.done.5"),
    extra=_dev_mark,
    required=("network.json", "embeddings_test/xvector.scp", "embeddings_train/xvector.scp"),
    stale=("network.json", ".work", "embeddings_*"),
    in_shards=True,
    lock_dir="{exp_dir}",
    input_dir="{data_dir}",
)


def _training(config: Config, data_dir: Path, exp_dir: Path, posteriors: Path | None, seed: int) -> IVectorTraining:
    from deepspeaker.ivector import IVECTOR, IVectorTraining

    options = config.ivector
    return IVectorTraining(
        data_dir,
        exp_dir / IVECTOR,
        posteriors,
        components=options.components,
        dim=options.dim,
        full_covariance=options.full_covariance,
        ubm_iterations=options.ubm_iterations,
        iterations=options.iterations,
        variance_floor=options.variance_floor,
        seed=seed,
    )


@commands.group()
def ivector() -> None:
    """Stage 5: the steps of the i-vector baseline."""


@ivector.command()
@config_options
@posteriors_option
@click.argument("data_dir", type=FOLDER)
def check(config: Path, overrides: tuple[str, ...], posteriors: Path | None, data_dir: Path) -> None:
    """Check that DATA_DIR, such as data/C, suffices for i-vectors, after stage 2.

    Prints the number of iterations for the UBM and for the total variability matrix.
    """
    from deepspeaker.ivector import check_data

    training = _training(load(config, overrides), data_dir, Path(), posteriors, 0)
    check_data(training)
    print(training.all_ubm_iterations, training.iterations)


@ivector.command()
@shard_options
@allow_pipes_option
@max_skipped_option
@data_dirs_argument
@stage(_MFCC)
def mfcc(
    config: Config, job: int, num_jobs: int, allow_pipes: bool, max_skipped: float, data_dir: tuple[Path, ...]
) -> None:
    """Compute the MFCCs of one shard of each data directory, for speech frames."""
    from deepspeaker.ivector import compute_mfcc_shard

    features, options = config.features, config.ivector.mfcc
    band = features.model_dump(include={"low_freq", "high_freq", "frame_length", "frame_shift"})
    for folder in data_dir:
        compute_mfcc_shard(
            folder,
            job,
            num_jobs,
            sampling_rate=features.sampling_rate,
            mfcc=band | options.model_dump(include={"num_ceps", "num_bins"}),
            cmvn=options.cmvn,
            window=options.cmvn_window,
            vad=features.vad.model_dump(),
            allow_pipes=allow_pipes,
        )


@ivector.command("collect-mfcc")
@num_jobs_option
@max_skipped_option
@data_dirs_argument
@stage(Stage(5, root="{data_dir}_mfcc", options=("max_skipped",), each="data_dir"))
def collect_mfcc(num_jobs: int, max_skipped: float, data_dir: tuple[Path, ...]) -> None:
    """Join the shards of "ivector mfcc"."""
    from deepspeaker.ivector import collect_mfcc_shards

    for folder in data_dir:
        print(collect_mfcc_shards(folder, num_jobs, max_skipped))


@ivector.command()
@shard_options
@click.option("--iteration", type=click.IntRange(1), required=True, help="number of the iteration")
@seed_option
@posteriors_option
@data_dir_option
@exp_dir_option
@click.argument("model", type=_MODELS)
@stage(_TRAINING)
def accumulate(
    config: Config,
    job: int,
    num_jobs: int,
    iteration: int,
    seed: int,
    posteriors: Path | None,
    data_dir: Path,
    exp_dir: Path,
    model: Any,
) -> None:
    """Collect the statistics of one shard of the training part for an iteration of EM."""
    _training(config, data_dir, exp_dir, posteriors, seed).accumulate(model, iteration, job, num_jobs)


@ivector.command()
@num_jobs_option
@click.option("--iteration", type=click.IntRange(0), required=True, help="number of the iteration; 0 is k-means")
@seed_option
@posteriors_option
@data_dir_option
@exp_dir_option
@click.argument("model", type=_MODELS)
@stage(_TRAINING)
def update(
    config: Config,
    num_jobs: int,
    iteration: int,
    seed: int,
    posteriors: Path | None,
    data_dir: Path,
    exp_dir: Path,
    model: Any,
) -> None:
    """Make the model of an iteration from the statistics of all shards."""
    line = _training(config, data_dir, exp_dir, posteriors, seed).update(model, iteration, num_jobs)
    if line:
        print(line)


@ivector.command()
@shard_options
@seed_option
@posteriors_option
@data_dir_option
@exp_dir_option
@stage(_TRAINING)
def statistics(
    config: Config, job: int, num_jobs: int, seed: int, posteriors: Path | None, data_dir: Path, exp_dir: Path
) -> None:
    """Compute the Baum-Welch statistics of one shard of each part."""
    _training(config, data_dir, exp_dir, posteriors, seed).statistics(job, num_jobs)


@ivector.command()
@shard_options
@seed_option
@posteriors_option
@data_dir_option
@exp_dir_option
@stage(_TRAINING)
def extract(
    config: Config, job: int, num_jobs: int, seed: int, posteriors: Path | None, data_dir: Path, exp_dir: Path
) -> None:
    """Compute the i-vectors of one shard of each part."""
    _training(config, data_dir, exp_dir, posteriors, seed).extract(job)


@ivector.command()
@num_jobs_option
@seed_option
@posteriors_option
@data_dir_option
@exp_dir_option
@stage(_TRAINING)
def collect(
    config: Config, num_jobs: int, seed: int, posteriors: Path | None, data_dir: Path, exp_dir: Path
) -> None:
    """Join the shards of "ivector extract", and keep the models."""
    for line in _training(config, data_dir, exp_dir, posteriors, seed).collect(num_jobs, config.model_dump()):
        print(line)
