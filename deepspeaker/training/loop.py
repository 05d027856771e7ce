"""The training loop of both stages: plain PyTorch, from top to bottom."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.utils.deterministic
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deepspeaker.config import Softmax, Triplet
from deepspeaker.features import FeatureIndex
from deepspeaker.training.batches import Batches, Sampler
from deepspeaker.training.checkpoints import Checkpoints
from deepspeaker.training.collapse import CollapseWatch
from deepspeaker.training.distributed import rank, synchronise_batch_norm, world_size
from deepspeaker.training.losses import Objective
from deepspeaker.training.monitoring import Development, Monitor
from deepspeaker.training.processes import Interrupted, stop_signals

#: Weights are averaged over this last share of the epochs.
AVERAGED_SHARE = 0.25

#: ``checkpoint_last.pt`` is saved after each epoch, and within one every so many steps.
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
) -> None:
    """Trains the network of ``objective`` as ``options`` say, and leaves it in ``checkpoints``.

    ``sampler`` chooses from the training utterances of ``index``; ``dev_index`` has the development speakers, ``band``
    the lowest and highest frequency of the bins (for vtlp).

    After each epoch it writes ``checkpoint_last.pt`` (everything that a resumed training needs),
    ``checkpoint_best.pt`` (the lowest development EER so far; the last if there is none), ``train.csv`` and TensorBoard
    scalars, and at the end ``checkpoint_average.pt``. It resumes a training that was begun: batches, crops and mining
    are functions of seed and step and nothing else is random, so a resumed training equals an uninterrupted one.
    Within ``process_group()`` each rank computes its shard of every batch; rank 0 writes.

    Raises
    ------
    Interrupted
        After SIGTERM or Ctrl-C, when the step has ended and is saved.
    CollapseError
        If embeddings coincide or the loss sits at the margin for long, or when training ends (see ``CollapseWatch``).
    DivergedError
        If loss, gradient or weights are no longer finite. No such network replaces a good checkpoint.
    InputError
        If features cannot be read or are not finite. What was saved last stays.
    """
    network: Any = objective.network.to(device)  # a Network
    objective.to(device)
    objective.autocast = options.precision == "bfloat16"
    model: nn.Module = objective
    if world_size() > 1:
        synchronise_batch_norm(network, device, options.compile)
        with warnings.catch_warnings():
            # torch 2.13 deprecates broadcast_buffers; earlier versions do not know its successor.
            warnings.simplefilter("ignore", FutureWarning)
            # find_unused_parameters keeps the buckets as they are: a resumed training adds in the same order.
            model = DistributedDataParallel(objective, broadcast_buffers=False, find_unused_parameters=True)
    if options.compile:
        objective.compile_network()
    batches = Batches(sampler, index, options.crop_frames, options.vtlp, band, device)
    development = Development(dev_index, device) if dev_index else None
    optimiser = options.optimiser  # the settings
    optimizer = build_optimizer(objective, optimiser.name, optimiser.momentum, optimiser.weight_decay)
    schedule = optimiser.model_dump(include={"learning_rate", "final_learning_rate", "schedule", "warmup_steps"})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    steps_per_epoch, epochs, accumulate = options.steps_per_epoch, options.epochs, options.accumulate
    steps = steps_per_epoch * epochs
    watch = CollapseWatch(options.margin, getattr(options, "collapse_patience", 0), steps)
    done = 0  # steps
    history: list[dict[str, float]] = []  # a row for each epoch
    totals: dict[str, float] = {}  # sums of the figures over the epoch
    best: float | None = None  # development EER
    average: dict[str, Tensor] = {}  # of the weights of the last epochs
    averaged, averaged_from = 0, epochs - max(1, round(epochs * AVERAGED_SHARE))

    if checkpoints.begun is not None:
        state, checkpoints.begun = checkpoints.begun, None
        network.load_state_dict(state["network"])
        objective.load_state_dict(state["objective"], strict=False)  # without the network's part
        optimizer.load_state_dict(state["optimiser"])
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
            objective=objective.own_state(),
            optimiser=optimizer.state_dict(),
            step=done,
            history=history,
            totals=totals,
            best_dev_eer=best,
            average=average,
            averaged=averaged,
            watch=watch.state_dict(),
        )

    def stop() -> Interrupted:
        """Saves, unless the network may be collapsing."""
        if not watch.doubtful:
            save_last()
        saved = f"it may be collapsing and is not saved, {checkpoints.kept()}" if watch.doubtful else "saved"
        name = signals[0].name if signals else "SIGTERM"  # which another rank received
        return Interrupted(f"stopped by {name} at step {done} of {steps}; {saved}")

    with (
        stop_signals() as signals,
        deterministic(device),
        Monitor(checkpoints.folder, checkpoints.about["stage"], steps, done, progress) as monitor,
        contextlib.closing(batches.numbers(done * accumulate, steps * accumulate)) as inputs,
    ):
        stopping = False
        for epoch in range(done // steps_per_epoch + 1, epochs + 1):
            network.train()
            for step in range(done, epoch * steps_per_epoch):
                rate = learning_rate(step, steps, **schedule)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                figures = torch.zeros(len(objective.figures), dtype=torch.float64, device=device)
                for micro in range(accumulate):
                    features, speakers = next(inputs)
                    with all_reduce_of_gradients(model, micro == accumulate - 1):
                        loss, parts = model(features, speakers, step * accumulate + micro)
                        # Gradients are averaged over the ranks; their sum is the gradient of the whole batch.
                        (loss * world_size() / accumulate).backward()
                    figures = figures + parts / accumulate
                norm = clip_gradient(parameters, optimiser.gradient_clip)
                optimizer.step()

                # All work of the step is launched. This is the only place that waits for the device.
                stop_requests = torch.tensor(float(bool(signals)), dtype=torch.float64, device=device)
                if world_size() > 1:
                    dist.all_reduce(stop_requests)
                *values, length, requests = torch.cat([figures, norm.double()[None], stop_requests[None]]).tolist()
                done, stopping = step + 1, requests > 0
                seen = dict(zip(objective.figures, values, strict=True))
                for what, value in (("loss", seen["loss"]), ("gradient", length)):
                    if not math.isfinite(value):
                        raise checkpoints.diverged(f"the {what} of step {done} is not a finite number")
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
            eer = development.eer(network, objective.autocast) if development else None
            if eer is not None:
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
                # Before checkpoint_last: a training killed between the two repeats the epoch and writes the same row.
                monitor.write(history)
                save_last()
            monitor.epoch(row, epochs)
            if stopping:
                raise stop()
    if not history:
        save_last()
        checkpoints.save("best", network.state_dict())
    checkpoints.save("average", average or network.state_dict())


def learning_rate(
    step: int,
    steps: int,
    *,
    learning_rate: float,
    final_learning_rate: float,
    schedule: str,
    warmup_steps: int,
) -> float:
    """The learning rate of a step counted from 0.

    Over ``warmup_steps`` it rises linearly to ``learning_rate``, then falls to ``final_learning_rate`` at ``steps``:
    "linear" evenly, "cosine" along half a cosine (SGDR, arXiv 1608.03983, without restarts).
    """
    if step < warmup_steps:
        return learning_rate * (step + 1) / (warmup_steps + 1)
    progress = min((step - warmup_steps) / max(steps - warmup_steps, 1), 1.0)
    remaining = 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return final_learning_rate + (learning_rate - final_learning_rate) * remaining


def build_optimizer(module: nn.Module, name: str, momentum: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW or SGD with momentum; weight decay is for weights of two dimensions or more, not for norms and biases.

    The loop sets the learning rate before every step.
    """
    parameters = list(module.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=momentum)
    return torch.optim.AdamW(groups, lr=0.0)


def clip_gradient(parameters: Sequence[nn.Parameter], most: float) -> Tensor:
    """The length of the whole gradient, a scalar; if ``most`` is above 0, a longer gradient is cut to it."""
    if most:
        return nn.utils.clip_grad_norm_(parameters, most)
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def all_reduce_of_gradients(model: nn.Module, wanted: bool) -> contextlib.AbstractContextManager[None]:
    """A context in which a backward pass sums the gradients over the ranks only if ``wanted``, once per step."""
    if wanted or not isinstance(model, DistributedDataParallel):
        return contextlib.nullcontext()
    return model.no_sync()


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a CPU, operations give the same bits in every run; afterwards torch's settings are as they were."""
    mode, memory = torch.get_deterministic_debug_mode(), cast(Any, torch.utils.deterministic)
    fill = memory.fill_uninitialized_memory
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        # Filling fresh memory takes 5 % of a step and changes no result. What needs this mode is the gradient of the
        # indexing in triplet_loss: threads add it up in any order if there are 32768 pairs or more.
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        memory.fill_uninitialized_memory = fill


def add_to_average(average: dict[str, Tensor], weights: dict[str, Tensor], count: int) -> None:
    """Updates the running mean over ``count`` sets of weights, these included."""
    for name, tensor in weights.items():
        if name not in average or not tensor.is_floating_point():
            average[name] = tensor.detach().clone()
        else:
            average[name] += (tensor - average[name]) / count
