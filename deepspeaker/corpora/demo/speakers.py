"""The speakers of the demo corpus: which voice each of them gets, decided by the seed."""

from __future__ import annotations

import dataclasses
from itertools import chain

import numpy as np

from deepspeaker.corpora.demo.espeak import Voice
from deepspeaker.errors import InputError

PARTS = ("demo-train", "demo-dev", "demo-test")

# Variants whose samples differ between processes, mostly because of breath noise.
UNSTABLE_VARIANTS = ("Alicia", "Demonic", "f2", "f3", "f5", "sandro", "victor", "whisper", "whisperf")
# Variants that hardly differ from steph2, adam, RicishayMax2, anika and croak, in this order. If they were in use, a
# test speaker could have the voice of a training speaker.
TWIN_VARIANTS = ("steph3", "klatt6", "RicishayMax3", "anikaRobot", "grandpa")
# All other variants, by sex: as declared in the variant's file or, by default, F if the middle of its `pitch` line is
# above 150 Hz. They are listed here so that the plan does not depend on the installed files.
FEMALE_VARIANTS = (
    "Andrea", "Annie", "anika", "aunty", "belinda", "f1", "f4", "grandma", "linda", "shelby", "steph",
    "steph2", "zac",
)  # fmt: skip
MALE_VARIANTS = (
    "Alex", "Andy", "AnxiousAndy", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee",
    "Marco", "Mario", "Michael", "Mike", "Mr serious", "Nguyen", "Reed", "RicishayMax", "RicishayMax2",
    "Storm", "Tweaky", "UniRobot", "adam", "announcer", "antonio", "benjamin", "boris", "caleb", "croak",
    "david", "ed", "edward", "edward2", "fast", "gustave", "ian", "iven", "iven2", "iven3", "iven4", "john",
    "kaukovalta", "klatt", "klatt2", "klatt3", "klatt4", "klatt5", "m1", "m2", "m3", "m4", "m5", "m6", "m7",
    "m8", "marcelo", "max", "michel", "miguel", "mike2", "norbert", "pablo", "paul", "pedro", "quincy", "rob",
    "robert", "robosoft", "robosoft2", "robosoft3", "robosoft4", "robosoft5", "robosoft6", "robosoft7",
    "robosoft8", "travis",
)  # fmt: skip
ACCENTS = (
    "en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc",
)  # fmt: skip

# The reader numbers of the first speakers of each part, and of the others. A part and an index always have the same
# number, so that a speaker of one corpus has no number of another part's speaker in another corpus.
_READERS = {
    "demo-train": (range(1001, 1101), range(2001, 10000)),
    "demo-dev": (range(1101, 1113), range(1201, 1301)),
    "demo-test": (range(1113, 1143), range(1301, 1401)),
}
_MAX_TRAIN_SPEAKERS = sum(map(len, _READERS["demo-train"]))
_PITCHES = (28.0, 72.0)

# Each use of random numbers has a separate stream, so that a change of one does not affect the others.
_VARIANT_STREAM, _SPEAKER_STREAM, CHANNEL_STREAM, UTTERANCE_STREAM, SESSION_STREAM = range(5)


def random_stream(seed: int, *stream: int) -> np.random.Generator:
    """Return the generator of one stream of random numbers."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))


@dataclasses.dataclass(frozen=True)
class DemoSpeaker:
    """A planned speaker.

    Attributes
    ----------
    part, index
        The part, and the speaker's position in it.
    reader
        The speaker id.
    sex
        F or M.
    voice
        The voice.
    """

    part: str
    index: int
    reader: str
    sex: str
    voice: Voice


def plan_demo_corpus(
    seed: int, *, train_speakers: int = 100, dev_speakers: int = 12, test_speakers: int = 30, language: str = "en"
) -> list[DemoSpeaker]:
    """Choose the speakers, in the order train, dev, test, without making audio.

    Parts share no voice variant. Each test or development speaker has a different variant. Training speakers share the
    remaining variants; speakers of one variant differ clearly in pitch and, in English, in accent (for up to eight
    speakers). Another language changes nothing else: speakers have the same variant, rate, pitch and pitch range.

    Raises
    ------
    InputError
        The seed is negative, a part has no speakers, or there are not enough variants or reader numbers.
    """
    counts = dict(zip(PARTS, (train_speakers, dev_speakers, test_speakers), strict=True))
    variants = sorted((*FEMALE_VARIANTS, *MALE_VARIANTS))
    if seed < 0:
        raise InputError(f"seed {seed} is negative; give 0 or more")
    for part, count in counts.items():
        if count < 1:
            raise InputError(f"{part}: {count} speakers; give at least one")
    if dev_speakers + test_speakers >= len(variants):
        raise InputError(
            f"demo-dev and demo-test: {dev_speakers} + {test_speakers} speakers need a voice variant each; "
            f"give at most {len(variants) - 1} together, of {len(variants)} variants"
        )
    if train_speakers > _MAX_TRAIN_SPEAKERS:
        raise InputError(f"demo-train: {train_speakers} speakers; give at most {_MAX_TRAIN_SPEAKERS}")

    order = [variants[i] for i in random_stream(seed, _VARIANT_STREAM).permutation(len(variants))]
    test, dev, train = np.split(np.array(order), [test_speakers, test_speakers + dev_speakers])
    part_variants = dict(zip(PARTS, (train, dev, test), strict=True))
    speakers: list[DemoSpeaker] = []
    for part, count in counts.items():
        for index, voice in enumerate(_plan_voices(seed, part, part_variants[part].tolist(), count, language)):
            sex = "F" if voice.variant in FEMALE_VARIANTS else "M"
            speakers.append(DemoSpeaker(part, index, str([*chain(*_READERS[part])][index]), sex, voice))
    return speakers


def _plan_voices(seed: int, part: str, variants: list[str], count: int, language: str) -> list[Voice]:
    """Choose ``count`` different voices, taking the variants in turn."""
    rounds = -(-count // len(variants))
    band = (_PITCHES[1] - _PITCHES[0]) / rounds
    voices = []
    for index in range(count):
        turn, variant = divmod(index, len(variants))
        # The same draw for all speakers of a variant: it divides accents and pitch bands among them.
        shared = random_stream(seed, _VARIANT_STREAM, PARTS.index(part), variant)
        accent = shared.permutation(len(ACCENTS))[turn % len(ACCENTS)]
        lowest = _PITCHES[0] + band * shared.permutation(rounds)[turn]
        generator = random_stream(seed, _SPEAKER_STREAM, PARTS.index(part), index)
        voices.append(
            Voice(
                accent=ACCENTS[accent] if language == "en" else language,
                variant=variants[variant],
                rate=int(generator.integers(150, 196)),
                # The middle half of the band, so that two speakers of a variant are half a band apart.
                pitch=round(lowest + band * generator.uniform(0.25, 0.75)),
                pitch_range=int(generator.integers(35, 66)),
            )
        )
    return voices


def varied(voice: Voice, generator: np.random.Generator) -> Voice:
    """Return a voice that speaks up to 8 % faster or slower, and a little higher or lower and more or less lively."""
    return dataclasses.replace(
        voice,
        rate=round(voice.rate * generator.uniform(0.92, 1.08)),
        pitch=round(voice.pitch + generator.uniform(-4, 4)),
        pitch_range=round(voice.pitch_range + generator.uniform(-8, 8)),
    )
