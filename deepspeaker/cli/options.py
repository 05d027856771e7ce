"""The command itself, the options that several sub-commands share, and the decorators of stages."""

from __future__ import annotations

import functools
from collections.abc import Callable
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
    """A path; an empty word stands for none, so that scripts can pass an option that was not given."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "" else super().convert(value, param, ctx)


FILE = _OptionalPath(path_type=Path, dir_okay=False)


def config_options(function: Function) -> Function:
    """``--config`` and ``--set``."""
    function = click.option("--set", "overrides", multiple=True, metavar="section.key=value")(function)
    return click.option("--config", type=PATH, required=True, help="YAML file of the experiment")(function)


def shard_options(function: Function) -> Function:
    """``--job`` and ``--num-jobs``."""
    function = click.option("--num-jobs", type=click.IntRange(1), default=1, show_default=True)(function)
    return click.option("--job", type=click.IntRange(1), default=1, show_default=True)(function)


def process_options(function: Function) -> Function:
    """``--nproc``, ``--nnodes`` and ``--rdzv-endpoint``: how many processes train together."""
    for option in (
        click.option("--rdzv-endpoint", default="", metavar="HOST:PORT", help="one of several machines"),
        click.option("--nnodes", type=click.IntRange(1), default=1, show_default=True, help="machines"),
        click.option("--nproc", type=click.IntRange(1), default=1, show_default=True, help="processes per machine"),
    ):
        function = option(function)
    return function


def part_options(function: Function) -> Function:
    """``--train-parts``, ``--dev-parts`` and ``--test-parts``."""
    for part in ("test", "dev", "train"):
        function = click.option(f"--{part}-parts", default="", help=f"parts of LibriSpeech for {part}")(function)
    return function


def trial_options(function: Function) -> Function:
    """``--trials`` and ``--enrolment``."""
    function = click.option(
        "--enrolment", type=FILE, default=None, help="model -> utterances (spk2utt) for --trials"
    )(function)
    return click.option(
        "--trials", type=FILE, multiple=True, help="an additional trial list; repeat for several"
    )(function)


seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
max_skipped_option = click.option(
    "--max-skipped", type=click.FloatRange(0, 100), default=5.0, show_default=True, help="percent of the items"
)
allow_pipes_option = click.option("--allow-pipes", type=bool, default=False, help="run the commands in wav.scp")
allow_overlap_option = click.option(
    "--allow-speaker-overlap", type=bool, default=False, help="test speakers may be known from training"
)
merge_chapters_option = click.option(
    "--merge-chapters", type=bool, default=False, help="speakers [lbi-]reader-chapter become readers"
)
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
progress_option = click.option("--progress", type=bool, default=True, help="show a bar on stderr")
mirror_option = click.option(
    "--mirror", default="https://www.openslr.org/resources", show_default=True, metavar="URL"
)
init_from_option = click.option("--init-from", type=FILE, default=None, help="a checkpoint to start from")
CORPORA = ["demo", "librispeech", "kaldi", "lhotse"]
corpus_option = click.option("--corpus", type=click.Choice(CORPORA), required=True)
data_dir_option = click.option("--data-dir", type=FOLDER, required=True, help="what stages 1 and 2 made, data/C")
exp_dir_option = click.option("--exp-dir", type=FOLDER, required=True, help="the experiment's folder, exp/E")


def training_options(function: Function) -> Function:
    """The options that both trainings have."""
    for option in (exp_dir_option, data_dir_option, progress_option, device_option, process_options, seed_option):
        function = option(function)
    return function


def load(config: Path, overrides: tuple[str, ...]) -> Config:
    """The configuration that ``config_options`` name."""
    from deepspeaker.config import load_config

    return load_config(config, overrides)


def stage(declared: Stage) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a stage on the function that does its work.

    A stage that reads configuration keys has ``--config`` and ``--set``. The function then gets a ``config`` that has
    only the declared keys. A training also gets the complete configuration as ``record``, which it only writes down.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_config(config: Path, overrides: tuple[str, ...], **options: Any) -> Any:
            complete = load(config, overrides)
            if declared.network:
                options["record"] = complete.model_dump()
            return function(visible(complete, declared.keys), **options)

        command: Callable[..., Any] = config_options(with_config) if declared.keys else function
        command.stage = declared  # type: ignore[attr-defined]
        return command

    return decorate


@click.group(context_settings={"help_option_names": ["--help", "-h"]})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="show the traceback of an error")
def commands(debug: bool) -> None:
    """Deep Speaker: what the stages of recipes/librispeech/run.sh are made of."""
