"""Stage 8: the model that people use."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepspeaker.cli.options import commands, data_dir_option, exp_dir_option, stage
from deepspeaker.stages import Stage, digest_of

if TYPE_CHECKING:
    from deepspeaker.config import Config


def _other_experiment(config: Config | None, options: Mapping[str, Any]) -> dict[str, object]:
    fuse = options["fuse"]
    return {f"stage 4 of {fuse}": digest_of(Path(fuse) / "triplet" / ".done.4")} if fuse else {}


@commands.command()
@click.option("--system", type=click.Choice(["triplet", "softmax"]), default="triplet", show_default=True)
@click.option("--fuse", default="", help="another experiment, whose network becomes part of the model")
@click.option(
    "--cohort",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="training speakers by whom scores are normalised; 0 for none",
)
@click.option("--licence", default="", help="licence of the model, for its card")
@click.option("--source", "sources", multiple=True, help="a source of the training data, for the card; may be repeated")
@click.option("--voices", default="", help="whose voices it is measured on, for its card and for verify")
@click.option("--command", default="", help="how it was trained, for its card")
@click.option("--int8", type=bool, default=False, help="also write a graph with eight-bit weights and measure it")
@click.option("--half", type=bool, default=False, help="store the weights of the graphs in 16 bits")
@data_dir_option
@exp_dir_option
@stage(
    Stage(
        8,
        root="{exp_dir}",
        options=("system", "fuse", "cohort", "licence", "sources", "voices", "command", "int8", "half"),
        after=("{exp_dir}/.done.6",),
        extra=_other_experiment,
        required=("model/model.json",),
        input_dir="{data_dir}",
    )
)
def export(
    system: str,
    fuse: str,
    cohort: int,
    licence: str,
    sources: tuple[str, ...],
    voices: str,
    command: str,
    int8: bool,
    half: bool,
    data_dir: Path,
    exp_dir: Path,
) -> None:
    """Stage 8: export the network as a model for audio files, to exp/E/model.

    The folder has weights, ONNX graphs, calibration, thresholds with their error rates, and a card.
    """
    from deepspeaker.kaldi import has_precomputed_features

    if has_precomputed_features(data_dir / "test"):
        print(f"no model: the features of {data_dir} came with the corpus, so audio files cannot be made into them")
        return
    from deepspeaker.export import export_model

    other = Path(fuse) if fuse else None
    found = export_model(
        data_dir,
        exp_dir,
        exp_dir / "model",
        system=system,
        fuse=other,
        cohort=cohort,
        licence=licence,
        sources=sources,
        voices=voices,
        command=command,
        int8=int8,
        half=half,
    )
    print(f"{exp_dir}/model: {found.parameters:,} parameters; its card is README.md")
    folder = shlex.quote(str((exp_dir / "model").resolve()))
    print(f"compare two recordings: utils/deepspeaker verify {folder} one.wav two.wav")
