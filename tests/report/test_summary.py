from __future__ import annotations

from pathlib import Path

from deepspeaker.report import summary
from deepspeaker.results import Results


def test_three_lines_say_what_was_reached_where_it_lies_and_what_to_try(results: Results) -> None:
    reached, lies_in, advice = summary(results, Path("exp/demo")).split("\n")
    assert reached == (
        "reached: EER 4.22 % after triplet, 34.10 % untrained; demo (synthetic speech), 30 unseen speakers"
    )
    assert lies_in.startswith("lies in: exp/demo/ (")
    assert "report.html" in lies_in
    assert advice.startswith("try next: real speech: run.sh --corpus librispeech")


def test_real_speech_is_not_called_synthetic_and_gets_other_advice(results: Results) -> None:
    real = results.model_copy(update={"synthetic": False, "corpus": "librispeech"})
    reached, _, advice = summary(real, Path("exp/x")).split("\n")
    assert reached.endswith("; librispeech, 30 unseen speakers")
    assert advice.startswith("try next: ")
    assert "real speech" not in advice
