from __future__ import annotations

from deepspeaker.report import results_markdown, results_table
from deepspeaker.results import CONDITION_DRAWS, Results

DIFFERENCE = ["-29.88", "[-35.00,", "-25.00]", "<", "0.001"]


def test_the_table_on_the_screen(results: Results) -> None:
    lines = results_table(results).splitlines()
    assert all(len(line) <= 120 for line in lines)
    assert lines[0] == "Speaker verification on demo (synthetic speech)"
    assert "trials_all: 1,980 target and 62,640 non-target trials, 30 speakers" in lines
    head = next(line for line in lines if line.startswith("system"))
    assert head.split("  ")[0] == "system" and "Cllr" not in head.replace("minCllr", "")
    rows = [line for line in lines if line.startswith(("untrained  cosine", "triplet    cosine"))]
    assert [row.split() for row in rows[:2]] == [
        ["untrained", "cosine", "34.10", "[17.05,", "51.15]", "0.250", "0.333", "0.750", "0.125"],
        ["triplet", "cosine", "4.22", "[2.11,", "6.33]", "0.250", "0.333", "0.750", "0.125"],
    ]
    # Figures are aligned at their right end, under the column's name.
    end = head.index("EER %") + len("EER %")
    assert all(row[:end].endswith("]") for row in rows[:2])
    assert any(line.split() == ["triplet", "untrained", "trials_all", *DIFFERENCE] for line in lines)
    assert "EER % / rank-1 % by number of enrolment utterances (intervals: RESULTS.md)" in lines
    enrolled = "triplet cosine average 4.12 / 90.0 3.12 / 90.0"
    assert any(" ".join(line.split()) == enrolled for line in lines)
    assert lines[-1].startswith("Note: trials_1p99 has only 30 speakers")


def test_the_widest_table_fits_the_screen(results: Results) -> None:
    widest = results.systems[2].model_copy(
        update={
            "name": "untrained",
            "backend": "mean-subtracted",
            "cllr": 83.954,
            "act_dcf": {"0.05": 0.626, "0.01": 0.659, "0.001": 0.982},
            "eer": 0.29,
            "eer_ci95": [0.2, 0.4],
        }
    )
    table = results_table(results.model_copy(update={"systems": [widest], "comparisons": []}))
    assert max(map(len, table.splitlines())) <= 120


def test_lists_that_are_too_small_are_called_coarse(results: Results) -> None:
    few = results.trials["trials_all"].model_copy(update={"speakers": 29})
    smaller = results.model_copy(update={"trials": {**results.trials, "trials_all": few}})
    assert "trials_all has only 29 speakers" in results_table(smaller)
    assert "trials_all has only 29 speakers" in results_markdown(smaller, {})


def test_real_speech_is_not_called_synthetic(results: Results) -> None:
    real = results.model_copy(update={"synthetic": False})
    assert "synthetic" in results_markdown(results, {})
    assert "synthe" not in results_table(real) + results_markdown(real, {})


def test_the_markdown_page(results: Results) -> None:
    page = results_markdown(results, {"det.png": "DET curves"}, ["run.sh --seed 7"])
    assert page.startswith("# Speaker verification on demo\n")
    assert page.endswith("\n") and "\n\n\n" not in page
    assert "| triplet | cosine | 4.22 [2.11, 6.33] | 0.250 [0.200, 0.800] | 0.333" in page
    assert "![DET curves](det.png)" in page
    assert "    run.sh --seed 7\n" in page
    for heading in ("Enrolment", "Conditions", "Thresholds", "Trials", "Commands", "Training"):
        assert f"\n## {heading}\n" in page
    assert "a" * 64 in page
    assert "\n- rank-1: the share" in page and "\n- act(p): " not in page
    assert "- rescnn, 1,234,567 parameters\n- seed: 7\n- model: name=rescnn\n" in page
    assert "- training: loss.hard=true, loss.margin=0.1, steps=300\n" in page
    odd = results.model_copy(update={"corpus": "a|b", "config": {"part": ["x", None]}})
    assert "a\\|b" in results_markdown(odd, {})
    assert "- part: [x, null]" in results_markdown(odd, {})


def test_every_markdown_table_has_rows_of_one_width(results: Results) -> None:
    blocks = results_markdown(results, {}).split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("| ")]
    assert len(tables) == 8
    for table in tables:
        assert len({line.count(" | ") for line in table}) == 1, table


def test_the_draws_behind_the_intervals_of_a_breakdown_are_told(results: Results) -> None:
    """Nobody learned that they are fewer than ``scoring.bootstrap``."""
    told = f"Those by condition rest on {CONDITION_DRAWS} draws at most."
    assert told in results_markdown(results, {})
    without = [system.model_copy(update={"conditions": []}) for system in results.systems]
    assert told not in results_markdown(results.model_copy(update={"systems": without}), {})
