"""The tables of a report, as cells, for the screen, Markdown and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from deepspeaker.results import MISSING, Comparison, EnrolmentResult, Results, SystemResult, TrialListInfo, format_rate

# With fewer, a single speaker or a handful of trials changes the results visibly.
_FEW_SPEAKERS = 30
_FEW_TARGET_TRIALS = 300


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes
    ----------
    caption : str
        Shown above the table.
    head : list of str
        Column names.
    rows : list of list of str
        The cells.
    words : int
        The number of columns at the left that hold words. All others hold numbers.
    group : int, optional
        The column whose changes separate groups of rows.
    """

    caption: str
    head: list[str]
    rows: list[list[str]]
    words: int
    group: int | None = 0


def result_tables(results: Results, brief: bool = False) -> Iterator[Table]:
    """Yield one table per trial list. ``brief`` leaves out intervals and columns to fit the screen."""
    priors = list(results.systems[0].min_dcf)
    columns: list[tuple[str, Callable[[SystemResult], str]]] = [
        ("system", lambda s: s.name),
        ("back end", lambda s: s.backend),
        ("EER %" if brief else "EER % [95 %]", lambda s: format_rate(s.eer, s.eer_ci95)),
    ]
    for place, prior in enumerate(priors):
        columns.append((f"({prior})" if place else f"minDCF({prior})", _min_cost(prior, with_interval=not brief)))
    for place, prior in enumerate(priors[:1] if brief else priors):
        columns.append((f"({prior})" if place else f"actDCF({prior})", _actual_cost(prior)))
    columns += [
        ("Cllr", lambda s: _number(s.cllr)),
        ("minCllr", lambda s: _number(s.min_cllr)),
        ("ACC %", lambda s: MISSING if s.rank1 is None else f"{100 * s.rank1:.1f}"),
    ]
    for name, info in results.trials.items():
        systems = [system for system in results.systems if system.trials == name]
        if systems:
            head = [label for label, _ in columns]
            rows = [[cell(system) for _, cell in columns] for system in systems]
            yield _without_empty_columns(Table(f"{name}: {_counts(info)}", head, rows, 2))


def comparison_table(results: Results) -> Table | None:
    """Return the paired tests between systems, or None if there are none."""
    head = ["system", "compared with", "trials", "EER difference, % points [95 %]", "p-value"]
    rows = [[*_compared(one), one.trials, _difference(one), _probability(one.p_value)] for one in results.comparisons]
    return Table("Differences in EER, tested by paired bootstrap over speakers", head, rows, 3, 2) if rows else None


def enrolment_tables(results: Results, brief: bool = False) -> Iterator[Table]:
    """Yield EER and ACC by number of enrolment utterances, one row per system.

    ``brief`` puts both into one table, for the featured systems only and without intervals, to fit the screen.
    """
    table = results.enrolment_table
    featured = {(system.name, system.backend) for system in results.featured(results.first_list)}
    counts = sorted({row.utterances for row in table})
    found: dict[tuple[str, str, str], dict[int, EnrolmentResult]] = {}
    for row in table:
        if not brief or (row.name, row.backend) in featured:
            found.setdefault((row.name, row.backend, row.enrolment), {})[row.utterances] = row
    cells: dict[str, Callable[[EnrolmentResult], str]] = {
        "EER % [95 %]": lambda row: format_rate(row.eer, row.eer_ci95),
        "ACC %": lambda row: f"{100 * row.rank1:.1f}",
    }
    if brief:
        cells = {"EER % / ACC %": lambda row: f"{100 * row.eer:.2f} / {100 * row.rank1:.1f}"}
    for metric, cell in cells.items():
        rows = [
            [*system, *(cell(by_count[count]) if count in by_count else MISSING for count in counts)]
            for system, by_count in found.items()
        ]
        if rows:
            head = ["system", "back end", "enrolment", *map(str, counts)]
            more = " (intervals: RESULTS.md)" if brief else ""
            yield Table(f"{metric} by number of enrolment utterances{more}", head, rows, 3)


def condition_tables(results: Results) -> Iterator[Table]:
    """Yield the EER by condition, on the first list with conditions: by system, then by back end of the last system."""
    broken_down = [system for system in results.systems if system.conditions]
    if not broken_down:
        return
    featured = results.featured(broken_down[0].trials)
    first, last = featured[0].backend, featured[-1].name
    for caption, group in (
        (f"by system (back end: {first})", {results.label(s): s for s in featured if results.is_leading(s)}),
        (f"by back end (system: {last})", {s.backend: s for s in featured if not results.is_leading(s)}),
    ):
        keys = list(dict.fromkeys((c.by, c.value) for system in group.values() for c in system.conditions))
        rows = []
        for key in keys:
            cells = {n: c for n, s in group.items() for c in s.conditions if (c.by, c.value) == key}
            condition = next(iter(cells.values()))
            counts = [f"{count:,}" for count in (condition.target, condition.nontarget, condition.speakers)]
            eers = [format_rate(cells[n].eer, cells[n].eer_ci95) if n in cells else MISSING for n in group]
            rows.append([*key, *counts, *eers])
        if rows:
            head = ["condition", "value", "target", "non-target", "speakers", *group]
            yield Table(f"EER % [95 %] on {broken_down[0].trials} {caption}", head, rows, 2)


def threshold_table(results: Results) -> Table:
    """Return the thresholds of the featured systems on the first list."""
    name = results.first_list
    systems = results.featured(name)
    priors = list(systems[0].min_dcf)
    rates = list(dict.fromkeys(rate for s in systems for rate in (s.at_false_acceptance or {})))
    head = ["system", "back end", "EER", *(f"({p})" if n else f"minDCF({p})" for n, p in enumerate(priors))]
    for rate in rates:
        head += [f"FAR {100 * float(rate):g} %", "misses %"]
    rows = []
    for s in systems:
        row = [s.name, s.backend, _threshold(s.eer_threshold)]
        row += [MISSING if s.min_dcf_threshold is None else _threshold(s.min_dcf_threshold[prior]) for prior in priors]
        for rate in rates:
            point = (s.at_false_acceptance or {}).get(rate)
            row += [MISSING, MISSING] if point is None else [_threshold(point.threshold), f"{100 * point.p_miss:.2f}"]
        rows.append(row)
    return _without_empty_columns(Table(f"Thresholds on {name}", head, rows, 2))


def trial_list_table(results: Results) -> Table:
    """Return the size and the checksum of each trial list."""
    head = ["list", "target", "non-target", "speakers", "models", "sha256"]
    rows = [
        [
            name,
            *(f"{count:,}" for count in (info.target, info.nontarget, info.speakers)),
            MISSING if info.models is None else f"{info.models:,}",
            info.sha256,
        ]
        for name, info in results.trials.items()
    ]
    return _without_empty_columns(Table("Trial lists", head, rows, 1, None))


def notes(results: Results) -> Iterator[str]:
    """Yield warnings and notes that are necessary to interpret the results."""
    for name, info in results.trials.items():
        systems = [system for system in results.systems if system.trials == name]
        rows: list[SystemResult | EnrolmentResult] = [*systems]
        rows += [row for row in results.enrolment_table if row.trials == name]
        shared = {row.name: row.shared_speakers for row in rows if row.shared_speakers}
        if shared:
            yield (
                f"Warning: of the {info.speakers:,} speakers of {name}, "
                + ", ".join(f"{count:,} were in the training data of {system}" for system, count in shared.items())
                + ". Expect worse results for new speakers."
            )
        left_out = {row.name: row.trials_left_out for row in rows if row.trials_left_out}
        if left_out:
            yield (
                f"Note: trials of {name} left out because an embedding is missing: "
                + ", ".join(f"{count:,} ({system})" for system, count in left_out.items())
                + "."
            )
        if info.chosen_by is not None:
            yield (
                f"Note: the non-target trials of {name} were chosen by the scores of one system ({info.chosen_by}), so"
                " the list is biased against it."
            )
        if systems and (info.speakers < _FEW_SPEAKERS or info.target < _FEW_TARGET_TRIALS):
            yield (
                f"Note: {name} has only {info.speakers:,} speakers and {info.target:,} target trials, so its results"
                " are imprecise."
            )


def describe_speakers(results: Results, name: str) -> str:
    """Return ``30 unseen speakers``, or ``30 speakers`` if some of them were in the training data."""
    seen = any(system.shared_speakers for system in results.systems if system.trials == name)
    return f"{results.trials[name].speakers:,} {'' if seen else 'unseen '}speakers"


def _counts(info: TrialListInfo) -> str:
    models = "" if info.models is None else f", {info.models:,} models"
    return f"{info.target:,} target and {info.nontarget:,} non-target trials, {info.speakers:,} speakers{models}"


def _min_cost(prior: str, with_interval: bool) -> Callable[[SystemResult], str]:
    def cell(system: SystemResult) -> str:
        interval = (system.min_dcf_ci95 or {}).get(prior) if with_interval else None
        return f"{system.min_dcf[prior]:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")

    return cell


def _actual_cost(prior: str) -> Callable[[SystemResult], str]:
    return lambda system: _number((system.act_dcf or {}).get(prior))


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _threshold(value: float | None) -> str:
    return "reject all" if value is None else f"{value:.4f}"


def _compared(one: Comparison) -> tuple[str, str]:
    """Return both sides, named by what differs between them, system or back end."""
    if one.backends[0] == one.backends[1]:
        return one.systems[0], one.systems[1]
    if one.systems[0] == one.systems[1]:
        return f"{one.systems[0]}, {one.backends[0]}", one.backends[1]
    return tuple(f"{system}, {backend}" for system, backend in zip(one.systems, one.backends, strict=True))  # type: ignore[return-value]


def _difference(one: Comparison) -> str:
    low, high = (100 * end for end in one.ci95)
    return f"{100 * one.eer_difference:+.2f} [{low:+.2f}, {high:+.2f}]"


def _probability(p_value: float) -> str:
    return f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001"


def _without_empty_columns(table: Table) -> Table:
    """Return the table without the number columns in which every cell is missing."""
    columns: Sequence[int] = [
        n for n in range(len(table.head)) if n < table.words or any(row[n] != MISSING for row in table.rows)
    ]
    return replace(table, head=[table.head[n] for n in columns], rows=[[row[n] for n in columns] for row in table.rows])
