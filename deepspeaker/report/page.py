"""The report page: a single, self-contained HTML file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from deepspeaker.metrics import DetPoints
from deepspeaker.report.degradation import degradation_curves, degradation_svg
from deepspeaker.report.densities import Densities, density_svg
from deepspeaker.report.det import det_svg
from deepspeaker.report.drawing import legend_line
from deepspeaker.report.embedding_map import EmbeddingMap, map_speakers
from deepspeaker.report.enrolment import enrolment_curves, enrolment_svg
from deepspeaker.report.intervals import intervals_svg
from deepspeaker.report.tables import (
    comparison_table,
    condition_tables,
    describe_speakers,
    enrolment_tables,
    notes,
    result_tables,
    threshold_table,
    trial_list_table,
)
from deepspeaker.report.text import meanings
from deepspeaker.report.training_curves import training_svgs
from deepspeaker.results import MISSING, Results

_MAP_SIDE, _MAP_MARGIN = 400, 12


@dataclass(frozen=True)
class ReportData:
    """What the page shows besides ``results.json``. The page has no section for empty attributes.

    Attributes
    ----------
    curves : mapping of str to mapping of str to DetPoints
        DET curves by name, in groups. Each group has separate axes.
    densities : mapping of str to Densities
        Score distributions by name.
    maps : mapping of str to EmbeddingMap
        Embedding maps by system.
    histories : mapping of str to sequence of mappings
        Rows of ``train.csv`` by training.
    commands : sequence of str
        Shell commands that reproduce the results.
    """

    curves: Mapping[str, Mapping[str, DetPoints]] = field(default_factory=dict)
    densities: Mapping[str, Densities] = field(default_factory=dict)
    maps: Mapping[str, EmbeddingMap] = field(default_factory=dict)
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    commands: Sequence[str] = ()


def results_page(results: Results, data: ReportData) -> str:
    """Return the page as HTML. Equal input gives equal text."""
    enrolled = enrolment_curves(results)
    degraded = degradation_curves(results)
    first = results.first_list
    featured = results.featured(first)
    last = [system for system in featured if results.is_leading(system)][-1]
    return render(
        "page.html.jinja",
        results=results,
        first=first,
        headline={"system": last, "eer": f"{100 * last.eer:.2f}", "speakers": describe_speakers(results, first)},
        result_tables=list(result_tables(results)),
        intervals=intervals_svg(featured),
        comparisons=comparison_table(results),
        notes=list(notes(results)),
        meanings=meanings(results),
        det=[
            {
                "title": title,
                "drawing": det_svg(curves, number),
                "legend": [{"name": name, **legend_line(place)} for place, name in enumerate(curves)],
            }
            for number, (title, curves) in enumerate(data.curves.items())
        ],
        densities={
            name: density_svg(name, number, content) for number, (name, content) in enumerate(data.densities.items())
        },
        enrolment=list(enrolment_tables(results)),
        enrolment_figure={
            "drawing": enrolment_svg(enrolled),
            "legend": [{"name": name, **legend_line(place)} for place, name in enumerate(enrolled)],
        }
        if enrolled
        else None,
        conditions=list(condition_tables(results)),
        degradation_figure={
            "drawing": degradation_svg(degraded),
            "legend": [
                {"name": name, **legend_line(place)} for place, name in enumerate(next(iter(degraded.values())))
            ],
        }
        if degraded
        else None,
        thresholds=threshold_table(results),
        maps={
            name: {
                "speakers": map_speakers(content, _MAP_SIDE, _MAP_MARGIN),
                "utterances": len(content.utterances),
                "confused": int(content.confused.sum()),
            }
            for name, content in data.maps.items()
        },
        map_side=_MAP_SIDE,
        trainings={name: training_svgs(rows, name) for name, rows in data.histories.items()},
        lists=trial_list_table(results),
        commands=data.commands,
        config={section: yaml.safe_dump(value, sort_keys=False).strip() for section, value in results.config.items()},
    )


def render(template: str, package: str = "deepspeaker.report", **content: Any) -> str:
    """Return a page from a template of a package; it may import the macros in ``parts.html.jinja``."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name, "") for name in (package, "deepspeaker.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    return environment.get_template(template).render(**content)


def _cell(text: str) -> Any:
    """Return the text of a cell with true minus signs and with its interval in a separate element."""
    from markupsafe import Markup, escape

    shown = "–" if text == MISSING else re.sub(r"(?<![\w.])-(?=\d)", "−", str(escape(text)))
    return Markup(re.sub(r" (\[[^\]]*\])$", r' <span class="interval">\1</span>', shown))
