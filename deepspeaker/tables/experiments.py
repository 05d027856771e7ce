"""The experiments behind the tables: each is one call of run.sh with its own ``--exp``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deepspeaker.config import Config
from deepspeaker.errors import InputError

#: Networks by their names in the configuration, and as the tables show them.
NETWORKS = {"rescnn": "ResCNN", "gru": "GRU"}
#: Shares of the training speakers, and of their utterances, in table 7.
SHARES = (25, 50)
#: Numbers of processes in table 3, and the anchor-positive pairs of each: 64 utterances.
PROCESSES, PAIRS = (1, 2, 4), 32


@dataclass(frozen=True)
class Experiment:
    """A training and its test.

    Attributes
    ----------
    what : str
        Shown while it runs.
    network : str
        The network, which decides the configuration.
    corpus : str
        ``main``, ``phrase`` (table 9) or ``language`` (table 10).
    options : tuple of str
        Further options of run.sh.
    start : str
        ``EXPERIMENT/SYSTEM/CHECKPOINT``: weights to start from, without pre-training.
    fuse : str
        The experiment whose network is fused with this one.
    optional : bool
        Whether the tables are written without it if it fails.
    """

    what: str
    network: str
    corpus: str = "main"
    options: tuple[str, ...] = ()
    start: str = ""
    fuse: str = ""
    optional: bool = False

    @property
    def after(self) -> tuple[str, ...]:
        """The experiments that must run before."""
        return tuple(filter(None, (self.start.partition("/")[0], self.fuse)))


@dataclass(frozen=True)
class Corpus:
    """A corpus: what run.sh is told about it, the folder of its data, and whether it has audio, not only features."""

    options: tuple[str, ...]
    data: str
    audio: bool = True


@dataclass(frozen=True)
class Setting:
    """What is the same for all experiments.

    Attributes
    ----------
    name : str
        The folder of the tables in ``exp/``; experiments are beside it, ``NAME_EXPERIMENT_SEED``.
    seeds : tuple of int
        Seeds of the trainings.
    configs : mapping of str to str
        The configuration file of each network.
    corpora : mapping of str to Corpus
        ``main`` and, if they are given, ``phrase`` and ``language``.
    options : tuple of str
        Options of run.sh for every experiment.
    steps : Config
        The configuration whose epochs and steps count for both networks.
    hard_steps : int
        Steps of each of the six epochs of table 3.
    draws : int
        Bootstrap draws of speakers.
    """

    name: str
    seeds: tuple[int, ...]
    configs: Mapping[str, str]
    corpora: Mapping[str, Corpus]
    options: tuple[str, ...]
    steps: Config
    hard_steps: int = 100
    draws: int = 1000
    synthetic: bool = field(default=False)

    def experiment(self, name: str, seed: int) -> str:
        """Return the name of the folder of an experiment."""
        return f"{self.name}_{name}_{seed}"


def experiments_of(setting: Setting) -> dict[str, Experiment]:
    """Return all experiments that tables can ask for, by name."""
    softmax, triplet = setting.steps.softmax, setting.steps.triplet
    epochs = softmax.epochs + triplet.epochs
    total = softmax.epochs * softmax.steps_per_epoch + triplet.epochs * triplet.steps_per_epoch
    if not softmax.epochs or not triplet.epochs:
        raise InputError("softmax.epochs and triplet.epochs must be at least 1: the tables compare both trainings")
    both = _set("softmax", softmax.epochs, softmax.steps_per_epoch)
    both += _set("triplet", triplet.epochs, triplet.steps_per_epoch)
    long = (epochs, total // epochs)  # one training as long as the other two
    untrained = ("--set", "triplet.epochs=0")
    # From random weights, the hardest negatives can make all embeddings coincide.
    early = ("--set", f"triplet.early_steps={softmax.epochs * softmax.steps_per_epoch}")
    found: dict[str, Experiment] = {}
    for network, shown in NETWORKS.items():
        fuse = "rescnn" if network == "gru" else ""
        found[network] = Experiment(
            f"{shown}, softmax then triplet loss",
            network,
            options=(*both, *_ivector(setting, network, "main")),
            fuse=fuse,
        )
        found[f"{network}_softmax"] = Experiment(
            f"{shown}, softmax alone", network, options=(*_set("softmax", *long), *untrained)
        )
        found[f"{network}_triplet"] = Experiment(
            f"{shown}, triplet loss alone", network, options=("--pretraining", "false", *early, *_set("triplet", *long))
        )
        for training, system in (("", "triplet"), ("_softmax", "softmax"), ("_triplet", "triplet")):
            source = f"{network}{training}"
            found[f"{source}_last"] = Experiment(
                f"test of the last epoch of {source}",
                network,
                options=untrained,
                start=f"{source}/{system}/checkpoint_last.pt",
            )
        for share in SHARES:
            for what in ("speakers", "utterances"):
                share_options = (f"--train-{what}-share", f"{share / 100:g}")
                found[f"{network}_{what}{share}"] = Experiment(
                    f"{shown}, {share} % of the {what}", network, options=(*both, *share_options)
                )
        for corpus in ("phrase", "language"):
            found[f"{network}_{corpus}"] = Experiment(
                f"{shown} trained on the {corpus} corpus",
                network,
                corpus,
                (*both, *_ivector(setting, network, corpus)),
            )
            found[f"{network}_{corpus}_tuned"] = Experiment(
                f"{shown} fine-tuned to the {corpus} corpus by triplet loss",
                network,
                corpus,
                _set("triplet", triplet.epochs, triplet.steps_per_epoch),
                start=f"{network}/triplet/checkpoint_best.pt",
            )
    for processes in PROCESSES:
        batch = ("--set", "triplet.sampler=pairs", "--set", f"triplet.pairs_per_batch={PAIRS * processes}")
        found[f"hard{processes}"] = Experiment(
            f"hard negatives with {processes} x {2 * PAIRS} utterances",
            "rescnn",
            options=("--nproc", str(processes), *batch, *_set("triplet", 6, setting.hard_steps)),
            start="rescnn/softmax/checkpoint_best.pt",
            optional=True,  # there may be fewer GPUs
        )
    return found


def _ivector(setting: Setting, network: str, corpus: str) -> tuple[str, ...]:
    """Return the option for i-vectors, which one experiment of each corpus trains, if there is audio."""
    possible = network == "rescnn" and corpus in setting.corpora and setting.corpora[corpus].audio
    return ("--ivector", "true") if possible else ()


def _set(section: str, epochs: int, steps: int) -> tuple[str, ...]:
    return "--set", f"{section}.epochs={epochs}", "--set", f"{section}.steps_per_epoch={steps}"


def ordered(wanted: Iterable[str], experiments: Mapping[str, Experiment]) -> list[str]:
    """Return the wanted experiments and those that they need, each after what it needs.

    Examples
    --------
    >>> experiments = {"a": Experiment("", "rescnn"), "b": Experiment("", "gru", start="a/softmax/x.pt", fuse="c")}
    >>> ordered(["b"], experiments | {"c": Experiment("", "gru")})
    ['a', 'c', 'b']
    """
    done: list[str] = []

    def add(name: str) -> None:
        for earlier in experiments[name].after:
            add(earlier)
        if name not in done:
            done.append(name)

    for name in wanted:
        add(name)
    return done


def command(setting: Setting, name: str, experiment: Experiment, seed: int) -> list[str]:
    """Return the call of run.sh for an experiment, from the recipe's folder."""
    corpus = setting.corpora[experiment.corpus]
    words = ["./run.sh", *corpus.options, "--data", corpus.data, "--data-seed", "0"]
    words += ["--config", setting.configs[experiment.network], "--exp", setting.experiment(name, seed)]
    words += ["--seed", str(seed), "--stop-stage", "6", "--set", "embedding.checkpoint=best"]
    words += [*setting.options, *experiment.options]
    if experiment.start:
        source, _, rest = experiment.start.partition("/")
        start = Path("exp", setting.experiment(source, seed), rest)
        words += ["--pretraining", "false", "--init-from", str(start)]
    if experiment.fuse:
        words += ["--set", f"scoring.fuse_with=exp/{setting.experiment(experiment.fuse, seed)}"]
        words += ["--set", "scoring.backends=[cosine, embedding-sum, score-sum]"]
    return words
