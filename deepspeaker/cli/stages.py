"""One sub-command for each thing that a stage script asks for.

A stage's declaration says what decides its result: the configuration keys that the function can read, the options that
count, and the marks of earlier stages. All stages are in this one long module, so that there is one place to look.
Imports are inside the functions, so that the command starts at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepspeaker.cli.options import (
    FILE,
    FOLDER,
    allow_overlap_option,
    allow_pipes_option,
    commands,
    config_options,
    corpus_option,
    data_dir_option,
    device_option,
    exp_dir_option,
    init_from_option,
    load,
    max_skipped_option,
    merge_chapters_option,
    mirror_option,
    part_options,
    progress_option,
    seed_option,
    shard_options,
    stage,
    training_options,
    trial_options,
)
from deepspeaker.errors import InputError
from deepspeaker.stages import Stage, digest_of

if TYPE_CHECKING:
    from deepspeaker.config import Config

# ---- stage 0: a corpus -----------------------------------------------------------------------------------


@commands.command("make-demo")
@seed_option
@click.option("--jobs", type=click.IntRange(1), default=None, help="default: the processors")
@click.argument("folder", type=FOLDER)
@stage(
    Stage(
        0,
        root="{folder.parent}",
        keys=("demo",),
        options=("seed",),
        leaves=("corpus/SPEAKERS.TXT",),
    )
)
def make_demo(config: Config, seed: int, jobs: int | None, folder: Path) -> None:
    """Stage 0: synthesise the demo corpus (synthetic speech, offline)."""
    from deepspeaker.corpora import make_demo_corpus

    make_demo_corpus(folder, seed, **config.demo.model_dump(), jobs=jobs)
    print(f"{folder}: synthetic speech, made from seed {seed}")


@commands.command()
@click.option("--parts", default="train-clean-100 dev-clean test-clean", show_default=True, help="names, all or mini")
@mirror_option
@click.option("--md5sums", type=FILE, default=None, help="what md5sum printed of a mirror's own archives")
@progress_option
@click.argument("folder", type=FOLDER)
@stage(Stage(0, root="{folder.parent}", options=("parts",), leaves=("corpus/LibriSpeech",)))
def download(parts: str, mirror: str, md5sums: Path | None, progress: bool, folder: Path) -> None:
    """Stage 0: download parts of LibriSpeech; an interrupted download resumes."""
    from deepspeaker import corpora

    names = {"all": list(corpora.ALL_PARTS), "mini": list(corpora.MINI_PARTS)}.get(parts.strip(), parts.split())
    md5 = corpora.read_md5sums(md5sums) if md5sums else None
    where = corpora.download(folder, names, base_url=mirror, md5=md5, progress=progress)
    print(f"LibriSpeech lies in {where}")


@commands.command()
@corpus_option
@click.argument("folder", type=FOLDER)
def look(corpus: str, folder: Path) -> None:
    """Stage 0: say what a corpus on disk has."""
    from deepspeaker.corpora import find_parts, read_kaldi

    if corpus == "kaldi":
        for part, data in read_kaldi(folder).items():
            print(f"{folder}/{part}: {len(data.spk2utt)} speakers, {len(data.utt2spk)} utterances")
    elif corpus == "lhotse":
        from deepspeaker.cuts import find_cuts

        print(f"{folder}: {' '.join(path.name for path in find_cuts(folder).values())}")
    else:
        print(f"{folder}: parts {' '.join(find_parts(folder))}")


# ---- stage 1: data directories, manifests, trial lists ---------------------------------------------------


def _files_of_the_corpus(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    from deepspeaker.corpora import fingerprint

    return {"list of the corpus' files": fingerprint(options["corpus"], options["corpus_dir"])}


@commands.command()
@corpus_option
@click.option("--name", required=True, help="the corpus' name in results")
@click.option("--corpus-dir", type=FOLDER, required=True)
@part_options
@seed_option
@max_skipped_option
@allow_pipes_option
@merge_chapters_option
@allow_overlap_option
@click.argument("output", type=FOLDER)
@stage(
    Stage(
        1,
        root="{output}",
        keys=("features.frame_shift",),
        options=(
            "corpus",
            "name",
            "train_parts",
            "dev_parts",
            "test_parts",
            "seed",
            "max_skipped",
            "merge_chapters",
            "allow_speaker_overlap",
        ),
        also=_files_of_the_corpus,
        leaves=("corpus.json", "test/trials_all"),
    )
)
def prepare(
    config: Config,
    corpus: str,
    name: str,
    corpus_dir: Path,
    train_parts: str,
    dev_parts: str,
    test_parts: str,
    seed: int,
    max_skipped: float,
    allow_pipes: bool,
    merge_chapters: bool,
    allow_speaker_overlap: bool,
    output: Path,
) -> None:
    """Stage 1: write data directories, Lhotse manifests and trial lists."""
    from deepspeaker import corpora

    if corpus_dir.resolve() == output.resolve():
        raise InputError(f"{corpus_dir}: is the folder that stage 1 writes to; move the corpus elsewhere")
    parts = (train_parts.split(), dev_parts.split(), test_parts.split())
    if corpus in ("kaldi", "lhotse") and any(parts):
        raise InputError(f"--train-parts, --dev-parts and --test-parts are for LibriSpeech's layout, not for {corpus}")
    if corpus == "kaldi":
        data = corpora.read_kaldi(corpus_dir, allow_pipes)
    elif corpus == "lhotse":
        from deepspeaker.cuts import read_cuts

        data = read_cuts(corpus_dir, output / "cuts", allow_pipes)
    else:
        data = corpora.read_librispeech(corpus_dir, *parts)
    if merge_chapters:
        corpora.merge_chapters(data)
    corpora.prepare(
        data,
        output,
        corpus=name,
        synthetic=corpus == "demo",
        seed=seed,
        max_skipped=max_skipped,
        frame_shift=config.features.frame_shift,
        allow_pipes=allow_pipes,
        say=print,
        own=corpus_dir / "test" if corpus == "kaldi" else None,
        allow_speaker_overlap=allow_speaker_overlap,
    )


# ---- stage 2: features -----------------------------------------------------------------------------------


def _tables_of_the_directory(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    from deepspeaker.corpora import fingerprint_of_data_dir

    return {"content of the data directory": fingerprint_of_data_dir(options["data_dir"])}


@commands.command()
@shard_options
@allow_pipes_option
@max_skipped_option
@click.argument("data_dir", type=FOLDER)
@stage(
    Stage(
        2,
        root="{data_dir}",
        keys=("features",),
        options=("max_skipped",),
        also=_tables_of_the_directory,
        leaves=("feats.scp", "../{data_dir.name}_nosil/feats.scp"),
        clears=(".shards", "log/fbank.*.log"),
        in_shards=True,
        locks="{data_dir.parent}",
    )
)
def fbank(
    config: Config, job: int, num_jobs: int, allow_pipes: bool, max_skipped: float, data_dir: Path
) -> None:
    """Stage 2: compute features, VAD and normalised speech frames of one shard of a data directory."""
    from deepspeaker.features import compute_shard

    options = config.features
    compute_shard(
        data_dir,
        job,
        num_jobs,
        sampling_rate=options.sampling_rate,
        fbank=options.model_dump(include={"num_bins", "low_freq", "high_freq", "frame_length", "frame_shift"}),
        vad=options.vad.model_dump(),
        variance_floor=options.variance_floor,
        raw_compression=options.raw_compression,
        compression=options.compression,
        allow_pipes=allow_pipes,
    )


@commands.command("collect-fbank")
@click.option("--num-jobs", type=click.IntRange(1), default=1, show_default=True)
@allow_pipes_option
@max_skipped_option
@click.argument("data_dir", type=FOLDER)
@stage(
    Stage(
        2,
        root="{data_dir}",
        keys=("features.frame_shift", "features.sampling_rate"),
        options=("max_skipped",),
    )
)
def collect_fbank(config: Config, num_jobs: int, allow_pipes: bool, max_skipped: float, data_dir: Path) -> None:
    """Stage 2: join the shards of a data directory; add cuts with features where stage 1 left manifests."""
    from deepspeaker.features import collect_shards, nosil_dir

    options = config.features
    print(collect_shards(data_dir, num_jobs, max_skipped))
    manifests = data_dir.parent / "manifests"
    if (manifests / f"{data_dir.name}_supervisions.jsonl.gz").is_file():
        from deepspeaker.cuts import cuts_of_data_dir, write_cuts

        for folder in (data_dir, nosil_dir(data_dir)):
            cuts = cuts_of_data_dir(folder, options.frame_shift, options.sampling_rate, allow_pipes)
            write_cuts(manifests / f"{folder.name}_cuts.jsonl.gz", cuts)


# ---- stages 3 and 4: training ----------------------------------------------------------------------------


@commands.group()
def train() -> None:
    """Stages 3 and 4: softmax pre-training and triplet training.

    Started by torchrun, or with --nproc or --nnodes above 1, the processes train as one.
    """


def _mark_of_dev(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    data_dir = options["data_dir"]
    if not (data_dir / "dev_nosil").is_dir():
        return {}
    return {"stage 2 (dev)": digest_of(data_dir / "dev" / ".done.2")}


@train.command()
@init_from_option
@training_options
@stage(
    Stage(
        3,
        root="{exp_dir}",
        output="softmax",
        keys=("model", "softmax", "features.low_freq", "features.high_freq"),
        options=("seed", "init_from"),
        after=("{data_dir}/train/.done.2",),
        also=_mark_of_dev,
        leaves=("softmax/checkpoint_last.pt",),
        clears=("softmax", "untrained"),
        uses="{data_dir}",
        network=True,
    )
)
def softmax(
    config: Config,
    record: dict[str, Any],
    seed: int,
    init_from: Path | None,
    nproc: int,
    nnodes: int,
    rdzv_endpoint: str,
    device: str,
    progress: bool,
    data_dir: Path,
    exp_dir: Path,
) -> None:
    """Stage 3: pre-train a network as a classifier of the training speakers."""
    if _launches(nproc, nnodes, rdzv_endpoint):
        return
    from deepspeaker.training import Interrupted, train_softmax

    try:
        train_softmax(config, data_dir, exp_dir, seed, device, progress, init_from, record)
    except Interrupted as interrupted:
        raise InputError(f"{interrupted}; the same command continues from there") from None
    _draw(data_dir, exp_dir, "softmax")


@train.command()
@training_options
@stage(
    Stage(
        4,
        root="{exp_dir}",
        output="triplet",
        keys=("model", "triplet", "features.low_freq", "features.high_freq"),
        options=("seed",),
        after=("{exp_dir}/softmax/.done.3",),
        leaves=("triplet/checkpoint_last.pt",),
        clears=("triplet",),
        uses="{data_dir}",
        network=True,
    )
)
def triplet(
    config: Config,
    record: dict[str, Any],
    seed: int,
    nproc: int,
    nnodes: int,
    rdzv_endpoint: str,
    device: str,
    progress: bool,
    data_dir: Path,
    exp_dir: Path,
) -> None:
    """Stage 4: train the network of exp/E/softmax with the triplet loss."""
    if _launches(nproc, nnodes, rdzv_endpoint):
        return
    from deepspeaker.training import Interrupted, train_triplet

    try:
        train_triplet(config, data_dir, exp_dir, seed, device, progress, record)
    except Interrupted as interrupted:
        raise InputError(f"{interrupted}; the same command continues from there") from None
    _draw(data_dir, exp_dir, "triplet")


def _launches(nproc: int, nnodes: int, rdzv_endpoint: str) -> bool:
    """Start this command as several processes, unless it is one of them already."""
    # A lost connection prints C++ traces otherwise; the launcher says in one line who was lost.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if nproc * nnodes == 1 or "RANK" in os.environ:
        return False
    from deepspeaker.training import launch

    launch(sys.argv[1:], nproc, nnodes, rdzv_endpoint)
    return True


def _draw(data_dir: Path, exp_dir: Path, training: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        from deepspeaker.report import draw_training

        draw_training(data_dir, exp_dir, training)


# ---- stage 5: embeddings ---------------------------------------------------------------------------------


@commands.command("parts-to-embed")
@config_options
def parts_to_embed(config: Path, overrides: tuple[str, ...]) -> None:
    """Stage 5: the parts whose embeddings the back ends of a configuration need."""
    from deepspeaker.backends import needed_parts

    print(" ".join(["test", *needed_parts(load(config, overrides).scoring.backends)]))


@commands.command("embed-systems")
@shard_options
@device_option
@click.option("--parts", default="test", show_default=True, help="parts of the data, such as 'test train dev'")
@data_dir_option
@exp_dir_option
@stage(
    Stage(
        5,
        root="{exp_dir}",
        keys=("embedding", "scoring.training_utterances"),
        options=("parts",),
        after=("{data_dir}/test/.done.2", "{exp_dir}/softmax/.done.3", "{exp_dir}/triplet/.done.4"),
        leaves=tuple(f"{system}/embeddings_test/xvector.scp" for system in ("untrained", "softmax", "triplet")),
        clears=("*/embeddings_*/.shards", "*/embeddings_*/xvector.scp", "log/embed.*.log"),
        in_shards=True,
        uses="{data_dir}",
    )
)
def embed_systems(
    config: Config, job: int, num_jobs: int, device: str, parts: str, data_dir: Path, exp_dir: Path
) -> None:
    """Stage 5: embed one shard of each part by the untrained network, after softmax and after triplet training."""
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
@click.option("--num-jobs", type=click.IntRange(1), default=1, show_default=True)
@click.option("--parts", default="test", show_default=True)
@data_dir_option
@exp_dir_option
@stage(Stage(5, root="{exp_dir}", options=("parts",)))
def collect_systems(num_jobs: int, parts: str, data_dir: Path, exp_dir: Path) -> None:
    """Stage 5: join the shards and write the speaker embeddings."""
    from deepspeaker.embedding import SYSTEMS, collect_embeddings, embeddings_dir

    for system in SYSTEMS:
        for part in parts.split():
            output = embeddings_dir(exp_dir, system, part)
            if (output / "xvector.scp").is_file() and not (output / ".shards").is_dir():
                continue  # joined before an interruption
            print(collect_embeddings(data_dir / f"{part}_nosil", output, num_jobs))


@commands.command()
@config_options
@shard_options
@device_option
@click.option("--training", type=bool, default=False, help="scoring.training_utterances of a speaker at most")
@click.argument("data_dir", type=FOLDER)
@click.argument("system_dir", type=FOLDER)
@click.argument("output", type=FOLDER)
def embed(
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
    """Embed one shard of any data directory with normalised speech frames, such as DIR_nosil, by one system."""
    settings = load(config, overrides)
    from deepspeaker.embedding import embed_shard, system_checkpoint

    checkpoint = system_checkpoint(system_dir, settings.embedding.checkpoint)
    most = settings.scoring.training_utterances if training else None
    embed_shard(data_dir, checkpoint, output, job, num_jobs, device, most)


@commands.command("collect-embeddings")
@click.option("--num-jobs", type=click.IntRange(1), default=1, show_default=True)
@click.argument("data_dir", type=FOLDER)
@click.argument("output", type=FOLDER)
def collect_embeddings(num_jobs: int, data_dir: Path, output: Path) -> None:
    """Join the shards of "embed" and write the speaker embeddings."""
    from deepspeaker.embedding import collect_embeddings as collect

    print(collect(data_dir, output, num_jobs))


# ---- stages 6 and 7: scores and report -------------------------------------------------------------------


def _other_files(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    """The enrolment models beside each trial list, and the embeddings of the experiment to fuse with."""
    from deepspeaker.files import sha256_of

    found: dict[str, object] = {}
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
        keys=("scoring", "embedding", "features.frame_shift"),
        options=("seed", "max_skipped", "trials", "enrolment", "allow_speaker_overlap"),
        after=("{data_dir}/.done.1", "{exp_dir}/.done.5"),
        also=_other_files,
        leaves=("results.json",),
        uses="{data_dir}",
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
    """Stage 6: score all systems on all trial lists and write results.json."""
    from deepspeaker.evaluation import evaluate

    evaluate(config, data_dir, exp_dir, seed, max_skipped, trials, enrolment, allow_speaker_overlap)


@commands.command()
@data_dir_option
@exp_dir_option
@stage(
    Stage(
        7,
        root="{exp_dir}",
        after=("{exp_dir}/.done.6",),
        leaves=("report.html",),
        uses="{data_dir}",
    )
)
def report(data_dir: Path, exp_dir: Path) -> None:
    """Stage 7: print the tables; write plots, RESULTS.md and the page."""
    from deepspeaker.report import write_report

    write_report(data_dir, exp_dir)


@commands.command()
@click.argument("exp_dir", type=FOLDER)
def summary(exp_dir: Path) -> None:
    """Say what was reached, where it lies and what to try next."""
    from deepspeaker.report import summary as summarise
    from deepspeaker.results import Results

    print(summarise(Results.read(exp_dir / "results.json"), exp_dir))


# ---- configurations --------------------------------------------------------------------------------------


@commands.command("describe")
@config_options
@click.option("--feature-dim", type=click.IntRange(1), default=None, help="default: features.num_bins")
def describe_network(config: Path, overrides: tuple[str, ...], feature_dim: int | None) -> None:
    """Show the network of a configuration: layers, output shapes, parameters, multiply-adds a second of speech."""
    settings = load(config, overrides)
    from deepspeaker.models import build_model, description

    network = build_model(feature_dim or settings.features.num_bins, **settings.model.model_dump())
    print(description(network, settings.features.frame_shift))


@commands.command("check-config")
@config_options
def check_config(config: Path, overrides: tuple[str, ...]) -> None:
    """Say what is wrong with a configuration, if anything is."""
    load(config, overrides)


@commands.command("show-config")
@config_options
def show_config(config: Path, overrides: tuple[str, ...]) -> None:
    """Show a configuration with every key and the value in use."""
    from deepspeaker.config import dump_config

    print(dump_config(load(config, overrides)), end="")
