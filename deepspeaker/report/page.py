"""The report page: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import yaml

from deepspeaker.report.results import Results
from deepspeaker.report.table import comparison_lines

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Deep Speaker: {{ results.corpus }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 68rem; margin: 2rem auto;
         padding: 0 1rem; }
  h1, h2 { line-height: 1.2; font-weight: 600; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; white-space: nowrap; }
  th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }
  th:first-child, td:first-child, th:nth-child(2), td:nth-child(2),
  th:nth-child(3), td:nth-child(3) { text-align: left; }
  img { max-width: 100%; height: auto; }
  pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 13px; line-height: 1.35; }
  .note { color: #555; }
  code { overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>Deep Speaker on {{ results.corpus }}{% if results.synthetic %}, synthetic speech{% endif %}</h1>
{% if results.synthetic %}<p class="note">The speech was made by a synthesiser: these figures show that the recipe
works, not how well it does on people.</p>{% endif %}
<div class="scroll"><table>
<tr><th>system</th><th>back end</th><th>trials</th><th>EER %</th><th>95 %</th>
{% for p in priors %}<th>minDCF({{ p }})</th>{% endfor %}
<th>Cllr</th><th>minCllr</th><th>rank-1 %</th></tr>
{% for system in results.systems %}<tr><td>{{ system.name }}</td><td>{{ system.backend }}</td>
<td>{{ system.trials }}</td>
<td>{{ "%.2f"|format(100 * system.eer) }}</td>
<td>{% if system.eer_ci95 %}{{ "%.2f"|format(100 * system.eer_ci95[0]) }} &ndash;
{{ "%.2f"|format(100 * system.eer_ci95[1]) }}{% endif %}</td>
{% for p in priors %}<td>{{ "%.3f"|format(system.min_dcf[p]) }}</td>{% endfor %}
<td>{% if system.cllr is not none %}{{ "%.3f"|format(system.cllr) }}{% endif %}</td>
<td>{% if system.min_cllr is not none %}{{ "%.3f"|format(system.min_cllr) }}{% endif %}</td>
<td>{% if system.rank1 is not none %}{{ "%.1f"|format(100 * system.rank1) }}{% endif %}</td></tr>
{% endfor %}</table></div>
{% for line in comparisons %}<p>{{ line }}</p>
{% endfor %}<p class="note">EER: the rate at which misses and false alarms are equally frequent; 95 %: its confidence
interval, by bootstrap over speakers. minDCF(p): the least detection cost for a share p of target trials, 1 being a
system that never listens. Cllr: the cost of log-likelihood ratios over all operating points, in bits; minCllr: what it
would be were the scores calibrated at best. Rank-1: how often the one target outranks its 99 non-targets.
{{ results.systems[0].model }}, {{ "{:,}".format(results.systems[0].parameters) }} parameters, seed
{{ results.seed }}.</p>
{% for name, picture in pictures.items() %}<h2>{{ titles.get(name, name ~ " training") }}</h2>
<p><img alt="{{ titles.get(name, name ~ " training") }}" src="data:image/png;base64,{{ picture }}"></p>
{% endfor %}<h2>Trials</h2>
<ul>{% for name, list in results.trials.items() %}
<li>{{ name }}: {{ "{:,}".format(list.target) }} target and {{ "{:,}".format(list.nontarget) }} non-target trials,
{{ list.speakers }} speakers; sha256 <code>{{ list.sha256 }}</code></li>{% endfor %}</ul>
<h2>Configuration</h2>
<pre>{{ config }}</pre>
</body>
</html>
"""


def results_page(results: Results, pictures: Mapping[str, Path]) -> str:
    """The page as text; ``pictures`` (name -> PNG) are shown in their order, ``det`` being the DET curves."""
    from jinja2 import Environment, StrictUndefined

    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_TEMPLATE)
    return template.render(
        results=results,
        comparisons=comparison_lines(results),
        priors=list(results.systems[0].min_dcf),
        pictures={name: base64.b64encode(path.read_bytes()).decode() for name, path in pictures.items()},
        titles={"det": "Detection error trade-off"},
        config=yaml.safe_dump(dict(results.config), sort_keys=False),
    )
