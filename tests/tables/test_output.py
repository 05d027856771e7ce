"""The written tables, from made-up experiments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepspeaker.tables import TITLES, Measurements, experiments_of, section, write_tables
from tests.tables.made_up import make_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recipe")
    given = make_recipe(root, seeds=(0, 1), synthetic=True)
    experiments = experiments_of(given)
    measurements = Measurements(given, experiments, root)
    reasons = {11: "a made-up reason"}
    sections = [section(table, measurements, reasons.get(table, "")) for table in TITLES]
    write_tables(sections, measurements, [["./run.sh", "--set", "a.b=c d"]], list(experiments))
    return root / "exp/tables_x"


def test_the_page_has_every_table_with_the_papers_figures_and_ours(folder: Path) -> None:
    markdown = (folder / "RESULTS.md").read_text(encoding="utf-8")
    page = (folder / "tables.html").read_text(encoding="utf-8")
    content = json.loads((folder / "tables.json").read_text(encoding="utf-8"))
    for table, title in TITLES.items():
        assert f"Table {table}: {title}" in markdown and f"Table {table}: {title}" in page
    for text in (markdown, page):
        assert "synthetic" in text and "arXiv 1705.02304v1" in text
        for figure in ("13.79", "51.72", "2.07", "249,312", "41K x 2", "50.99", "2.78"):
            assert figure in text
        assert "left out: a made-up reason" in text
        assert "&#39;a.b=c d&#39;" in text or "'a.b=c d'" in text
    for row in content["tables"]["5"]["rows"]:
        low, high = row["eer"]["ci95"]
        assert low < row["eer"]["mean"] < high and set(row["eer"]["of_seed"]) == {"0", "1"}
        assert f"{100 * row['eer']['mean']:.2f}" in markdown
    assert (folder / "figure4.png").read_bytes().startswith(b"\x89PNG")
    assert "<script" not in page and "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_every_ordering_has_one_sentence_with_its_decision(folder: Path) -> None:
    content = json.loads((folder / "tables.json").read_text(encoding="utf-8"))
    markdown = (folder / "RESULTS.md").read_text(encoding="utf-8")
    decisions = {one["number"]: one["decision"] for one in content["orderings"]}
    assert list(decisions) == ["1a", "1b", "2", "3", "4", "5", "6", "7", "8", "9"]
    assert decisions["2"] == "held"  # the made-up i-vector scores are far worse
    assert decisions["8"] == "held"
    assert decisions["1a"] != "held"  # triplets alone are as good as both
    assert decisions["9"] == "not decided by these data"
    for number, decision in decisions.items():
        (line,) = [line for line in markdown.splitlines() if line.startswith(f"- Ordering {number} ")]
        assert f"**{decision}**" in line
    for one in content["orderings"]:
        for part in one["parts"]:
            assert part["ci95"] is not None
            held = part["ci95"][1] < 0
            assert (part["decision"] == "held") == held


def test_lists_have_their_checksums(folder: Path) -> None:
    content = json.loads((folder / "tables.json").read_text(encoding="utf-8"))
    assert {row["corpus"] for row in content["trial_lists"]} == {"tables_main", "tables_phrase", "tables_language"}
    assert all(len(row["sha256"]) == 64 for row in content["trial_lists"])


def test_a_missing_experiment_leaves_its_cells_out(tmp_path: Path) -> None:
    given = make_recipe(tmp_path)
    scores = tmp_path / "exp" / given.experiment("gru_softmax", 0) / "softmax/scores_trials_1p99_cosine"
    scores.unlink()
    one = section(5, Measurements(given, experiments_of(given), tmp_path))
    (row,) = [row for row in one.tables[0].rows if row[:2] == ["GRU", "softmax"] and "best" in row[2]]
    assert row[5].startswith("left out: exp/tables_x_gru_softmax_0")
    (verdict,) = [verdict for verdict in one.verdicts if verdict.number == "1a"]
    assert verdict.left_out == 2 and "2 left out" in verdict.sentence
    assert "GRU: triplet before softmax" not in {text for text, *_ in verdict.parts}
