"""Synthesise the demo corpus.

A speaker is a voice heard through a mild channel. Level and noise differ between utterances. The seed decides
everything, separately for each speaker, session and utterance, so that the number of jobs does not change a byte.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import queue
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.corpora.demo.espeak import Synthesiser, Voice, library_paths
from deepspeaker.corpora.demo.languages import LANGUAGES
from deepspeaker.corpora.demo.recording import SAMPLE_RATE, plan_sessions, record
from deepspeaker.corpora.demo.sentences import make_sentence
from deepspeaker.corpora.demo.speakers import (
    PARTS,
    UTTERANCE_STREAM,
    DemoSpeaker,
    plan_demo_corpus,
    random_stream,
    varied,
)
from deepspeaker.errors import InputError
from deepspeaker.files import atomic_folder, atomic_write
from deepspeaker.kaldi import write_table

MIN_SECONDS, MAX_SECONDS = 2.0, 6.0
MIN_PHRASE_SECONDS = 0.3

_MAX_ATTEMPTS = 12
_LETTERS_PER_SECOND_AND_RATE = 0.105  # of English, the mean over all variants: a first guess that attempts correct


@dataclasses.dataclass(frozen=True)
class _Content:
    """What every speaker of a corpus says."""

    utterances: int
    language: str
    phrase: str
    sessions: int


@dataclasses.dataclass(frozen=True)
class _Utterance:
    id: str
    text: str
    seconds: float


def make_demo_corpus(
    folder: Path,
    seed: int,
    *,
    train_speakers: int = 100,
    dev_speakers: int = 12,
    test_speakers: int = 30,
    utterances: int = 12,
    language: str = "en",
    phrase: str = "",
    sessions: int = 1,
    jobs: int | None = None,
    progress: bool = True,
) -> None:
    """Synthesise the corpus into a folder, which is created or replaced as a whole.

    ``folder/PART/READER/CHAPTER`` holds 16 kHz, 16 bit, mono FLAC files of 2 to 6 s and their transcripts. The parts
    are demo-train, demo-dev and demo-test. ``folder`` also holds ``SPEAKERS.TXT`` and ``README.TXT``. On one machine
    with the same libraries, equal arguments give equal bytes, for any ``jobs``.

    With a phrase, parts have a table ``utt2phrase``, and the rate and pitch of a speaker differ between utterances,
    which would else be equal but for level and noise. In a language other than English they have ``utt2lang``. With
    several sessions, a speaker has a chapter for each. They differ in channel, noise, and rate and pitch of the voice.

    Parameters
    ----------
    folder
        The folder to write.
    seed
        0 or more.
    train_speakers, dev_speakers, test_speakers, utterances
        The number of speakers of each part, and of utterances per speaker.
    language
        en, de or cmn: English, German or Mandarin.
    phrase
        A phrase of 0.3 to 6 s that every utterance says; empty for sentences.
    sessions
        The number of sessions per speaker.
    jobs
        How many speakers to synthesise at a time. Default: the number of processors that this process may use.
    progress
        Whether to show a progress bar if stderr is a terminal.

    Raises
    ------
    InputError
        ``espeakng-loader`` or one of its variants is missing, a sentence or the phrase cannot be spoken,
        ``utterances``, ``sessions`` or ``jobs`` is below one, there are more sessions than utterances, the language is
        unknown, or ``plan_demo_corpus`` refuses the arguments.
    """
    from tqdm import tqdm

    if language not in ("en", *LANGUAGES):
        raise InputError(f"language {language} is unknown; use {', '.join(['en', *LANGUAGES])}")
    if phrase and not (phrase.strip() and phrase.isprintable()):
        raise InputError(f"phrase {phrase!r}: use words on one line, or leave it empty for sentences")
    content = _Content(utterances, language, " ".join(phrase.split()), sessions)
    speakers = plan_demo_corpus(
        seed,
        train_speakers=train_speakers,
        dev_speakers=dev_speakers,
        test_speakers=test_speakers,
        language=language,
    )
    if jobs is None:
        jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name, value in (("utterances", utterances), ("sessions", sessions), ("jobs", jobs)):
        if value < 1:
            raise InputError(f"{name} {value}; give at least one")
    if sessions > utterances:
        raise InputError(f"{sessions} sessions of {utterances} utterances per speaker; give at most {utterances}")
    _check_variants(speakers)

    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(atomic_folder(folder))
        idle: queue.SimpleQueue[Synthesiser] = queue.SimpleQueue()
        for _ in range(jobs):
            synthesiser = stack.enter_context(Synthesiser())
            idle.put(synthesiser)
        # On an error, the stack first drops queued speakers and waits for current ones, then ends the synthesisers.
        pool = concurrent.futures.ThreadPoolExecutor(jobs)
        stack.callback(pool.shutdown, cancel_futures=True)
        total, disable = len(speakers) * utterances, None if progress else True
        bar = stack.enter_context(tqdm(total=total, desc="synthetic speech", unit="utterance", disable=disable))

        def make(speaker: DemoSpeaker) -> list[_Utterance]:
            synthesiser = idle.get()
            try:
                spoken = _make_speaker(temporary, seed, speaker, content, synthesiser)
            finally:
                idle.put(synthesiser)
            bar.update(utterances)
            return spoken

        spoken = list(pool.map(make, speakers))
        atomic_write(temporary / "SPEAKERS.TXT", _speakers_table(speakers, spoken))
        atomic_write(temporary / "README.TXT", _readme(seed, speakers, content, synthesiser.version))
        for part in PARTS:
            ids = [u.id for speaker, made in zip(speakers, spoken, strict=True) if speaker.part == part for u in made]
            if content.phrase:
                write_table(temporary / part / "utt2phrase", dict.fromkeys(ids, content.phrase))
            if language != "en":
                write_table(temporary / part / "utt2lang", dict.fromkeys(ids, language))


def _check_variants(speakers: list[DemoSpeaker]) -> None:
    """Check that all variants are installed; the library silently ignores a missing one."""
    _, data = library_paths()
    for variant in sorted({speaker.voice.variant for speaker in speakers}):
        if not (data / "voices" / "!v" / variant).is_file():
            fix = "install the tested version: pip install 'deepspeaker[demo]'"
            raise InputError(f"{data} has no voice variant {variant}; {fix}")


def _make_speaker(
    corpus: Path,
    seed: int,
    speaker: DemoSpeaker,
    content: _Content,
    synthesiser: Synthesiser,
) -> list[_Utterance]:
    """Write the audio files and the transcripts of a speaker."""
    import soundfile

    place = (PARTS.index(speaker.part), speaker.index)
    spoken: list[_Utterance] = []
    for number, session in enumerate(plan_sessions(seed, speaker, content.sessions)):
        chapter = f"{speaker.reader}{number + 1:02d}"
        folder = corpus / speaker.part / speaker.reader / chapter
        folder.mkdir(parents=True)
        transcript = ""
        first, end = (content.utterances * n // content.sessions for n in (number, number + 1))
        for position in range(first, end):
            generator = random_stream(seed, UTTERANCE_STREAM, *place, position)
            if content.phrase:
                text, speech = (
                    content.phrase,
                    _speak_phrase(content.phrase, varied(session.voice, generator), synthesiser),
                )
            else:
                text, speech = _speak_sentence(generator, speaker.part, content.language, session.voice, synthesiser)
            samples = record(speech, session, generator)
            utterance = f"{speaker.reader}-{chapter}-{position - first:04d}"
            soundfile.write(folder / f"{utterance}.flac", samples, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
            spoken.append(_Utterance(utterance, text, len(samples) / SAMPLE_RATE))
            transcript += f"{utterance} {text.upper()}\n"
        atomic_write(folder / f"{speaker.reader}-{chapter}.trans.txt", transcript)
    return spoken


def _speak_phrase(phrase: str, voice: Voice, synthesiser: Synthesiser) -> NDArray[np.float64]:
    """Return the samples of the phrase at 16 kHz on the 16-bit scale."""
    spoken = synthesiser.speak(voice, f"{phrase}.")
    seconds = len(spoken) / synthesiser.sample_rate
    if not MIN_PHRASE_SECONDS <= seconds <= MAX_SECONDS or not spoken.any():
        found = f"for {seconds:.1f} s" if spoken.any() else "silently"
        raise InputError(
            f'the phrase "{phrase}": eSpeak NG speaks it {found}, with the voice {voice}; give one of '
            f"{MIN_PHRASE_SECONDS:g} to {MAX_SECONDS:g} s"
        )
    return _resampled(spoken, synthesiser.sample_rate)


def _speak_sentence(
    generator: np.random.Generator, part: str, language: str, voice: Voice, synthesiser: Synthesiser
) -> tuple[str, NDArray[np.float64]]:
    """Return a sentence of 2 to 6 s, and its samples at 16 kHz on the 16-bit scale."""
    pace = LANGUAGES[language].pace if language != "en" else _LETTERS_PER_SECOND_AND_RATE
    target_seconds = generator.uniform(2.6, 5.4)
    letters = target_seconds * voice.rate * pace
    for _ in range(_MAX_ATTEMPTS):
        text = make_sentence(generator, part, round(letters), language)
        spoken = synthesiser.speak(voice, f"{text.capitalize()}.")
        seconds = len(spoken) / synthesiser.sample_rate
        # Stay one sample inside the limits, because resampling rounds the length.
        if MIN_SECONDS + 1 / SAMPLE_RATE <= seconds <= MAX_SECONDS - 1 / SAMPLE_RATE and spoken.any():
            return text, _resampled(spoken, synthesiser.sample_rate)
        letters *= np.clip(target_seconds / seconds, 0.5, 2.0)
    raise InputError(
        f'eSpeak NG speaks "{text}" and {_MAX_ATTEMPTS - 1} sentences before it in less than '
        f"{MIN_SECONDS:g} or more than {MAX_SECONDS:g} s, with the voice {voice}; "
        "install the tested version: pip install 'deepspeaker[demo]'"
    )


def _resampled(spoken: NDArray[np.int16], sample_rate: int) -> NDArray[np.float64]:
    """Return samples at 16 kHz."""
    from scipy.signal import resample_poly

    common = int(np.gcd(SAMPLE_RATE, sample_rate))
    speech: NDArray[np.float64] = resample_poly(spoken.astype(np.float64), SAMPLE_RATE // common, sample_rate // common)
    return speech


def _speakers_table(speakers: list[DemoSpeaker], spoken: list[list[_Utterance]]) -> str:
    lines = [
        "; Invented speakers: all speech here is SYNTHETIC, made by eSpeak NG.",
        "; SEX is declared by the voice variant, or follows from its pitch.",
        f"{';ID':<5}|{'SEX':^5}| {'SUBSET':<11}|{'MINUTES':<7}| NAME",
    ]
    for speaker, utterances in zip(speakers, spoken, strict=True):
        minutes = sum(utterance.seconds for utterance in utterances) / 60
        columns = (f"{speaker.reader:<5}", f"{speaker.sex:<4}", f"{speaker.part:<11}", f"{minutes:<6.2f}")
        lines.append("| ".join((*columns, str(speaker.voice))))
    return "\n".join(lines) + "\n"


def _readme(seed: int, speakers: list[DemoSpeaker], content: _Content, synthesiser: str) -> str:
    import scipy
    import soundfile

    differ = "variant" if content.phrase else "variant and no sentence"
    more = f"language: {content.language}\n" if content.language != "en" else ""
    if content.phrase:
        more += f"phrase, which every utterance says: {content.phrase}\n"
    if content.sessions > 1:
        more += f"sessions per speaker, with different channel, noise, rate and pitch: {content.sessions}\n"
    counts = ", ".join(f"{part} {sum(speaker.part == part for speaker in speakers)}" for part in PARTS)
    return f"""SYNTHETIC SPEECH

No human speaks here. Deep Speaker's demo corpus generator made this corpus with the speech synthesiser eSpeak NG,
in the layout of LibriSpeech. Results on it say nothing about real speech.

A speaker is a voice variant of eSpeak NG with an accent, a pitch, a rate and a pitch range (see SPEAKERS.TXT),
heard through a mild channel. Each utterance has different noise and a different level. The parts share no voice
{differ}.

seed: {seed}
speakers: {counts}
utterances per speaker: {content.utterances}
{more}synthesiser: {synthesiser}
libraries: numpy {np.__version__}, scipy {scipy.__version__}, libsndfile {soundfile.__libsndfile_version__}
"""
