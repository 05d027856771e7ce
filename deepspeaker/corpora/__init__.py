"""Where speech comes from."""

from deepspeaker.corpora.demo import make_demo_corpus
from deepspeaker.corpora.download import ALL_PARTS, BASE_URL, MINI_PARTS, download, read_md5sums
from deepspeaker.corpora.fingerprint import fingerprint, fingerprint_of_data_dir
from deepspeaker.corpora.librispeech import find_parts
from deepspeaker.corpora.manifests import recording_of, supervision_of, write_jsonl
from deepspeaker.corpora.prepare import DEV_REMEDY, merge_chapters, prepare, read_kaldi, read_librispeech

__all__ = [
    "ALL_PARTS",
    "BASE_URL",
    "DEV_REMEDY",
    "MINI_PARTS",
    "download",
    "find_parts",
    "fingerprint",
    "fingerprint_of_data_dir",
    "make_demo_corpus",
    "merge_chapters",
    "prepare",
    "read_kaldi",
    "read_librispeech",
    "read_md5sums",
    "recording_of",
    "supervision_of",
    "write_jsonl",
]
