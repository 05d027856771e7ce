"""The demo corpus: synthetic speech of invented speakers, made offline by eSpeak NG, in LibriSpeech's layout."""

from deepspeaker.corpora.demo.corpus import MAX_SECONDS, make_demo_corpus
from deepspeaker.corpora.demo.espeak import Synthesiser, Voice, library_paths
from deepspeaker.corpora.demo.languages import LANGUAGES
from deepspeaker.corpora.demo.recording import plan_sessions
from deepspeaker.corpora.demo.sentences import NAMES, make_sentence
from deepspeaker.corpora.demo.speakers import (
    ACCENTS,
    FEMALE_VARIANTS,
    MALE_VARIANTS,
    PARTS,
    TWIN_VARIANTS,
    UNSTABLE_VARIANTS,
    DemoSpeaker,
    plan_demo_corpus,
)

__all__ = [
    "ACCENTS",
    "FEMALE_VARIANTS",
    "LANGUAGES",
    "MALE_VARIANTS",
    "MAX_SECONDS",
    "NAMES",
    "PARTS",
    "TWIN_VARIANTS",
    "UNSTABLE_VARIANTS",
    "DemoSpeaker",
    "Synthesiser",
    "Voice",
    "library_paths",
    "make_demo_corpus",
    "make_sentence",
    "plan_demo_corpus",
    "plan_sessions",
]
