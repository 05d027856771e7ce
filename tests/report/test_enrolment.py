from __future__ import annotations

import re
from pathlib import Path

from deepspeaker.report import enrolment_curves, enrolment_svg, intervals_svg, plot_enrolment, plot_intervals
from deepspeaker.results import Results


def test_enrolment_curves_show_the_enrolment_table(results: Results, tmp_path: Path) -> None:
    exact = results.enrolment_table[1].model_copy(update={"enrolment": "exact"})
    plda = results.enrolment_table[1].model_copy(update={"backend": "plda"})
    perfect = results.enrolment_table[1].model_copy(update={"utterances": 3, "eer": 0.0, "eer_ci95": None})
    table = [perfect, exact, plda, *results.enrolment_table]
    curves = enrolment_curves(results.model_copy(update={"enrolment_table": table}))
    assert {name: [row.utterances for row in rows] for name, rows in curves.items()} == {"triplet": [1, 2, 3]}
    tips = re.findall(r"<title>(.*?)</title>", enrolment_svg(curves))
    assert tips == [
        "triplet, 1 enrolment utterances: EER 4.12 [2.06, 6.18] %",
        "triplet, 2 enrolment utterances: EER 3.12 [1.56, 4.68] %",
        "triplet, 3 enrolment utterances: EER 0.00 %",
    ]
    plot_enrolment(curves, tmp_path / "enrolment.png", "enrolment")
    assert (tmp_path / "enrolment.png").read_bytes().startswith(b"\x89PNG")


def test_interval_plots_name_each_system_with_or_without_an_interval(results: Results, tmp_path: Path) -> None:
    perfect = results.systems[0].model_copy(update={"eer": 0.0, "eer_ci95": None, "backend": "plda"})
    systems = [*results.systems[:2], perfect]
    drawing = intervals_svg(systems)
    tips = re.findall(r"<title>(.*?)</title>", drawing)
    assert tips[0] == "untrained, cosine: EER 34.10 [17.05, 51.15] %" and tips[2] == "untrained, plda: EER 0.00 %"
    assert "untrained, plda" in re.findall(r"<text[^>]*>(.*?)</text>", drawing)
    for name in ("1.png", "2.png"):
        plot_intervals(systems, tmp_path / name, "intervals")
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
