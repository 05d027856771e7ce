from __future__ import annotations

from deepspeaker.report import (
    comparison_table,
    condition_tables,
    describe_speakers,
    enrolment_tables,
    notes,
    result_tables,
    threshold_table,
    trial_list_table,
)
from deepspeaker.results import Results

COSTS = ["0.250 [0.200, 0.800]", "0.333 [0.200, 0.800]", "0.750 [0.200, 0.800]"]


def test_each_scored_list_has_a_table(results: Results) -> None:
    first, second = result_tables(results)
    assert first.caption == "trials_all: 1,980 target and 62,640 non-target trials, 30 speakers"
    assert first.head == ["system", "back end", "EER % [95 %]", "minDCF(0.05)", "(0.01)", "(0.001)", "minCllr"]
    assert first.rows == [
        ["untrained", "cosine", "34.10 [17.05, 51.15]", *COSTS, "0.125"],
        ["triplet", "cosine", "4.22 [2.11, 6.33]", *COSTS, "0.125"],
    ]
    assert second.head[-1] == "ACC %" and second.rows[0][-1] == "93.3"


def test_empty_columns_are_left_out(results: Results) -> None:
    calibrated = results.systems[1].model_copy(update={"cllr": 0.2, "act_dcf": {"0.05": 0.3}})
    changed = results.model_copy(update={"systems": [results.systems[0], calibrated]})
    (table,) = result_tables(changed)
    assert table.head[-3:] == ["actDCF(0.05)", "Cllr", "minCllr"]
    assert table.rows[0][-3:] == ["-", "-", "0.125"]
    assert table.rows[1][-3:] == ["0.300", "0.200", "0.125"]


def test_comparison_table(results: Results) -> None:
    table = comparison_table(results)
    assert table is not None
    assert table.rows == [["triplet", "untrained", "trials_all", "-29.88 [-35.00, -25.00]", "< 0.001"]]
    one = results.comparisons[0]
    backends = one.model_copy(update={"systems": ["triplet", "triplet"], "backends": ["plda", "cosine"]})
    both = one.model_copy(update={"backends": ["plda", "cosine"], "p_value": 0.25})
    table = comparison_table(results.model_copy(update={"comparisons": [backends, both]}))
    assert table is not None
    assert [row[:2] for row in table.rows] == [["triplet, plda", "cosine"], ["triplet, plda", "untrained, cosine"]]
    assert table.rows[1][-1] == "0.250"
    assert comparison_table(results.model_copy(update={"comparisons": []})) is None


def test_enrolment_tables(results: Results) -> None:
    eers, ranks = enrolment_tables(results)
    assert eers.head == ["system", "back end", "enrolment", "1", "2"]
    assert eers.rows == [["triplet", "cosine", "average", "4.12 [2.06, 6.18]", "3.12 [1.56, 4.68]"]]
    assert ranks.rows == [["triplet", "cosine", "average", "90.0", "90.0"]]
    (brief,) = enrolment_tables(results, brief=True)
    assert brief.rows == [["triplet", "cosine", "average", "4.12 / 90.0", "3.12 / 90.0"]]
    assert list(enrolment_tables(results.model_copy(update={"enrolment_table": []}))) == []


def test_condition_tables(results: Results) -> None:
    (table,) = condition_tables(results)
    assert table.caption == "EER % [95 %] on trials_all by system (back end: cosine)"
    assert table.head == ["condition", "value", "target", "non-target", "speakers", "untrained", "triplet"]
    assert table.rows == [
        ["gender", "f", "900", "3,000", "15", "17.05 [8.53, 34.10]", "2.11 [1.05, 4.22]"],
        ["gender", "f, m", "0", "20,000", "30", "-", "-"],
    ]
    plda = results.systems[1].model_copy(update={"backend": "plda"})
    by_system, by_backend = condition_tables(results.model_copy(update={"systems": [*results.systems, plda]}))
    assert by_system == table
    assert by_backend.head[-1] == "plda" and "by back end (system: triplet)" in by_backend.caption
    without = [system.model_copy(update={"conditions": []}) for system in results.systems]
    assert list(condition_tables(results.model_copy(update={"systems": without}))) == []


def test_threshold_table(results: Results) -> None:
    table = threshold_table(results)
    assert table.head[2:] == ["EER", "minDCF(0.05)", "(0.01)", "(0.001)", "FAR 1 %", "misses %"]
    assert table.rows[1] == ["triplet", "cosine", "0.3000", "0.4000", "0.5000", "reject all", "0.4500", "10.00"]


def test_trial_list_table(results: Results) -> None:
    table = trial_list_table(results)
    assert table.rows[0] == ["trials_all", "1,980", "62,640", "30", "-", "a" * 64]
    assert table.rows[2] == ["trials_enrol_1", "300", "29,700", "30", "300", "c" * 64]


def test_notes_and_warnings(results: Results) -> None:
    (imprecise,) = notes(results)
    assert imprecise == "Note: trials_1p99 has only 30 speakers and 299 target trials, so its results are imprecise."
    assert describe_speakers(results, "trials_all") == "30 unseen speakers"
    lists = {**results.trials, "trials_all": results.trials["trials_all"].model_copy(update={"chosen_by": "softmax"})}
    systems = [s.model_copy(update={"shared_speakers": 4, "trials_left_out": 1200}) for s in results.systems[1:2]]
    warning, left_out, chosen = notes(results.model_copy(update={"trials": lists, "systems": systems}))
    assert warning.startswith("Warning: of the 30 speakers of trials_all, 4 were in the training data of triplet.")
    assert left_out == "Note: trials of trials_all left out because an embedding is missing: 1,200 (triplet)."
    assert "chosen by the scores of one system (softmax)" in chosen
    assert describe_speakers(results.model_copy(update={"systems": systems}), "trials_all") == "30 speakers"
