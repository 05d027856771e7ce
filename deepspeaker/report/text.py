"""The report as plain text for the screen and as Markdown for RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from deepspeaker.report.tables import (
    Table,
    comparison_table,
    condition_tables,
    enrolment_tables,
    notes,
    result_tables,
    threshold_table,
    trial_list_table,
)
from deepspeaker.results import CONDITION_DRAWS, Results

_MEANINGS = {
    "EER": "the error rate at the threshold where misses and false alarms are equally frequent.",
    "minDCF(p)": (
        "the lowest detection cost over all thresholds for a share p of target trials and equal costs of both errors;"
        " 1 is the cost of answering without listening."
    ),
    "act(p)": (
        "actDCF, the same cost at the threshold that p implies for log-likelihood ratios; other scores have none."
    ),
    "Cllr": (
        "the cost of log-likelihood ratios over all operating points, in bits; minCllr: what it would be were the"
        " scores calibrated at best."
    ),
    "rank-1": "the share of rows of one target and 99 non-targets in which the target scores highest.",
    "[ , ]": "95 % interval, by bootstrap over speakers: how the figure would vary with other test speakers.",
}


def meanings(results: Results) -> dict[str, str]:
    """What the columns that these results have mean, by name."""
    left_out = set()
    if all(system.act_dcf is None for system in results.systems):
        left_out.add("act(p)")
    if all(system.rank1 is None for system in results.systems):
        left_out.add("rank-1")
    shown = {name: meaning for name, meaning in _MEANINGS.items() if name not in left_out}
    if any(condition.eer_ci95 for system in results.systems for condition in system.conditions):
        shown["[ , ]"] += f" Those by condition rest on {CONDITION_DRAWS} draws at most."
    return shown


def results_table(results: Results) -> str:
    """The results for the screen, a table a trial list; without a final newline."""
    synthetic = " (synthetic speech)" if results.synthetic else ""
    tables = [*result_tables(results, brief=True), *enrolment_tables(results, brief=True)]
    compared = comparison_table(results)
    if compared is not None:
        tables.append(compared)
    parts = [f"Speaker verification on {results.corpus}{synthetic}", *map(aligned, tables)]
    remarks = "\n".join(notes(results))
    return "\n\n".join([*parts, *([remarks] if remarks else [])])


def results_markdown(results: Results, figures: Mapping[str, str], commands: Sequence[str] = ()) -> str:
    """The results as a Markdown page: tables, figures, what they mean, trial lists, commands, seed, configuration.

    ``figures`` are paths of pictures, as seen from the page, with what they show.
    """
    lines = [f"# Speaker verification on {_escape(results.corpus)}", ""]
    if results.synthetic:
        lines += [
            "The speech is **synthetic**: it was made by a speech synthesiser. The figures show that the recipe works;"
            " they say nothing about human speakers.",
            "",
        ]
    for table in result_tables(results):
        lines += _markdown(table)
    compared = comparison_table(results)
    lines += _markdown(compared) if compared is not None else []
    for note in notes(results):
        lines += [_escape(note), ""]
    lines += [f"- {_escape(name)}: {meaning}" for name, meaning in meanings(results).items()]
    lines += [""]
    for path, shows in figures.items():
        lines += [f"![{_escape(shows)}]({path})", ""]
    for heading, tables in (
        ("Enrolment", list(enrolment_tables(results))),
        ("Conditions", list(condition_tables(results))),
        ("Thresholds", [threshold_table(results)]),
        ("Trials", [trial_list_table(results)]),
    ):
        if tables:
            lines += [f"## {heading}", ""]
            for table in tables:
                lines += _markdown(table)
    if commands:
        lines += ["## Commands", "", *(f"    {line}" for line in commands), ""]
    model = results.systems[0]
    lines += ["## Training", "", f"- {_escape(model.model)}, {model.parameters:,} parameters"]
    lines.append(f"- seed: {results.seed}")
    for section, value in sorted(results.config.items()):
        settings = ", ".join(_settings(value)) if isinstance(value, Mapping) else _show(value)
        lines.append(f"- {section}: {_escape(settings)}")
    return "\n".join(lines) + "\n"


def aligned(table: Table) -> str:
    """A table for the screen: words to the left and figures to the right of their columns; no final newline."""
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    lines = [table.caption, ""]
    for row in (table.head, ["-" * width for width in widths], *table.rows):
        cells = [
            cell.ljust(width) if column < table.words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _markdown(table: Table) -> list[str]:
    """Caption and pipe table, each followed by a blank line."""
    rule = ["---" if column < table.words else "---:" for column in range(len(table.head))]
    rows = [f"| {' | '.join(map(_escape, row))} |" for row in (table.head, rule, *table.rows)]
    return [f"{_escape(table.caption)}:", "", *rows, ""]


def _settings(value: Mapping[str, JsonValue], prefix: str = "") -> Iterator[str]:
    """``key=value`` for every leaf, nested keys joined by dots, in sorted order: as ``--set`` takes them."""
    for key, entry in sorted(value.items()):
        if isinstance(entry, Mapping):
            yield from _settings(entry, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={_show(entry)}"


def _show(value: JsonValue) -> str:
    """A value as YAML would have it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_show, value))}]"
    return str(value)


def _escape(text: str) -> str:
    """Text that Markdown shows as it is, in a table too."""
    for character in ("|", "*", "<"):
        text = text.replace(character, f"\\{character}")
    return text
