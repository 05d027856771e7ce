"""Sub-commands that check and show configurations."""

from __future__ import annotations

from pathlib import Path

import click

from deepspeaker.cli.options import commands, config_options, load


@commands.command("check-config")
@config_options
def check_config(config: Path, overrides: tuple[str, ...]) -> None:
    """Check a configuration; print nothing if it is valid."""
    load(config, overrides)


@commands.command("show-config")
@config_options
def show_config(config: Path, overrides: tuple[str, ...]) -> None:
    """Print a configuration with the values of all keys."""
    from deepspeaker.config import dump_config

    print(dump_config(load(config, overrides)), end="")


@commands.command("describe")
@config_options
@click.option("--feature-dim", type=click.IntRange(1), default=None, help="input bins (default: features.num_bins)")
def describe_network(config: Path, overrides: tuple[str, ...], feature_dim: int | None) -> None:
    """Show the layers and the size of a network.

    These are the output shapes, the parameters and the multiply-adds per second of speech.
    """
    settings = load(config, overrides)
    from deepspeaker.models import build_model, description

    network = build_model(feature_dim or settings.features.num_bins, **settings.model.model_dump())
    print(description(network, settings.features.frame_shift))
