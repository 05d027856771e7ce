"""The tables as RESULTS.md, tables.html and tables.json."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from deepspeaker.files import atomic_write
from deepspeaker.report import escaped, legend_line, markdown, render
from deepspeaker.results import corpus_title
from deepspeaker.tables import paper
from deepspeaker.tables.content import curves, lists_table, part_table
from deepspeaker.tables.definitions import TITLES
from deepspeaker.tables.figure import figure_svgs, save_figure_4
from deepspeaker.tables.sections import Measurements, Section

_SYNTHETIC = (
    "The speech is synthetic: it comes from a speech synthesiser. These tables show that the recipe works. They say "
    "nothing about human speakers."
)
_READING = (
    f"The paper's figures are those of {paper.SOURCE}, on data that are not public, so only orderings can be compared. "
    "Ours are means over the seeds, with 95 % intervals in brackets: for other test speakers (bootstrap) and, with "
    "several seeds, for other trainings. Trials are the paper's, one target and 99 non-targets for each utterance; ACC "
    "is the share of these utterances whose target ranks first.",
    "A part of an ordering held if the interval of its paired difference in EER lies below 0, and was reversed if it "
    "lies above. An ordering held if all its parts did, and was reversed if one part was. There is no correction for "
    "the number of comparisons.",
)
_ONE_SEED = "There is one seed, so intervals and decisions do not cover the variation between trainings."
_IVECTOR = (
    "The i-vector system takes its posteriors from a Gaussian mixture (UBM). The paper's come from the senone network "
    "of a speech recogniser, which needs transcribed speech."
)
_NOTES = {
    5: [
        _IVECTOR,
        "Triplet loss alone begins with semi-hard negatives, for as many steps as softmax has: from random weights, "
        "the hardest ones can make all embeddings coincide.",
    ],
    9: [
        "The networks trained on other data are those of table 5. On a corpus of several phrases, only pairs of one "
        "phrase count, and there is no ACC."
    ],
    10: [
        "The networks trained on other data are those of table 5, tested on this corpus as they are. Corpora differ in "
        "more than language (speakers, channels, amount of speech), so the difference is not one of languages alone."
    ],
    11: ["Both rows have the same non-target trials. A session has no date: the paper's spans cannot be reproduced."],
}


def write_tables(
    sections: Sequence[Section], measurements: Measurements, commands: Sequence[Sequence[str]], done: Sequence[str]
) -> None:
    """Write the files into the folder of the tables.

    Parameters
    ----------
    sections
        The tables.
    measurements
        The setting and the cells.
    commands
        The calls of run.sh.
    done
        The experiments that were run.
    """
    setting = measurements.setting
    folder = measurements.root / "exp" / setting.name
    title = corpus_title(setting.corpora["main"].data, setting.synthetic)
    corpora = {measurements.experiments[name].corpus: name for name in reversed(done)}
    first = {corpus: corpora[corpus] for corpus in setting.corpora if corpus in corpora}
    lists = lists_table(measurements, first)
    parts = part_table(sections)
    figure = dict(curves(measurements)) if "rescnn_triplet" in done else {}
    lines = [shlex.join(words) for words in commands]
    verdicts = [verdict for one in sections for verdict in one.verdicts]
    verdicts.sort(key=lambda verdict: (int(verdict.number.rstrip("ab")), verdict.number))
    notes = [*_READING, *([_ONE_SEED] if len(setting.seeds) == 1 else [])]
    if figure:
        save_figure_4(folder / "figure4.png", figure)
    text = [f"# The tables of Deep Speaker on {escaped(title)}", ""]
    text += [f"**{_SYNTHETIC}**", ""] if setting.synthetic else []
    for note in notes:
        text += [escaped(note), ""]
    text += ["## Orderings", "", *(f"- {_bold(verdict.sentence, verdict.decision)}" for verdict in verdicts), ""]
    for one in sections:
        text += [f"## Table {one.table}: {TITLES[one.table]}", ""]
        for note in [*one.notes, *_NOTES.get(one.table, [])]:
            text += [escaped(note), ""]
        for table in one.tables:
            text += markdown(table)
        if one.table == 5 and figure:
            text += ["![Figure 4: EER and ACC on development speakers, with and without pre-training](figure4.png)", ""]
    text += ["## Parts of the orderings", "", *markdown(parts)] if parts.rows else []
    text += ["## Repeat it", "", f"Seeds: {', '.join(map(str, setting.seeds))}; that of the data is 0.", ""]
    text += [*markdown(lists), "Commands, in recipes/librispeech:", "", *(f"    {line}" for line in lines)]
    atomic_write(folder / "RESULTS.md", "\n".join(text) + "\n")
    page = render(
        "tables.html.jinja",
        "deepspeaker.tables",
        title=title,
        synthetic=_SYNTHETIC if setting.synthetic else "",
        notes=notes,
        verdicts=verdicts,
        sections=sections,
        titles=TITLES,
        more_notes=_NOTES,
        figures=[svg for network, found in figure.items() for svg in figure_svgs(network, found)],
        legend_lines=[
            {"name": name, **legend_line(place)} for place, name in enumerate(next(iter(figure.values()), {}))
        ],
        parts=parts,
        lists=lists,
        seeds=setting.seeds,
        commands=lines,
    )
    atomic_write(folder / "tables.html", page)
    content = {
        "source": paper.SOURCE,
        "corpus": setting.corpora["main"].data,
        "synthetic": setting.synthetic,
        "seeds": list(setting.seeds),
        "orderings": [
            {
                "number": verdict.number,
                "ordering": verdict.text,
                "decision": verdict.decision,
                "reason": verdict.reason,
                "parts_left_out": verdict.left_out,
                "parts": [
                    {"part": part, "difference": estimate.value, "ci95": estimate.interval, "decision": word}
                    for part, estimate, word in verdict.parts
                ],
            }
            for verdict in verdicts
        ],
        "tables": {
            str(one.table): {"title": TITLES[one.table], "rows": one.data, "notes": one.notes} for one in sections
        },
        "figure_4": figure,
        "trial_lists": [dict(zip(lists.head, row, strict=True)) for row in lists.rows],
        "commands": lines,
    }
    atomic_write(folder / "tables.json", json.dumps(content, indent=1, allow_nan=False) + "\n")


def _bold(sentence: str, decision: str) -> str:
    before, _, after = escaped(sentence).partition(f": {decision}")
    return f"{before}: **{decision}**{after}"
