"""Stage 5 (embeddings), stage 6 (scores) and stage 7 (the report)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepspeaker.cli.options import (
    FOLDER,
    allow_overlap_option,
    commands,
    config_options,
    data_dir_option,
    device_option,
    embedded_parts_option,
    exp_dir_option,
    has_pretraining,
    load,
    max_skipped_option,
    num_jobs_option,
    seed_option,
    shard_options,
    stage,
    trial_options,
)
from deepspeaker.stages import Stage, digest_of, options_of

if TYPE_CHECKING:
    from deepspeaker.config import Config

# ---- stage 5: embeddings ---------------------------------------------------------------------------------


@commands.command("parts-to-embed")
@config_options
def parts_to_embed(config: Path, overrides: tuple[str, ...]) -> None:
    """Stage 5: print the parts that need embeddings."""
    from deepspeaker.backends import needed_parts

    print(" ".join(["test", *needed_parts(load(config, overrides).scoring.backends)]))


def _systems(options: Mapping[str, Any]) -> list[str]:
    """Return the systems of an experiment, whose stage 4 tells whether it has pre-training."""
    trained = options_of(options["exp_dir"] / "triplet" / ".done.4")
    return ["untrained", *(["softmax"] if has_pretraining(trained) else []), "triplet"]


def _stage_3(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    if "softmax" not in _systems(options):
        return {}
    return {"stage 3 (softmax)": digest_of(options["exp_dir"] / "softmax" / ".done.3")}


def _embeddings(options: Mapping[str, Any]) -> list[str]:
    files = ("embeddings_test/xvector.scp", "network.json")
    return [f"{system}/{name}" for system in _systems(options) for name in files]


@commands.command("embed-systems")
@shard_options
@device_option
@embedded_parts_option
@data_dir_option
@exp_dir_option
@stage(
    Stage(
        5,
        root="{exp_dir}",
        keys=("embedding", "scoring.training_utterances"),
        options=("parts",),
        after=("{data_dir}/test/.done.2", "{exp_dir}/triplet/.done.4"),
        extra=_stage_3,
        required=_embeddings,
        stale=("*/embeddings_*/.shards", "*/embeddings_*/xvector.scp"),
        in_shards=True,
        input_dir="{data_dir}",
    )
)
def embed_systems(
    config: Config, job: int, num_jobs: int, device: str, parts: str, data_dir: Path, exp_dir: Path
) -> None:
    """Stage 5: embed one shard with every system.

    The systems are the network before training, after softmax (unless it was trained without) and after triplet
    training.
    """
    from deepspeaker.embedding import embed_systems as embed

    embed(
        data_dir,
        exp_dir,
        parts.split(),
        job,
        num_jobs,
        device=device,
        which=config.embedding.checkpoint,
        training_utterances=config.scoring.training_utterances,
    )


@commands.command("collect-systems")
@num_jobs_option
@embedded_parts_option
@data_dir_option
@exp_dir_option
@stage(Stage(5, root="{exp_dir}", options=("parts",)))
def collect_systems(num_jobs: int, parts: str, data_dir: Path, exp_dir: Path) -> None:
    """Stage 5: join the shards of "embed-systems".

    The mean embedding of each speaker is written too.
    """
    from deepspeaker.embedding import collect_embeddings, embeddings_dir, read_network, systems_of

    for system in systems_of(exp_dir):
        network = read_network(exp_dir / system)
        for part in parts.split():
            output = embeddings_dir(exp_dir, system, part)
            if (output / "xvector.scp").is_file() and not (output / ".shards").is_dir():
                continue  # joined before an interruption
            print(collect_embeddings(data_dir / f"{part}_nosil", output, num_jobs), end=", ")
            print(f"by {network['checkpoint']} ({network['reason']})")


@commands.command("embed-shard")
@config_options
@shard_options
@device_option
@click.option("--training", type=bool, default=False, help="embed at most scoring.training_utterances of each speaker")
@click.argument("data_dir", type=FOLDER)
@click.argument("system_dir", type=FOLDER)
@click.argument("output", type=FOLDER)
def embed_shard(
    config: Path,
    overrides: tuple[str, ...],
    job: int,
    num_jobs: int,
    device: str,
    training: bool,
    data_dir: Path,
    system_dir: Path,
    output: Path,
) -> None:
    """Embed one shard of any data directory with one system.

    DATA_DIR must have normalised speech frames, as the directories *_nosil of stage 2 have. SYSTEM_DIR is the folder of
    a system, such as exp/E/triplet.
    """
    settings = load(config, overrides)
    from deepspeaker.embedding import choose_checkpoint
    from deepspeaker.embedding import embed_shard as embed

    checkpoint, _ = choose_checkpoint(system_dir, settings.embedding.checkpoint)
    limit = settings.scoring.training_utterances if training else None
    embed(data_dir, checkpoint, output, job, num_jobs, device, limit)


@commands.command("collect-embeddings")
@num_jobs_option
@click.argument("data_dir", type=FOLDER)
@click.argument("output", type=FOLDER)
def collect_embeddings(num_jobs: int, data_dir: Path, output: Path) -> None:
    """Join the shards of "embed-shard".

    The mean embedding of each speaker is written too.
    """
    from deepspeaker.embedding import collect_embeddings as collect

    print(collect(data_dir, output, num_jobs))


# ---- stages 6 and 7: scores and report -------------------------------------------------------------------


def _inputs_of_scoring(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    """Return digests of the embeddings, the enrolment models beside each trial list and the experiment to fuse with."""
    from deepspeaker.files import sha256_of

    networks, ivectors = options["exp_dir"] / ".done.5", options["exp_dir"] / "ivector" / ".done.5"
    found: dict[str, object] = {}
    if ivectors.is_file():
        found["stage 5 (ivector)"] = digest_of(ivectors)
    if networks.is_file() or not found:
        found["stage 5"] = digest_of(networks)
    for path in options["trials"] if options["enrolment"] is None else ():
        models = path.with_name(f"{path.name}.spk2utt")
        if models.is_file():
            found[f"enrolment models {models.name}"] = sha256_of(models)
    if config and config.scoring.fuse_with:
        found[f"stage 5 of {config.scoring.fuse_with}"] = digest_of(Path(config.scoring.fuse_with) / ".done.5")
    return found


@commands.command()
@seed_option
@max_skipped_option
@trial_options
@allow_overlap_option
@data_dir_option
@exp_dir_option
@stage(
    Stage(
        6,
        root="{exp_dir}",
        keys=("scoring", "ivector.backends", "ivector.lda_dim", "embedding", "features.frame_shift"),
        options=("seed", "max_skipped", "trials", "enrolment", "allow_speaker_overlap"),
        after=("{data_dir}/.done.1",),
        extra=_inputs_of_scoring,
        required=("results.json",),
        stale=("*/scores_*", "*/missing_*"),
        input_dir="{data_dir}",
    )
)
def score(
    config: Config,
    seed: int,
    max_skipped: float,
    trials: tuple[Path, ...],
    enrolment: Path | None,
    allow_speaker_overlap: bool,
    data_dir: Path,
    exp_dir: Path,
) -> None:
    """Stage 6: score every system on every trial list.

    The scores and results.json go to the experiment's folder.
    """
    from deepspeaker.evaluation import evaluate

    evaluate(config, data_dir, exp_dir, seed, max_skipped, trials, enrolment, allow_speaker_overlap)


@commands.command()
@data_dir_option
@exp_dir_option
@stage(Stage(7, root="{exp_dir}", after=("{exp_dir}/.done.6",), required=("report.html",), input_dir="{data_dir}"))
def report(data_dir: Path, exp_dir: Path) -> None:
    """Stage 7: print the tables and write the report.

    The plots, RESULTS.md and report.html go to the experiment's folder.
    """
    from deepspeaker.report import write_report

    write_report(data_dir, exp_dir)


@commands.command()
@click.argument("exp_dir", type=FOLDER)
def summary(exp_dir: Path) -> None:
    """Print the main result and what to try next."""
    from deepspeaker.report import summary as summarise
    from deepspeaker.results import Results

    print(summarise(Results.read(exp_dir / "results.json"), exp_dir))
