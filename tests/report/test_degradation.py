"""The EER on degraded test speech, as a table and as a plot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from deepspeaker.report import (
    ReportData,
    condition_tables,
    degradation_curves,
    degradation_svg,
    degradation_table,
    plot_degradation,
    results_markdown,
    results_page,
    results_table,
)
from deepspeaker.results import Condition, Results, TrialListInfo

NAMES = {"noise5dB": 0.3, "clean": 0.1, "noise20dB": 0.12, "1s": 0.25, "3s": 0.15, "telephone": 0.2}


COUNTS: dict[str, Any] = {"target": 10, "nontarget": 90, "speakers": 5}


def with_degraded(results: Results, names: dict[str, float]) -> Results:
    """Add a list of degraded speech with two systems."""
    systems = [system for system in results.systems if system.trials == results.first_list][:2]
    degraded = [
        system.model_copy(
            update={
                "trials": "trials_conditions",
                "conditions": [
                    Condition(**COUNTS, by="condition", value=name, eer=eer + shift, eer_ci95=[0.05, 0.4])
                    for name, eer in names.items()
                ],
            }
        )
        for shift, system in zip((0.0, 0.01), systems, strict=True)
    ]
    info = TrialListInfo(target=60, nontarget=540, speakers=5, sha256="a" * 64)
    return results.model_copy(
        update={"systems": [*results.systems, *degraded], "trials": results.trials | {"trials_conditions": info}}
    )


def test_conditions_with_a_number_are_plotted(results: Results, tmp_path: Path) -> None:
    curves = degradation_curves(with_degraded(results, NAMES))
    assert list(curves) == ["signal-to-noise ratio, dB", "seconds of speech"]
    noise, seconds = curves.values()
    name = results.systems[0].name
    assert [place for place, _ in noise[name].points] == [5.0, 20.0]
    assert [(place, condition.eer) for place, condition in seconds[name].points] == [(1.0, 0.25), (3.0, 0.15)]
    assert noise[name].clean is not None and noise[name].clean.eer == 0.1
    tips = re.findall(r"<title>(.*?)</title>", degradation_svg(curves))
    assert tips[0] == f"{name}, noise5dB: EER 30.00 [5.00, 40.00] %"
    assert len(tips) == 2 * (3 + 3)  # two systems; both axes also show clean speech
    for copy in ("1.png", "2.png"):
        plot_degradation(curves, tmp_path / copy, "degraded")
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


def test_each_kind_of_noise_has_a_curve(results: Results) -> None:
    curves = degradation_curves(with_degraded(results, NAMES | {"babble10dB": 0.4}))
    noise = curves["signal-to-noise ratio, dB"]
    assert {name.partition(", ")[2] for name in noise} == {"noise", "babble"}


def test_tables_have_a_row_for_each_condition(results: Results) -> None:
    complete = with_degraded(results, NAMES)
    table = degradation_table(complete)
    assert table is not None and [row[0] for row in table.rows] == list(NAMES)
    assert table.rows[0][1:] == ["30.00", "31.00"]
    assert "EER % by condition of the test side" in results_table(complete)
    captions = [table.caption for table in condition_tables(complete)]
    assert any("on trials_conditions by system" in caption for caption in captions)
    assert "telephone" in results_markdown(complete, {})
    assert "tested with degraded copies" in results_page(complete, ReportData())


def test_without_degraded_speech_nothing_changes(results: Results) -> None:
    assert degradation_curves(results) == {} and degradation_table(results) is None
    assert "tested with degraded copies" not in results_page(results, ReportData())
