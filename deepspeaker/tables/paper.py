"""The figures of the Deep Speaker paper, tables 1 to 11 of arXiv 1705.02304v1. EER and ACC are in percent."""

from __future__ import annotations

from typing import NamedTuple

SOURCE = "arXiv 1705.02304v1"


class Rate(NamedTuple):
    """EER and accuracy (rank-1 rate) under the 1 + 99 protocol, in percent."""

    eer: float
    acc: float


#: Tables 1 and 2: each layer with its parameters as printed.
LAYERS = {
    "rescnn": (
        ("conv64-s", "6K"),
        *[("res64", "41K x 2")] * 3,
        ("conv128-s", "209K"),
        *[("res128", "151K x 2")] * 3,
        ("conv256-s", "823K"),
        *[("res256", "594K x 2")] * 3,
        ("conv512-s", "3.3M"),
        *[("res512", "2.4M x 2")] * 3,
        ("affine", "1M"),
    ),
    "gru": (("conv64-s", "6K"), ("GRU", "9.4M"), ("GRU", "6.3M"), ("GRU", "6.3M"), ("affine", "500K")),
}
TOTALS = {"rescnn": "24M", "gru": "23M"}

#: Table 3, after 6 epochs with 64 utterances per GPU: by number of GPUs, the share of anchors with a hard negative, and
#: the time against one GPU, both in percent.
HARD_NEGATIVES = {1: (29.06, 0.0), 4: (43.29, 5.47), 8: (45.54, 6.09), 16: (50.99, 15.28)}

#: Table 4: speakers, utterances, and mean seconds of an utterance.
CORPORA = {
    "Train250k": (249_312, 12_202_181, 3.72),
    "Train50k": (46_835, 2_236_379, 3.66),
    "Eva200": (200, 3_800, 4.25),
    "XiaoDu, training": (11_558, 89_227, 1.56),
    "XiaoDu, test": (844, 10_014, 1.48),
    "MTurk, training": (2_174, 543_840, 4.16),
    "MTurk, test": (200, 4_000, 4.31),
}

#: Table 5, Train50k to Eva200, by network and training.
TRAININGS = {
    ("ivector", ""): Rate(13.79, 51.72),
    ("rescnn", "softmax"): Rate(6.13, 81.95),
    ("rescnn", "triplet"): Rate(2.69, 86.21),
    ("rescnn", "both"): Rate(2.23, 90.53),
    ("gru", "softmax"): Rate(5.42, 83.05),
    ("gru", "triplet"): Rate(3.23, 84.19),
    ("gru", "both"): Rate(2.77, 89.50),
}

#: Table 6: sums of both networks' embeddings, and of their normalised scores.
FUSIONS = {"embeddings": Rate(2.17, 90.95), "scores": Rate(2.07, 91.83)}

#: Table 7: training on Train250k; Train50k is in table 5.
MORE_DATA = {"rescnn": Rate(1.83, 92.58), "gru": Rate(2.35, 90.77)}

#: Table 8, by number of enrolment utterances.
ENROLMENT = {
    "ivector": {1: Rate(13.79, 51.72), 2: Rate(10.37, 63.21), 3: Rate(8.21, 71.04), 5: Rate(7.57, 75.02)},
    "rescnn": {1: Rate(2.23, 90.53), 2: Rate(1.39, 95.36), 3: Rate(1.29, 96.56), 5: Rate(1.13, 96.83)},
    "gru": {1: Rate(2.77, 89.50), 2: Rate(1.70, 94.64), 3: Rate(1.56, 96.47), 5: Rate(1.37, 97.07)},
}

#: Tables 9 (XiaoDu, a wake phrase) and 10 (MTurk, English): trained on it, on Train50k only, and fine-tuned to it.
PHRASE = {
    ("ivector", "it"): Rate(3.50, 95.05),
    ("rescnn", "it"): Rate(4.10, 93.08),
    ("gru", "it"): Rate(3.82, 93.75),
    ("rescnn", "other"): Rate(3.62, 93.25),
    ("gru", "other"): Rate(3.74, 94.45),
    ("ivector", "tuned"): Rate(3.40, 94.75),
    ("rescnn", "tuned"): Rate(2.83, 94.85),
    ("gru", "tuned"): Rate(2.78, 95.75),
}
LANGUAGE = {
    ("ivector", "it"): Rate(3.88, 89.68),
    ("rescnn", "it"): Rate(3.41, 91.23),
    ("gru", "it"): Rate(3.50, 91.68),
    ("rescnn", "other"): Rate(5.92, 85.41),
    ("gru", "other"): Rate(5.57, 88.22),
    ("rescnn", "tuned"): Rate(2.68, 94.53),
    ("gru", "tuned"): Rate(2.40, 94.88),
}

#: Table 11, by the time between enrolment and test.
TIME_SPAN = {
    "ivector": {"1 week": Rate(12.73, 55.33), "1 month": Rate(14.39, 46.96), "3 months": Rate(15.31, 44.37)},
    "rescnn": {"1 week": Rate(2.11, 91.11), "1 month": Rate(2.50, 88.66), "3 months": Rate(2.76, 87.45)},
    "gru": {"1 week": Rate(2.63, 90.66), "1 month": Rate(3.33, 87.57), "3 months": Rate(3.42, 85.80)},
}
