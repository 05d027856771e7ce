"""The report as plain text for the screen and as Markdown for RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from deepspeaker.report.tables import (
    Table,
    comparison_table,
    condition_tables,
    degradation_table,
    describe_speakers,
    enrolment_tables,
    notes,
    result_tables,
    threshold_table,
    trial_list_table,
)
from deepspeaker.results import CONDITION_DRAWS, Results

_MEANINGS = {
    "EER": "equal error rate: the rate at which misses and false alarms are equally frequent.",
    "minDCF(p)": (
        "minimum detection cost over all thresholds, for a target prior of p and equal costs of both errors."
        " A system that ignores the speech costs 1."
    ),
    "actDCF(p)": (
        "actual detection cost: the same cost at the threshold that p implies for log-likelihood ratios. The excess"
        " over minDCF is the calibration loss."
    ),
    "Cllr": (
        "cost of log-likelihood ratios over all operating points, in bits. minCllr is the same cost after the best"
        " calibration. The excess of Cllr over minCllr is the calibration loss."
    ),
    "ACC": "accuracy: the share of rows (one target, 99 non-targets) in which the target scores highest.",
    "[low, high]": "95 % confidence interval from a bootstrap over speakers: how much results vary with the speakers.",
}


def meanings(results: Results) -> dict[str, str]:
    """Return the meaning of each column that these results have."""
    left_out = set()
    if all(system.act_dcf is None for system in results.systems):
        left_out.add("actDCF(p)")
    if all(system.rank1 is None for system in results.systems):
        left_out.add("ACC")
    shown = {name: meaning for name, meaning in _MEANINGS.items() if name not in left_out}
    if any(condition.eer_ci95 for system in results.systems for condition in system.conditions):
        shown["[low, high]"] += f" Intervals by condition use at most {CONDITION_DRAWS} draws."
    return shown


def results_table(results: Results) -> str:
    """Return the results for the screen, with one table per trial list and without a final newline."""
    tables = [*result_tables(results, brief=True), *enrolment_tables(results, brief=True)]
    tables += [table for table in (degradation_table(results), comparison_table(results)) if table is not None]
    parts = [f"Speaker verification on {results.title}", *map(aligned, tables)]
    remarks = "\n".join(notes(results))
    return "\n\n".join([*parts, *([remarks] if remarks else [])])


def results_markdown(results: Results, figures: Mapping[str, str], commands: Sequence[str] = ()) -> str:
    """Return the results as a Markdown page.

    Parameters
    ----------
    results : Results
        The results.
    figures : mapping of str to str
        Paths of images, relative to the page, and their captions.
    commands : sequence of str
        Shell commands that reproduce the results.
    """
    lines = [f"# Speaker verification on {escaped(results.corpus)}", ""]
    if results.synthetic:
        lines += [
            "The speech is **synthetic**: it comes from a speech synthesiser. The results show that the recipe works."
            " They say nothing about human speakers.",
            "",
        ]
    for table in result_tables(results):
        lines += markdown(table)
    compared = comparison_table(results)
    lines += markdown(compared) if compared is not None else []
    for note in notes(results):
        lines += [escaped(note), ""]
    lines += [f"- {escaped(name)}: {meaning}" for name, meaning in meanings(results).items()]
    lines += [""]
    for path, caption in figures.items():
        lines += [f"![{escaped(caption)}]({path})", ""]
    for heading, tables in (
        ("Enrolment", list(enrolment_tables(results))),
        ("Conditions", list(condition_tables(results))),
        ("Thresholds", [threshold_table(results)]),
        ("Trials", [trial_list_table(results)]),
    ):
        if tables:
            lines += [f"## {heading}", ""]
            for table in tables:
                lines += markdown(table)
    if commands:
        lines += ["## Commands", "", *(f"    {line}" for line in commands), ""]
    lines += ["## Training", ""]
    sizes = {system.model: f"{system.parameters:,} parameters" for system in results.systems}
    lines += [f"- {'' if model == 'ivector' else 'network: '}{escaped(model)}, {size}" for model, size in sizes.items()]
    lines.append(f"- seed: {results.seed}")
    for section, value in sorted(results.config.items()):
        settings = ", ".join(_settings(value)) if isinstance(value, Mapping) else _show(value)
        lines.append(f"- {section}: {escaped(settings)}")
    return "\n".join(lines) + "\n"


def summary(results: Results, exp_dir: Path) -> str:
    """Return the three lines at the end of a run: the main result, the files and what to try next."""
    last = results.systems[-1]
    systems = [system for system in results.systems if system.trials == results.first_list]
    rates = [
        f"{100 * system.eer:.2f} % {'' if system.name in ('untrained', 'ivector') else 'after '}{system.name}"
        for system in reversed(systems)
        if results.is_leading(system)
    ]
    accuracies = [
        f"; ACC {100 * system.rank1:.1f} % after {system.name}, {system.trials}"
        for system in results.systems
        if system.rank1 is not None and system.name == last.name and results.is_leading(system)
    ]
    by_name = {system.name: system.eer for system in systems if system.backend == last.backend}
    if len(by_name) > 1 and by_name[last.name] > 0.75 * by_name[results.systems[0].name]:
        advice = "more steps (--set softmax.epochs=N --exp NAME) or more training speakers, as training hardly helped"
    elif results.synthetic:
        advice = "real speech: run.sh --corpus librispeech --corpus-dir DIR; your own: --corpus folder --corpus-dir DIR"
    else:
        advice = "a larger network on a GPU: --config conf/librispeech.yaml; another seed: --seed 1 --exp NAME"
    return (
        f"result: EER {', '.join(rates)}; {results.title}, "
        f"{results.first_list}, {describe_speakers(results, results.first_list)}{''.join(accuracies)}\n"
        f"files: {exp_dir}/ (report.html, RESULTS.md, results.json, det.png, triplet/embeddings_test/xvector.scp)\n"
        f"try next: {advice}"
    )


def aligned(table: Table) -> str:
    """Return a table for the screen, with words left-aligned and numbers right-aligned, without a final newline."""
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    lines = [table.caption, ""]
    for row in (table.head, ["-" * width for width in widths], *table.rows):
        cells = [
            cell.ljust(width) if column < table.words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(table: Table) -> list[str]:
    """Return caption and pipe table, each followed by a blank line."""
    rule = ["---" if column < table.words else "---:" for column in range(len(table.head))]
    rows = [f"| {' | '.join(map(escaped, row))} |" for row in (table.head, rule, *table.rows)]
    return [f"{escaped(table.caption)}:", "", *rows, ""]


def _settings(value: Mapping[str, JsonValue], prefix: str = "") -> Iterator[str]:
    """Yield ``key=value`` for every leaf in sorted order, with nested keys joined by dots, as in ``--set``."""
    for key, entry in sorted(value.items()):
        if isinstance(entry, Mapping):
            yield from _settings(entry, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={_show(entry)}"


def _show(value: JsonValue) -> str:
    """Return a value in YAML syntax."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_show, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_show(entry)}' for key, entry in value.items())}}}"
    return str(value)


def escaped(text: str) -> str:
    """Return text that Markdown shows literally, in tables too."""
    for character in ("|", "*", "<"):
        text = text.replace(character, f"\\{character}")
    return text
