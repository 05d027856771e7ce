"""Tables of results: plain text for the screen, Markdown for RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from deepspeaker.report.results import Results, SystemResult

# Below these a single speaker or a handful of trials moves the figures visibly.
_FEW_SPEAKERS = 30
_FEW_TARGET_TRIALS = 300

_FIGURES = ("EER %", "minDCF(0.05)", "(0.01)", "(0.001)", "Cllr", "minCllr", "rank-1 %")


def shown_rate(rate: float, ci95: list[float] | None) -> str:
    """A rate and its interval in percent."""
    return f"{100 * rate:.2f}" + (f" [{100 * ci95[0]:.2f}, {100 * ci95[1]:.2f}]" if ci95 else "")


def results_table(results: Results) -> str:
    """The results for the screen: title, trial lists, one aligned row a system; without a final newline."""
    synthetic = " (synthetic speech)" if results.synthetic else ""
    lines = [f"Speaker verification on {results.corpus}{synthetic}", ""]
    lines += [
        f"{name}: {info.target:,} target and {info.nontarget:,} non-target trials, {info.speakers:,} speakers"
        for name, info in results.trials.items()
    ]
    head = ["system", "back end", "trials", *_FIGURES]
    body = [[system.name, system.backend, system.trials, *_figures(system)] for system in results.systems]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    n_words = len(head) - len(_FIGURES)
    lines.append("")
    for row in (head, ["-" * width for width in widths], *body):
        cells = [
            cell.ljust(width) if column < n_words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    notes = [*comparison_lines(results), *_coarse(results)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def results_markdown(results: Results) -> str:
    """The results as a Markdown page: table, what the figures mean, trial lists, seed and configuration."""
    head = ["system", "model", "parameters", "back end", "trials", *_FIGURES]
    body = [
        [s.name, s.model, f"{s.parameters:,}", s.backend, s.trials, *_figures(s)] for s in results.systems
    ]
    lists = [
        [name, f"{info.target:,}", f"{info.nontarget:,}", f"{info.speakers:,}", f"`{info.sha256}`"]
        for name, info in results.trials.items()
    ]
    lines = [f"# Speaker verification on {_escape(results.corpus)}", ""]
    if results.synthetic:
        lines += [
            "The speech is **synthetic**: it was made by a speech synthesiser. The figures show that the recipe"
            " works; they say nothing about human speakers.",
            "",
        ]
    lines += [*_markdown_table(head, body, left=(0, 1, 3, 4)), ""]
    lines += [
        "EER is the error rate at the threshold where misses and false alarms are equally frequent. minDCF(p) is"
        " the lowest detection cost over all thresholds for a target prior p and equal costs of both errors;"
        " 1.000 is the cost of answering without listening. rank-1 is the share of rows of one target and 99"
        " non-targets in which the target scores highest. Cllr is the cost of log-likelihood ratios over all operating"
        " points, in bits; minCllr what it would be were the scores calibrated at best. In brackets: 95 % confidence"
        " intervals by bootstrap over speakers.",
        "",
    ]
    for note in (*comparison_lines(results), *_coarse(results)):
        lines += [note, ""]
    lines += ["## Trials", ""]
    lines += [
        *_markdown_table(["list", "target", "non-target", "speakers", "sha256"], lists, left=(0, 4)),
        "",
    ]
    lines += ["## Training", "", f"- seed: {results.seed}"]
    for section, value in sorted(results.config.items()):
        settings = ", ".join(_settings(value)) if isinstance(value, Mapping) else _show(value)
        lines.append(f"- {section}: {_escape(settings)}")
    return "\n".join(lines) + "\n"


def _figures(system: SystemResult) -> list[str]:
    """The cells under `_FIGURES`."""
    costs = [f"{system.min_dcf[prior]:.3f}" for prior in ("0.05", "0.01", "0.001")]
    rank1 = "-" if system.rank1 is None else f"{100 * system.rank1:.1f}"
    bits = "-" if system.cllr is None else f"{system.cllr:.3f}"
    least = "-" if system.min_cllr is None else f"{system.min_cllr:.3f}"
    return [shown_rate(system.eer, system.eer_ci95), *costs, bits, least, rank1]


def comparison_lines(results: Results) -> Iterator[str]:
    """A line for each pair of systems that was tested."""
    for one in results.comparisons:
        if one.backends[0] == one.backends[1]:
            after, before = one.systems
        else:
            after, before = one.backends
            before += f", {one.systems[0]}"
        low, high = (100 * end for end in one.ci95)
        p_value = f"p = {one.p_value:.3f}" if one.p_value >= 0.001 else "p < 0.001"
        yield (
            f"{after} - {before}, {one.trials}: EER {100 * one.eer_difference:+.2f} [{low:+.2f}, {high:+.2f}] points, "
            f"{p_value} (paired bootstrap over speakers)"
        )


def _coarse(results: Results) -> Iterator[str]:
    """A line for each trial list that is too small for fine differences."""
    for name, info in results.trials.items():
        if info.speakers < _FEW_SPEAKERS or info.target < _FEW_TARGET_TRIALS:
            yield (
                f"Note: {name} has only {info.speakers:,} speakers and {info.target:,} target trials;"
                " its figures are coarse."
            )


def _markdown_table(head: list[str], body: list[list[str]], left: tuple[int, ...]) -> list[str]:
    """A pipe table; the columns numbered in ``left`` hold words, the others figures."""
    rule = ["---" if column in left else "---:" for column in range(len(head))]
    return [f"| {' | '.join(map(_escape, row))} |" for row in (head, rule, *body)]


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
