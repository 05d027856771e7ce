from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from deepspeaker.config import Optimizer
from deepspeaker.features import FeatureIndex
from deepspeaker.models import build_model, load_checkpoint, network_of
from deepspeaker.training import Development, Interrupted, learning_rate
from tests.training.tiny import (
    CONFIG,
    assert_same_training,
    environment,
    identical,
    kill_me,
    rows_of,
    signal_at,
    train_once,
)


def in_fork(work: Callable[[], None]) -> int:
    """Run ``work`` in a fork; return its exit status: 0, a negative signal number, or 7 when interrupted."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except Interrupted:
            os._exit(7)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_before_rename(which: int) -> None:
    """Make this process die just before it renames its ``which``-th file (from 0) to its final name."""
    rename, count = Path.replace, iter(range(1000))

    def counted(self: Path, target: Path) -> Path:
        if next(count) == which:
            kill_me()
        return rename(self, target)

    Path.replace = counted  # type: ignore[method-assign, assignment]


def child_main(data_dir: Path, folder: Path, section: str) -> None:
    """Train without interruption, then stop and resume a training in every way.

    This runs in a fresh process, because a process in which torch has started threads cannot be forked safely.
    """
    torch.set_num_threads(1)
    shape = {"epochs": 6, "steps_per_epoch": 3}  # averages two epochs, so an average is resumed too

    def expect(code: int, work: Callable[[], None]) -> None:
        found = in_fork(work)
        assert found == code, (found, code)

    train_once(data_dir, folder / "straight", section, **shape)  # not in a fork, so all forks have its imports
    for step in (0, 3, 7, 16):
        for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 7)):
            target = folder / f"{signal.Signals(number).name}_{step}"
            expect(code, lambda: train_once(data_dir, target, section, before=signal_at(step, number), **shape))  # noqa: B023
            expect(0, lambda: train_once(data_dir, target, section, **shape))  # noqa: B023
    for which in range(100 if section == "softmax" else 0):
        target = folder / f"rename_{which}"

        def killed(which: int = which, target: Path = target) -> None:
            kill_before_rename(which)
            train_once(data_dir, target, section, **shape)

        if in_fork(killed) == 0:
            shutil.rmtree(target)
            break
        expect(0, lambda: train_once(data_dir, target, section, **shape))  # noqa: B023
    # Stopped twice, the second time within an epoch that was resumed.
    target = folder / "twice"
    expect(7, lambda: train_once(data_dir, target, section, before=signal_at(9, signal.SIGTERM), **shape))
    expect(-9, lambda: train_once(data_dir, target, section, before=signal_at(11, signal.SIGKILL), **shape))
    expect(0, lambda: train_once(data_dir, target, section, **shape))


@pytest.mark.parametrize("section", ["softmax", "triplet"])
def test_a_training_that_was_killed_or_stopped_anywhere_resumes_to_the_same_bits(
    data_dir: Path, tmp_path: Path, section: str
) -> None:
    subprocess.run([sys.executable, __file__, data_dir, tmp_path, section], env=environment(), check=True, timeout=300)
    ways = sorted(path.name for path in tmp_path.iterdir())
    # At least: 6 histories, 6 last, 1 best, 1 average.
    assert section == "triplet" or len([way for way in ways if way.startswith("rename_")]) >= 14
    for way in ways:
        assert_same_training(tmp_path / "straight", tmp_path / way)
        if not way.startswith("rename_"):  # a kill leaves a temporary file
            assert not list((tmp_path / way).glob(".*"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_within_an_epoch_saves_the_current_step(data_dir: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(Interrupted, match=rf"stopped by {name} at step 8 of 20; saved"):
        train_once(data_dir, tmp_path, before=signal_at(7, signal.Signals[name]))
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")
    assert (state["step"], len(state["history"])) == (8, 1)
    assert not (tmp_path / "checkpoint_average.pt").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_the_second_ctrl_c_stops_at_once(data_dir: Path, tmp_path: Path) -> None:
    def twice(step: int) -> None:
        if step == 7:
            kill_me(signal.SIGINT)
            kill_me(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_once(data_dir, tmp_path, before=twice)
    assert load_checkpoint(tmp_path / "checkpoint_last.pt")["step"] == 5  # the end of the last epoch


def test_a_checkpoint_is_also_saved_within_an_epoch(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepspeaker.training.loop.SAVE_STEPS", 3)
    seen = {}

    def read_step(step: int) -> None:
        if (tmp_path / "often" / "checkpoint_last.pt").is_file():
            seen[step] = load_checkpoint(tmp_path / "often" / "checkpoint_last.pt")["step"]

    train_once(data_dir, tmp_path / "often", before=read_step, epochs=2, steps_per_epoch=7)
    assert seen == {3: 3, 4: 3, 5: 3, 6: 6, 7: 7, 8: 7, 9: 9, 10: 9, 11: 9, 12: 12, 13: 12}
    monkeypatch.undo()
    train_once(data_dir, tmp_path / "seldom", epochs=2, steps_per_epoch=7)
    assert_same_training(tmp_path / "seldom", tmp_path / "often")


def test_training_restores_the_settings_of_torch(data_dir: Path, tmp_path: Path) -> None:
    """Training uses deterministic algorithms, without the slow filling of fresh memory."""
    memory: Any = torch.utils.deterministic

    def settings() -> tuple[int, bool]:
        return torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory

    def note(step: int) -> None:
        during.add(settings())
        if step == 12:
            raise RuntimeError("stop")

    for mode, fill in (("default", True), ("warn", False), ("error", True)):
        during: set[tuple[int, bool]] = set()
        try:
            torch.set_deterministic_debug_mode(mode)
            memory.fill_uninitialized_memory = fill
            before = settings()
            with pytest.raises(RuntimeError, match="stop"):
                train_once(data_dir, tmp_path / mode, before=note)
            assert (settings(), during) == (before, {(2, False)})
        finally:
            torch.set_deterministic_debug_mode("default")
            memory.fill_uninitialized_memory = True


@pytest.mark.parametrize("section", ["softmax", "triplet"])
def test_a_step_reads_no_result_before_the_backward_pass(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str
) -> None:
    """Reading a result on a GPU means waiting for it (see also the test on the meta device)."""
    inside, steps, reads = [False], [], []

    def count(name: str) -> None:
        original = getattr(torch.Tensor, name)

        def call(self: torch.Tensor, *arguments: Any, **named: Any) -> Any:
            if inside[0] and self.is_floating_point():  # the speakers are on the host
                reads.append(name)
            return original(self, *arguments, **named)

        monkeypatch.setattr(torch.Tensor, name, call)

    for name in ("item", "tolist", "cpu", "numpy", "__float__", "__bool__"):
        count(name)
    backward = torch.Tensor.backward

    def begin(step: int) -> None:
        inside[0] = True
        steps.append(step)

    def end(self: torch.Tensor, *arguments: Any, **named: Any) -> None:
        backward(self, *arguments, **named)
        inside[0] = False

    monkeypatch.setattr(torch.Tensor, "backward", end)
    more = {"cross_batch_memory": 20} if section == "triplet" else {}
    train_once(data_dir, tmp_path, section, before=begin, accumulate=2, epochs=1, **more)
    assert (len(steps), reads) == (10, [])


def test_a_finished_training_stays_as_it_is(data_dir: Path, tmp_path: Path) -> None:
    train_once(data_dir, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "again")
    train_once(data_dir, tmp_path / "again", before=lambda step: pytest.fail(f"step {step} was done again"))
    assert_same_training(tmp_path / "one", tmp_path / "again")


@pytest.mark.parametrize("sampler", ["", "speakers", "pairs"])
def test_accumulation_cross_batch_memory_and_bfloat16_are_resumed(data_dir: Path, tmp_path: Path, sampler: str) -> None:
    options: dict[str, Any] = {"accumulate": 2, "precision": "bfloat16", "epochs": 3}
    section = "triplet" if sampler else "softmax"
    if sampler:
        options |= {"cross_batch_memory": 20, "early_steps": 6, "sampler": sampler, "pairs_per_batch": 5}
    train_once(data_dir, tmp_path / "straight", section, **options)
    for batch in (9, 13, 21):
        folder = tmp_path / f"stopped_{batch}"
        with pytest.raises(Interrupted):
            train_once(data_dir, folder, section, before=signal_at(batch), **options)
        assert load_checkpoint(folder / "checkpoint_last.pt")["step"] == batch // 2 + 1
        train_once(data_dir, folder, section, **options)
        assert_same_training(tmp_path / "straight", folder)


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.parametrize("section", ["softmax", "triplet"])
def test_tensorboard_has_the_metrics_of_the_csv_and_of_some_steps(data_dir: Path, tmp_path: Path, section: str) -> None:
    shape = {"epochs": 2, "steps_per_epoch": 25}
    train_once(data_dir, tmp_path / "straight", section, **shape)
    with pytest.raises(Interrupted):
        train_once(data_dir, tmp_path / "stopped", section, before=signal_at(30), **shape)
    train_once(data_dir, tmp_path / "stopped", section, **shape)
    scalars, rows = scalars_of(tmp_path / "straight"), rows_of(tmp_path / "straight")
    metrics = {"softmax": ["loss", "accuracy"], "triplet": ["loss", *TRIPLET_METRICS]}[section]
    for column in rows[0]:
        assert scalars.pop(f"{section}_epoch/{column}") == [
            (int(row["step"]), pytest.approx(float(row[column]), rel=1e-6)) for row in rows
        ]
    assert sorted(scalars) == sorted(f"{section}_step/{name}" for name in metrics)
    assert {tuple(step for step, _ in values) for values in scalars.values()} == {(20, 40)}
    assert scalars_of(tmp_path / "stopped") == scalars_of(tmp_path / "straight")


def dev_eer_of(checkpoint: Path, data_dir: Path) -> float:
    """EER over all pairs of development utterances, embedded one by one, interpolated on the ROC."""
    network, index = network_of(load_checkpoint(checkpoint)), FeatureIndex(data_dir / "dev_nosil")
    with torch.inference_mode():
        embeddings = [network.embed(torch.from_numpy(index.read(u))[None])[0].numpy() for u in range(len(index))]
    scores, labels = [], []
    for first in range(len(index)):
        for second in range(first + 1, len(index)):
            scores.append(float(embeddings[first] @ embeddings[second]))
            labels.append(index.speaker[first] == index.speaker[second])
    p_fa, p_hit, _ = roc_curve(labels, scores, drop_intermediate=False)
    at = int(np.argmax(p_fa >= 1 - p_hit))
    gap = (1 - p_hit[at - 1]) - p_fa[at - 1], (1 - p_hit[at]) - p_fa[at]
    share = gap[0] / (gap[0] - gap[1])
    return float(p_fa[at - 1] + share * (p_fa[at] - p_fa[at - 1]))


TRIPLET_METRICS = ("active_triplets", "positive_cosine", "negative_cosine", "spread")


@pytest.mark.parametrize("section", ["softmax", "triplet"])
def test_checkpoints_and_metrics_are_what_their_names_say(data_dir: Path, tmp_path: Path, section: str) -> None:
    folder = tmp_path / "training"

    def keep(step: int) -> None:
        if step and step % 6 == 0:
            shutil.copy(folder / "checkpoint_last.pt", tmp_path / f"epoch_{step // 6}.pt")

    train_once(data_dir, folder, section, before=keep, epochs=8, steps_per_epoch=6)
    shutil.copy(folder / "checkpoint_last.pt", tmp_path / "epoch_8.pt")
    states = [load_checkpoint(tmp_path / f"epoch_{epoch}.pt") for epoch in range(1, 9)]
    rows = rows_of(folder)
    assert [(row["epoch"], row["step"]) for row in rows] == [(str(e), str(6 * e)) for e in range(1, 9)]

    schedule = getattr(CONFIG, section).optimizer.model_dump(
        include={"learning_rate", "final_learning_rate", "schedule", "warmup_steps"}
    )
    for row in rows:
        assert float(row["learning_rate"]) == learning_rate(int(row["step"]) - 1, 48, **schedule)
    measured = [dev_eer_of(tmp_path / f"epoch_{epoch}.pt", data_dir) for epoch in range(1, 9)]
    assert [float(row["dev_eer"]) for row in rows] == pytest.approx(measured, abs=0.03)

    metrics = {"softmax": ["accuracy"], "triplet": [*TRIPLET_METRICS]}[section]
    assert list(rows[0]) == ["epoch", "step", "learning_rate", "loss", *metrics, "dev_eer"]
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])

    # The first epoch with the lowest development EER.
    eers = [float(row["dev_eer"]) for row in rows]
    best = load_checkpoint(folder / "checkpoint_best.pt")
    assert identical(best["network"], states[eers.index(min(eers))]["network"])

    average = load_checkpoint(folder / "checkpoint_average.pt")
    for name, tensor in average["network"].items():
        last_two = [state["network"][name] for state in states[-2:]]  # the last quarter of eight epochs
        if tensor.is_floating_point():
            expected = (last_two[0].double() + last_two[1].double()) / 2
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(tensor, last_two[1])

    for content in (best, average, states[-1]):
        assert (content["stage"], content["seed"], content["feature_dim"]) == (section, 3, 8)
        assert content["speakers"] == [f"t{number:02d}" for number in range(8)]
        network_of(content)
    assert list((folder / "tensorboard").glob("events.*"))


def test_loss_falls_and_development_eer_gets_low_on_separable_speakers(
    tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    write_features(tmp_path / "train_nosil", 24, 4, prefix="t", noise=0.5)
    write_features(tmp_path / "dev_nosil", 8, 4, prefix="d", noise=0.5)
    train_once(tmp_path, tmp_path / "softmax", epochs=8, steps_per_epoch=25, batch_size=16)
    rows = rows_of(tmp_path / "softmax")
    assert float(rows[-1]["loss"]) < 0.3 * float(rows[0]["loss"])
    assert float(rows[-1]["accuracy"]) > 0.8
    assert float(rows[-1]["dev_eer"]) < 0.1
    torch.manual_seed(3)
    untrained = build_model(8, **CONFIG.model.model_dump())
    before = development_of(FeatureIndex(tmp_path / "dev_nosil")).rates(untrained, autocast=False)["dev_eer"]
    assert before is not None
    assert float(rows[-1]["dev_eer"]) < before / 2


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps(data_dir: Path, tmp_path: Path) -> None:
    train_once(data_dir, tmp_path / "fine", epochs=6, steps_per_epoch=1)
    train_once(data_dir, tmp_path / "coarse", epochs=2, steps_per_epoch=3)
    fine = [float(row["loss"]) for row in rows_of(tmp_path / "fine")]
    coarse = [float(row["loss"]) for row in rows_of(tmp_path / "coarse")]
    assert coarse == pytest.approx([sum(fine[:3]) / 3, sum(fine[3:]) / 3], rel=1e-12)


def test_without_development_speakers_best_is_the_last(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_once(data_dir, tmp_path, dev=False)
    best, last = (load_checkpoint(tmp_path / f"checkpoint_{name}.pt") for name in ("best", "last"))
    assert identical(best["network"], last["network"])
    assert "dev_eer" not in rows_of(tmp_path)[0]
    assert capsys.readouterr().out.count("no dev EER") == 4


def test_zero_epochs_keep_the_initial_weights(data_dir: Path, tmp_path: Path) -> None:
    train_once(data_dir, tmp_path, epochs=0)
    torch.manual_seed(3)
    fresh = build_model(8, **CONFIG.model.model_dump()).state_dict()
    for name in ("last", "best", "average"):
        assert identical(dict(fresh), load_checkpoint(tmp_path / f"checkpoint_{name}.pt")["network"])


@pytest.mark.parametrize("section", ["softmax", "triplet"])
def test_bfloat16_trains_like_float32_and_reproducibly(data_dir: Path, tmp_path: Path, section: str) -> None:
    train_once(data_dir, tmp_path / "float32", section)
    train_once(data_dir, tmp_path / "bfloat16", section, precision="bfloat16")
    train_once(data_dir, tmp_path / "again", section, precision="bfloat16")
    assert_same_training(tmp_path / "bfloat16", tmp_path / "again")
    exact, rough = (load_checkpoint(tmp_path / name / "checkpoint_last.pt") for name in ("float32", "bfloat16"))
    assert not identical(exact["network"], rough["network"])
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in rough["network"].values())
    first = [float(rows_of(tmp_path / name)[0]["loss"]) for name in ("float32", "bfloat16")]
    assert first[0] == pytest.approx(first[1], rel=0.1)


def test_gradient_clipping_bounds_the_step(data_dir: Path, tmp_path: Path) -> None:
    optimizer = Optimizer(name="sgd", learning_rate=1.0, momentum=0.0, gradient_clip=1e-3)
    train_once(data_dir, tmp_path, epochs=1, steps_per_epoch=1, optimizer=optimizer)
    torch.manual_seed(3)
    fresh = build_model(8, **CONFIG.model.model_dump())
    moved = load_checkpoint(tmp_path / "checkpoint_last.pt")["network"]
    length = sum(
        float((moved[name].double() - parameter.detach().double()).square().sum())
        for name, parameter in fresh.named_parameters()
    )
    assert 0 < length**0.5 <= 1.01e-3


def development_of(index: FeatureIndex) -> Development:
    return Development(index, torch.device("cpu"))


def test_development_eer_needs_target_and_nontarget_pairs(tmp_path: Path, write_features: Callable[..., Path]) -> None:
    network = build_model(8, channels=[2], blocks=0, embedding_dim=4)
    for speakers, utterances, possible in ((1, 6, False), (5, 1, False), (2, 2, True)):
        index = FeatureIndex(write_features(tmp_path / f"{speakers}_{utterances}", speakers, utterances))
        assert (development_of(index).rates(network, autocast=False) != {}) == possible


def test_development_accuracy_ranks_a_target_among_99_nontargets(
    tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    network = build_model(8, channels=[2], blocks=0, embedding_dim=4)
    few = FeatureIndex(write_features(tmp_path / "few", 20, 5))  # 95 utterances of other speakers
    assert list(development_of(few).rates(network, autocast=False)) == ["dev_eer"]
    index = FeatureIndex(write_features(tmp_path / "enough", 21, 5))
    development = development_of(index)
    rates = development.rates(network, autocast=False)
    assert rates == development.rates(network, autocast=False)
    assert 0.01 < rates["dev_acc"] < 1.0


def test_development_eer_uses_ten_evenly_spread_utterances_of_each_speaker(
    tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    index = FeatureIndex(write_features(tmp_path / "many", 3, 19))
    development = development_of(index)
    read: list[int] = []
    whole_read = index.read
    index.read = lambda utterance: (read.append(utterance), whole_read(utterance))[1]  # type: ignore[method-assign]
    development.rates(build_model(8, channels=[2], blocks=0, embedding_dim=4), autocast=False)
    expected = [f"s{speaker:02d}-{which:02d}" for speaker in range(3) for which in range(0, 19, 2)]
    assert sorted(index.utterances[utterance] for utterance in read) == expected


@pytest.mark.parametrize(
    ("speakers", "utterances", "kept", "each"), [(8, 6, 8, 5), (15, 4, 15, 2), (30, 2, 20, 2), (4, 15, 4, 10)]
)
def test_development_eer_of_a_large_part_uses_fewer_utterances(
    tmp_path: Path,
    write_features: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    speakers: int,
    utterances: int,
    kept: int,
    each: int,
) -> None:
    monkeypatch.setattr("deepspeaker.training.monitoring.DEV_UTTERANCES", 40)
    index = FeatureIndex(write_features(tmp_path / "large", speakers, utterances))
    counts = np.bincount(index.speaker[development_of(index).chosen], minlength=speakers)
    assert sorted(counts[counts > 0]) == [each] * kept
    assert counts[0] == counts[-1] == each


if __name__ == "__main__":
    child_main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
