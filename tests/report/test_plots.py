from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.metrics import DetPoints, det_points
from deepspeaker.report import plot_det, plot_training
from deepspeaker.report.plots import _visible_points


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:])
    return width, height


def gaussian(distance: float, seed: int = 0) -> DetPoints:
    generator = np.random.default_rng(seed)
    return det_points(generator.normal(distance, 1, 500), generator.normal(0, 1, 5000))


def test_det_plot_is_a_png_of_the_same_bytes_each_time(tmp_path: Path) -> None:
    curves = {"untrained": gaussian(0.8), "triplet": gaussian(3.5)}
    first, second = tmp_path / "1.png", tmp_path / "2.png"
    plot_det(curves, first, "demo")
    plot_det(curves, second, "demo")
    width, height = png_size(first)
    assert 900 <= width <= 1300
    assert 700 <= height <= 1400
    assert first.read_bytes() == second.read_bytes()
    assert b"matplotlib" not in first.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "2.png"]


def test_det_plot_of_degenerate_curves(tmp_path: Path) -> None:
    curves = {
        "identical": det_points([1, 1], [1, 1, 1]),
        "perfect": det_points([2, 3], [0, 1]),
        "reversed": det_points([0, 1], [2, 3]),
        "single": det_points([0], [1]),
        "infinite": det_points([-np.inf, np.inf], [0, np.inf]),
    }
    for name, points in curves.items():
        plot_det({name: points}, tmp_path / f"{name}.png", name)
        png_size(tmp_path / f"{name}.png")
    plot_det(
        {f"{name} {copy}": points for name, points in curves.items() for copy in "abc"}, tmp_path / "all.png", "all"
    )
    png_size(tmp_path / "all.png")


def test_det_plot_without_curves(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scores"):
        plot_det({}, tmp_path / "det.png", "nothing")
    assert not list(tmp_path.iterdir())


def test_thinning_keeps_the_line() -> None:
    generator = np.random.default_rng(1)
    x = np.sort(generator.normal(0, 1, 400_000))
    y = -np.round(x, 1)
    thin_x, thin_y = _visible_points(x, y)
    assert len(thin_x) < 25_000
    # The line through the points that are left passes within a cell of those dropped, the ends included.
    assert (thin_x[0], thin_x[-1]) == (x[0], x[-1])
    assert np.max(np.abs(np.interp(x, thin_x, thin_y) - y)) <= 1e-3


def test_training_plot(tmp_path: Path) -> None:
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
    assert png_size(both)[0] == png_size(loss_only)[0]
    assert png_size(both)[1] > png_size(loss_only)[1]


def test_training_plot_of_nothing_or_nonsense(tmp_path: Path) -> None:
    for rows in ([], [{"step": 1}], [{"loss": 1.0}]):
        with pytest.raises(InputError, match="no training step"):
            plot_training(rows, tmp_path / "train.png", "empty")
    with pytest.raises(InputError, match="cannot draw loss"):
        plot_training([{"step": "1", "loss": "much"}], tmp_path / "train.png", "text")
    assert not list(tmp_path.iterdir())
