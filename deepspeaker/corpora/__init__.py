"""Where speech comes from, and the trial lists made of it."""

from deepspeaker.corpora.demo import make_demo_corpus
from deepspeaker.corpora.fingerprint import fingerprint
from deepspeaker.corpora.librispeech import download, find_parts
from deepspeaker.corpora.prepare import prepare, read_kaldi, read_librispeech
from deepspeaker.corpora.trials import TrialList, write_trials_1p99, write_trials_all

__all__ = [
    "TrialList",
    "download",
    "find_parts",
    "fingerprint",
    "make_demo_corpus",
    "prepare",
    "read_kaldi",
    "read_librispeech",
    "write_trials_1p99",
    "write_trials_all",
]
