"""The training loop of both stages: plain PyTorch, from top to bottom."""

from __future__ import annotations

import contextlib
import math
import signal
import time

import torch
from torch import nn

from deepspeaker.features import FeatureIndex
from deepspeaker.models import Network
from deepspeaker.training.batches import Batches, Sampler
from deepspeaker.training.checkpoints import Checkpoints
from deepspeaker.training.collapse import CollapseWatch
from deepspeaker.training.development import Development
from deepspeaker.training.distributed import process_rank, sum_gradients, summed, with_global_batch_norm
from deepspeaker.training.interruption import Interrupted, WayBack, saved_on_failure, stop_requests
from deepspeaker.training.optimisation import build_optimiser, learning_rate, norm_of_gradient
from deepspeaker.training.record import Meter, Record, epoch_line

#: Checkpoints are averaged over this last share of the epochs.
AVERAGED_SHARE = 0.25

#: Where no bar is shown, a line comes at least so often, in seconds.
SIGN_OF_LIFE = 60.0

#: TensorBoard has the figures of every so many steps.
LOG_STEPS = 20


def train(
    network: Network,
    objective: nn.Module,
    sampler: Sampler,
    train_index: FeatureIndex,
    dev_index: FeatureIndex | None,
    checkpoints: Checkpoints,
    *,
    device: torch.device,
    progress: bool,
) -> None:
    """Trains ``network`` with ``objective`` as the configuration in ``checkpoints`` says, and leaves them there.

    After each epoch it writes ``checkpoint_last.pt`` (everything that is needed to go on), ``checkpoint_best.pt`` (the
    lowest development EER so far; the last where there is none), ``train.csv`` and TensorBoard scalars, and at the
    end ``checkpoint_average.pt``. A training that was begun in the folder goes on: batches, crops and mining are
    functions of seed and step and nothing else is random, so a resumed training equals an uninterrupted one. Within
    ``processes()`` each process computes its share of every batch; process 0 writes.

    Raises ``Interrupted`` after SIGTERM or Ctrl-C, when the step at work is saved; ``CollapseError`` when all
    embeddings coincide or the loss sits at the margin for long, or when training ends; ``DivergedError`` when loss,
    gradient or weights are not finite any more. No network of these takes the place of a good checkpoint. When features
    cannot be read or another process is lost, the last whole step is saved before that is raised.
    """
    from tqdm import tqdm

    about, folder, last = checkpoints.about, checkpoints.folder, checkpoints.last
    config, section = about["config"], about["stage"]
    options = config[section]
    optimiser_options = options["optimiser"]
    steps_per_epoch, epochs, accumulate = options["steps_per_epoch"], options["epochs"], options["accumulate"]
    steps = steps_per_epoch * epochs
    autocast = options["precision"] == "bfloat16"
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    network.to(device)
    objective.to(device)
    with_global_batch_norm(network, compiled=options["compile"])
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
        folder / "log",
        resumed=checkpoints.begun is not None,
    )
    development = Development(dev_index, folder / "log" / "not_finite_dev", device) if dev_index else None
    watch = CollapseWatch(options.get("margin", 0.0), options.get("collapse_patience", 0), steps)

    step = 0
    history: list[dict[str, float]] = []
    totals: dict[str, float] = {}
    best: float | None = None
    average: dict[str, torch.Tensor] = {}
    averaged = 0
    averaged_from = epochs - max(1, round(epochs * AVERAGED_SHARE))

    if checkpoints.begun is not None:
        state, checkpoints.begun = checkpoints.begun, None
        network.load_state_dict(state["network"])
        objective.load_state_dict(state["objective"])
        optimiser.load_state_dict(state["optimiser"])
        step, history, totals, best = state["step"], state["history"], state["totals"], state["best_dev_eer"]
        average = {name: tensor.to(device) for name, tensor in state["average"].items()}
        averaged = state["averaged"]
        watch.load_state_dict(state["watch"])
        if process_rank() == 0:
            print(f"going on from step {step} of {steps} ({last})", flush=True)

    def save_last() -> None:
        checkpoints.save(
            "last",
            network.state_dict(),
            objective=objective.state_dict(),
            optimiser=optimiser.state_dict(),
            step=step,
            history=history,
            totals=totals,
            best_dev_eer=best,
            average=average,
            averaged=averaged,
            watch=watch.state_dict(),
        )

    gradient_norm = torch.zeros(())

    def check_gradient() -> None:
        """A step later, or before anything is saved: then it is known without waiting for the device."""
        if not gradient_norm.isfinite():
            raise checkpoints.diverged(f"the gradient of step {step} is not a finite number")

    def save_where_it_is() -> str:
        """Saves unless the network may be collapsing, and says so."""
        if watch.doubtful:
            return f"it may be collapsing and is not saved, {checkpoints.kept()}"
        check_gradient()
        save_last()
        return "saved"

    def save_for_others() -> None:
        saved = save_where_it_is()
        if process_rank() == 0:
            print(f"stopped at step {step} of {steps}; {saved}", flush=True)

    meter, said = Meter(steps, step), time.monotonic()
    way_back = WayBack(network, objective)
    with (
        stop_requests() as requests,
        Record(folder, section, step) as record,
        tqdm(total=steps, initial=step, unit="step", disable=not progress, dynamic_ncols=True, leave=False) as bar,
        contextlib.closing(batches.numbers(step * accumulate, steps * accumulate)) as inputs,
        saved_on_failure(way_back, save_for_others),
    ):
        while len(history) < epochs:
            if step // steps_per_epoch == len(history):
                rate = learning_rate(step, steps, **schedule)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                network.train()
                optimiser.zero_grad(set_to_none=True)
                figures: dict[str, float] = {}
                read = [next(inputs) for _ in range(accumulate)]  # all of them before anything changes
                way_back.step_begins()
                for number, (features, speakers) in enumerate(read, step * accumulate):
                    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                        outputs = compiled(features)
                    loss, parts = objective(outputs, speakers, number)
                    (loss / accumulate).backward()
                    for name, value in parts.items():
                        figures[name] = figures.get(name, 0.0) + value / accumulate
                check_gradient()  # of the step before
                if not math.isfinite(figures["loss"]):
                    raise checkpoints.diverged(f"the loss of step {step + 1} is not a finite number")
                sum_gradients(parameters)
                gradient_norm = norm_of_gradient(parameters, optimiser_options["gradient_clip"])
                way_back.update_begins()
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
                way_back.step_ends()
                if not progress and process_rank() == 0 and time.monotonic() - said > SIGN_OF_LIFE:
                    print(f"  step {step}/{steps}, loss {figures['loss']:.3f}, {meter.pace()}", flush=True)
                    said = time.monotonic()

            if step // steps_per_epoch > len(history):
                check_gradient()
                if step == steps:
                    watch.end()
                epoch = step // steps_per_epoch
                row = {"epoch": epoch, "step": step, "learning_rate": learning_rate(step - 1, steps, **schedule)}
                row.update({name: value / steps_per_epoch for name, value in totals.items()})
                eer = development.eer(network, autocast) if development else None
                if eer is not None:
                    row["dev_eer"] = eer
                totals = {}
                history.append(row)
                # A network that may be collapsing takes no good one's place.
                if not watch.doubtful or step == steps:
                    if epoch > averaged_from:
                        averaged += 1
                        _add_to_average(average, network.state_dict(), averaged)
                    if eer is None or best is None or eer < best:
                        checkpoints.save("best", network.state_dict())
                        best = eer
                    # Before checkpoint_last: killed between the two, the epoch is trained again and writes the same
                    # row; the other way round, the row of the last epoch would be lost.
                    if process_rank() == 0:
                        record.epochs(history)
                    save_last()
                bar.clear()
                if process_rank() == 0:
                    print(epoch_line(row, epochs, meter), flush=True)
                    said = time.monotonic()
            if summed(torch.tensor(float(bool(requests)), device=device)):
                name = signal.Signals((requests or [signal.SIGTERM])[0]).name
                raise Interrupted(f"stopped by {name} at step {step} of {steps}; {save_where_it_is()}")
    if not history:
        save_last()
        checkpoints.save("best", network.state_dict())
    checkpoints.save("average", average or network.state_dict())


def _add_to_average(average: dict[str, torch.Tensor], weights: dict[str, torch.Tensor], count: int) -> None:
    """The running mean over ``count`` sets of weights, this one included."""
    for name, tensor in weights.items():
        if name not in average or not tensor.is_floating_point():
            average[name] = tensor.detach().clone()
        else:
            average[name] += (tensor - average[name]) / count
