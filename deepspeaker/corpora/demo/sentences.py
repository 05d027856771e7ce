"""Sentences from word lists, here of English. Parts use different names, so they share no sentence."""

from __future__ import annotations

import numpy as np

from deepspeaker.corpora.demo.languages import LANGUAGES, phrases, words

# Every sentence contains exactly one of these names, and no name is in two parts.
NAMES = {
    "demo-train": words(
        "Abigail Adrian Albert Barbara Bernard Bridget Cecil Charlotte Christopher Clara Conrad Cynthia "
        "Derek Dorothy Edgar Eleanor Ernest Felicity Florence Frederick Geoffrey Georgia Gilbert Harriet "
        "Herbert Imogen Isaac Janet Jasper Jonathan Josephine Judith Kenneth Laura Leonard Lydia Margaret "
        "Matthew Maurice Natalie Nicholas Oliver Patricia Philip Priscilla Raymond Roger Rosemary Samuel "
        "Sheila Stanley Theodore Timothy Ursula Valerie Vincent Walter Winifred Yolanda Zachary"
    ),
    "demo-dev": words("Agatha Benedict Camilla Douglas Francis Gloria Humphrey Marion Norman Penelope Quentin Sylvia"),
    "demo-test": words(
        "Alistair Beatrice Byron Cordelia Dominic Edith Fiona Gregory Hannah Hector Ingrid Jeremy Katherine "
        "Lawrence Matilda Nathan Olivia Percival Rebecca Sebastian Tabitha Victoria Wallace Yvonne"
    ),
}

_OPENINGS = phrases(
    "yesterday|last winter|before breakfast|every morning|after the storm|long ago|on a rainy day|"
    "without a word|in the early spring|at noon|much later|as usual|to our surprise|one quiet evening|"
    "during the journey|just then"
)

_VERBS = words(
    "admired bought borrowed brought carried caught chose cleaned counted described discovered drew dropped "
    "examined fetched followed forgot found gathered guarded hid imagined joined judged kept lifted lost "
    "measured mended moved noticed offered opened packed painted polished praised promised pushed reached "
    "recognised remembered repaired returned saved searched shared showed sold stole studied thanked threw "
    "touched trusted unlocked valued visited washed watched welcomed wrapped"
)

_ADJECTIVES = words(
    "ancient awkward beautiful bitter blue brave bright broad broken calm careful cheap clever clumsy "
    "coloured crooked curious damp dark deep delicate dusty eager early elegant empty enormous faded famous "
    "fierce foreign fragile fresh gentle golden green grey happy heavy hollow honest huge humble joyful "
    "large lazy little lonely loud lovely magic modern narrow noisy ordinary pale peaceful plain polite "
    "purple quick quiet rough round rusty shallow sharp shiny silent silver smooth soft southern square "
    "strange sturdy thick tiny tired unusual useful valuable velvet warm weary white wild wise wooden "
    "yellow young"
)

_NOUNS = words(
    "actor anchor apple armchair bakery balcony barrel basket bicycle blanket boat bottle bridge bucket "
    "butterfly cabin camera candle carpet castle cathedral cave chapel cheese chimney church circle clock "
    "coach coat cottage cousin curtain daughter desert doctor donkey doorway drawer engine farmer feather "
    "fence fiddle field forest fountain fox garden gate ghost giant goose guitar hammer harbour hedge hill "
    "horse hotel island jacket jewel journal judge kettle kitchen ladder lake lantern lawyer leather letter "
    "library lighthouse lion market meadow merchant mirror monkey mountain museum needle neighbour notebook "
    "office orchard oven owl palace parcel path peacock pepper piano picture pigeon pillow pocket poet pony "
    "potato purse puzzle queen rabbit railway ribbon river rocket sailor salad saddle scarf school shadow "
    "shepherd shoe shop shovel soldier spoon staircase station stone street student table tailor teacher "
    "teapot theatre thief tiger tower treasure tunnel uncle umbrella valley vase village violin voyage "
    "wagon wall watch weaver wheel whistle willow window wizard workshop yard zebra"
)

_PREPOSITIONS = phrases(
    "above|across from|along with|among the things in|at the edge of|behind|below|beside|beyond|close to|"
    "far from|for|in front of|inside|instead of|near|next to|outside|over|past|through|towards|under|"
    "without"
)


def make_sentence(generator: np.random.Generator, part: str, letters: int, language: str = "en") -> str:
    """Return a sentence of a part, with at least ``letters`` characters, without punctuation; English in lower case.

    Examples
    --------
    >>> make_sentence(np.random.default_rng(0), "demo-dev", 30)
    'before breakfast quentin reached the famous barrel'
    """
    if language != "en":
        return LANGUAGES[language].make_sentence(generator, part, letters)

    def one_of(choices: list[str]) -> str:
        return choices[generator.integers(len(choices))]

    def thing() -> str:
        adjective = f"{one_of(_ADJECTIVES)} " if generator.random() < 0.6 else ""
        return f"the {adjective}{one_of(_NOUNS)}"

    clause = f"{one_of(NAMES[part]).lower()} {one_of(_VERBS)} {thing()}"
    sentence = f"{one_of(_OPENINGS)} {clause}" if generator.random() < 0.3 else clause
    while len(sentence) < letters:
        if letters - len(sentence) > 20 and generator.random() < 0.35:
            sentence += f" and {one_of(_VERBS)} {thing()}"
        else:
            sentence += f" {one_of(_PREPOSITIONS)} {thing()}"
    return sentence
