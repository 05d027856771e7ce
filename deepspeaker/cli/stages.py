"""One sub-command for each thing that a stage script asks for.

Thin: it turns options into arguments. Imports are inside the functions, so that the command starts at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from deepspeaker.cli.options import (
    FILE,
    FOLDER,
    PATH,
    allow_overlap_option,
    allow_pipes_option,
    commands,
    config_options,
    corpus_option,
    load,
    max_skipped_option,
    seed_option,
    shard_options,
)
from deepspeaker.errors import InputError


@commands.command("make-demo")
@config_options
@seed_option
@click.option("--jobs", type=click.IntRange(1), default=None, help="default: the processors")
@click.argument("folder", type=FOLDER)
def make_demo(config: Path, overrides: tuple[str, ...], seed: int, jobs: int | None, folder: Path) -> None:
    """Stage 0: synthesises the demo corpus (synthetic speech, offline)."""
    from deepspeaker.corpora import make_demo_corpus

    make_demo_corpus(folder, seed, **load(config, overrides).demo.model_dump(), jobs=jobs)
    print(f"{folder}: synthetic speech, made from seed {seed}")


@commands.command()
@corpus_option
@click.argument("folder", type=FOLDER)
def look(corpus: str, folder: Path) -> None:
    """Stage 0: looks what a corpus on disk has."""
    from deepspeaker.corpora import find_parts, read_kaldi

    if corpus == "kaldi":
        for part, data in read_kaldi(folder).items():
            print(f"{folder}/{part}: {len(data.spk2utt)} speakers, {len(data.utt2spk)} utterances")
    elif corpus == "lhotse":
        from deepspeaker.cuts import find_cuts

        print(f"{folder}: {' '.join(path.name for path in find_cuts(folder).values())}")
    else:
        print(f"{folder}: parts {' '.join(find_parts(folder))}")


@commands.command()
@click.option("--parts", default="train-clean-100 dev-clean test-clean", show_default=True, help="names, all or mini")
@click.option("--mirror", default=None, metavar="URL", help="instead of https://www.openslr.org/resources")
@click.option("--md5sums", type=FILE, default=None, help="what md5sum printed of a mirror's own archives")
@click.option("--progress", type=bool, default=True, help="show a bar on stderr")
@click.argument("folder", type=FOLDER)
def download(parts: str, mirror: str | None, md5sums: Path | None, progress: bool, folder: Path) -> None:
    """Stage 0: downloads parts of LibriSpeech; what was cut goes on where it was."""
    from deepspeaker import corpora

    names = {"all": list(corpora.ALL_PARTS), "mini": list(corpora.MINI_PARTS)}.get(parts.strip(), parts.split())
    md5 = corpora.read_md5sums(md5sums) if md5sums else None
    where = corpora.download(folder, names, base_url=mirror or corpora.BASE_URL, md5=md5, progress=progress)
    print(f"LibriSpeech lies in {where}")


@commands.command()
@corpus_option
@click.option("--name", required=True, help="the corpus' name in results")
@click.option("--corpus-dir", type=FOLDER, required=True)
@click.option("--train-parts", default="")
@click.option("--dev-parts", default="")
@click.option("--test-parts", default="")
@seed_option
@max_skipped_option
@allow_pipes_option
@click.option("--merge-chapters", type=bool, default=False, help="speakers [lbi-]reader-chapter become readers")
@allow_overlap_option
@config_options
@click.argument("output", type=FOLDER)
def prepare(
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
    config: Path,
    overrides: tuple[str, ...],
    output: Path,
) -> None:
    """Stage 1: data directories, Lhotse manifests, trial lists."""
    from deepspeaker import corpora

    frame_shift = load(config, overrides).features.frame_shift
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
        frame_shift=frame_shift,
        allow_pipes=allow_pipes,
        say=print,
        own=corpus_dir / "test" if corpus == "kaldi" else None,
        allow_speaker_overlap=allow_speaker_overlap,
    )


@commands.command()
@config_options
@shard_options
@allow_pipes_option
@click.argument("data_dir", type=FOLDER)
def fbank(
    config: Path, overrides: tuple[str, ...], job: int, num_jobs: int, allow_pipes: bool, data_dir: Path
) -> None:
    """Stage 2: features, VAD and normalised speech frames of one shard of a data directory."""
    from deepspeaker.features import compute_shard

    options = load(config, overrides).features
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
@config_options
@click.option("--num-jobs", type=click.IntRange(1), default=1, show_default=True)
@max_skipped_option
@allow_pipes_option
@click.argument("data_dir", type=FOLDER)
def collect_fbank(
    config: Path, overrides: tuple[str, ...], num_jobs: int, max_skipped: float, allow_pipes: bool, data_dir: Path
) -> None:
    """Stage 2: joins the shards of a data directory; where stage 1 left manifests, adds the cuts with features."""
    from deepspeaker.features import collect_shards, nosil_dir

    options = load(config, overrides).features
    print(collect_shards(data_dir, num_jobs, max_skipped))
    manifests = data_dir.parent / "manifests"
    if (manifests / f"{data_dir.name}_supervisions.jsonl.gz").is_file():
        from deepspeaker.cuts import cuts_of_data_dir, write_cuts

        for folder in (data_dir, nosil_dir(data_dir)):
            cuts = cuts_of_data_dir(folder, options.frame_shift, options.sampling_rate, allow_pipes)
            write_cuts(manifests / f"{folder.name}_cuts.jsonl.gz", cuts)


@commands.command("describe")
@config_options
@click.option("--feature-dim", type=click.IntRange(1), default=None, help="default: features.num_bins")
def describe_network(config: Path, overrides: tuple[str, ...], feature_dim: int | None) -> None:
    """The network of a configuration: layers, output shapes, parameters, multiply-adds a second of speech."""
    settings = load(config, overrides)
    from deepspeaker.models import build_model, description

    network = build_model(feature_dim or settings.features.num_bins, **settings.model.model_dump())
    print(description(network, settings.features.frame_shift))


@commands.command()
@click.argument("objective", type=click.Choice(["softmax", "triplet"]))
@config_options
@seed_option
@click.option("--init-from", type=PATH, default=None, help="a checkpoint to start from, for softmax")
@click.option("--nproc", type=click.IntRange(1), default=1, show_default=True, help="processes a machine")
@click.option("--nnodes", type=click.IntRange(1), default=1, show_default=True, help="machines")
@click.option("--rdzv-endpoint", default="", metavar="HOST:PORT", help="one of several machines")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--progress", type=bool, default=True, help="show a bar on stderr")
@click.option("--data-dir", type=FOLDER, required=True, help="holds train_nosil and dev_nosil")
@click.option("--exp-dir", type=FOLDER, required=True)
def train(
    objective: str,
    config: Path,
    overrides: tuple[str, ...],
    seed: int,
    device: str,
    progress: bool,
    init_from: Path | None,
    nproc: int,
    nnodes: int,
    rdzv_endpoint: str,
    data_dir: Path,
    exp_dir: Path,
) -> None:
    """Stages 3 and 4: softmax pre-training, triplet training.

    Started by torchrun (or with --nproc or --nnodes above 1) the processes train as one.
    """
    settings = load(config, overrides)
    if objective == "triplet" and init_from is not None:
        raise click.UsageError("--init-from is for softmax; triplet training goes on from exp/E/softmax")
    # Lost connections of torch.distributed come as C++ traces otherwise; who was lost is told in a line.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from deepspeaker import training

    if nproc * nnodes > 1 and "RANK" not in os.environ:
        training.launch(sys.argv[1:], nproc, nnodes, rdzv_endpoint)
        return
    try:
        if objective == "softmax":
            training.train_softmax(settings, data_dir, exp_dir, seed, device, progress, init_from)
        else:
            training.train_triplet(settings, data_dir, exp_dir, seed, device, progress)
    except training.Interrupted as interrupted:
        raise InputError(f"{interrupted}; the same command goes on from there") from None
    if os.environ.get("RANK", "0") == "0":  # one of several processes draws
        from deepspeaker.presentation import draw_training

        draw_training(data_dir, exp_dir, objective)


@commands.command()
@config_options
@shard_options
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
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
    """Stage 5: embeddings of one shard of a data directory with normalised speech frames."""
    settings = load(config, overrides)
    from deepspeaker.embedding import embed_shard, system_checkpoint

    checkpoint = system_checkpoint(system_dir, settings.embedding.checkpoint)
    most = settings.scoring.training_utterances if training else None
    embed_shard(data_dir, checkpoint, output, job, num_jobs, device, most)


@commands.command("parts-to-embed")
@config_options
def parts_to_embed(config: Path, overrides: tuple[str, ...]) -> None:
    """Stage 5: the parts whose embeddings the back ends of a configuration need."""
    from deepspeaker.scoring import needed_parts

    print(" ".join(["test", *needed_parts(load(config, overrides).scoring.backends)]))


@commands.command("fused-with")
@config_options
def fused_with(config: Path, overrides: tuple[str, ...]) -> None:
    """Stage 6: the other experiment of a configuration (scoring.fuse_with), if there is one."""
    print(load(config, overrides).scoring.fuse_with)


@commands.command("collect-embeddings")
@click.option("--num-jobs", type=click.IntRange(1), default=1, show_default=True)
@click.argument("data_dir", type=FOLDER)
@click.argument("output", type=FOLDER)
def collect_embeddings(num_jobs: int, data_dir: Path, output: Path) -> None:
    """Stage 5: joins the shards and writes the speaker embeddings."""
    from deepspeaker.embedding import collect_embeddings as collect

    print(collect(data_dir, output, num_jobs))


@commands.command()
@config_options
@seed_option
@max_skipped_option
@click.option("--data-dir", type=FOLDER, required=True, help="holds corpus.json and test with its trial lists")
@click.option("--exp-dir", type=FOLDER, required=True)
@click.option("--trials", "own_lists", type=PATH, multiple=True, help="a trial list of your own")
@click.option("--enrolment", type=PATH, default=None, help="model -> utterances (spk2utt) for --trials")
@allow_overlap_option
def score(
    config: Path,
    overrides: tuple[str, ...],
    seed: int,
    max_skipped: float,
    data_dir: Path,
    exp_dir: Path,
    own_lists: tuple[Path, ...],
    enrolment: Path | None,
    allow_speaker_overlap: bool,
) -> None:
    """Stage 6: scores of all systems on all trial lists, results.json."""
    from deepspeaker.evaluation import evaluate

    settings = load(config, overrides)
    evaluate(settings, data_dir, exp_dir, seed, max_skipped, own_lists, enrolment, allow_speaker_overlap)


@commands.command()
@click.option("--data-dir", type=FOLDER, required=True)
@click.option("--exp-dir", type=FOLDER, required=True)
def report(data_dir: Path, exp_dir: Path) -> None:
    """Stage 7: the table on the screen, plots, RESULTS.md and the page."""
    from deepspeaker.presentation import write_report

    write_report(data_dir, exp_dir)


@commands.command()
@click.argument("exp_dir", type=FOLDER)
def summary(exp_dir: Path) -> None:
    """What was reached, where it lies, what to try next."""
    from deepspeaker.report import Results
    from deepspeaker.report import summary as summarise

    print(summarise(Results.read(exp_dir / "results.json"), exp_dir))


@commands.command("check-config")
@config_options
def check_config(config: Path, overrides: tuple[str, ...]) -> None:
    """Says what is wrong with a configuration, if anything is."""
    load(config, overrides)


@commands.command("show-config")
@config_options
def show_config(config: Path, overrides: tuple[str, ...]) -> None:
    """A configuration with every key and the value in use."""
    from deepspeaker.config import dump_config

    print(dump_config(load(config, overrides)), end="")
