"""The top-level command, the options that several sub-commands share, and the decorator of stages."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deepspeaker import __version__
from deepspeaker.stages import Stage, visible

if TYPE_CHECKING:
    from deepspeaker.config import Config

Function = TypeVar("Function", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)


class _OptionalPath(click.Path):
    """A path or an empty word, which stands for no path, so that scripts can pass an option that was not given."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "" else super().convert(value, param, ctx)



class _Scp(_OptionalPath):
    """An scp, or a folder that contains ``posteriors.scp``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        return path / "posteriors.scp" if path is not None and path.is_dir() else path


_SHARE = click.FloatRange(0, 1, min_open=True)
FILE = _OptionalPath(path_type=Path, dir_okay=False)
CORPORA = ["demo", "librispeech", "kaldi", "lhotse", "folder"]

seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="random seed")
max_skipped_option = click.option(
    "--max-skipped",
    type=click.FloatRange(0, 100),
    default=5.0,
    show_default=True,
    metavar="PERCENT",
    help="stop if more of the items cannot be used",
)
allow_pipes_option = click.option("--allow-pipes", type=bool, default=False, help="run commands found in wav.scp")
allow_overlap_option = click.option(
    "--allow-speaker-overlap", type=bool, default=False, help="allow test speakers that are also in training"
)
merge_chapters_option = click.option(
    "--merge-chapters",
    type=bool,
    default=False,
    help="treat all chapters of a reader (ids reader-chapter or lbi-reader-chapter) as one speaker",
)
session_level_option = click.option(
    "--session-level",
    type=click.IntRange(1),
    default=None,
    metavar="N",
    help="level of the folder that is a session: 1 is directly below the speaker",
)
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="where networks run"
)
progress_option = click.option("--progress", type=bool, default=True, help="show a progress bar on stderr")
mirror_option = click.option(
    "--mirror",
    default="https://www.openslr.org/resources",
    show_default=True,
    metavar="URL",
    help="where to download LibriSpeech from",
)
init_from_option = click.option("--init-from", type=FILE, default=None, help="checkpoint with the initial weights")
corpus_option = click.option("--corpus", type=click.Choice(CORPORA), required=True, help="kind of corpus")
data_dir_option = click.option("--data-dir", type=FOLDER, required=True, help="folder of the prepared data, data/C")
exp_dir_option = click.option("--exp-dir", type=FOLDER, required=True, help="folder of the experiment, exp/E")
embedded_parts_option = click.option(
    "--parts", default="test", show_default=True, help="parts to embed, such as 'test train dev'"
)
posteriors_option = click.option(
    "--posteriors",
    type=_Scp(path_type=Path),
    default=None,
    help="frame posteriors of all utterances: an scp, or a folder with posteriors.scp",
)
data_dirs_argument = click.argument("data_dir", type=FOLDER, nargs=-1, required=True, metavar="DATA_DIR...")
num_jobs_option = click.option(
    "--num-jobs", type=click.IntRange(1), default=1, show_default=True, help="number of shards"
)


def _together(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Return a decorator that adds several options, in the order of the help."""
    return lambda function: functools.reduce(lambda inner, option: option(inner), reversed(options), function)


config_options = _together(
    click.option("--config", type=PATH, required=True, help="YAML file of the experiment"),
    click.option(
        "--set", "overrides", multiple=True, metavar="section.key=value", help="override a key; may be repeated"
    ),
)
shard_options = _together(
    click.option("--job", type=click.IntRange(1), default=1, show_default=True, help="number of this shard, from 1"),
    num_jobs_option,
)
process_options = _together(
    click.option("--nproc", type=click.IntRange(1), default=1, show_default=True, help="processes per machine"),
    click.option("--nnodes", type=click.IntRange(1), default=1, show_default=True, help="number of machines"),
    click.option("--rdzv-endpoint", default="", metavar="HOST:PORT", help="address of one of the machines"),
)
part_options = _together(
    click.option("--train-parts", default="", help="parts of LibriSpeech to train on"),
    click.option("--dev-parts", default="", help="parts of LibriSpeech for development"),
    click.option("--test-parts", default="", help="parts of LibriSpeech to test on"),
)
share_options = _together(
    click.option(
        "--train-speakers-share",
        type=_SHARE,
        default=1.0,
        show_default=True,
        metavar="SHARE",
        help="share of the training speakers, from 0 to 1",
    ),
    click.option(
        "--train-utterances-share",
        type=_SHARE,
        default=1.0,
        show_default=True,
        metavar="SHARE",
        help="share of the utterances of each training speaker, from 0 to 1",
    ),
)
trial_options = _together(
    click.option("--trials", type=FILE, multiple=True, help="an additional trial list; may be repeated"),
    click.option("--enrolment", type=FILE, default=None, help="enrolment models of --trials, as a spk2utt file"),
)
training_options = _together(
    seed_option, process_options, device_option, progress_option, data_dir_option, exp_dir_option
)


def has_pretraining(options: Mapping[str, Any]) -> bool:
    """Return whether stage 4 starts from the network of stage 3, given its options."""
    return bool(options.get("pretraining", True)) and not options.get("init_from")


def load(config: Path, overrides: tuple[str, ...]) -> Config:
    """Read the configuration that ``config_options`` name."""
    from deepspeaker.config import load_config

    return load_config(config, overrides)


def stage(declared: Stage) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a stage on the function that does its work.

    A stage that reads configuration keys gets ``--config`` and ``--set``. Its function receives a ``config`` that has
    only the declared keys. A training also receives the complete configuration as ``record``, to store it.

    Parameters
    ----------
    declared
        What decides the result of the stage.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_config(config: Path, overrides: tuple[str, ...], **options: Any) -> Any:
            complete = load(config, overrides)
            if declared.trains:
                options["record"] = complete.model_dump()
            return function(visible(complete, declared.keys), **options)

        command: Callable[..., Any] = config_options(with_config) if declared.keys else function
        command.stage = declared  # type: ignore[attr-defined]
        return command

    return decorate


@click.group(context_settings={"help_option_names": ["--help", "-h"]})
@click.version_option(__version__, help="show the version")
@click.option("--debug", is_flag=True, help="show the traceback of an error")
def commands(debug: bool) -> None:
    """Run the parts of Deep Speaker's recipe, recipes/librispeech/run.sh, one by one.

    "deepspeaker COMMAND --help" describes a command.
    """
