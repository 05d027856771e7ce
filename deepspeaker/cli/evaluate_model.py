"""``deepspeaker evaluate``: test an exported model on other recordings."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepspeaker.cli.embed_files import embed_sources, find_sources, of_data_dir
from deepspeaker.cli.model_options import engine_option, json_option, model_argument, print_json
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
    import numpy as np
    from numpy.typing import NDArray

    from deepspeaker.inference import FileEmbedding, SpeakerModel
    from deepspeaker.kaldi import DataDir


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
@json_option
def evaluate(
    model: str,
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
    as_json: bool,
) -> None:
    """Test an exported model on the recordings of FOLDER.

    FOLDER is a Kaldi data directory, or has a folder for each speaker. The results are those of stages 6 and 7, and the
    error rates of the model's thresholds on these speakers. Without utt2spk, only the pairs of --trials are scored.
    """
    output = output or Path(f"evaluation_{folder.resolve().name}")
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        record = _run(model, folder, output, trials, enrolment, nj, seed, engine, max_skipped, allow_pipes, progress)
    if as_json:
        print_json({"output": output} | record)


def _run(
    model: str,
    folder: Path,
    output: Path,
    trials: tuple[Path, ...],
    enrolment: Path | None,
    nj: int,
    seed: int,
    engine: str,
    max_skipped: float,
    allow_pipes: bool,
    progress: bool,
) -> dict[str, Any]:
    """Test the model, print and write what it does, and return it as a record."""
    from deepspeaker.corpora import read_speakers
    from deepspeaker.inference import SpeakerModel
    from deepspeaker.kaldi import DataDir
    from deepspeaker.results import Results
    from deepspeaker.skipped import report_skipped
    from deepspeaker.stages import Lock

    loaded = SpeakerModel(model, engine)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    of_others = (output / "results.json").is_file() and not (output / "thresholds.json").is_file()
    if of_others or any(output.glob("*/checkpoint_*")):
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
    lists = {} if labelled else {path: _read_pairs(path, sources) for path in trials}
    with contextlib.closing(Lock(output)) as lock:
        lock.take(True, f"is writing {output}; wait for it, or give another --output")
        found, skipped = embed_sources(loaded.folder, sources, engine, nj, allow_pipes, progress)
        report_skipped(output / "skipped", skipped, len(sources), "recordings", max_skipped)
        record: dict[str, Any] = {"skipped": skipped}
        if data is None:
            scores = [_score_pairs(loaded, found, path, pairs, output) for path, pairs in lists.items()]
            return record | {"scores": scores}
        _prepare(data.subset(list(found)), folder, output, loaded, found, seed)
        _evaluate(loaded, output, seed, max_skipped, trials, enrolment)
        record["thresholds"] = _measure_thresholds(loaded, data, found, folder, output)
    return record | {"results": Results.read(output / "results.json").model_dump(mode="json")}


def _read_pairs(path: Path, names: Container[str]) -> list[tuple[str, str]]:
    """Read a list of pairs without labels, and check their names."""
    from deepspeaker.kaldi import read_lines

    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        words = line.decode("utf-8", "backslashreplace").split()
        unknown = [name for name in words[:2] if name not in names]
        if len(words) < 2 or unknown:
            what = f"{unknown[0]} is no recording of the folder" if unknown else "needs two recordings"
            raise InputError(f"{path}:{number}: {what}; a line names two of those in wav.scp")
        pairs.append((words[0], words[1]))
    if not pairs:
        raise InputError(f"{path}: is empty; a line names two recordings of wav.scp")
    return pairs


def _score_pairs(
    model: SpeakerModel, found: dict[str, FileEmbedding], path: Path, pairs: list[tuple[str, str]], output: Path
) -> Path:
    """Write the scores of pairs whose speakers are unknown, and return the file."""
    from deepspeaker.files import atomic_write
    from deepspeaker.inference import Voice

    voices = {name: Voice(*one) for name, one in found.items()}
    lines = []
    for one, other in pairs:
        if one in voices and other in voices:
            cosine, llr = model.score(voices[one], voices[other])
            lines.append(f"{one} {other} {cosine if llr is None else llr:.6f}\n")
    scores = output / f"scores_{path.name}"
    atomic_write(scores, "".join(lines))
    left_out = len(pairs) - len(lines)
    print(f"{scores}: {len(lines)} scores" + (f"; {left_out} pairs have a skipped recording" if left_out else ""))
    return scores


def _prepare(
    data: DataDir, folder: Path, output: Path, model: SpeakerModel, found: dict[str, FileEmbedding], seed: int
) -> None:
    """Write what stages 1, 2 and 5 would have written of these recordings."""
    from deepspeaker.corpora import copy_test_tables, write_trial_lists
    from deepspeaker.embedding import SYSTEMS
    from deepspeaker.files import atomic_write, remove_folder
    from deepspeaker.kaldi import ArkWriter, write_table

    test = output / "data" / "test"
    data.write(test)
    source = folder if (folder / "wav.scp").is_file() else None
    copy_test_tables(source, test, data)
    write_trial_lists(test, data.utt2spk, seed, print)
    nosil = output / "data" / "test_nosil"
    nosil.mkdir(parents=True, exist_ok=True)
    write_table(nosil / "utt2num_frames", {name: str(one.speech_frames) for name, one in found.items()})
    corpus = {"corpus": folder.resolve().name, "synthetic": _is_synthetic(folder), "seed": seed}
    atomic_write(output / "data" / "corpus.json", json.dumps(corpus) + "\n")
    description = model.description
    system = description.networks[0].system
    for name in SYSTEMS:  # an earlier model in this folder may have been another system
        remove_folder(output / name / "embeddings_test")
    embeddings = output / system / "embeddings_test"
    with ArkWriter(embeddings / "xvector.ark", embeddings / "xvector.scp") as writer:
        for name, one in sorted(found.items()):
            writer.write(name, one.embedding)
    network = {
        "checkpoint": description.networks[0].checkpoint,
        "reason": "exported",
        "parameters": description.parameters,
        "stage": system,
        "config": {"features": description.features.model_dump(), "model": description.networks[0].config},
        "speakers": [],
    }
    atomic_write(output / system / "network.json", json.dumps(network) + "\n")


def _is_synthetic(folder: Path) -> bool:
    """Return whether stage 1 wrote that the speech of its data directory is synthetic."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads((folder.resolve().parent / "corpus.json").read_text(encoding="utf-8"))
        return bool(content["synthetic"])
    return False


def _evaluate(
    model: SpeakerModel,
    output: Path,
    seed: int,
    max_skipped: float,
    trials: tuple[Path, ...],
    enrolment: Path | None,
) -> None:
    """Run stages 6 and 7, with the cosine and, if the model is calibrated, with its own scores."""
    import numpy as np

    from deepspeaker.backends import averaging
    from deepspeaker.config import Config
    from deepspeaker.evaluation import evaluate as evaluate_systems
    from deepspeaker.export import Embedded, scorer_of
    from deepspeaker.report import write_report

    scorer = scorer_of(model)

    @averaging
    def own(
        vectors: NDArray[np.float32], frames: NDArray[np.int64], enrolment: NDArray[np.int64], test: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        return scorer(Embedded(vectors, frames, np.zeros(len(vectors), np.int64)), enrolment, test)

    config = Config(features=model.description.features)
    calibrated = None if scorer.calibration is None else own
    evaluate_systems(config, output / "data", output, seed, max_skipped, trials, enrolment, own=calibrated)
    write_report(output / "data", output)


def _measure_thresholds(
    model: SpeakerModel, data: DataDir, found: dict[str, FileEmbedding], folder: Path, output: Path
) -> Any:
    """Compare the error rates that the model states with those of these speakers."""
    import numpy as np

    from deepspeaker.export import Embedded, corpora_of, rates_of, scorer_of
    from deepspeaker.files import atomic_write
    from deepspeaker.results import format_rate

    names = sorted(found)
    speaker = np.unique([data.utt2spk[name] for name in names], return_inverse=True)[1]
    vectors = np.stack([found[name].embedding for name in names])
    frames = np.array([found[name].speech_frames for name in names])
    part = Embedded(vectors, frames, speaker, corpora_of(folder, names))
    thresholds = model.description.thresholds
    here = rates_of(part, scorer_of(model), [threshold.value for threshold in thresholds])
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
    return rows
