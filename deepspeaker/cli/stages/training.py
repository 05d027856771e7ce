"""Stage 3 (softmax pre-training) and stage 4 (triplet training)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepspeaker.cli.options import commands, has_pretraining, init_from_option, stage, training_options
from deepspeaker.errors import InputError
from deepspeaker.stages import Stage, digest_of

if TYPE_CHECKING:
    from deepspeaker.config import Config


@commands.group()
def train() -> None:
    """Stages 3 and 4: train a network.

    With --nproc or --nnodes above 1, or under torchrun, several processes train together.
    """


def _dev_mark(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    data_dir = options["data_dir"]
    if not (data_dir / "dev_nosil").is_dir():
        return {}
    return {"stage 2 (dev)": digest_of(data_dir / "dev" / ".done.2")}


def _softmax_inputs(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    softmax, triplet = _networks(options["exp_dir"])
    if triplet and not softmax:
        raise InputError(
            f"{options['exp_dir']}: has a network that was trained without pre-training; name another --exp, or add "
            "--pretraining false"
        )
    return _dev_mark(config, options)


def _triplet_inputs(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    """Return the network that stage 4 starts from, or the data if it starts without pre-training."""
    exp_dir, data_dir = options["exp_dir"], options["data_dir"]
    if has_pretraining(options):
        return {"stage 3 (softmax)": digest_of(exp_dir / "softmax" / ".done.3")}
    if _networks(exp_dir)[0]:
        raise InputError(f"{exp_dir}: has a network with pre-training; name another --exp for one without")
    train_mark = {"stage 2 (train)": digest_of(data_dir / "train" / ".done.2")}
    return {"--pretraining": False, **train_mark, **_dev_mark(config, options)}


def _networks(exp_dir: Path) -> tuple[bool, bool]:
    """Return whether there is a network of stage 3, and one of stage 4."""
    softmax, triplet = ((exp_dir / name / "checkpoint_last.pt").is_file() for name in ("softmax", "triplet"))
    return softmax, triplet


@train.command()
@init_from_option
@training_options
@stage(
    Stage(
        3,
        root="{exp_dir}",
        mark_dir="softmax",
        keys=("model", "softmax", "features.low_freq", "features.high_freq"),
        options=("seed", "init_from"),
        after=("{data_dir}/train/.done.2",),
        extra=_softmax_inputs,
        required=("softmax/checkpoint_last.pt",),
        stale=("softmax", "untrained"),
        input_dir="{data_dir}",
        trains=True,
    )
)
def softmax(config: Config, **options: Any) -> None:
    """Stage 3: pre-train a network to classify the training speakers."""
    _train("softmax", config, **options)


@train.command()
@click.option("--pretraining", type=bool, default=True, help="start from the network of stage 3")
@init_from_option
@training_options
@stage(
    Stage(
        4,
        root="{exp_dir}",
        mark_dir="triplet",
        keys=("model", "triplet", "features.low_freq", "features.high_freq"),
        options=("seed", "init_from"),
        extra=_triplet_inputs,
        required=("triplet/checkpoint_last.pt",),
        stale=("triplet",),
        input_dir="{data_dir}",
        trains=True,
    )
)
def triplet(config: Config, **options: Any) -> None:
    """Stage 4: train a network with the triplet loss.

    It starts from the network of stage 3, from --init-from, or with --pretraining false from fresh weights.
    """
    _train("triplet", config, **options)


def _train(
    section: str,
    config: Config,
    nproc: int,
    nnodes: int,
    rdzv_endpoint: str,
    data_dir: Path,
    exp_dir: Path,
    **options: Any,
) -> None:
    """Train in this process, or launch processes that run the same command."""
    # Keeps C++ traces of a lost connection off the screen; the launcher reports the lost process in one line.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from deepspeaker import training

    if nproc * nnodes > 1 and "RANK" not in os.environ:
        training.launch(sys.argv[1:], nproc, nnodes, rdzv_endpoint)
        return
    train_section = training.train_softmax if section == "softmax" else training.train_triplet
    try:
        train_section(config, data_dir, exp_dir, **options)
    except training.Interrupted as interrupted:
        raise InputError(f"{interrupted}; the same command continues from there") from None
    if os.environ.get("RANK", "0") == "0":
        from deepspeaker.report import draw_training

        draw_training(data_dir, exp_dir, section)
