"""The ``deepspeaker`` command: one sub-command for each thing that a stage script asks for.

Thin: it turns options into arguments. Imports are inside the functions, so that the command starts at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deepspeaker import __version__
from deepspeaker.errors import InputError

if TYPE_CHECKING:
    from deepspeaker.config import Config

#: The exit status of ``mark begin --if-needed`` when the stage is finished already.
ALREADY_DONE = 10

Function = TypeVar("Function", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path)
_FOLDER = click.Path(path_type=Path, file_okay=False)


def _config_options(function: Function) -> Function:
    function = click.option("--set", "overrides", multiple=True, metavar="section.key=value")(function)
    return click.option("--config", type=_PATH, required=True, help="YAML file of the experiment")(function)


def _shard_options(function: Function) -> Function:
    function = click.option("--num-jobs", type=click.IntRange(1), default=1, show_default=True)(function)
    return click.option("--job", type=click.IntRange(1), default=1, show_default=True)(function)


_seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
_max_skipped_option = click.option(
    "--max-skipped", type=click.FloatRange(0, 100), default=5.0, show_default=True, help="percent of the items"
)
_allow_pipes_option = click.option("--allow-pipes", type=bool, default=False, help="run the commands in wav.scp")
_corpus_option = click.option("--corpus", type=click.Choice(["demo", "librispeech", "kaldi"]), required=True)


def _load(config: Path, overrides: tuple[str, ...]) -> Config:
    from deepspeaker.config import load_config

    return load_config(config, overrides)


@click.group(context_settings={"help_option_names": ["--help", "-h"]})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="show the traceback of an error")
def commands(debug: bool) -> None:
    """Deep Speaker: what the stages of recipes/librispeech/run.sh are made of."""


@commands.command("make-demo")
@_config_options
@_seed_option
@click.option("--jobs", type=click.IntRange(1), default=None, help="default: the processors")
@click.argument("folder", type=_FOLDER)
def make_demo(config: Path, overrides: tuple[str, ...], seed: int, jobs: int | None, folder: Path) -> None:
    """Stage 0: synthesises the demo corpus (synthetic speech, offline)."""
    from deepspeaker.corpora import make_demo_corpus

    make_demo_corpus(folder, seed, **_load(config, overrides).demo.model_dump(), jobs=jobs)
    print(f"{folder}: synthetic speech, made from seed {seed}")


@commands.command()
@_corpus_option
@click.argument("folder", type=_FOLDER)
def look(corpus: str, folder: Path) -> None:
    """Stage 0: looks what a corpus on disk has."""
    from deepspeaker.corpora import find_parts, read_kaldi

    if corpus == "kaldi":
        for part, data in read_kaldi(folder).items():
            print(f"{folder}/{part}: {len(data.spk2utt)} speakers, {len(data.utt2spk)} utterances")
    else:
        print(f"{folder}: parts {' '.join(find_parts(folder))}")


@commands.command()
@click.option("--parts", default="train-clean-100 dev-clean test-clean", show_default=True)
@click.argument("folder", type=_FOLDER)
def download(parts: str, folder: Path) -> None:
    """Stage 0: downloads parts of LibriSpeech."""
    from deepspeaker.corpora import download as download_parts

    print(f"LibriSpeech lies in {download_parts(folder, parts.split())}")


@commands.command()
@_corpus_option
@click.option("--name", required=True, help="the corpus' name in results")
@click.option("--corpus-dir", type=_FOLDER, required=True)
@click.option("--train-parts", default="")
@click.option("--dev-parts", default="")
@click.option("--test-parts", default="")
@_seed_option
@_max_skipped_option
@_allow_pipes_option
@_config_options
@click.argument("output", type=_FOLDER)
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
    config: Path,
    overrides: tuple[str, ...],
    output: Path,
) -> None:
    """Stage 1: data directories, Lhotse manifests, trial lists."""
    from deepspeaker import corpora

    frame_shift = _load(config, overrides).features.frame_shift
    parts = (train_parts.split(), dev_parts.split(), test_parts.split())
    if corpus == "kaldi":
        if any(parts):
            raise InputError("--train-parts, --dev-parts and --test-parts are for LibriSpeech's layout, not for kaldi")
        data = corpora.read_kaldi(corpus_dir)
    else:
        data = corpora.read_librispeech(corpus_dir, *parts)
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
    )


@commands.command()
@_config_options
@_shard_options
@_allow_pipes_option
@click.argument("data_dir", type=_FOLDER)
def fbank(
    config: Path, overrides: tuple[str, ...], job: int, num_jobs: int, allow_pipes: bool, data_dir: Path
) -> None:
    """Stage 2: features, VAD and normalised speech frames of one shard of a data directory."""
    from deepspeaker.features import compute_shard

    options = _load(config, overrides).features
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
@_max_skipped_option
@click.argument("data_dir", type=_FOLDER)
def collect_fbank(num_jobs: int, max_skipped: float, data_dir: Path) -> None:
    """Stage 2: joins the shards of a data directory."""
    from deepspeaker.features import collect_shards

    print(collect_shards(data_dir, num_jobs, max_skipped))


@commands.command("describe")
@_config_options
@click.option("--feature-dim", type=click.IntRange(1), default=None, help="default: features.num_bins")
def describe_network(config: Path, overrides: tuple[str, ...], feature_dim: int | None) -> None:
    """The network of a configuration: layers, output shapes, parameters, multiply-adds a second of speech."""
    settings = _load(config, overrides)
    from deepspeaker.models import build_model, description

    network = build_model(feature_dim or settings.features.num_bins, **settings.model.model_dump())
    print(description(network, settings.features.frame_shift))


@commands.command()
@click.argument("objective", type=click.Choice(["softmax", "triplet"]))
@_config_options
@_seed_option
@click.option("--init-from", type=_PATH, default=None, help="a checkpoint to start from, for softmax")
@click.option("--nproc", type=click.IntRange(1), default=1, show_default=True, help="processes a machine")
@click.option("--nnodes", type=click.IntRange(1), default=1, show_default=True, help="machines")
@click.option("--rdzv-endpoint", default="", metavar="HOST:PORT", help="one of several machines")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--progress", type=bool, default=True, help="show a bar on stderr")
@click.option("--data-dir", type=_FOLDER, required=True, help="holds train_nosil and dev_nosil")
@click.option("--exp-dir", type=_FOLDER, required=True)
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
    settings = _load(config, overrides)
    if objective == "triplet" and init_from is not None:
        raise click.UsageError("--init-from is for softmax; triplet training goes on from exp/E/softmax")
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


@commands.command()
@_config_options
@_shard_options
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--training", type=bool, default=False, help="scoring.training_utterances of a speaker at most")
@click.argument("data_dir", type=_FOLDER)
@click.argument("system_dir", type=_FOLDER)
@click.argument("output", type=_FOLDER)
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
    settings = _load(config, overrides)
    from deepspeaker.embedding import embed_shard, system_checkpoint

    checkpoint = system_checkpoint(system_dir, settings.embedding.checkpoint)
    most = settings.scoring.training_utterances if training else None
    embed_shard(data_dir, checkpoint, output, job, num_jobs, device, most)


@commands.command("parts-to-embed")
@_config_options
def parts_to_embed(config: Path, overrides: tuple[str, ...]) -> None:
    """Stage 5: the parts whose embeddings the back ends of a configuration need."""
    from deepspeaker.scoring import needed_parts

    print(" ".join(["test", *needed_parts(_load(config, overrides).scoring.backends)]))


@commands.command("collect-embeddings")
@click.option("--num-jobs", type=click.IntRange(1), default=1, show_default=True)
@click.argument("data_dir", type=_FOLDER)
@click.argument("output", type=_FOLDER)
def collect_embeddings(num_jobs: int, data_dir: Path, output: Path) -> None:
    """Stage 5: joins the shards and writes the speaker embeddings."""
    from deepspeaker.embedding import collect_embeddings as collect

    print(collect(data_dir, output, num_jobs))


@commands.command()
@_config_options
@_seed_option
@_max_skipped_option
@click.option("--data-dir", type=_FOLDER, required=True, help="holds corpus.json and test with its trial lists")
@click.option("--exp-dir", type=_FOLDER, required=True)
def score(
    config: Path, overrides: tuple[str, ...], seed: int, max_skipped: float, data_dir: Path, exp_dir: Path
) -> None:
    """Stage 6: scores of all systems on all trial lists, results.json."""
    from deepspeaker.evaluation import evaluate

    evaluate(_load(config, overrides), data_dir, exp_dir, seed, max_skipped)


@commands.command()
@click.option("--data-dir", type=_FOLDER, required=True)
@click.option("--exp-dir", type=_FOLDER, required=True)
def report(data_dir: Path, exp_dir: Path) -> None:
    """Stage 7: the table on the screen, plots, RESULTS.md and the page."""
    from deepspeaker.evaluation import write_report

    write_report(data_dir, exp_dir)


@commands.command()
@click.argument("exp_dir", type=_FOLDER)
def summary(exp_dir: Path) -> None:
    """What was reached, where it lies, what to try next."""
    from deepspeaker.report import Results
    from deepspeaker.report import summary as summarise

    print(summarise(Results.read(exp_dir / "results.json"), exp_dir))


@commands.command("check-config")
@_config_options
def check_config(config: Path, overrides: tuple[str, ...]) -> None:
    """Says what is wrong with a configuration, if anything is."""
    _load(config, overrides)


_FILE = click.Path(path_type=Path, dir_okay=False)


@commands.command("compute-eer")
@click.option("--utt2spk", type=_FILE, default=None, help="speakers of the ids: adds a 95 % confidence interval")
@click.option("--bootstrap", type=click.IntRange(2), default=1000, show_default=True, help="draws of speakers")
@_seed_option
@click.argument("scores", type=_FILE)
@click.argument("trials", type=_FILE, required=False)
def compute_eer(utt2spk: Path | None, bootstrap: int, seed: int, scores: Path, trials: Path | None) -> None:
    """EER of a score file of any toolkit; TRIALS labels it unless it has labels."""
    from deepspeaker.score_files import eer_of_file

    print(eer_of_file(scores, trials, utt2spk, bootstrap, seed))


@commands.command("compute-min-dcf")
@click.option("--p-target", type=float, default=0.01, show_default=True, help="prior of a target trial")
@click.option("--c-miss", type=float, default=1.0, show_default=True)
@click.option("--c-fa", type=float, default=1.0, show_default=True)
@click.argument("scores", type=_FILE)
@click.argument("trials", type=_FILE, required=False)
def compute_min_dcf(p_target: float, c_miss: float, c_fa: float, scores: Path, trials: Path | None) -> None:
    """Least detection cost of a score file of any toolkit; TRIALS labels it unless it has labels."""
    from deepspeaker.score_files import min_dcf_of_file

    print(min_dcf_of_file(scores, trials, p_target, c_miss, c_fa))


@commands.command("plot-det")
@click.option("--trials", type=_FILE, default=None, help="labels the scores unless they have labels")
@click.option("--output", type=_FILE, required=True, help="a PNG")
@click.option("--title", default="Detection error trade-off", show_default=True)
@click.argument("scores", type=_FILE, nargs=-1, required=True)
def plot_det(trials: Path | None, output: Path, title: str, scores: tuple[Path, ...]) -> None:
    """DET curves of score files of any toolkit."""
    from deepspeaker.score_files import plot_files

    plot_files(scores, trials, output, title)


@commands.command("show-config")
@_config_options
def show_config(config: Path, overrides: tuple[str, ...]) -> None:
    """A configuration with every key and the value in use."""
    from deepspeaker.config import dump_config

    print(dump_config(_load(config, overrides)), end="")


@commands.group()
def mark() -> None:
    """Done-marks of the stages."""


def _mark_options(function: Function) -> Function:
    for option in (
        click.option("--option", "options", multiple=True, metavar="name=value", help="an option that counts"),
        click.option("--after", multiple=True, type=_PATH, help="the mark of a stage before this one"),
        click.option("--section", "sections", multiple=True, help="a section of the configuration that counts"),
        click.option("--set", "overrides", multiple=True, metavar="section.key=value"),
        click.option("--config", type=_PATH, default=None),
        click.option("--corpus", default=None),
        click.option("--corpus-dir", type=_FOLDER, default=None, help="a corpus whose file list counts"),
        click.argument("folder", type=_FOLDER),
        click.argument("stage", type=int),
    ):
        function = option(function)
    return function


def _settings(
    options: tuple[str, ...],
    after: tuple[Path, ...],
    sections: tuple[str, ...],
    overrides: tuple[str, ...],
    config: Path | None,
    corpus: str | None,
    corpus_dir: Path | None,
) -> dict[str, object]:
    from deepspeaker.marks import digest_of

    settings: dict[str, object] = {"deepspeaker": __version__}
    for option in options:
        name, _, value = option.partition("=")
        settings[name] = value
    for before in after:
        number = before.name.rpartition(".")[2]
        settings[f"stage {number} ({before.parent.name})"] = digest_of(before)
    if config is not None:
        loaded = _load(config, overrides).model_dump()
        settings.update({section: loaded[section] for section in sections})
    if corpus is not None and corpus_dir is not None:
        from deepspeaker.corpora import fingerprint

        settings["files of the corpus"] = fingerprint(corpus, corpus_dir)
    return settings


@mark.command()
@_mark_options
@click.option("--if-needed", type=bool, default=False, help=f"exit with {ALREADY_DONE} when it is finished already")
@click.option("--needs", multiple=True, type=_PATH, help="an output without which the stage is not finished")
@click.option("--writes", type=int, default=None, help="descriptor of a lock that a stage must have alone")
@click.option("--clear", multiple=True, type=_FOLDER, help="emptied unless an interrupted stage goes on")
def begin(
    stage: int,
    folder: Path,
    if_needed: bool,
    needs: tuple[Path, ...],
    writes: int | None,
    clear: tuple[Path, ...],
    **given: Any,
) -> None:
    """Says whether and why a stage runs, and notes that it began."""
    from deepspeaker.marks import Mark

    settings = _settings(**given)
    the_mark = Mark(folder, stage)
    reason = the_mark.difference(settings)
    missing = [path for path in needs if not path.exists()]
    if reason is None and missing:
        reason = f"{missing[0]} is missing"
    if reason is None and if_needed:
        print(f"stage {stage} ({folder}): finished already, skipped")
        sys.exit(ALREADY_DONE)
    shown = f": {reason}" if reason and reason != "not done yet" else ""
    if writes is not None:
        import fcntl

        try:
            fcntl.flock(writes, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"stage {stage} ({folder}) has to run{shown}, but another run uses the data; wait for it, or take "
                "another clone"
            ) from None
    goes_on = the_mark.begin(settings, clear)
    print(f"stage {stage} ({folder}): {'goes on' if goes_on and clear else 'starts'}{shown}")


@mark.command()
@_mark_options
def end(stage: int, folder: Path, **given: Any) -> None:
    """Notes that a stage is finished."""
    from deepspeaker.marks import Mark

    Mark(folder, stage).end(_settings(**given))


def main() -> None:
    """Runs the command; an error of the user's is one line on stderr and status 1, wrong usage status 2."""
    debug = "--debug" in sys.argv[1:]
    try:
        status = commands.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = 2
    except click.ClickException as error:
        print(f"deepspeaker: {' '.join(error.format_message().split())}; see --help", file=sys.stderr)
        status = 2
    except (KeyboardInterrupt, click.Abort):
        status = 130
    except (InputError, OSError) as error:
        if debug:
            raise
        print(f"deepspeaker: {error}", file=sys.stderr)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)
