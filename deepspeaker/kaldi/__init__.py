"""Kaldi's files: text tables, archives, data directories."""

from deepspeaker.kaldi.ark import (
    COMPRESSIONS,
    ArkWriter,
    MatrixHeader,
    parse_location,
    read_header,
    read_header_of,
    read_matrix,
    read_rows,
    read_rows_into,
    read_vector,
    write_vector,
)
from deepspeaker.kaldi.combine import combine_data, copy_data_dir
from deepspeaker.kaldi.datadir import DataDir, Segment, has_precomputed_features, parse_segment
from deepspeaker.kaldi.repair import fix_data_dir
from deepspeaker.kaldi.subset import split_data, subset_data_dir
from deepspeaker.kaldi.tables import read_lines, read_table, scan_table, spk2utt_of, write_spk2utt, write_table
from deepspeaker.kaldi.text_utils import (
    filter_lines,
    keys_of,
    speaker_of_utterance,
    spk2utt_lines,
    split_bounds,
    split_by_speaker,
    split_lines,
    spread,
    utt2spk_lines,
)
from deepspeaker.kaldi.validation import Finding, validate_data_dir

__all__ = [
    "COMPRESSIONS",
    "ArkWriter",
    "DataDir",
    "Finding",
    "MatrixHeader",
    "Segment",
    "combine_data",
    "copy_data_dir",
    "filter_lines",
    "fix_data_dir",
    "has_precomputed_features",
    "keys_of",
    "parse_location",
    "parse_segment",
    "read_header",
    "read_header_of",
    "read_lines",
    "read_matrix",
    "read_rows",
    "read_rows_into",
    "read_table",
    "read_vector",
    "scan_table",
    "speaker_of_utterance",
    "spk2utt_lines",
    "spk2utt_of",
    "split_bounds",
    "split_by_speaker",
    "split_data",
    "split_lines",
    "spread",
    "subset_data_dir",
    "utt2spk_lines",
    "validate_data_dir",
    "write_spk2utt",
    "write_table",
    "write_vector",
]
