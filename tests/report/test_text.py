from __future__ import annotations

from pathlib import Path

from deepspeaker.report import results_markdown, results_table, summary
from deepspeaker.results import CONDITION_DRAWS, Results

DIFFERENCE = ["-29.88", "[-35.00,", "-25.00]", "<", "0.001"]


def test_the_tables_on_the_screen(results: Results) -> None:
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
    # Numbers are right-aligned below the column name.
    end = head.index("EER %") + len("EER %")
    assert all(row[:end].endswith("]") for row in rows[:2])
    assert any(line.split() == ["triplet", "untrained", "trials_all", *DIFFERENCE] for line in lines)
    assert "EER % / ACC % by number of enrolment utterances (intervals: RESULTS.md)" in lines
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


def test_small_lists_cause_a_note(results: Results) -> None:
    few = results.trials["trials_all"].model_copy(update={"speakers": 29})
    smaller = results.model_copy(update={"trials": {**results.trials, "trials_all": few}})
    assert "trials_all has only 29 speakers" in results_table(smaller)
    assert "trials_all has only 29 speakers" in results_markdown(smaller, {})


def test_only_synthetic_speech_is_labelled(results: Results) -> None:
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
    assert "\n- ACC: accuracy: the share" in page and "\n- actDCF(p): " not in page
    assert "- network: rescnn, 1,234,567 parameters\n- seed: 7\n- model: name=rescnn\n" in page
    assert "- training: loss.hard=true, loss.margin=0.1, steps=300\n" in page
    odd = results.model_copy(update={"corpus": "a|b", "config": {"part": ["x", None]}})
    assert "a\\|b" in results_markdown(odd, {})
    assert "- part: [x, null]" in results_markdown(odd, {})


def test_all_rows_of_a_markdown_table_have_the_same_number_of_cells(results: Results) -> None:
    blocks = results_markdown(results, {}).split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("| ")]
    assert len(tables) == 8
    for table in tables:
        assert len({line.count(" | ") for line in table}) == 1, table


def test_the_number_of_draws_for_conditions_is_stated(results: Results) -> None:
    """It is lower than ``scoring.bootstrap``."""
    statement = f"Intervals by condition use at most {CONDITION_DRAWS} draws."
    assert statement in results_markdown(results, {})
    without = [system.model_copy(update={"conditions": []}) for system in results.systems]
    assert statement not in results_markdown(results.model_copy(update={"systems": without}), {})


def test_the_summary_has_three_lines(results: Results) -> None:
    result, files, advice = summary(results, Path("exp/demo")).split("\n")
    assert result == (
        "result: EER 4.22 % after triplet, 34.10 % untrained; demo (synthetic speech), trials_all, 30 unseen speakers; "
        "ACC 93.3 % after triplet, trials_1p99"
    )
    assert files.startswith("files: exp/demo/ (")
    assert "report.html" in files
    assert advice.startswith("try next: real speech: run.sh --corpus librispeech")


def test_the_summary_of_real_speech_gives_other_advice(results: Results) -> None:
    real = results.model_copy(update={"synthetic": False, "corpus": "librispeech"})
    result, _, advice = summary(real, Path("exp/x")).split("\n")
    assert "; librispeech, trials_all, 30 unseen speakers; ACC 93.3 % after triplet" in result
    without = [system.model_copy(update={"rank1": None}) for system in real.systems]
    result, _, _ = summary(real.model_copy(update={"systems": without}), Path("exp/x")).split("\n")
    assert result.endswith("; librispeech, trials_all, 30 unseen speakers")
    assert advice.startswith("try next: ")
    assert "real speech" not in advice
