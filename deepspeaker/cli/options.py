"""The command itself, and the options that several of its sub-commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deepspeaker import __version__

if TYPE_CHECKING:
    from deepspeaker.config import Config

Function = TypeVar("Function", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


def config_options(function: Function) -> Function:
    """``--config`` and ``--set``."""
    function = click.option("--set", "overrides", multiple=True, metavar="section.key=value")(function)
    return click.option("--config", type=PATH, required=True, help="YAML file of the experiment")(function)


def shard_options(function: Function) -> Function:
    """``--job`` and ``--num-jobs``."""
    function = click.option("--num-jobs", type=click.IntRange(1), default=1, show_default=True)(function)
    return click.option("--job", type=click.IntRange(1), default=1, show_default=True)(function)


seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
max_skipped_option = click.option(
    "--max-skipped", type=click.FloatRange(0, 100), default=5.0, show_default=True, help="percent of the items"
)
allow_pipes_option = click.option("--allow-pipes", type=bool, default=False, help="run the commands in wav.scp")
allow_overlap_option = click.option(
    "--allow-speaker-overlap", type=bool, default=False, help="test speakers may be known from training"
)
CORPORA = ["demo", "librispeech", "kaldi", "lhotse"]
corpus_option = click.option("--corpus", type=click.Choice(CORPORA), required=True)


def load(config: Path, overrides: tuple[str, ...]) -> Config:
    """The configuration that ``config_options`` name."""
    from deepspeaker.config import load_config

    return load_config(config, overrides)


@click.group(context_settings={"help_option_names": ["--help", "-h"]})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="show the traceback of an error")
def commands(debug: bool) -> None:
    """Deep Speaker: what the stages of recipes/librispeech/run.sh are made of."""
