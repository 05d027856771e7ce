"""The tables of a report, as cells; screen, Markdown and page lay out the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from deepspeaker.results import NOTHING, Comparison, EnrolmentResult, Results, SystemResult, TrialListInfo, shown_rate

# Below these a single speaker or a handful of trials moves the figures visibly.
_FEW_SPEAKERS = 30
_FEW_TARGET_TRIALS = 300


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head; the first ``words`` columns hold words, the others figures."""

    caption: str
    head: list[str]
    rows: list[list[str]]
    words: int
    group: int | None = 0
    """The column whose change begins a new group of rows."""


def result_tables(results: Results, brief: bool = False) -> Iterator[Table]:
    """One table a trial list; ``brief`` leaves out what a screen has no room for."""
    priors = list(results.systems[0].min_dcf)
    columns: list[tuple[str, Callable[[SystemResult], str]]] = [
        ("system", lambda s: s.name),
        ("back end", lambda s: s.backend),
        ("EER %" if brief else "EER % [95 %]", lambda s: shown_rate(s.eer, s.eer_ci95)),
    ]
    for place, prior in enumerate(priors):
        columns.append((f"({prior})" if place else f"minDCF({prior})", _least_cost(prior, with_interval=not brief)))
    for place, prior in enumerate(priors[:1] if brief else priors):
        columns.append(
            (f"({prior})" if place else f"act({prior})", _actual_cost(prior)),
        )
    columns += [
        ("Cllr", lambda s: _number(s.cllr)),
        ("minCllr", lambda s: _number(s.min_cllr)),
        ("rank-1 %", lambda s: NOTHING if s.rank1 is None else f"{100 * s.rank1:.1f}"),
    ]
    for name, info in results.trials.items():
        systems = [system for system in results.systems if system.trials == name]
        if systems:
            head = [label for label, _ in columns]
            rows = [[cell(system) for _, cell in columns] for system in systems]
            yield _without_empty_columns(Table(f"{name}: {_counts(info)}", head, rows, 2))


def comparison_table(results: Results) -> Table | None:
    """The pairs of systems that were tested."""
    head = ["system", "against", "trials", "EER difference, points [95 %]", "p"]
    rows = [[*_compared(one), one.trials, _difference(one), _probability(one.p_value)] for one in results.comparisons]
    return Table("Differences of EER, by paired bootstrap over speakers", head, rows, 3, 2) if rows else None


def enrolment_tables(results: Results, brief: bool = False) -> Iterator[Table]:
    """EER and rank-1 against the number of enrolment utterances, a row a system.

    ``brief``: both in one table, the featured systems alone, without intervals, for which a screen has no room.
    """
    table = results.enrolment_table
    featured = {(system.name, system.backend) for system in results.featured(results.first_list)}
    counts = sorted({row.utterances for row in table})
    found: dict[tuple[str, str, str], dict[int, EnrolmentResult]] = {}
    for row in table:
        if not brief or (row.name, row.backend) in featured:
            found.setdefault((row.name, row.backend, row.enrolment), {})[row.utterances] = row
    cells: dict[str, Callable[[EnrolmentResult], str]] = {
        "EER % [95 %]": lambda row: shown_rate(row.eer, row.eer_ci95),
        "Rank-1 %": lambda row: f"{100 * row.rank1:.1f}",
    }
    if brief:
        cells = {"EER % / rank-1 %": lambda row: f"{100 * row.eer:.2f} / {100 * row.rank1:.1f}"}
    for figure, cell in cells.items():
        rows = [
            [*system, *(cell(own[count]) if count in own else NOTHING for count in counts)]
            for system, own in found.items()
        ]
        if rows:
            head = ["system", "back end", "enrolment", *map(str, counts)]
            more = " (intervals: RESULTS.md)" if brief else ""
            yield Table(f"{figure} by number of enrolment utterances{more}", head, rows, 3)


def condition_tables(results: Results) -> Iterator[Table]:
    """EER by condition on the first list that has conditions: the systems, then the last one's other back ends."""
    broken_down = [system for system in results.systems if system.conditions]
    if not broken_down:
        return
    featured = results.featured(broken_down[0].trials)
    first, last = featured[0].backend, featured[-1].name
    for caption, group in (
        (f"by system, {first}", {s.name: s for s in featured if s.backend == first}),
        (f"by back end, {last}", {s.backend: s for s in featured if s.backend != first}),
    ):
        keys = list(dict.fromkeys((c.by, c.value) for system in group.values() for c in system.conditions))
        rows = []
        for key in keys:
            cells = {n: c for n, s in group.items() for c in s.conditions if (c.by, c.value) == key}
            one = next(iter(cells.values()))
            counts = [f"{one.target:,}", f"{one.nontarget:,}", f"{one.speakers:,}"]
            eers = [shown_rate(cells[n].eer, cells[n].eer_ci95) if n in cells else NOTHING for n in group]
            rows.append([*key, *counts, *eers])
        if rows:
            head = ["condition", "value", "target", "non-target", "speakers", *group]
            yield Table(f"EER % [95 %] on {broken_down[0].trials} {caption}", head, rows, 2)


def threshold_table(results: Results) -> Table:
    """The thresholds of the featured systems on the first list, for those who want to use them."""
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
        row += [NOTHING if s.min_dcf_threshold is None else _threshold(s.min_dcf_threshold[prior]) for prior in priors]
        for rate in rates:
            point = (s.at_false_acceptance or {}).get(rate)
            row += [NOTHING, NOTHING] if point is None else [_threshold(point.threshold), f"{100 * point.p_miss:.2f}"]
        rows.append(row)
    return _without_empty_columns(Table(f"Thresholds on {name}, by what they are for", head, rows, 2))


def trial_list_table(results: Results) -> Table:
    """What each list holds, and its checksum."""
    head = ["list", "target", "non-target", "speakers", "models", "sha256"]
    rows = [
        [
            name,
            *(f"{count:,}" for count in (info.target, info.nontarget, info.speakers)),
            NOTHING if info.models is None else f"{info.models:,}",
            info.sha256,
        ]
        for name, info in results.trials.items()
    ]
    return _without_empty_columns(Table("Trial lists", head, rows, 1, None))


def notes(results: Results) -> Iterator[str]:
    """What a reader must know beside the figures."""
    for name, info in results.trials.items():
        own = [system for system in results.systems if system.trials == name]
        rows: list[SystemResult | EnrolmentResult] = [*own]
        rows += [row for row in results.enrolment_table if row.trials == name]
        shared = {row.name: row.shared_speakers for row in rows if row.shared_speakers}
        if shared:
            yield (
                f"Warning: of the {info.speakers:,} speakers of {name}, "
                + ", ".join(f"{count:,} were in the training of {system}" for system, count in shared.items())
                + "; these figures say little of unknown speakers."
            )
        left_out = {row.name: row.trials_left_out for row in rows if row.trials_left_out}
        if left_out:
            yield (
                f"Note: trials of {name} left out for want of an embedding: "
                + ", ".join(f"{count:,} ({system})" for system, count in left_out.items())
                + "."
            )
        if info.chosen_by is not None:
            yield (
                f"Note: the non-target trials of {name} were chosen by {info.chosen_by}, whose own figures suffer"
                " from it."
            )
        if own and (info.speakers < _FEW_SPEAKERS or info.target < _FEW_TARGET_TRIALS):
            yield (
                f"Note: {name} has only {info.speakers:,} speakers and {info.target:,} target trials;"
                " its figures are coarse."
            )


def whose_speakers(results: Results, name: str) -> str:
    """``30 unseen speakers``, or without the word where training knew some of them."""
    seen = any(system.shared_speakers for system in results.systems if system.trials == name)
    return f"{results.trials[name].speakers:,} {'' if seen else 'unseen '}speakers"


def _counts(info: TrialListInfo) -> str:
    models = "" if info.models is None else f", {info.models:,} models"
    return f"{info.target:,} target and {info.nontarget:,} non-target trials, {info.speakers:,} speakers{models}"


def _least_cost(prior: str, with_interval: bool) -> Callable[[SystemResult], str]:
    def cell(system: SystemResult) -> str:
        interval = (system.min_dcf_ci95 or {}).get(prior) if with_interval else None
        return f"{system.min_dcf[prior]:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")

    return cell


def _actual_cost(prior: str) -> Callable[[SystemResult], str]:
    return lambda system: _number((system.act_dcf or {}).get(prior))


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _threshold(value: float | None) -> str:
    return "above all" if value is None else f"{value:.4f}"


def _compared(one: Comparison) -> tuple[str, str]:
    """Both sides, named by what differs between them, system or back end."""
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
    """Leaves out the columns of figures that no row has."""
    columns: Sequence[int] = [
        n for n in range(len(table.head)) if n < table.words or any(row[n] != NOTHING for row in table.rows)
    ]
    return replace(table, head=[table.head[n] for n in columns], rows=[[row[n] for n in columns] for row in table.rows])
