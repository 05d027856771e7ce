"""Kaldi's files: text tables, archives, data directories."""

from deepspeaker.kaldi.ark import (
    COMPRESSIONS,
    ArkWriter,
    parse_location,
    read_header,
    read_header_of,
    read_matrix,
    read_rows,
    read_rows_into,
    read_vector,
)
from deepspeaker.kaldi.datadir import DataDir, Segment, parse_segment
from deepspeaker.kaldi.tables import read_table, spk2utt_of, write_spk2utt, write_table

__all__ = [
    "COMPRESSIONS",
    "ArkWriter",
    "DataDir",
    "Segment",
    "parse_location",
    "parse_segment",
    "read_header",
    "read_header_of",
    "read_matrix",
    "read_rows",
    "read_rows_into",
    "read_table",
    "read_vector",
    "spk2utt_of",
    "write_spk2utt",
    "write_table",
]
