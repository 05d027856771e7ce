"""Stage 0 (a corpus), stage 1 (data directories and trial lists) and stage 2 (features)."""

from __future__ import annotations

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
    corpus_option,
    data_dir_option,
    data_dirs_argument,
    max_skipped_option,
    merge_chapters_option,
    mirror_option,
    num_jobs_option,
    part_options,
    progress_option,
    seed_option,
    session_level_option,
    shard_options,
    share_options,
    stage,
)
from deepspeaker.cli.stages.copies import write_condition_trials
from deepspeaker.errors import InputError
from deepspeaker.stages import Stage, digest_of, options_of

if TYPE_CHECKING:
    from deepspeaker.config import Config

# ---- stage 0: a corpus -----------------------------------------------------------------------------------


@commands.command("make-demo")
@seed_option
@click.option("--jobs", type=click.IntRange(1), default=None, help="processes (default: the number of processors)")
@click.argument("folder", type=FOLDER)
@stage(Stage(0, root="{folder.parent}", keys=("demo",), options=("seed",), required=("corpus/SPEAKERS.TXT",)))
def make_demo(config: Config, seed: int, jobs: int | None, folder: Path) -> None:
    """Stage 0: synthesise the demo corpus.

    The speech is synthetic. Nothing is downloaded.
    """
    from deepspeaker.corpora import make_demo_corpus

    make_demo_corpus(folder, seed, **config.demo.model_dump(), jobs=jobs)
    print(f"{folder}: synthetic speech, made from seed {seed}")


@commands.command()
@click.option(
    "--parts",
    default="train-clean-100 dev-clean test-clean",
    show_default=True,
    help="names of parts, or all, or mini (mini LibriSpeech)",
)
@mirror_option
@click.option("--md5sums", type=FILE, default=None, help="MD5 sums of a mirror's own archives, as md5sum prints them")
@progress_option
@click.argument("folder", type=FOLDER)
@stage(Stage(0, root="{folder.parent}", options=("parts",), required=("corpus/LibriSpeech",)))
def download(parts: str, mirror: str, md5sums: Path | None, progress: bool, folder: Path) -> None:
    """Stage 0: download parts of LibriSpeech.

    Interrupted downloads resume, even after a restart.
    """
    from deepspeaker import corpora

    names = {"all": list(corpora.ALL_PARTS), "mini": list(corpora.MINI_PARTS)}.get(parts.strip(), parts.split())
    md5 = corpora.read_md5sums(md5sums) if md5sums else None
    librispeech = corpora.download(folder, names, base_url=mirror, md5=md5, progress=progress)
    print(f"{librispeech}: LibriSpeech, parts {' '.join(names)}")


@commands.command()
@corpus_option
@click.argument("folder", type=FOLDER)
def look(corpus: str, folder: Path) -> None:
    """Stage 0: list what an existing corpus contains."""
    from deepspeaker.corpora import find_parts, find_speakers, read_kaldi

    if corpus == "kaldi":
        for part, data in read_kaldi(folder).items():
            print(f"{folder}/{part}: {len(data.spk2utt)} speakers, {len(data.utt2spk)} utterances")
    elif corpus == "lhotse":
        from deepspeaker.cuts import find_cuts

        print(f"{folder}: {' '.join(path.name for path in find_cuts(folder).values())}")
    elif corpus == "folder":
        for part, speakers in find_speakers(folder).items():
            print(f"{folder / part}: {len(speakers)} speakers, {sum(map(len, speakers.values()))} audio files")
    else:
        print(f"{folder}: parts {' '.join(find_parts(folder))}")


# ---- stage 1: data directories, manifests, trial lists ---------------------------------------------------


def _corpus_files(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    from deepspeaker.corpora import fingerprint

    output, corpus, folder = options["output"], options["corpus"], options["corpus_dir"]
    before = options_of(output / ".done.1")
    if before:
        source, named = Path(before["corpus_dir"]), corpus in ("kaldi", "lhotse", "folder")  # named after the folder
        if before["corpus"] != corpus or (named and source.resolve() != folder.resolve()):
            raise InputError(
                f"{output}: has the data of another corpus, {before['corpus']} in {source}; name another folder with "
                f"--data, or delete {output} first"
            )
    return {"list of the corpus' files": fingerprint(options["corpus"], options["corpus_dir"])}


@commands.command()
@corpus_option
@click.option("--name", required=True, help="name of the corpus in results")
@click.option("--corpus-dir", type=FOLDER, required=True, help="folder of the corpus")
@part_options
@seed_option
@max_skipped_option
@allow_pipes_option
@merge_chapters_option
@session_level_option
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
            "session_level",
            "allow_speaker_overlap",
        ),
        extra=_corpus_files,
        required=("corpus.json", "test/trials_all"),
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
    session_level: int | None,
    allow_speaker_overlap: bool,
    output: Path,
) -> None:
    """Stage 1: write data directories and trial lists.

    Lhotse manifests are written too.
    """
    from deepspeaker import corpora

    if corpus_dir.resolve() == output.resolve():
        raise InputError(f"{corpus_dir}: is the folder that stage 1 writes to; move the corpus elsewhere")
    parts = (train_parts.split(), dev_parts.split(), test_parts.split())
    if corpus in ("kaldi", "lhotse", "folder") and any(parts):
        raise InputError(f"--train-parts, --dev-parts and --test-parts are for LibriSpeech's layout, not for {corpus}")
    if session_level and corpus != "folder":
        raise InputError(f"--session-level is for --corpus folder, not for {corpus}")
    utt2session: dict[str, str] = {}
    same_speakers = False
    if corpus == "kaldi":
        data = corpora.read_kaldi(corpus_dir, allow_pipes)
    elif corpus == "lhotse":
        from deepspeaker.cuts import read_cuts

        data = read_cuts(corpus_dir, output / "cuts", allow_pipes)
    elif corpus == "folder":
        recordings = corpora.read_folder(corpus_dir, seed, session_level, print)
        data, utt2session, same_speakers = recordings.parts, recordings.utt2session, recordings.same_speakers
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
        test_source={"kaldi": corpus_dir / "test", "demo": corpus_dir / "demo-test"}.get(corpus),
        dev_source=corpus_dir / ("dev" if "dev" in data else "train") if corpus == "kaldi" else None,
        utt2session=utt2session,
        allow_speaker_overlap=allow_speaker_overlap,
        same_speakers=same_speakers,
    )


# ---- stage 2: features -----------------------------------------------------------------------------------

def _data_dir_content(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    from deepspeaker.corpora import fingerprint_of_data_dir

    return {"content of the data directory": fingerprint_of_data_dir(options["data_dir"])}


@commands.command()
@shard_options
@allow_pipes_option
@max_skipped_option
@data_dirs_argument
@stage(
    Stage(
        2,
        root="{data_dir}",
        keys=("features",),
        options=("max_skipped",),
        extra=_data_dir_content,
        required=("utt2num_frames", "../{data_dir.name}_nosil/feats.scp"),
        stale=(".shards",),
        in_shards=True,
        each="data_dir",
        lock_dir="{data_dir.parent}",
    )
)
def fbank(
    config: Config, job: int, num_jobs: int, allow_pipes: bool, max_skipped: float, data_dir: tuple[Path, ...]
) -> None:
    """Stage 2: compute the features of one shard of each data directory.

    These are log-mel features, the VAD and the normalised speech frames.
    """
    from deepspeaker.features import compute_shard

    options = config.features
    for folder in data_dir:
        compute_shard(
            folder,
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
@num_jobs_option
@allow_pipes_option
@max_skipped_option
@data_dirs_argument
@stage(
    Stage(
        2,
        root="{data_dir}",
        keys=("features.frame_shift", "features.sampling_rate", "features.high_freq"),
        options=("max_skipped",),
        each="data_dir",
    )
)
def collect_fbank(
    config: Config, num_jobs: int, allow_pipes: bool, max_skipped: float, data_dir: tuple[Path, ...]
) -> None:
    """Stage 2: join the shards of "fbank".

    Where stage 1 wrote Lhotse manifests, cuts with features are added to them.
    """
    from deepspeaker.augmentation import CONDITIONS_PART
    from deepspeaker.features import collect_shards, nosil_dir

    options = config.features
    for folder in data_dir:
        print(collect_shards(folder, num_jobs, max_skipped, options.high_freq))
        if folder.name == CONDITIONS_PART:
            print(write_condition_trials(folder))
        manifests = folder.parent / "manifests"
        if (manifests / f"{folder.name}_supervisions.jsonl.gz").is_file():
            from deepspeaker.cuts import cut_items, write_cuts

            for source in (folder, nosil_dir(folder)):
                cuts = cut_items(source, options.frame_shift, options.sampling_rate, allow_pipes)
                write_cuts(manifests / f"{source.name}_cuts.jsonl.gz", cuts)


def _data_marks(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    data_dir = options["data_dir"]
    parts = [part for part in ("train", "dev", "test") if (data_dir / part).is_dir()]
    return {f"stage 2 ({part})": digest_of(data_dir / part / ".done.2") for part in parts}


@commands.command("share-training")
@share_options
@data_dir_option
@click.argument("output", type=FOLDER)
@stage(
    Stage(
        2,
        root="{output}",
        mark_dir="train",
        options=("train_speakers_share", "train_utterances_share"),
        after=("{data_dir}/.done.1",),
        extra=_data_marks,
        required=("train_nosil/feats.scp", "corpus.json"),
        lock_dir="{data_dir}",
    )
)
def share_training(train_speakers_share: float, train_utterances_share: float, data_dir: Path, output: Path) -> None:
    """Stage 2: write data with a share of the training part.

    The features and the other parts are those of the data with all of it.
    """
    from deepspeaker import corpora

    corpora.share_training(data_dir, output, train_speakers_share, train_utterances_share, print)
