"""Corpora: make or download one, read it, and write its data directories, manifests and trial lists."""

from deepspeaker.corpora.demo import make_demo_corpus
from deepspeaker.corpora.download import ALL_PARTS, ARCHIVES, BASE_URL, MINI_PARTS, download, read_md5sums
from deepspeaker.corpora.fingerprint import fingerprint, fingerprint_of_data_dir
from deepspeaker.corpora.folder import FolderCorpus, audio_files, find_speakers, read_folder, read_speakers
from deepspeaker.corpora.kaldi_corpus import chapters_as_sessions, merge_chapters, read_kaldi
from deepspeaker.corpora.librispeech import find_parts, read_librispeech
from deepspeaker.corpora.manifests import recording_of, supervision_of, write_jsonl
from deepspeaker.corpora.partitions import DEV_REMEDY
from deepspeaker.corpora.prepare import copy_test_tables, prepare, write_trial_lists
from deepspeaker.corpora.training_share import choose_share, share_training

__all__ = [
    "ALL_PARTS",
    "ARCHIVES",
    "BASE_URL",
    "DEV_REMEDY",
    "MINI_PARTS",
    "FolderCorpus",
    "audio_files",
    "chapters_as_sessions",
    "choose_share",
    "copy_test_tables",
    "download",
    "find_parts",
    "find_speakers",
    "fingerprint",
    "fingerprint_of_data_dir",
    "make_demo_corpus",
    "merge_chapters",
    "prepare",
    "read_folder",
    "read_kaldi",
    "read_librispeech",
    "read_md5sums",
    "read_speakers",
    "recording_of",
    "share_training",
    "supervision_of",
    "write_jsonl",
    "write_trial_lists",
]
