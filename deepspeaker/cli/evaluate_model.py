"""``deepspeaker evaluate``: test an exported model on other recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepspeaker.cli.embed_files import embed_sources, find_sources, of_data_dir
from deepspeaker.cli.model_options import engine_option, model_argument
from deepspeaker.cli.options import (
    FILE,
    FOLDER,
    allow_pipes_option,
    commands,
    max_skipped_option,
    progress_option,
    seed_option,
)
from deepspeaker.errors import InputError

if TYPE_CHECKING:
    from deepspeaker.inference import Description, FileEmbedding, SpeakerModel
    from deepspeaker.kaldi import DataDir

_SYSTEM = "triplet"  # the name under which the report shows the model


@commands.command()
@model_argument
@click.argument("folder", type=FOLDER)
@click.option("--output", type=FOLDER, default=None, help="where to write; default: evaluation_NAME of the folder")
@click.option("--trials", type=FILE, multiple=True, help="an additional trial list; may be repeated")
@click.option("--enrolment", type=FILE, default=None, help="enrolment models of --trials, as a spk2utt file")
@click.option("--nj", type=click.IntRange(1), default=1, show_default=True, help="number of processes")
@seed_option
@engine_option
@max_skipped_option
@allow_pipes_option
@progress_option
def evaluate(
    model: Path,
    folder: Path,
    output: Path | None,
    trials: tuple[Path, ...],
    enrolment: Path | None,
    nj: int,
    seed: int,
    engine: str,
    max_skipped: float,
    allow_pipes: bool,
    progress: bool,
) -> None:
    """Test an exported model on the recordings of FOLDER.

    FOLDER is a Kaldi data directory, or has a folder for each speaker. The results are those of stages 6 and 7, and the
    error rates of the model's thresholds on these speakers. Without utt2spk, only the pairs of --trials are scored.
    """
    from deepspeaker.corpora import read_speakers
    from deepspeaker.inference import SpeakerModel
    from deepspeaker.kaldi import DataDir
    from deepspeaker.skipped import report_skipped

    loaded = SpeakerModel(model, engine)
    output = output or Path(f"evaluation_{folder.resolve().name}")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if (output / "results.json").is_file() and not (output / "thresholds.json").is_file():
        raise InputError(f"{output}: has the results of something else; give another --output")
    labelled = (folder / "utt2spk").is_file() or not (folder / "wav.scp").is_file()
    if not labelled and not trials:
        raise InputError(f"{folder}: has no utt2spk; give --trials with the pairs to score")
    data = None
    if (folder / "wav.scp").is_file():
        sources = find_sources([folder], output, allow_pipes)
        data = DataDir.read(folder) if labelled else None
    else:
        data = read_speakers(folder, print)
        sources = dict(of_data_dir(data, folder))
    output.mkdir(parents=True, exist_ok=True)
    found, skipped = embed_sources(loaded.folder, sources, engine, nj, allow_pipes, progress)
    report_skipped(output / "skipped", skipped, len(sources), "recordings", max_skipped)
    if data is None:
        _score_pairs(loaded, found, trials, output)
        return
    _prepare(data.subset(list(found)), folder, output, loaded, found, seed)
    _evaluate(loaded.description, output, seed, max_skipped, trials, enrolment)
    _measure_thresholds(loaded, data, found, output)


def _score_pairs(
    model: SpeakerModel, found: dict[str, FileEmbedding], trials: tuple[Path, ...], output: Path
) -> None:
    """Write the scores of pairs whose speakers are unknown."""
    from deepspeaker.files import atomic_path
    from deepspeaker.inference import Voice

    voices = {name: Voice(*one) for name, one in found.items()}
    for path in trials:
        pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        for number, words in enumerate(pairs, 1):
            if len(words) < 2 or words[0] not in voices or words[1] not in voices:
                raise InputError(f"{path}:{number}: needs two utterances of the folder: {' '.join(words)}")
        scores = output / f"scores_{path.name}"
        with atomic_path(scores) as temporary, temporary.open("w", encoding="utf-8") as stream:
            for one, other, *_ in pairs:
                cosine, llr = model.score(voices[one], voices[other])
                stream.write(f"{one} {other} {cosine if llr is None else llr:.6f}\n")
        print(f"{scores}: {len(pairs)} scores")


def _prepare(
    data: DataDir, folder: Path, output: Path, model: SpeakerModel, found: dict[str, FileEmbedding], seed: int
) -> None:
    """Write what stages 1, 2 and 5 would have written of these recordings."""
    from deepspeaker.corpora import copy_test_tables, write_trial_lists
    from deepspeaker.files import atomic_write
    from deepspeaker.kaldi import ArkWriter, write_table

    test = output / "data" / "test"
    data.write(test)
    source = folder if (folder / "wav.scp").is_file() else None
    copy_test_tables(source, test, data)
    write_trial_lists(test, data.utt2spk, seed, print)
    nosil = output / "data" / "test_nosil"
    nosil.mkdir(parents=True, exist_ok=True)
    write_table(nosil / "utt2num_frames", {name: str(one.speech_frames) for name, one in found.items()})
    corpus = {"corpus": folder.resolve().name, "synthetic": False, "seed": seed}
    atomic_write(output / "data" / "corpus.json", json.dumps(corpus) + "\n")
    embeddings = output / _SYSTEM / "embeddings_test"
    with ArkWriter(embeddings / "xvector.ark", embeddings / "xvector.scp") as writer:
        for name, one in sorted(found.items()):
            writer.write(name, one.embedding)
    description = model.description
    network = {
        "checkpoint": description.networks[0].checkpoint,
        "reason": "exported",
        "parameters": description.parameters,
        "stage": _SYSTEM,
        "config": {"features": description.features.model_dump(), "model": description.networks[0].config},
        "speakers": [],
    }
    atomic_write(output / _SYSTEM / "network.json", json.dumps(network) + "\n")


def _evaluate(
    description: Description,
    output: Path,
    seed: int,
    max_skipped: float,
    trials: tuple[Path, ...],
    enrolment: Path | None,
) -> None:
    """Run stages 6 and 7."""
    from deepspeaker.config import Config
    from deepspeaker.evaluation import evaluate as evaluate_systems
    from deepspeaker.report import write_report

    config = Config(features=description.features)
    evaluate_systems(config, output / "data", output, seed, max_skipped, trials, enrolment)
    write_report(output / "data", output)


def _measure_thresholds(model: SpeakerModel, data: DataDir, found: dict[str, FileEmbedding], output: Path) -> None:
    """Compare the error rates that the model states with those of these speakers."""
    import numpy as np

    from deepspeaker.export import Embedded, rates_of, stored_calibration
    from deepspeaker.files import atomic_write
    from deepspeaker.results import format_rate

    names = sorted(found)
    speaker = np.unique([data.utt2spk[name] for name in names], return_inverse=True)[1]
    vectors = np.stack([found[name].embedding for name in names])
    part = Embedded(vectors, np.array([found[name].speech_frames for name in names]), speaker)
    thresholds = model.description.thresholds
    here = rates_of(part, stored_calibration(model.description), [threshold.value for threshold in thresholds])
    print("\nThe model's thresholds: false acceptances in %, as stated and on these speakers; misses on these speakers")
    rows = []
    for threshold, rates in zip(thresholds, here, strict=True):
        stated = threshold.development or threshold.test
        assert stated is not None
        inside = stated.p_fa_ci95 is not None and stated.p_fa_ci95[0] <= rates.p_fa <= stated.p_fa_ci95[1]
        shown = [format_rate(one.p_fa, list(one.p_fa_ci95) if one.p_fa_ci95 else None) for one in (stated, rates)]
        verdict = "inside the stated interval" if inside else "OUTSIDE the stated interval"
        missed = f"{100 * rates.p_miss:.2f} missed"
        print(f"  {threshold.value:7.3f}: {shown[0]} stated, {shown[1]} here, {verdict}; {missed}")
        rows.append({"stated": threshold.model_dump(), "here": rates.model_dump(), "inside": inside})
    content = {"model": model.fingerprint, "thresholds": rows}
    atomic_write(output / "thresholds.json", json.dumps(content, indent=1) + "\n")
