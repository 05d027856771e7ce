from __future__ import annotations

from deepspeaker.report import Results, results_markdown, results_table


def test_the_table_on_the_screen(results: Results) -> None:
    lines = results_table(results).splitlines()
    assert all(len(line) <= 120 for line in lines)
    assert "demo" in lines[0]
    assert "synthetic speech" in lines[0]
    assert "trials_all: 1,980 target and 62,640 non-target trials, 30 speakers" in lines
    head = next(line for line in lines if line.startswith("system"))
    for column in ("trials", "EER %", "minDCF(0.05)", "(0.01)", "(0.001)", "rank-1 %"):
        assert column in head
    table = [line for line in lines if line.startswith(("untrained", "triplet  "))]
    rows = [line.split() for line in table]
    costs = ["0.250", "0.333", "0.750", "-", "0.125"]
    assert rows == [
        ["untrained", "cosine", "trials_all", "34.10", "[17.05,", "51.15]", *costs, "-"],
        ["triplet", "cosine", "trials_all", "4.22", "[2.11,", "6.33]", *costs, "-"],
        ["triplet", "cosine", "trials_1p99", "4.00", "[2.00,", "6.00]", *costs, "93.3"],
    ]
    # Figures are aligned at their right end, under the column's name.
    end = head.index("EER %") + len("EER %")
    assert all(line[:end].endswith(row[5]) for line, row in zip(table, rows, strict=True))
    compared = "triplet - untrained, trials_all: EER -29.88 [-35.00, -25.00] points, p < 0.001"
    assert any(line.startswith(compared) for line in lines)


def test_lists_that_are_too_small_are_called_coarse(results: Results) -> None:
    notes = [line for line in results_table(results).splitlines() if line.startswith("Note: ")]
    assert len(notes) == 1
    assert "trials_1p99 has only 30 speakers and 299 target trials" in notes[0]
    few = results.trials["trials_all"].model_copy(update={"speakers": 29})
    smaller = results.model_copy(update={"trials": {**results.trials, "trials_all": few}})
    assert "trials_all has only 29 speakers" in results_table(smaller)
    assert "trials_all has only 29 speakers" in results_markdown(smaller)


def test_real_speech_is_not_called_synthetic(results: Results) -> None:
    real = results.model_copy(update={"synthetic": False})
    assert "synthetic" in results_markdown(results)
    assert "synthe" not in results_table(real) + results_markdown(real)


def test_the_markdown_page(results: Results) -> None:
    page = results_markdown(results)
    assert page.startswith("# Speaker verification on demo\n")
    assert page.endswith("\n")
    assert "| triplet | rescnn | 1,234,567 | cosine | trials_all | 4.22 [2.11, 6.33] | 0.250 | 0.333 |" in page
    assert f"`{'a' * 64}`" in page
    assert "- seed: 7\n- model: name=rescnn\n- training: loss.hard=true, loss.margin=0.1, steps=300\n" in page
    odd = results.model_copy(update={"corpus": "a|b", "config": {"part": ["x", None]}})
    assert "a\\|b" in results_markdown(odd)
    assert "- part: [x, null]" in results_markdown(odd)
