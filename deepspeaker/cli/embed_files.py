"""``deepspeaker embed``: embeddings of any audio with an exported model."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepspeaker.cli.model_options import engine_option, json_option, model_argument, print_json
from deepspeaker.cli.options import PATH, allow_pipes_option, commands, max_skipped_option, progress_option
from deepspeaker.errors import InputError

if TYPE_CHECKING:
    from deepspeaker.inference import FileEmbedding, Source
    from deepspeaker.kaldi import DataDir


@commands.command()
@model_argument
@click.argument("inputs", nargs=-1, required=True, type=PATH)
@click.argument("output", type=PATH)
@click.option("--nj", type=click.IntRange(1), default=1, show_default=True, help="number of processes")
@engine_option
@max_skipped_option
@allow_pipes_option
@progress_option
@json_option
def embed(
    model: str,
    inputs: tuple[Path, ...],
    output: Path,
    nj: int,
    engine: str,
    max_skipped: float,
    allow_pipes: bool,
    progress: bool,
    as_json: bool,
) -> None:
    """Embed audio with an exported model.

    INPUTS are audio files, folders of audio, Kaldi data directories, wav.scp files or one Lhotse CutSet (jsonl.gz).
    OUTPUT decides the format: a folder gets xvector.ark and xvector.scp, a name.npz the arrays "ids" and "embeddings",
    and a name.jsonl.gz the CutSet with the embeddings as field xvector.
    """
    import numpy as np

    from deepspeaker.files import atomic_path
    from deepspeaker.kaldi import ArkWriter
    from deepspeaker.skipped import report_skipped

    is_cuts, is_npz = output.name.endswith(".jsonl.gz"), output.suffix == ".npz"
    if is_cuts and not (len(inputs) == 1 and ".jsonl" in inputs[0].name):
        raise InputError(f"{output}: a CutSet is written only for one CutSet as input")
    folder = output.with_name(output.name.removesuffix(".jsonl.gz") + "_xvector") if is_cuts else output
    sources = find_sources(inputs, folder, allow_pipes)
    embedded, skipped = embed_sources(model, sources, engine, nj, allow_pipes, progress)
    found = {name: one.embedding for name, one in embedded.items()}
    where = output.with_name(f"{output.name}.skipped") if is_npz else folder / "skipped"
    where.parent.mkdir(parents=True, exist_ok=True)
    report_skipped(where, skipped, len(sources), "recordings", max_skipped)
    if is_npz:
        with atomic_path(output) as temporary, temporary.open("wb") as stream:
            np.savez(stream, ids=np.array(list(found)), embeddings=np.stack(list(found.values())))
    else:
        with ArkWriter(folder / "xvector.ark", folder / "xvector.scp") as writer:
            for name, vector in sorted(found.items()):
                writer.write(name, vector)
    if is_cuts:
        from deepspeaker.cuts import open_cuts, with_embeddings, write_cuts

        cuts = with_embeddings(open_cuts(inputs[0]), folder / "xvector.scp", folder / "cuts.ark")
        write_cuts(output, cuts)
    if as_json:
        print_json({"output": output, "embeddings": len(found), "skipped": skipped})
    else:
        print(f"{output}: {len(found)} embeddings")


def embed_sources(
    model: str | Path, sources: dict[str, Source], engine: str, nj: int, allow_pipes: bool, progress: bool
) -> tuple[dict[str, FileEmbedding], dict[str, str]]:
    """Return the embeddings of sources, and why the others have none, with a progress bar in a terminal."""
    from tqdm import tqdm

    from deepspeaker.inference import embed_files

    found, skipped = {}, {}
    embedded = embed_files(model, sources, engine, nj, allow_pipes)
    for name, result in tqdm(embedded, total=len(sources), unit="file", disable=not (progress and sys.stderr.isatty())):
        if isinstance(result, str):
            skipped[name] = result
        else:
            found[name] = result
    return found, skipped


def find_sources(inputs: Iterable[Path], store: Path, allow_pipes: bool) -> dict[str, Source]:
    """Return the audio that the arguments name, by id.

    Raises
    ------
    InputError
        There is nothing, or two recordings would have the same id.
    """
    found: dict[str, Source] = {}
    for given in inputs:
        for name, source in _sources_of(given, store, allow_pipes):
            if name in found:
                raise InputError(f"{given}: {name} would name two recordings; embed them in separate calls")
            found[name] = source
    if not found:
        raise InputError(f"{', '.join(map(str, inputs))}: no audio")
    return found


def _sources_of(given: Path, store: Path, allow_pipes: bool) -> Iterable[tuple[str, Source]]:
    from deepspeaker.inference import Source
    from deepspeaker.kaldi import DataDir, read_table

    if given.is_dir() and (given / "utt2spk").is_file():
        return of_data_dir(DataDir.read(given), given)
    if given.is_dir() and (given / "wav.scp").is_file():
        given = given / "wav.scp"
    if given.suffix == ".scp":
        return [(name, Source(location)) for name, location in read_table(given).items()]
    if ".jsonl" in given.name:
        from deepspeaker.cuts import data_dir_of_cuts, open_cuts

        with_audio = (cut.drop_features() if cut.has_recording else cut for cut in open_cuts(given))
        cuts = data_dir_of_cuts(with_audio, store / "audio", allow_pipes, (given.parent, given.parent.parent))
        return of_data_dir(cuts, given)
    if given.is_dir():
        from deepspeaker.corpora import audio_files

        parts = [(Path(name).with_suffix("").parts, given / name) for name in sorted(audio_files(given))]
        return [("-".join(names).replace(" ", "_"), Source(str(path))) for names, path in parts]
    if not given.is_file():
        raise InputError(f"{given}: no such file or folder")
    return [(given.stem.replace(" ", "_"), Source(str(given)))]


def of_data_dir(data: DataDir, given: Path) -> Iterable[tuple[str, Source]]:
    """Return the audio of each utterance of a data directory; ``given`` names it in errors."""
    from deepspeaker.inference import Source

    found = []
    for utterance in sorted(data.utt2spk):
        segment = data.segment_of(utterance)
        if segment is None or segment.recording not in data.wav_scp:
            raise InputError(f"{given}: {utterance} has no audio; an exported model needs audio, not features")
        bounds = (segment.start, segment.end) if data.segments else None
        found.append((utterance, Source(data.wav_scp[segment.recording], bounds)))
    return found
