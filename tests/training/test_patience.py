"""Early stopping: ``patience`` counts the epochs without a lower development EER."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from deepspeaker.features import FeatureIndex
from deepspeaker.models import load_checkpoint
from deepspeaker.training import Development
from tests.training.test_collapse import train_collapsing
from tests.training.test_loop import in_fork, kill_before_rename
from tests.training.tiny import assert_same_training, environment, identical, refusal, rows_of, signal_at, train_once

SHAPE: dict[str, Any] = {"epochs": 12, "steps_per_epoch": 3}


def stop_after(eers: list[float], patience: int) -> int:
    """The epoch after which training ends, by the definition."""
    for epoch in range(patience + 1, len(eers) + 1):
        if min(eers[: epoch - patience]) <= min(eers[epoch - patience : epoch]):
            return epoch
    return len(eers)


def child_main(data_dir: Path, folder: Path, stopped: int) -> None:
    """Stop or kill a training that ends after epoch ``stopped``, everywhere about its end, and resume it."""
    torch.set_num_threads(1)
    shape = SHAPE | {"patience": 2}
    train_once(data_dir, folder / "straight", **shape)
    train_once(data_dir, folder / "straight", **shape)  # a finished training stays as it is
    last = stopped * SHAPE["steps_per_epoch"] - 1
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 7)):
        for step in (last - 1, last):
            target = folder / f"{number.name}_{step}"
            assert in_fork(lambda: train_once(data_dir, target, before=signal_at(step, number), **shape)) == code  # noqa: B023
            assert in_fork(lambda: train_once(data_dir, target, **shape)) == 0  # noqa: B023
    for which in range(stopped, 100):
        target = folder / f"rename_{which}"

        def killed(which: int = which, target: Path = target) -> None:
            kill_before_rename(which)
            train_once(data_dir, target, **shape)

        if in_fork(killed) == 0:
            shutil.rmtree(target)
            break
        assert in_fork(lambda: train_once(data_dir, target, **shape)) == 0  # noqa: B023


@pytest.fixture
def whole(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A training without early stopping, and its development EERs."""
    folder = tmp_path_factory.mktemp("whole")
    train_once(data_dir, folder, **SHAPE)
    return folder, [float(row["dev_eer"]) for row in rows_of(folder)]


@pytest.mark.parametrize("patience", [1, 2, 3, 11])
def test_training_ends_after_patience_epochs_without_a_lower_development_eer(
    data_dir: Path, tmp_path: Path, whole: tuple[Path, list[float]], capsys: pytest.CaptureFixture[str], patience: int
) -> None:
    folder, eers = whole
    stopped = stop_after(eers, patience)
    assert (stopped < 12) == (patience < 11)
    train_once(data_dir, tmp_path, **SHAPE, patience=patience)
    # The epochs are those of the whole training.
    assert rows_of(tmp_path) == rows_of(folder)[:stopped]
    best = min(eers[:stopped])
    line = (
        f"epoch {stopped}/12: no lower development EER for {patience} epochs, training ends; best {100 * best:.2f} % "
        f"at epoch {eers.index(best) + 1}"
    )
    assert (line in capsys.readouterr().out.splitlines()) == (stopped < 12)
    last = load_checkpoint(tmp_path / "checkpoint_last.pt")
    assert (last["step"], last["best_dev_eer"]) == (3 * stopped, best)
    average = load_checkpoint(tmp_path / "checkpoint_average.pt")
    # Epochs 10 to 12 are the last quarter. Without any of them, the average is the last epoch.
    assert identical(average["network"], last["network"]) == (stopped <= 10)
    for name in ("patience", "epochs"):
        line = refusal(lambda: train_once(data_dir, tmp_path, **(SHAPE | {"patience": patience} | {name: 20})))  # noqa: B023
        assert f"softmax.{name} was " in line and ", now it is 20;" in line


def test_a_training_that_was_stopped_or_killed_about_its_early_end_resumes_to_the_same_bits(
    data_dir: Path, tmp_path: Path, whole: tuple[Path, list[float]]
) -> None:
    stopped = stop_after(whole[1], 2)
    arguments = [sys.executable, __file__, data_dir, tmp_path, str(stopped)]
    subprocess.run(arguments, env=environment(), check=True, timeout=300)
    ways = sorted(path.name for path in tmp_path.iterdir())
    assert len([way for way in ways if way.startswith("rename_")]) > stopped
    for way in ways:
        assert len(rows_of(tmp_path / way)) == stopped < 12
        assert_same_training(tmp_path / "straight", tmp_path / way)


def test_without_development_eer_all_epochs_are_trained(data_dir: Path, tmp_path: Path) -> None:
    train_once(data_dir, tmp_path, **SHAPE, patience=1, dev=False)
    assert len(rows_of(tmp_path)) == 12


def test_a_network_that_may_be_collapsing_is_trained_on(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs have five steps, and the development EER never gets lower."""
    monkeypatch.setattr(Development, "rates", lambda *_: {"dev_eer": 0.5})
    dev_index = FeatureIndex(data_dir / "dev_nosil")
    for name, first, end, epochs in (("healthy", 99, 99, 3), ("collapsing", 13, 17, 4)):
        train_collapsing(data_dir, tmp_path / name, first, end, dev_index=dev_index, epochs=8, patience=2)
        assert len(rows_of(tmp_path / name)) == epochs


if __name__ == "__main__":
    child_main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
