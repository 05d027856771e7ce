"""Tables 1 to 4: layers, hard negatives, and corpora."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.kaldi import read_table
from deepspeaker.report import Table
from deepspeaker.results import MISSING
from deepspeaker.tables import paper
from deepspeaker.tables.estimates import decide, over_epochs, overall
from deepspeaker.tables.experiments import PAIRS, PROCESSES
from deepspeaker.tables.sections import Measurements, Section, Verdict, history

_SPEED = re.compile(r"^epoch .*?([0-9]+) utterances/s", re.M)


def _layers(measurements: Measurements) -> Section:
    return _describe(1, "rescnn", {}, measurements)


def _recurrent_layers(measurements: Measurements) -> Section:
    return _describe(2, "gru", {"deep_speech_2": {"recurrence": "deep_speech_2"}}, measurements)


def _describe(table: int, name: str, variants: dict[str, dict[str, Any]], measurements: Measurements) -> Section:
    import torch

    from deepspeaker.config import Config, load_config
    from deepspeaker.models import build_model, describe, parameter_count

    bins, frames = 64, 100
    used: Config = load_config(measurements.root / measurements.setting.configs[name])
    with torch.device("meta"):  # the values of the weights do not matter here
        networks = {"here": build_model(bins, name=name)}
        networks |= {f"here, {what}": build_model(bins, name=name, **more) for what, more in variants.items()}
        count = parameter_count(build_model(bins, **used.model.model_dump()))
    columns = [describe(network.to_empty(device="cpu"), frames) for network in networks.values()]
    rows = []
    for (printed, parameters), *layers in zip(paper.LAYERS[name], *columns, strict=True):
        shape = " x ".join(map(str, layers[0].output))
        rows.append([layers[0].name, shape, printed, parameters, *(f"{layer.parameters:,}" for layer in layers)])
    totals = [f"{parameter_count(network):,}" for network in networks.values()]
    rows.append(["all", "", "all", paper.TOTALS[name], *totals])
    head = ["layer", "output for 1 s", "paper: layer", "parameters", *networks]
    note = (
        "Output: channels x frames x bins. The batch norm counts with its layer. The network "
        f"of these experiments ({Path(measurements.setting.configs[name]).name}) has {count:,} parameters."
    )
    data = [dict(zip(head, row, strict=True)) for row in rows]
    return Section(table, [Table("Parameters", head, rows, 3, None)], [note], [], data)


def _hard_negatives(measurements: Measurements) -> Section:
    setting = measurements.setting
    shares, seconds = {}, {}
    for count in PROCESSES:
        folders = [measurements.folder(f"hard{count}", seed) / "triplet" for seed in setting.seeds]
        if not all((folder / ".done.4").is_file() for folder in folders):
            continue
        shares[count] = np.array([share for folder in folders for share in _active_shares(folder)])
        seconds[count] = float(np.mean([2 * PAIRS * count / _speed(folder) for folder in folders]))
    rows, data = [], []
    for count in sorted({*paper.HARD_NEGATIVES, *PROCESSES}):
        printed = [f"{value:.2f}" for value in paper.HARD_NEGATIVES.get(count, ())] or [MISSING, MISSING]
        record: dict[str, Any] = {"processes": count, "paper": paper.HARD_NEGATIVES.get(count)}
        here = ["left out: its training failed, see log/" if count in PROCESSES else MISSING, MISSING, MISSING]
        if count in shares:
            share = float(shares[count].mean())
            more = seconds[count] / seconds[min(seconds)] - 1
            here = [f"{100 * share:.2f}", f"{seconds[count]:.3f}", f"{100 * more:+.0f}"]
            record |= {"share": share, "seconds_per_step": seconds[count]}
        rows.append([str(count), str(count * 2 * PAIRS), *printed, *here])
        data.append(record)
    head = [
        "processes",
        "utterances",
        "paper: hard negatives %",
        "time %",
        "here: hard negatives %",
        "s a step",
        "time %",
    ]
    parts = []
    for fewer, more_ in pairwise(shares):
        difference = over_epochs(shares[fewer] - shares[more_])
        parts.append((f"more with {more_} processes than with {fewer}", difference, decide(difference)))
    text = "the more processes are searched, the more anchors have a hard negative"
    reason = "" if parts else "its trainings did not run"
    verdict = Verdict("8", text, overall([word for _, _, word in parts]), parts, reason)
    notes = [
        "A hard negative violates the margin: the loss of the anchor and its positive is above 0. All trainings start "
        "from the same network; shares are means over six epochs, and the decision compares epochs in pairs.",
        "The processes share the processors of one machine, so the time shows what a step costs there. The paper's "
        "GPUs work side by side.",
    ]
    return Section(3, [Table("Hard negatives", head, rows, 1, None)], notes, [verdict], data)


def _active_shares(folder: Path) -> list[float]:
    return [float(row["active_triplets"]) for row in history(folder)]


def _speed(folder: Path) -> float:
    """Return the utterances per second of a training's last epoch, from its log."""
    found = _SPEED.findall((folder / "log" / "train.log").read_text(encoding="utf-8"))
    if not found:
        raise InputError(f"{folder}/log/train.log: names no speed; run the experiment again")
    return max(float(found[-1]), 1.0)


def _corpora(measurements: Measurements) -> Section:
    rows = [
        ["paper", name, f"{speakers:,}", f"{utterances:,}", f"{seconds:.2f}", f"{utterances * seconds / 3600:,.1f}"]
        for name, (speakers, utterances, seconds) in paper.CORPORA.items()
    ]
    data = []
    for corpus in measurements.setting.corpora:
        folder = measurements.data(corpus)
        for part in ("train", "dev", "test"):
            if not (folder / part / "utt2dur").is_file():
                continue
            speakers = set(read_table(folder / part / "utt2spk").values())
            durations = [float(value) for value in read_table(folder / part / "utt2dur").values()]
            mean, hours = float(np.mean(durations)), sum(durations) / 3600
            counts = [f"{len(speakers):,}", f"{len(durations):,}", f"{mean:.2f}", f"{hours:,.2f}"]
            rows.append([folder.name, part, *counts])
            record = {"speakers": len(speakers), "utterances": len(durations), "mean_seconds": mean, "hours": hours}
            data.append({"corpus": folder.name, "part": part, **record})
    head = ["corpus", "part", "speakers", "utterances", "mean length, s", "hours"]
    return Section(4, [Table("Speakers and utterances", head, rows, 2)], [], [], data)


FIRST_TABLES: dict[int, Callable[[Measurements], Section]] = {
    1: _layers,
    2: _recurrent_layers,
    3: _hard_negatives,
    4: _corpora,
}
