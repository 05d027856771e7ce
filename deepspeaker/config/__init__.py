"""The schema of an experiment's YAML file, a module for each group of stages.

Unknown keys are refused, and ``--set section.key=value`` overrides single keys. Every default is here; the files in
``conf/`` name only what they change. The string below a key is its description in the reference documentation, which
shows all keys on one page.
"""

from deepspeaker.config.copies import Augment, Conditions, Copy
from deepspeaker.config.data import Features
from deepspeaker.config.experiment import Config, dump_config, load_config
from deepspeaker.config.networks import GRUModel, ResCNNModel
from deepspeaker.config.scoring import Scoring
from deepspeaker.config.training import Head, Negatives, Optimizer, Softmax, SpecAugment, Triplet

__all__ = [
    "Augment",
    "Conditions",
    "Config",
    "Copy",
    "Features",
    "GRUModel",
    "Head",
    "Negatives",
    "Optimizer",
    "ResCNNModel",
    "Scoring",
    "Softmax",
    "SpecAugment",
    "Triplet",
    "dump_config",
    "load_config",
]
