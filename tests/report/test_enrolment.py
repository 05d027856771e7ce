from __future__ import annotations

import re
from pathlib import Path

from deepspeaker.report import enrolment_curves, plot_enrolment
from deepspeaker.report.enrolment import enrolment_svg
from deepspeaker.report.intervals import intervals_svg, plot_intervals
from deepspeaker.results import Results


def test_the_points_are_those_of_the_table(results: Results, tmp_path: Path) -> None:
    exact = results.enrolment_table[1].model_copy(update={"enrolment": "exact"})
    plda = results.enrolment_table[1].model_copy(update={"backend": "plda"})
    perfect = results.enrolment_table[1].model_copy(update={"utterances": 3, "eer": 0.0, "eer_ci95": None})
    table = [perfect, exact, plda, *results.enrolment_table]
    curves = enrolment_curves(results.model_copy(update={"enrolment_table": table}))
    assert {name: [row.utterances for row in rows] for name, rows in curves.items()} == {"triplet": [1, 2, 3]}
    tips = re.findall(r"<title>(.*?)</title>", enrolment_svg(curves))
    assert tips == [
        "triplet, enrolled with 1: EER 4.12 [2.06, 6.18] %",
        "triplet, enrolled with 2: EER 3.12 [1.56, 4.68] %",
        "triplet, enrolled with 3: EER 0.00 %",
    ]
    plot_enrolment(curves, tmp_path / "enrolment.png", "enrolment")
    assert (tmp_path / "enrolment.png").read_bytes().startswith(b"\x89PNG")


def test_intervals_name_each_system_and_stand_without_them(results: Results, tmp_path: Path) -> None:
    perfect = results.systems[0].model_copy(update={"eer": 0.0, "eer_ci95": None, "backend": "plda"})
    systems = [*results.systems[:2], perfect]
    drawing = intervals_svg(systems)
    tips = re.findall(r"<title>(.*?)</title>", drawing)
    assert tips[0] == "untrained, cosine: EER 34.10 [17.05, 51.15] %" and tips[2] == "untrained, plda: EER 0.00 %"
    assert "untrained, plda" in re.findall(r"<text[^>]*>(.*?)</text>", drawing)
    for name in ("1.png", "2.png"):
        plot_intervals(systems, tmp_path / name, "intervals")
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
