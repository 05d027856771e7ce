"""The sub-commands of the stages: ``data`` has stages 0 to 2, ``training`` 3 and 4, ``scoring`` 5 to 7, ``export`` 8.

``ivector`` has the i-vector baseline of stage 5.

The decorator ``stage`` declares what decides the result of a stage. Imports of other packages are inside the functions,
so that the command starts fast.
"""

from deepspeaker.cli.stages.data import collect_fbank, download, fbank, make_demo, prepare, share_training
from deepspeaker.cli.stages.export import export
from deepspeaker.cli.stages.ivector import ivector
from deepspeaker.cli.stages.scoring import collect_systems, embed_systems, report, score
from deepspeaker.cli.stages.training import softmax, triplet

__all__ = [
    "collect_fbank",
    "collect_systems",
    "download",
    "embed_systems",
    "export",
    "fbank",
    "ivector",
    "make_demo",
    "prepare",
    "report",
    "score",
    "share_training",
    "softmax",
    "triplet",
]
