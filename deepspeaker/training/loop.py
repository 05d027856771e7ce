"""The training loop of both stages: plain PyTorch, from top to bottom."""

from __future__ import annotations

import csv
import io
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deepspeaker.embedding import embed_utterances
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex, frequency_warp
from deepspeaker.files import atomic_write
from deepspeaker.metrics import det_points, equal_error_rate
from deepspeaker.models import ResCNN, load_checkpoint, save_checkpoint
from deepspeaker.training.optimisation import build_optimiser, learning_rate
from deepspeaker.training.sampler import Batch

#: The development EER is taken on so many utterances of each speaker, evenly spread over their sorted ids.
DEV_UTTERANCES_PER_SPEAKER = 10

#: Checkpoints are averaged over this last share of the epochs.
AVERAGED_SHARE = 0.25


class Sampler(Protocol):
    """Which utterances a step sees."""

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""


class Interrupted(Exception):  # noqa: N818 - not an error: all is saved
    """Training was asked to stop (SIGTERM, Ctrl-C) and has saved where it is."""


def resolve_precision(precision: str, device: torch.device) -> str:
    """``auto`` becomes bfloat16 where the hardware computes in it, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "float32"


def development_eer(network: ResCNN, index: FeatureIndex, autocast: bool) -> float | None:
    """EER over all pairs of development utterances (whole), None when these have no target or no non-target pair."""
    chosen = np.sort(np.concatenate([_spread(own) for own in index.of_speaker]))
    speaker = index.speaker[chosen]
    first, second = np.triu_indices(len(chosen), 1)
    same = speaker[first] == speaker[second]
    if same.all() or not same.any():
        return None
    embeddings = embed_utterances(network, index, chosen.tolist(), autocast=autocast)
    scores = (embeddings @ embeddings.T)[first, second]
    return equal_error_rate(det_points(scores[same], scores[~same]))[0]


def _spread(utterances: NDArray[np.int64]) -> NDArray[np.int64]:
    count = min(len(utterances), DEV_UTTERANCES_PER_SPEAKER)
    places = np.linspace(0, len(utterances) - 1, count).round().astype(int)
    return np.asarray(utterances[places])


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C are noted in the list that this yields, instead of ending the process."""
    requests: list[int] = []

    def note(number: int, frame: object) -> None:
        requests.append(number)

    old = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield requests
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def train(
    network: ResCNN,
    objective: nn.Module,
    sampler: Sampler,
    train_index: FeatureIndex,
    dev_index: FeatureIndex | None,
    folder: Path,
    *,
    config: dict[str, Any],
    section: str,
    seed: int,
    device: torch.device,
    progress: bool,
) -> None:
    """Trains ``network`` with ``objective`` for the epochs of ``config[section]`` and leaves checkpoints in ``folder``.

    After each epoch it writes ``checkpoint_last.pt`` (everything that is needed to go on), ``checkpoint_best.pt`` (the
    lowest development EER so far; the last where there is none), ``train.csv`` and TensorBoard scalars, and at the
    end ``checkpoint_average.pt``. With a ``checkpoint_last.pt`` in ``folder`` it goes on from there: batches and
    crops are functions of seed and step, so a resumed training equals an uninterrupted one.

    Raises ``Interrupted`` after SIGTERM or Ctrl-C, when the step at work is saved; ``InputError`` when the loss is not
    finite any more (the last good checkpoint stays), and when ``folder`` holds a training with other settings.
    """
    from torch.utils.tensorboard.writer import SummaryWriter
    from tqdm import tqdm

    options = config[section]
    optimiser_options = options["optimiser"]
    steps_per_epoch, epochs = options["steps_per_epoch"], options["epochs"]
    steps = steps_per_epoch * epochs
    autocast = options["precision"] == "bfloat16"
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    network.to(device)
    objective.to(device)
    optimiser = build_optimiser(
        (network, objective),
        optimiser_options["name"],
        optimiser_options["momentum"],
        optimiser_options["weight_decay"],
    )
    schedule = {
        key: optimiser_options[key] for key in ("learning_rate", "final_learning_rate", "schedule", "warmup_steps")
    }
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]

    band = config["features"]["low_freq"], config["features"]["high_freq"]
    factors = (1.0, *options["vtlp"])
    matrices = np.stack([frequency_warp(factor, train_index.feature_dim, *band) for factor in factors])
    warps = torch.from_numpy(matrices).to(device)

    step = 0
    history: list[dict[str, float]] = []
    totals: dict[str, float] = {}
    best: float | None = None
    average: dict[str, torch.Tensor] = {}
    averaged_from = epochs - max(1, round(epochs * AVERAGED_SHARE))

    last = folder / "checkpoint_last.pt"
    if last.is_file():
        state = load_checkpoint(last)
        if (state["config"][section], state["seed"], state["speakers"]) != (options, seed, train_index.speakers):
            raise InputError(f"{last}: has other settings, seed or speakers; remove {folder} to start anew")
        network.load_state_dict(state["network"])
        objective.load_state_dict(state["objective"])
        optimiser.load_state_dict(state["optimiser"])
        step, history, totals, best = state["step"], state["history"], state["totals"], state["best_dev_eer"]
        average = {name: tensor.to(device) for name, tensor in state["average"].items()}
        print(f"going on from step {step} of {steps} ({last})", flush=True)

    def content(weights: dict[str, torch.Tensor]) -> dict[str, Any]:
        """What every checkpoint holds."""
        return {
            "config": config,
            "stage": section,
            "seed": seed,
            "feature_dim": train_index.feature_dim,
            "speakers": train_index.speakers,
            "network": {name: tensor.detach().cpu() for name, tensor in weights.items()},
        }

    def save_last() -> None:
        save_checkpoint(
            last,
            {
                **content(network.state_dict()),
                "objective": objective.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "history": history,
                "totals": totals,
                "best_dev_eer": best,
                "average": average,
            },
        )

    seconds_at, step_at = time.monotonic(), step
    with (
        _stop_requests() as stop_requests,
        SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1) as board,
        tqdm(total=steps, initial=step, unit="step", disable=not progress, dynamic_ncols=True, leave=False) as bar,
    ):
        while step < steps:
            batch = sampler.batch(step)
            crops = train_index.crops(batch.utterances, batch.crop_positions, options["crop_frames"])
            features = torch.from_numpy(crops).to(device)
            speakers = torch.from_numpy(train_index.speaker[batch.utterances]).to(device, torch.int64)
            if len(warps) > 1:
                copies = torch.from_numpy(batch.copies).to(device)
                features = features @ warps[copies]
                speakers = speakers + copies * len(train_index.speakers)

            rate = learning_rate(step, steps, **schedule)
            for group in optimiser.param_groups:
                group["lr"] = rate
            network.train()
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                outputs = network(features)
            loss, figures = objective(outputs, speakers)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if optimiser_options["gradient_clip"]:
                nn.utils.clip_grad_norm_(parameters, optimiser_options["gradient_clip"])
            optimiser.step()

            step += 1
            for name, value in figures.items():
                totals[name] = totals.get(name, 0.0) + value
            bar.update()
            speed = len(crops) * (step - step_at) / (time.monotonic() - seconds_at)
            bar.set_postfix_str(f"loss {figures['loss']:.3f}, {speed:.0f} utterances/s", refresh=False)

            if step % steps_per_epoch == 0:
                epoch = step // steps_per_epoch
                row = {"epoch": epoch, "step": step, "learning_rate": rate}
                row.update({name: value / steps_per_epoch for name, value in totals.items()})
                if not math.isfinite(row["loss"]):
                    raise InputError(
                        f"{folder}: the loss is not a finite number in epoch {epoch}; lower "
                        f"{section}.optimiser.learning_rate or set {section}.optimiser.gradient_clip"
                    )
                totals = {}
                eer = development_eer(network, dev_index, autocast) if dev_index else None
                if eer is not None:
                    row["dev_eer"] = eer
                history.append(row)
                if epoch > averaged_from:
                    _add_to_average(average, network.state_dict(), epoch - averaged_from)
                improved = eer is None or best is None or eer < best
                if improved:
                    best = eer
                    save_checkpoint(folder / "checkpoint_best.pt", content(network.state_dict()))
                # Before checkpoint_last: killed between the two, the epoch is trained again and writes the same row;
                # the other way round, the row of the last epoch would be lost.
                _write_history(folder / "train.csv", history)
                save_last()
                for name, value in row.items():
                    board.add_scalar(f"{section}/{name}", value, step)
                board.flush()
                left = (steps - step) * (time.monotonic() - seconds_at) / (step - step_at)
                bar.clear()
                print(_epoch_line(row, epochs, speed, left), flush=True)
            if stop_requests:
                save_last()
                name = signal.Signals(stop_requests[0]).name
                raise Interrupted(f"stopped by {name} at step {step} of {steps}; saved")
    if not history:
        save_last()
        save_checkpoint(folder / "checkpoint_best.pt", content(network.state_dict()))
    save_checkpoint(folder / "checkpoint_average.pt", content(average or network.state_dict()))


def _add_to_average(average: dict[str, torch.Tensor], weights: dict[str, torch.Tensor], count: int) -> None:
    """The running mean over ``count`` sets of weights, this one included."""
    for name, tensor in weights.items():
        if name not in average or not tensor.is_floating_point():
            average[name] = tensor.detach().clone()
        else:
            average[name] += (tensor - average[name]) / count


def _write_history(path: Path, history: list[dict[str, float]]) -> None:
    stream = io.StringIO()
    columns = list(dict.fromkeys(name for row in history for name in row))
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    atomic_write(path, stream.getvalue())


def _epoch_line(row: dict[str, float], epochs: int, speed: float, left: float) -> str:
    shown = [f"epoch {row['epoch']:.0f}/{epochs}", f"loss {row['loss']:.3f}"]
    if "accuracy" in row:
        shown.append(f"accuracy {100 * row['accuracy']:.1f} %")
    if "active_triplets" in row:
        shown.append(f"active triplets {100 * row['active_triplets']:.1f} %")
        shown.append(f"cosine {row['positive_cosine']:.3f} positive {row['negative_cosine']:.3f} negative")
    shown.append(f"dev EER {100 * row['dev_eer']:.2f} %" if "dev_eer" in row else "no dev EER")
    shown.append(f"{speed:.0f} utterances/s")
    shown.append(f"{left / 60:.1f} min left" if left >= 60 else f"{left:.0f} s left")
    return ", ".join(shown)
