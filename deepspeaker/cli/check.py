"""``deepspeaker check-run``: check the options of run.sh before anything runs, and complete names and paths."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from deepspeaker.cli import stages
from deepspeaker.cli.options import CORPORA, Function, commands, load, process_options
from deepspeaker.errors import InputError

_STAGE = click.IntRange(0, 8)


def _options_of_stages(function: Function) -> Function:
    """Add the options of the stages, so that they are checked by the same rules."""
    for name in stages.__all__:
        command: click.Command = getattr(stages, name)
        known = {parameter.name for parameter in getattr(function, "__click_params__", [])}
        for option in command.params:
            if isinstance(option, click.Option) and not option.required and option.name not in known:
                function.__click_params__.append(option)  # type: ignore[attr-defined]
    return function


@commands.command("check-run", hidden=True)
@_options_of_stages
@click.option("--from", "origin", type=click.Path(path_type=Path), required=True, help="working directory of the user")
@click.option("--stage", type=_STAGE, default=0)
@click.option("--stop-stage", type=_STAGE, default=8)
@click.option("--corpus", type=click.Choice(CORPORA), default="demo")
@click.option("--corpus-dir", default="")
@click.option("--mini", type=bool, default=False)
@click.option("--config", default="")
@click.option("--set", "overrides", multiple=True)
@click.option("--data", default="")
@click.option("--exp", default="")
@click.option("--data-seed", type=click.IntRange(0))
@click.option("--overwrite", type=bool, default=False)
@click.option("--nj", type=click.IntRange(1), default=1)
@click.option("--cmd", required=True)
@click.option("--trials", multiple=True)
@click.option("--enrolment", default="")
@click.option("--init-from", default="")
@click.option("--pretraining", type=click.Choice(["true", "false"]), default="true")
@click.option("--ivector", type=bool, default=False)
@click.option("--posteriors", default="")
@process_options
def check_run(
    origin: Path,
    stage: int,
    stop_stage: int,
    corpus: str,
    corpus_dir: str,
    train_parts: str,
    dev_parts: str,
    test_parts: str,
    mini: bool,
    session_level: int | None,
    config: str,
    overrides: tuple[str, ...],
    data: str,
    exp: str,
    cmd: str,
    trials: tuple[str, ...],
    enrolment: str,
    init_from: str,
    train_speakers_share: float,
    train_utterances_share: float,
    ivector: bool,
    posteriors: str,
    nnodes: int,
    rdzv_endpoint: str,
    **_: Any,
) -> None:
    """Check the options of run.sh and print what it runs with.

    The lines are: the folder of the corpus, the parts to download, the configuration, the folder of the data, that of
    the experiment, the initial checkpoint, the enrolment models, the folder of the data with a share of the training
    part (empty for all of it), the posteriors, the copies of stage 2, and a line for each trial list.
    """
    for option, value in click.get_current_context().params.items():
        for word in value if isinstance(value, tuple) else (value,):
            if isinstance(word, str) and not word.isprintable():
                name = option.replace("_", "-")
                raise click.UsageError(f"--{name} {word!r}: use no line breaks or control characters")
    parts_given = train_parts or dev_parts or test_parts
    needs_address = nnodes > 1 and not rdzv_endpoint and not cmd.partition(" ")[0].endswith("slurm.py")
    for wrong, message in (
        (stop_stage < stage, f"--stop-stage {stop_stage} comes before --stage {stage}"),
        ("/" in exp or exp in (".", ".."), f"--exp {exp}: give a name; the folder is created in exp/"),
        ("/" in data or data in (".", ".."), f"--data {data}: give a name; the folder is created in data/"),
        (needs_address, f"--nnodes {nnodes} needs --rdzv-endpoint HOST:PORT, the address of one of the machines"),
        (corpus == "demo" and corpus_dir, "--corpus-dir is not for demo, whose corpus is synthesised"),
        (corpus in ("kaldi", "lhotse", "folder") and not corpus_dir, f"--corpus {corpus} needs --corpus-dir DIR"),
        (
            corpus != "librispeech" and parts_given,
            f"--train-parts, --dev-parts and --test-parts are for librispeech, not for {corpus}",
        ),
        (
            mini and (corpus != "librispeech" or corpus_dir or parts_given),
            "--mini true is for --corpus librispeech without --corpus-dir, --train-parts, --dev-parts and --test-parts",
        ),
        (
            session_level and corpus != "folder",
            f"--session-level {session_level} is for --corpus folder, not for {corpus}",
        ),
        (enrolment and not trials, f"--enrolment {enrolment} needs --trials, the lists that use these models"),
        (posteriors and not ivector, f"--posteriors {posteriors} needs --ivector true"),
        (not shutil.which(cmd.partition(" ")[0]), f"--cmd {cmd}: no such program"),
    ):
        if wrong:
            raise click.UsageError(message)

    def path(option: str, given: str, exists: Callable[[Path], bool] = Path.is_file) -> str:
        """Return an existing path, relative to the folder that run.sh was called from or else to the recipe's."""
        if not given:
            return ""
        found = origin / given if (origin / given).exists() else Path(given)
        if not exists(found):
            raise InputError(f"--{option} {given}: no such {'folder' if exists is Path.is_dir else 'file'}")
        return str(found if found == Path(given) else found.resolve())

    corpus_dir = path("corpus-dir", corpus_dir, Path.is_dir)
    config = path("config", config) or f"conf/{'demo' if corpus == 'demo' else 'default'}.yaml"
    settings = load(Path(config), overrides)
    if ivector and corpus == "kaldi" and not Path(corpus_dir, "train", "wav.scp").is_file():
        raise InputError(
            f"--ivector true: {corpus_dir}/train has no wav.scp, but the MFCCs of i-vectors are computed from audio; "
            "add it, or leave out --ivector"
        )
    name = Path(corpus_dir).resolve().name if corpus in ("kaldi", "lhotse", "folder") else corpus
    name = data or ("mini_librispeech" if mini else name)
    if corpus_dir and Path(corpus_dir).resolve() == Path("data", name).resolve():
        raise InputError(f"--corpus-dir {corpus_dir}: run.sh writes to this folder; move the corpus elsewhere")
    parts = [train_parts or "train-clean-100", dev_parts or "dev-clean", test_parts or "test-clean"]
    print(corpus_dir)
    print("mini" if mini else " ".join(parts))
    print(config)
    print(f"data/{name}")
    shares = {"speakers": train_speakers_share, "utterances": train_utterances_share}
    shared = name + "".join(f"_{kind}{100 * share:g}" for kind, share in shares.items() if share != 1)
    copies = [*settings.augment.copies, *settings.conditions.copies]
    if copies and shared != name:
        raise InputError(
            "augment.copies and conditions.copies do not work with a share of the training part; leave out "
            "--train-speakers-share and --train-utterances-share"
        )
    print(f"exp/{exp or f'{shared}_{Path(config).stem}'}")
    print(path("init-from", init_from))
    print(path("enrolment", enrolment))
    print(f"data/{shared}" if shared != name else "")
    print(path("posteriors", posteriors, Path.exists))
    print(" ".join(copy.name for copy in copies))
    for name in trials:
        print(path("trials", name))
