"""The tables of the Deep Speaker paper on any corpus: their experiments, cells, and decisions about orderings."""

from deepspeaker.tables.cells import Cell, Measured, measure, phrases, sessions
from deepspeaker.tables.content import section
from deepspeaker.tables.definitions import TITLES, Ordering, Part, Row, orderings, rows_of
from deepspeaker.tables.estimates import Estimate, Rates, contrast, decide, interval_of, over_epochs, overall
from deepspeaker.tables.experiments import Corpus, Experiment, Setting, command, experiments_of, ordered
from deepspeaker.tables.making import make_tables
from deepspeaker.tables.output import write_tables
from deepspeaker.tables.sections import Measurements, Section

__all__ = [
    "TITLES",
    "Cell",
    "Corpus",
    "Estimate",
    "Experiment",
    "Measured",
    "Measurements",
    "Ordering",
    "Part",
    "Rates",
    "Row",
    "Section",
    "Setting",
    "command",
    "contrast",
    "decide",
    "experiments_of",
    "interval_of",
    "make_tables",
    "measure",
    "ordered",
    "orderings",
    "over_epochs",
    "overall",
    "phrases",
    "rows_of",
    "section",
    "sessions",
    "write_tables",
]
