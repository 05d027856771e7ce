from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib.image import imread

from deepspeaker.errors import InputError
from deepspeaker.report import plot_training, training_svgs


def test_learning_curves(tmp_path: Path) -> None:
    rows = [
        {"step": "0", "epoch": "0", "loss": "", "dev_eer": "0.31"},
        {"step": "10", "epoch": "1", "loss": "4.2", "dev_eer": ""},
        {"step": "20", "epoch": "2", "loss": "3.1", "dev_eer": "0.2"},
    ]
    both, loss_only, again = (tmp_path / name for name in ("both.png", "loss.png", "again.png"))
    plot_training(rows, both, "softmax")
    plot_training(rows, again, "softmax")
    plot_training([{"step": 1, "loss": 2.0, "dev_eer": float("nan")}], loss_only, "one step")
    assert both.read_bytes() == again.read_bytes()
    (height, width), (loss_height, loss_width) = (imread(path).shape[:2] for path in (both, loss_only))
    assert width == loss_width and height > loss_height


def test_learning_curves_need_rows_with_numbers(tmp_path: Path) -> None:
    for rows in ([], [{"step": 1}], [{"loss": 1.0}]):
        with pytest.raises(InputError, match="no training step"):
            plot_training(rows, tmp_path / "train.png", "empty")
    with pytest.raises(InputError, match="cannot plot loss"):
        plot_training([{"step": "1", "loss": "much"}], tmp_path / "train.png", "text")
    assert not list(tmp_path.iterdir())


def labels(drawing: str) -> list[str]:
    return re.findall(r"<text[^>]*>(.*?)</text>", drawing)


def test_the_axis_of_a_single_epoch_begins_at_zero() -> None:
    loss, eer = training_svgs([{"step": "100", "epoch": "1", "loss": "3.4", "dev_eer": "0.097"}], "softmax")
    assert {"0", "100", "Training loss"} <= set(labels(loss))
    assert not any(label.startswith(("95", "97.5", "102", "105")) for label in labels(loss))
    assert {"0", "100", "lowest: 9.70 % at step 100"} <= set(labels(eer))


def test_every_recorded_column_has_a_panel() -> None:
    rows = [{"step": step, "loss": 1 / step, "accuracy": 0.1 * step, "active_triplets": "", "lr": 1} for step in (1, 2)]
    drawings = training_svgs(rows, "softmax")
    assert len(drawings) == 2
    assert 'aria-label="Training accuracy (%) of softmax training: 10 at step 1, 20 at step 2"' in drawings[1]
    assert drawings == training_svgs(rows, "softmax")
