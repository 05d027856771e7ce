"""The training loop of both stages: plain PyTorch, from top to bottom."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.utils.deterministic
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deepspeaker.config import Softmax, Triplet
from deepspeaker.features import FeatureIndex
from deepspeaker.training.augmented import CropChanges, Sources
from deepspeaker.training.batches import Sampler
from deepspeaker.training.checkpoints import Checkpoints
from deepspeaker.training.collapse import CollapseWatch
from deepspeaker.training.distributed import all_reduce, rank, synchronise_batch_norm, world_size
from deepspeaker.training.loading import BatchLoader
from deepspeaker.training.monitoring import Development, Monitor
from deepspeaker.training.objectives import Objective
from deepspeaker.training.optimizer import build_optimizer
from deepspeaker.training.processes import Interrupted, stop_signals

#: Weights are averaged over this last share of the epochs.
AVERAGED_SHARE = 0.25

#: Steps between two saves of ``checkpoint_last.pt`` within an epoch; it is also saved after each epoch.
SAVE_STEPS = 500


def train(
    objective: Objective,
    sampler: Sampler,
    index: FeatureIndex,
    dev_index: FeatureIndex | None,
    options: Softmax | Triplet,
    band: tuple[float, float],
    checkpoints: Checkpoints,
    *,
    device: torch.device,
    progress: bool,
    sources: Sources | None = None,
) -> None:
    """Train the network of ``objective`` and leave it in ``checkpoints``.

    After each epoch this writes ``checkpoint_last.pt`` (everything that a resumed training needs),
    ``checkpoint_best.pt`` (the lowest development EER so far; the last epoch without one), ``train.csv`` and
    TensorBoard scalars, and at the end ``checkpoint_average.pt``. The training ends early after ``options.patience``
    epochs without a lower development EER.

    Parameters
    ----------
    objective
        The network and its loss.
    sampler
        Chooses the utterances of each batch from ``index``.
    index, dev_index
        Features of the training and of the development speakers.
    options
        The section of the configuration.
    band
        Lowest and highest frequency of the bins in Hz, for VTLP augmentation.
    checkpoints
        Where the result goes; a training that has begun there is resumed.
    device
        Where to train.
    progress
        Whether to show a progress bar on stderr.
    sources
        The augmented copies that the sampler draws from.

    Raises
    ------
    Interrupted
        After SIGTERM or Ctrl-C, when the step has ended and is saved.
    CollapseError
        If embeddings coincide or the loss is at the margin for long, or at the end (see ``CollapseWatch``).
    DivergedError
        If loss, gradient or weights are not finite. Such a network never replaces a good checkpoint.
    InputError
        If features cannot be read or are not finite. The last checkpoint is kept.

    Notes
    -----
    Batches, crops, their masks and mining are functions of seed and step, and nothing else is random. So a resumed
    training equals an uninterrupted one. Within ``process_group()`` each rank computes its shard of every batch, and
    rank 0 writes.
    """
    network: Any = objective.network.to(device)  # a Network
    objective.to(device)
    objective.autocast = options.precision == "bfloat16"
    model: nn.Module = objective
    if world_size() > 1:
        synchronise_batch_norm(network, device, options.compile)
        with warnings.catch_warnings():
            # torch 2.13 deprecates broadcast_buffers; earlier versions lack its successor.
            warnings.simplefilter("ignore", FutureWarning)
            # find_unused_parameters keeps the buckets as they are, so a resumed training adds in the same order.
            model = DistributedDataParallel(objective, broadcast_buffers=False, find_unused_parameters=True)
    if options.compile:
        objective.compile_network()
    changes = CropChanges(
        checkpoints.about["seed"], options.min_crop_frames, options.crop_frames, options.spec_augment, options.bin_gain
    )
    loader = BatchLoader(sampler, index, options.crop_frames, options.vtlp, band, device, sources, changes)
    development = Development(dev_index, device) if dev_index else None
    settings = options.optimizer
    optimizer = build_optimizer(objective, settings.name, settings.momentum, settings.weight_decay)
    schedule = settings.model_dump(include={"learning_rate", "final_learning_rate", "schedule", "warmup_steps"})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    steps_per_epoch, epochs, accumulate = options.steps_per_epoch, options.epochs, options.accumulate
    steps = steps_per_epoch * epochs
    watch = CollapseWatch(options.margin, getattr(options, "collapse_patience", 0), steps)
    done = 0  # steps
    history: list[dict[str, float]] = []  # one row for each epoch
    totals: dict[str, float] = {}  # sums of the metrics over the epoch
    best: float | None = None  # lowest development EER
    average: dict[str, Tensor] = {}  # mean weights of the last epochs
    averaged, averaged_from = 0, epochs - max(1, round(epochs * AVERAGED_SHARE))

    if checkpoints.begun is not None:
        state, checkpoints.begun = checkpoints.begun, None
        network.load_state_dict(state["network"])
        objective.load_state_dict(state["objective"], strict=False)  # the network is not part of it
        optimizer.load_state_dict(state["optimizer"])
        done, history, totals, best = state["step"], state["history"], state["totals"], state["best_dev_eer"]
        average = {name: tensor.to(device) for name, tensor in state["average"].items()}
        averaged = state["averaged"]
        watch.load_state_dict(state["watch"])
        if rank() == 0:
            print(f"continuing from step {done} of {steps} ({checkpoints.last})", flush=True)

    def save_last() -> None:
        checkpoints.save(
            "last",
            network.state_dict(),
            objective=objective.state_without_network(),
            optimizer=optimizer.state_dict(),
            step=done,
            history=history,
            totals=totals,
            best_dev_eer=best,
            average=average,
            averaged=averaged,
            watch=watch.state_dict(),
        )

    def stop() -> Interrupted:
        """Save, unless the network may be collapsing, and return the exception to raise."""
        if not watch.doubtful:
            save_last()
        saved = f"it may be collapsing and is not saved, {checkpoints.remaining()}" if watch.doubtful else "saved"
        name = signals[0].name if signals else "SIGTERM"  # another rank received the signal
        return Interrupted(f"stopped by {name} at step {done} of {steps}; {saved}")

    with (
        stop_signals() as signals,
        deterministic(device),
        Monitor(checkpoints.folder, checkpoints.about["stage"], steps, done, progress) as monitor,
        contextlib.closing(loader.load(done * accumulate, steps * accumulate)) as inputs,
    ):
        stopping = False
        for epoch in range(done // steps_per_epoch + 1, epochs + 1):
            # A network that may be collapsing is left to the watch.
            settled = done % steps_per_epoch == 0 and watch.bad_steps == 0
            if settled and 0 < options.patience <= epochs_since_best(history):
                break
            network.train()
            for step in range(done, epoch * steps_per_epoch):
                rate = learning_rate(step, steps, **schedule)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                metrics = torch.zeros(len(objective.metrics), dtype=torch.float64, device=device)
                for micro in range(accumulate):
                    features, speakers = next(inputs)
                    with gradient_sync(model, micro == accumulate - 1):
                        loss, parts = model(features, speakers, step * accumulate + micro)
                        # Gradients are averaged over the ranks; their sum is the gradient of the whole batch.
                        (loss * world_size() / accumulate).backward()
                    metrics = metrics + parts / accumulate
                norm = clip_gradient(parameters, settings.gradient_clip)
                optimizer.step()

                # All work of the step is launched. Only here does the loop wait for the device.
                stop_requests = torch.tensor(float(bool(signals)), dtype=torch.float64, device=device)
                if world_size() > 1:
                    dist.all_reduce(stop_requests)
                *values, length, requests = torch.cat([metrics, norm.double()[None], stop_requests[None]]).tolist()
                done, stopping = step + 1, requests > 0
                seen = dict(zip(objective.metrics, values, strict=True))
                for what, value in (("loss", seen["loss"]), ("gradient", length)):
                    if not math.isfinite(value):
                        raise checkpoints.divergence(f"the {what} of step {done} is not a finite number")
                for name, value in seen.items():
                    totals[name] = totals.get(name, 0.0) + value
                watch.see(seen)
                monitor.step(done, seen, len(speakers) * accumulate)
                if done % steps_per_epoch:
                    if stopping:
                        raise stop()
                    if done % SAVE_STEPS == 0 and not watch.doubtful:
                        save_last()

            if done == steps:
                watch.end()
            row = {"epoch": epoch, "step": done, "learning_rate": rate}
            row.update({name: value / steps_per_epoch for name, value in totals.items()})
            rates = development.rates(network, objective.autocast) if development else {}
            eer = rates.get("dev_eer")
            row.update(rates)
            if eer is not None:
                # Rank 0 decides, because another machine may round differently.
                eer = all_reduce(torch.tensor(eer * (rank() == 0), dtype=torch.float64, device=device)).item()
                row["dev_eer"] = eer
            totals = {}
            history.append(row)
            # A network that may be collapsing must not replace a good one.
            if not watch.doubtful or done == steps:
                if epoch > averaged_from:
                    averaged += 1
                    add_to_average(average, network.state_dict(), averaged)
                if eer is None or best is None or eer < best:
                    checkpoints.save("best", network.state_dict())
                    best = eer
                # Before checkpoint_last: a training killed in between repeats the epoch and writes the same row.
                monitor.write(history)
                save_last()
            monitor.epoch(row, epochs)
            if stopping:
                raise stop()
    if done < steps and rank() == 0:
        since = epochs_since_best(history)
        print(
            f"epoch {len(history)}/{epochs}: no lower development EER for {since} epochs, training ends; best "
            f"{100 * history[-1 - since]['dev_eer']:.2f} % at epoch {len(history) - since}",
            flush=True,
        )
    if not history:
        save_last()
        checkpoints.save("best", network.state_dict())
    checkpoints.save("average", average or network.state_dict())


def epochs_since_best(history: Sequence[Mapping[str, float]]) -> int:
    """Return the number of epochs after the first one with the lowest development EER; 0 without one.

    Examples
    --------
    >>> epochs_since_best([{"dev_eer": 0.2}, {"dev_eer": 0.1}, {"dev_eer": 0.3}, {"dev_eer": 0.1}])
    2
    """
    eers = [row["dev_eer"] for row in history if "dev_eer" in row]
    return len(eers) - 1 - eers.index(min(eers)) if eers else 0


def learning_rate(
    step: int, steps: int, *, learning_rate: float, final_learning_rate: float, schedule: str, warmup_steps: int
) -> float:
    """Return the learning rate of a step, counted from 0.

    It rises linearly to ``learning_rate`` over ``warmup_steps``, then falls to ``final_learning_rate`` at ``steps``:
    linearly, or along half a cosine (SGDR [1]_ without restarts).

    References
    ----------
    .. [1] Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", arXiv 1608.03983.

    Examples
    --------
    >>> schedule = {"learning_rate": 0.1, "final_learning_rate": 0.0, "schedule": "linear", "warmup_steps": 3}
    >>> [round(learning_rate(step, 7, **schedule), 3) for step in range(7)]
    [0.025, 0.05, 0.075, 0.1, 0.075, 0.05, 0.025]
    """
    if step < warmup_steps:
        return learning_rate * (step + 1) / (warmup_steps + 1)
    progress = min((step - warmup_steps) / max(steps - warmup_steps, 1), 1.0)
    remaining = 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return final_learning_rate + (learning_rate - final_learning_rate) * remaining


def clip_gradient(parameters: Sequence[nn.Parameter], max_norm: float) -> Tensor:
    """Return the L2 norm of the whole gradient; if ``max_norm`` is above 0, scale a longer gradient down to it."""
    if max_norm:
        return nn.utils.clip_grad_norm_(parameters, max_norm)
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def gradient_sync(model: nn.Module, last: bool) -> contextlib.AbstractContextManager[None]:
    """Return a context for a backward pass that sums the gradients over the ranks in the last batch of a step only."""
    if last or not isinstance(model, DistributedDataParallel):
        return contextlib.nullcontext()
    return model.no_sync()


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Make operations on a CPU give the same bits in every run, and restore torch's settings afterwards."""
    mode, memory = torch.get_deterministic_debug_mode(), cast(Any, torch.utils.deterministic)
    fill = memory.fill_uninitialized_memory
    if device.type == "cpu":
        torch.set_deterministic_debug_mode("error")  # without the import of torch's compiler
        # The gradient of the indexing in triplet_loss needs this mode: from 32768 pairs on, threads add it up in any
        # order. Filling fresh memory would take 5 % of a step and changes no result.
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        memory.fill_uninitialized_memory = fill


def add_to_average(average: dict[str, Tensor], weights: dict[str, Tensor], count: int) -> None:
    """Update the running mean of weights in place; ``weights`` is the ``count``-th set."""
    for name, tensor in weights.items():
        if name not in average or not tensor.is_floating_point():
            average[name] = tensor.detach().clone()
        else:
            average[name] += (tensor - average[name]) / count
