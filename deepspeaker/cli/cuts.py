"""Sub-commands that convert between Lhotse's CutSets and Kaldi's files."""

from __future__ import annotations

from pathlib import Path

import click

from deepspeaker.cli.options import FILE, FOLDER, allow_pipes_option, commands
from deepspeaker.errors import InputError


@commands.command("cuts-to-data")
@allow_pipes_option
@click.argument("cuts", type=FILE)
@click.argument("data_dir", type=FOLDER)
def cuts_to_data(allow_pipes: bool, cuts: Path, data_dir: Path) -> None:
    """Convert a Lhotse CutSet to a Kaldi data directory.

    CUTS is a jsonl or jsonl.gz file. Each cut becomes an utterance.
    """
    import re
    import shutil

    from deepspeaker.cuts import data_dir_of_cuts, open_cuts

    store = data_dir / "cuts"
    for path in store.glob("*"):
        if not re.fullmatch(r"feats\.(ark|scp)|\d{9}\.wav", path.name):
            raise InputError(f"{path}: {store} is reserved for this command's files; name another data directory")
    shutil.rmtree(store, ignore_errors=True)
    data = data_dir_of_cuts(open_cuts(cuts), store, allow_pipes, (cuts.parent, cuts.parent.parent))
    data.write(data_dir)
    print(f"{data_dir}: {len(data.spk2utt)} speakers, {len(data.utt2spk)} utterances")


@commands.command("data-to-cuts")
@allow_pipes_option
@click.option("--frame-shift", type=click.FloatRange(0, min_open=True), default=0.01, show_default=True, help="seconds")
@click.option("--sampling-rate", type=click.IntRange(1), default=16000, show_default=True, help="Hz, of the features")
@click.argument("data_dir", type=FOLDER)
@click.argument("cuts", type=FILE)
def data_to_cuts(allow_pipes: bool, frame_shift: float, sampling_rate: int, data_dir: Path, cuts: Path) -> None:
    """Convert a Kaldi data directory to a Lhotse CutSet.

    CUTS is the jsonl.gz file to write. Each utterance becomes a cut, with the exact number of samples.
    """
    from deepspeaker.cuts import cut_items, write_cuts

    count = write_cuts(cuts, cut_items(data_dir, frame_shift, sampling_rate, allow_pipes))
    print(f"{cuts}: {count} cuts")


@commands.command("attach-embeddings")
@click.option("--field", default="xvector", show_default=True, help="name of the custom field")
@click.argument("cuts", type=FILE)
@click.argument("embeddings", type=FILE)
@click.argument("output", type=FILE)
def attach_embeddings(field: str, cuts: Path, embeddings: Path, output: Path) -> None:
    """Attach embeddings to the cuts of a CutSet.

    EMBEDDINGS is an scp file of vectors by cut id. OUTPUT (jsonl.gz) receives the cuts of CUTS, each with its embedding
    in a custom field.
    """
    from deepspeaker.cuts import open_cuts, with_embeddings, write_cuts

    if output.resolve() == cuts.resolve():
        raise InputError(f"{output}: is the input; name another file")
    ark = output.with_name(output.name.removesuffix(".gz").removesuffix(".jsonl") + ".ark")
    count = write_cuts(output, with_embeddings(open_cuts(cuts), embeddings, ark, field))
    print(f"{output}: {count} cuts, their field {field} is in {ark}")
