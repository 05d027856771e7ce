from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepspeaker.report import density_svg, plot_densities, score_densities


def test_densities_are_those_of_the_score_distributions() -> None:
    generator = np.random.default_rng(0)
    targets, nontargets = generator.normal(2, 1, 400_000), generator.normal(-2, 1, 400_000)
    found = score_densities(targets, nontargets, 0.0)
    centres = (found.edges[1:] + found.edges[:-1]) / 2
    for density, mean in ((found.target, 2), (found.nontarget, -2)):
        exact = np.exp(-((centres - mean) ** 2) / 2) / np.sqrt(2 * np.pi)
        assert np.abs(density - exact).max() < 0.01
        area = density.sum() * np.diff(found.edges)[0]
        assert area == pytest.approx(1, abs=0.0012)  # at most 0.05 % is outside at either end
    # Two normal densities that are 4 deviations apart overlap by 2 Phi(-2).
    assert found.overlap == pytest.approx(0.0455, abs=0.002)


@pytest.mark.parametrize(
    ("targets", "nontargets", "overlap"),
    [
        ([1.0], [0.0], 0),
        ([3.0, 3.0], [3.0], 1),
        ([0.0, 1.0], [np.inf, -np.inf], 0),
        ([np.inf], [np.inf], 0),
    ],
)
def test_few_equal_or_infinite_scores(
    targets: list[float], nontargets: list[float], overlap: float, tmp_path: Path
) -> None:
    found = score_densities(np.array(targets), np.array(nontargets, dtype=np.float32), 0.5)
    assert np.isfinite(found.edges).all() and (np.diff(found.edges) > 0).all()
    assert found.overlap == pytest.approx(overlap)
    plot_densities({"one": found}, tmp_path / "scores.png", "few")
    assert density_svg("one", 0, found).startswith("<svg")


def test_plots_are_bit_identical(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    found = score_densities(generator.normal(1, 1, 100), generator.normal(0, 1, 900), 0.4)
    for name in ("1.png", "2.png"):
        plot_densities({"a": found, "b": found, "c": found}, tmp_path / name, "three")
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    drawing = density_svg("a", 0, found)
    assert drawing == density_svg("a", 0, found)
    assert "the threshold at the EER is 0.4000" in drawing
