"""Sub-commands for the done-marks of the stages."""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path
from typing import Any

import click

from deepspeaker import __version__
from deepspeaker.cli.options import FOLDER, PATH, Function, commands, load
from deepspeaker.errors import InputError

#: The exit status of ``mark begin --if-needed`` when the stage is finished already.
ALREADY_DONE = 10


@commands.group()
def mark() -> None:
    """Done-marks of the stages."""


def _mark_options(function: Function) -> Function:
    for option in (
        click.option("--option", "options", multiple=True, metavar="name=value", help="an option that counts"),
        click.option("--file", "files", multiple=True, type=PATH, help="a file whose content counts"),
        click.option("--after", multiple=True, type=PATH, help="the mark of a stage before this one"),
        click.option("--section", "sections", multiple=True, help="a section of the configuration that counts"),
        click.option("--set", "overrides", multiple=True, metavar="section.key=value"),
        click.option("--config", type=PATH, default=None),
        click.option("--corpus", default=None),
        click.option("--corpus-dir", type=FOLDER, default=None, help="a corpus whose file list counts"),
        click.argument("folder", type=FOLDER),
        click.argument("stage", type=int),
    ):
        function = option(function)
    return function


def _settings(
    options: tuple[str, ...],
    files: tuple[Path, ...],
    after: tuple[Path, ...],
    sections: tuple[str, ...],
    overrides: tuple[str, ...],
    config: Path | None,
    corpus: str | None,
    corpus_dir: Path | None,
) -> dict[str, object]:
    from deepspeaker.files import sha256_of
    from deepspeaker.marks import digest_of

    settings: dict[str, object] = {"deepspeaker": __version__}
    for option in options:
        name, _, value = option.partition("=")
        settings[name] = value
    for path in files:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        settings[f"content of {path.name}"] = sha256_of(path)
    for before in after:
        number = before.name.rpartition(".")[2]
        settings[f"stage {number} ({before.parent.name})"] = digest_of(before)
    if config is not None:
        loaded = load(config, overrides).model_dump()
        settings.update({section: loaded[section] for section in sections})
    if corpus is not None and corpus_dir is not None:
        from deepspeaker.corpora import fingerprint

        settings["files of the corpus"] = fingerprint(corpus, corpus_dir)
    return settings


@mark.command()
@_mark_options
@click.option("--if-needed", type=bool, default=False, help=f"exit with {ALREADY_DONE} when it is finished already")
@click.option("--needs", multiple=True, type=PATH, help="an output without which the stage is not finished")
@click.option("--writes", type=int, default=None, help="descriptor of a lock that a stage must have alone")
@click.option("--clear", multiple=True, type=FOLDER, help="removed unless an interrupted stage goes on")
@click.option("--shards", multiple=True, metavar="PATTERN", help="likewise: what matches it in FOLDER")
@click.option("--work", default="", help="what else must be as it was for an interrupted stage to go on")
def begin(
    stage: int,
    folder: Path,
    if_needed: bool,
    needs: tuple[Path, ...],
    writes: int | None,
    clear: tuple[Path, ...],
    shards: tuple[str, ...],
    work: str,
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
        try:
            fcntl.flock(writes, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"stage {stage} ({folder}) has to run{shown}, but another run uses the data; wait for it, or take "
                "another clone"
            ) from None
    goes_on = the_mark.begin(settings, clear, shards, work)
    print(f"stage {stage} ({folder}): {'goes on' if goes_on and (clear or shards) else 'starts'}{shown}")


@mark.command()
@_mark_options
def end(stage: int, folder: Path, **given: Any) -> None:
    """Notes that a stage is finished."""
    from deepspeaker.marks import Mark

    Mark(folder, stage).end(_settings(**given))
