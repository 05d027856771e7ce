"""The rows of each table with the paper's figures and our cells, and the orderings that PAPER rows show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from deepspeaker.tables import paper
from deepspeaker.tables.cells import Cell
from deepspeaker.tables.experiments import NETWORKS, SHARES

#: Tables that have cells with error rates, with what they are about. Figure 4 belongs to table 5.
TITLES = {
    1: "ResCNN, layer by layer",
    2: "GRU, layer by layer",
    3: "Hard negatives by the number of processes that are searched",
    4: "Corpora",
    5: "Networks and trainings",
    6: "Fusion of both networks",
    7: "Amount of training data",
    8: "Number of enrolment utterances",
    9: "Fixed phrase (text-dependent)",
    10: "Another language",
    11: "Time between enrolment and test",
}
SYSTEMS = {"ivector": "i-vector", **NETWORKS}
TRAININGS = {"softmax": "softmax", "triplet": "triplet", "both": "softmax + triplet"}
ENROLMENTS = (1, 2, 3, 5)
#: How the cells of table 5 choose the checkpoint.
BEST, LAST = "best development epoch", "last epoch, equal steps"
_ADAPTED = "adapting an i-vector system to other data is not implemented"
#: "Usable" for a network of another language: an EER below half that of chance.
USABLE = 0.25


@dataclass(frozen=True)
class Row:
    """A row of a table: what it is, the paper's figures, and our cell or why there is none."""

    labels: tuple[str, ...]
    paper: paper.Rate | None
    cell: Cell | None
    reason: str = ""


@dataclass(frozen=True)
class Part:
    """A claim of an ordering: a sum of EERs with factors, plus a constant, is negative."""

    text: str
    terms: tuple[tuple[float, Cell], ...]
    constant: float = 0.0


@dataclass(frozen=True)
class Ordering:
    """An ordering of the paper's figures."""

    number: str
    text: str
    table: int
    parts: tuple[Part, ...]


def main_cell(system: str, training: str = "both", last: bool = False) -> Cell:
    """Return the cell of table 5 for a network and training, or for the i-vector system."""
    if system == "ivector":
        return Cell("rescnn", "ivector", "plda")
    experiment = system if training == "both" else f"{system}_{training}"
    if last:
        return Cell(f"{experiment}_last")
    return Cell(experiment, "softmax" if training == "softmax" else "triplet")


def fusion_cell(kind: str) -> Cell:
    """Return the cell of a fusion in table 6: ``embeddings`` or ``scores`` (the paper's), or ``cosines`` (ours)."""
    return Cell("gru", "fusion", {"embeddings": "embedding-sum", "scores": "score-sum", "cosines": "cosine"}[kind])


def adapted_cell(system: str, corpus: str, trained_on: str) -> Cell | None:
    """Return the cell of table 9 or 10 for a system trained on the ``it``, on ``other`` data, or ``tuned``."""
    if system == "ivector":
        return Cell(f"rescnn_{corpus}", "ivector", "plda") if trained_on == "it" else None
    if trained_on == "it":
        return Cell(f"{system}_{corpus}")
    return Cell(f"{system}_{corpus}_tuned", "triplet" if trained_on == "tuned" else "untrained")


def rows_of(table: int) -> list[Row]:
    """Return the rows of a table with error rates (5 to 11)."""
    return list(_ROWS[table]())


def _networks_and_trainings() -> Iterator[Row]:
    yield Row(("i-vector", "", ""), paper.TRAININGS["ivector", ""], main_cell("ivector"))
    for last in (False, True):
        for network, shown in NETWORKS.items():
            for training, name in TRAININGS.items():
                figures = None if last else paper.TRAININGS[network, training]
                yield Row((shown, name, LAST if last else BEST), figures, main_cell(network, training, last))


def _fusions() -> Iterator[Row]:
    for network, shown in NETWORKS.items():
        yield Row((shown,), paper.TRAININGS[network, "both"], main_cell(network))
    yield Row(("sum of embeddings, length-normalised",), paper.FUSIONS["embeddings"], fusion_cell("embeddings"))
    yield Row(("sum of normalised scores",), paper.FUSIONS["scores"], fusion_cell("scores"))
    yield Row(("mean of cosines (not in the paper)",), None, fusion_cell("cosines"))


def _amounts() -> Iterator[Row]:
    for network, shown in NETWORKS.items():
        yield Row((shown, "Train50k"), paper.TRAININGS[network, "both"], None, "the paper's data")
        yield Row((shown, "Train250k, five times as much"), paper.MORE_DATA[network], None, "the paper's data")
        for what in ("speakers", "utterances"):
            for share in SHARES:
                yield Row((shown, f"{share} % of the {what}"), None, Cell(f"{network}_{what}{share}"))
        yield Row((shown, "everything"), None, main_cell(network))


def _enrolments() -> Iterator[Row]:
    for system, shown in SYSTEMS.items():
        for count in ENROLMENTS:
            cell = replace(main_cell(system), trials=f"trials_enrol_{count}")
            yield Row((shown, str(count)), paper.ENROLMENT[system][count], cell)


def _adapted(corpus: str) -> Iterator[Row]:
    figures = {"phrase": paper.PHRASE, "language": paper.LANGUAGE}[corpus]
    for trained_on, shown in {"it": "trained on it", "other": "trained on other data", "tuned": "fine-tuned"}.items():
        for system, name in SYSTEMS.items():
            cell = adapted_cell(system, corpus, trained_on)
            if cell is not None or (system, trained_on) in figures:
                yield Row((name, shown), figures.get((system, trained_on)), cell, "" if cell else _ADAPTED)


def _time_spans() -> Iterator[Row]:
    for system, shown in SYSTEMS.items():
        for span, figures in paper.TIME_SPAN[system].items():
            yield Row((shown, span), figures, None, "no dates of recording")
        for condition in ("same session", "different session"):
            yield Row((shown, condition), None, replace(main_cell(system), condition=condition))


_ROWS = {
    5: _networks_and_trainings,
    6: _fusions,
    7: _amounts,
    8: _enrolments,
    9: lambda: _adapted("phrase"),
    10: lambda: _adapted("language"),
    11: _time_spans,
}
#: The names of the label columns.
HEADS = {
    5: ("system", "training", "checkpoint"),
    6: ("system",),
    7: ("network", "training data"),
    8: ("system", "enrolment utterances"),
    9: ("system", "training"),
    10: ("system", "training"),
    11: ("system", "enrolment and test"),
}


def orderings() -> list[Ordering]:
    """Return the orderings of EERs. That of table 3 is about another figure, see ``content``."""
    found = []
    for last in (False, True):
        cell = {key: main_cell(*key, last) for key in ((n, t) for n in NETWORKS for t in TRAININGS)}
        parts = []
        for network, shown in NETWORKS.items():
            softmax, triplet, both = (cell[network, training] for training in TRAININGS)
            parts.append(_before(f"{shown}: softmax + triplet before triplet", both, triplet))
            parts.append(_before(f"{shown}: triplet before softmax", triplet, softmax))
        parts.append(_before("GRU before ResCNN after softmax", cell["gru", "softmax"], cell["rescnn", "softmax"]))
        parts.append(_before("ResCNN before GRU after softmax + triplet", cell["rescnn", "both"], cell["gru", "both"]))
        parts.append(_before("ResCNN before GRU after triplet", cell["rescnn", "triplet"], cell["gru", "triplet"]))
        text = "softmax + triplet before triplet before softmax; GRU ahead after softmax, ResCNN after triplets; "
        found.append(Ordering("1" + ("b" if last else "a"), text + (LAST if last else BEST), 5, tuple(parts)))
    ivector = main_cell("ivector")
    best = {network: main_cell(network) for network in NETWORKS}
    networks = tuple(
        _before(f"{TRAININGS[training]} {shown} before i-vector", main_cell(network, training), ivector)
        for network, shown in NETWORKS.items()
        for training in TRAININGS
    )
    found.append(Ordering("2", "every network before the i-vector system", 5, networks))
    fusions = [
        _before(f"sum of {kind} before {shown}", fusion_cell(kind), best[network])
        for kind in ("embeddings", "scores")
        for network, shown in NETWORKS.items()
    ]
    fusions.append(_before("sum of scores before sum of embeddings", fusion_cell("scores"), fusion_cell("embeddings")))
    text = "each fusion before each network, fusion of scores before fusion of embeddings"
    found.append(Ordering("3", text, 6, tuple(fusions)))
    amounts = tuple(
        _before(f"{shown}: all {what} before {SHARES[0]} %", best[network], Cell(f"{network}_{what}{SHARES[0]}"))
        for network, shown in NETWORKS.items()
        for what in ("speakers", "utterances")
    )
    found.append(Ordering("4", "more training data, lower EER", 7, amounts))
    found.append(Ordering("5", "more enrolment utterances, lower EER, each step less", 8, tuple(_steps())))
    found.append(Ordering("6", _TEXT_DEPENDENT, 9, tuple(_text_dependent())))
    text = "a network of another language is usable, and fine-tuning it is best"
    found.append(Ordering("7", text, 10, tuple(_foreign())))
    spans = tuple(
        _before(
            f"{shown}: same session before another",
            *(replace(main_cell(system), condition=condition) for condition in ("same session", "different session")),
        )
        for system, shown in SYSTEMS.items()
    )
    found.append(Ordering("9", "more time between enrolment and test, more errors; here: another session", 11, spans))
    return found


_TEXT_DEPENDENT = (
    "with little text-dependent data: the i-vector system before the networks, networks of other data before those of "
    "this, fine-tuned ones best"
)


def _before(text: str, better: Cell, worse: Cell) -> Part:
    return Part(text, ((1.0, better), (-1.0, worse)))


def _steps() -> Iterator[Part]:
    for system, shown in SYSTEMS.items():
        cells = [replace(main_cell(system), trials=f"trials_enrol_{count}") for count in ENROLMENTS]
        for place in range(len(cells) - 1):
            text = f"{shown}: {ENROLMENTS[place + 1]} before {ENROLMENTS[place]}"
            yield _before(text, cells[place + 1], cells[place])
        for place in range(len(cells) - 2):
            counts = ENROLMENTS[place : place + 3]
            # The gain per utterance of the second step, minus that of the first, is negative.
            first, second = 1 / (counts[1] - counts[0]), 1 / (counts[2] - counts[1])
            factors = (-first, first + second, -second)
            text = f"{shown}: {counts[1]} to {counts[2]} gains less per utterance than {counts[0]} to {counts[1]}"
            yield Part(text, tuple(zip(factors, cells[place : place + 3], strict=True)))


def _text_dependent() -> Iterator[Part]:
    for network, shown in NETWORKS.items():
        own, other, tuned = (_network_cell(network, "phrase", which) for which in ("it", "other", "tuned"))
        yield _before(f"i-vector before {shown} trained on it", Cell("rescnn_phrase", "ivector", "plda"), own)
        yield _before(f"{shown} of other data before {shown} trained on it", other, own)
        yield _before(f"fine-tuned {shown} before {shown} of other data", tuned, other)


def _foreign() -> Iterator[Part]:
    for network, shown in NETWORKS.items():
        own, other, tuned = (_network_cell(network, "language", which) for which in ("it", "other", "tuned"))
        yield Part(f"foreign {shown} below {100 * USABLE:g} % EER", ((1.0, other),), -USABLE)
        yield _before(f"fine-tuned {shown} before {shown} trained on the language alone", tuned, own)


def _network_cell(network: str, corpus: str, trained_on: str) -> Cell:
    cell = adapted_cell(network, corpus, trained_on)
    assert cell is not None
    return cell
