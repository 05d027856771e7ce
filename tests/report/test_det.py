from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from deepspeaker.errors import InputError
from deepspeaker.metrics import DetPoints, det_points
from deepspeaker.report import det_svg, plot_det, thin_curve


def gaussian(distance: float, seed: int = 0) -> DetPoints:
    generator = np.random.default_rng(seed)
    return det_points(generator.normal(distance, 1, 500), generator.normal(0, 1, 5000))


def test_det_plot_is_a_bit_identical_png(tmp_path: Path) -> None:
    curves = {"untrained": gaussian(0.8), "triplet": gaussian(3.5)}
    first, second = tmp_path / "1.png", tmp_path / "2.png"
    plot_det(curves, first, "demo")
    plot_det(curves, second, "demo")
    height, width = imread(first).shape[:2]
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
        imread(tmp_path / f"{name}.png")
    plot_det(
        {f"{name} {copy}": points for name, points in curves.items() for copy in "abc"}, tmp_path / "all.png", "all"
    )
    imread(tmp_path / "all.png")


def test_det_plot_without_curves(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scores"):
        plot_det({}, tmp_path / "det.png", "nothing")
    assert not list(tmp_path.iterdir())


def test_thinning_keeps_the_curve() -> None:
    generator = np.random.default_rng(1)
    x = np.sort(generator.normal(0, 1, 400_000))
    y = -np.round(x, 1)
    thin_x, thin_y = thin_curve(x, y)
    assert len(thin_x) < 25_000
    # The line through the remaining points passes within a cell of the dropped points.
    assert (thin_x[0], thin_x[-1]) == (x[0], x[-1])
    assert np.max(np.abs(np.interp(x, thin_x, thin_y) - y)) <= 1e-3


def test_det_plots_as_svg_and_pdf(tmp_path: Path) -> None:
    for name, begin in (("det.svg", b"<?xml"), ("det.pdf", b"%PDF"), ("det.PNG", b"\x89PNG")):
        plot_det({"one": gaussian(2)}, tmp_path / name, "demo")
        once = (tmp_path / name).read_bytes()
        plot_det({"one": gaussian(2)}, tmp_path / name, "demo")
        assert once.startswith(begin) and (tmp_path / name).read_bytes() == once
    with pytest.raises(InputError, match=r"det\.jpg: figures are written as png, svg, pdf"):
        plot_det({"one": gaussian(2)}, tmp_path / "det.jpg", "demo")
    assert not list(tmp_path.glob("*det.jpg*"))


def test_the_svg_for_the_page_has_tooltips_at_its_operating_points() -> None:
    curves = {"a & b": gaussian(2), "triplet": gaussian(3.5)}
    drawing = det_svg(curves, 0)
    assert drawing == det_svg(curves, 0)
    assert drawing.startswith("<svg viewBox=") and drawing.endswith("</svg>")
    tips = re.findall(r"<title>(.*?)</title>", drawing)
    assert tips[0].startswith("a &amp; b, EER: misses ")
    assert any(tip.startswith("triplet, minDCF(0.01): misses ") for tip in tips)
    assert "<style" not in drawing and "metadata" not in drawing and "matplotlib" not in drawing.lower()
    ids, others = (set(re.findall(r' id="([^"]+)"', det_svg(curves, number))) for number in (0, 1))
    assert ids and not ids & others
    assert set(re.findall(r"#([mp][0-9a-f]{8,})", drawing)) <= ids
