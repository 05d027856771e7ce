"""The training loop of both stages: plain PyTorch, from top to bottom."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from deepspeaker.embedding import embed_utterances, evenly
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.metrics import det_points, equal_error_rate
from deepspeaker.models import Network, load_checkpoint, save_checkpoint
from deepspeaker.training.batches import Batches, Sampler
from deepspeaker.training.collapse import CollapseWatch
from deepspeaker.training.distributed import (
    gathered,
    process_rank,
    share,
    sum_gradients,
    summed,
    with_global_batch_norm,
)
from deepspeaker.training.optimisation import build_optimiser, learning_rate
from deepspeaker.training.record import Meter, Record, epoch_line

#: The development EER is taken on so many utterances of each speaker, evenly spread over their sorted ids.
DEV_UTTERANCES_PER_SPEAKER = 10

#: Checkpoints are averaged over this last share of the epochs.
AVERAGED_SHARE = 0.25

#: Where no bar is shown, a line comes at least so often, in seconds.
SIGN_OF_LIFE = 60.0

#: TensorBoard has the figures of every so many steps.
LOG_STEPS = 20


class Interrupted(Exception):  # noqa: N818 - not an error: all is saved
    """Training was asked to stop (SIGTERM, Ctrl-C) and has saved where it is."""


def development_eer(network: Network, index: FeatureIndex, autocast: bool) -> float | None:
    """EER over all pairs of development utterances (whole), None when these have no target or no non-target pair."""
    chosen = np.sort(np.concatenate([evenly(own, DEV_UTTERANCES_PER_SPEAKER) for own in index.of_speaker]))
    speaker = index.speaker[chosen]
    first, second = np.triu_indices(len(chosen), 1)
    same = speaker[first] == speaker[second]
    if same.all() or not same.any():
        return None
    own = chosen[share(len(chosen))].tolist()
    device = next(network.parameters()).device
    mine = torch.from_numpy(embed_utterances(network, index, own, autocast=autocast)).to(device)
    embeddings = gathered(mine, len(chosen)).cpu().numpy()
    scores = (embeddings @ embeddings.T)[first, second]
    return equal_error_rate(det_points(scores[same], scores[~same]))[0]


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
    network: Network,
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
    end ``checkpoint_average.pt``. With a ``checkpoint_last.pt`` in ``folder`` it goes on from there: batches, crops
    and mining are functions of seed and step and nothing else is random, so a resumed training equals an
    uninterrupted one. Within ``processes()`` each process computes its share of every batch; process 0 writes.

    Raises ``Interrupted`` after SIGTERM or Ctrl-C, when the step at work is saved; ``CollapseError`` when all
    embeddings coincide; ``InputError`` when the loss is not finite any more (the last good checkpoint stays), and when
    ``folder`` holds a training with other settings.
    """
    from tqdm import tqdm

    options = config[section]
    optimiser_options = options["optimiser"]
    steps_per_epoch, epochs, accumulate = options["steps_per_epoch"], options["epochs"], options["accumulate"]
    steps = steps_per_epoch * epochs
    autocast = options["precision"] == "bfloat16"
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    network.to(device)
    objective.to(device)
    with_global_batch_norm(network)
    compiled = torch.compile(network) if options["compile"] else network
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
    batches = Batches(
        sampler,
        train_index,
        options["crop_frames"],
        options["vtlp"],
        (config["features"]["low_freq"], config["features"]["high_freq"]),
        device,
        folder / "log" / f"not_finite.{process_rank()}",
    )
    watch = CollapseWatch(options.get("margin", 0.0), options.get("collapse_patience", 0))

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
        watch.steps = state["collapsed_steps"]
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

    def save(name: str, weights: dict[str, torch.Tensor], **more: Any) -> None:
        if process_rank() == 0:
            save_checkpoint(folder / name, {**content(weights), **more})

    def save_last() -> None:
        save(
            last.name,
            network.state_dict(),
            objective=objective.state_dict(),
            optimiser=optimiser.state_dict(),
            step=step,
            history=history,
            totals=totals,
            best_dev_eer=best,
            average=average,
            collapsed_steps=watch.steps,
        )

    meter, said = Meter(steps, step), time.monotonic()
    with (
        _stop_requests() as stop_requests,
        Record(folder, section, step) as record,
        tqdm(total=steps, initial=step, unit="step", disable=not progress, dynamic_ncols=True, leave=False) as bar,
        contextlib.closing(batches.numbers(step * accumulate, steps * accumulate)) as inputs,
    ):
        while step < steps:
            rate = learning_rate(step, steps, **schedule)
            for group in optimiser.param_groups:
                group["lr"] = rate
            network.train()
            optimiser.zero_grad(set_to_none=True)
            figures: dict[str, float] = {}
            for number in range(step * accumulate, (step + 1) * accumulate):
                features, speakers = next(inputs)
                with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                    outputs = compiled(features)
                loss, parts = objective(outputs, speakers, number)
                (loss / accumulate).backward()
                for name, value in parts.items():
                    figures[name] = figures.get(name, 0.0) + value / accumulate
            sum_gradients(parameters)
            if optimiser_options["gradient_clip"]:
                nn.utils.clip_grad_norm_(parameters, optimiser_options["gradient_clip"])
            optimiser.step()

            step += 1
            meter.count(len(speakers) * accumulate)
            for name, value in figures.items():
                totals[name] = totals.get(name, 0.0) + value
            bar.update()
            bar.set_postfix_str(f"loss {figures['loss']:.3f}, {meter.speed():.0f} utterances/s", refresh=False)
            if step % LOG_STEPS == 0 and process_rank() == 0:
                record.scalars("step", step, figures)
            watch.see(figures)
            if not progress and process_rank() == 0 and time.monotonic() - said > SIGN_OF_LIFE:
                print(f"  step {step}/{steps}, loss {figures['loss']:.3f}, {meter.pace()}", flush=True)
                said = time.monotonic()

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
                # A network that may be collapsing takes no good one's place.
                if watch.steps == 0 or step == steps or not last.is_file():
                    if eer is None or best is None or eer < best:
                        best = eer
                        save("checkpoint_best.pt", network.state_dict())
                    # Before checkpoint_last: killed between the two, the epoch is trained again and writes the same
                    # row; the other way round, the row of the last epoch would be lost.
                    if process_rank() == 0:
                        record.epochs(history)
                    save_last()
                bar.clear()
                if process_rank() == 0:
                    print(epoch_line(row, epochs, meter), flush=True)
                    said = time.monotonic()
            if summed(torch.tensor(float(bool(stop_requests)), device=device)):
                save_last()
                name = signal.Signals((stop_requests or [signal.SIGTERM])[0]).name
                raise Interrupted(f"stopped by {name} at step {step} of {steps}; saved")
    if not history:
        save_last()
        save("checkpoint_best.pt", network.state_dict())
    save("checkpoint_average.pt", average or network.state_dict())


def _add_to_average(average: dict[str, torch.Tensor], weights: dict[str, torch.Tensor], count: int) -> None:
    """The running mean over ``count`` sets of weights, this one included."""
    for name, tensor in weights.items():
        if name not in average or not tensor.is_floating_point():
            average[name] = tensor.detach().clone()
        else:
            average[name] += (tensor - average[name]) / count
