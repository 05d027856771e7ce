"""``deepspeaker tables``: the tables of the paper; recipes/librispeech/tables.sh calls it."""

from __future__ import annotations

import signal
import sys
from itertools import pairwise
from pathlib import Path

import click

from deepspeaker.cli.options import CORPORA, PATH, commands, load
from deepspeaker.errors import InputError

#: The configurations of each size, ResCNN and GRU; seeds; bootstrap draws; steps of an epoch in table 3.
_SIZES = {
    "quick": ("conf/tables.yaml", "conf/tables_gru.yaml", "0", 300, 20),
    "full": ("conf/default.yaml", "conf/small_gru.yaml", "0 1 2", 1000, 100),
}
_DEMO = {
    "main": ("tables_demo", ("demo.sessions=2",)),
    "phrase": ("tables_demo_phrase", ("demo.phrase=hello computer", "demo.train_speakers=40", "demo.utterances=8")),
    "language": ("tables_demo_german", ("demo.language=de", "demo.train_speakers=40")),
}


@commands.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help", "-h"]})
@click.option("--from", "origin", type=PATH, default=".", hidden=True, help="working directory of the user")
@click.option("--table", "wanted", type=click.IntRange(1, 11), multiple=True, help="may be repeated (default: all)")
@click.option("--corpus", type=click.Choice(CORPORA), default="demo", show_default=True, help="kind of corpus")
@click.option("--corpus-dir", default="", metavar="DIR", help="folder of the corpus, as for run.sh")
@click.option("--phrase-corpus-dir", default="", metavar="DIR", help="Kaldi corpus with test/utt2phrase, for table 9")
@click.option("--other-corpus-dir", default="", metavar="DIR", help="Kaldi corpus in another language, for table 10")
@click.option("--seeds", default="", metavar='"0 1 2"', help="seeds of the trainings (default: 0 for quick)")
@click.option("--size", type=click.Choice(list(_SIZES)), default=None, help="default: quick for demo, full otherwise")
@click.option("--config", default="", metavar="FILE", help="configuration of the ResCNN, and of all epochs and steps")
@click.option("--gru-config", default="", metavar="FILE", help="configuration of the GRU")
@click.option("--exp", default="", metavar="NAME", help="folder of the tables in exp/ (default: tables_CORPUS)")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def tables(
    origin: Path,
    wanted: tuple[int, ...],
    corpus: str,
    corpus_dir: str,
    phrase_corpus_dir: str,
    other_corpus_dir: str,
    seeds: str,
    size: str | None,
    config: str,
    gru_config: str,
    exp: str,
    options: tuple[str, ...],
) -> None:
    """Reproduce the tables of the Deep Speaker paper, from the recipe's folder.

    All other options are passed on to run.sh.
    """
    from deepspeaker.tables import Corpus, Setting, make_tables

    origin = origin.resolve()
    rescnn, gru, default_seeds, draws, hard_steps = _SIZES[size or ("quick" if corpus == "demo" else "full")]

    def found(option: str, given: str) -> str:
        path = origin / given if (origin / given).exists() else Path(given)
        if not path.exists():
            raise InputError(f"--{option} {given}: no such file or folder")
        return str(path.resolve())

    corpora: dict[str, Corpus] = {}
    if corpus == "demo":
        for name, (data, settings) in _DEMO.items():
            words = [word for setting in settings for word in ("--set", setting)]
            corpora[name] = Corpus(("--corpus", "demo", *words), data)
    else:
        folder = found("corpus-dir", corpus_dir) if corpus_dir else ""
        data = Path(folder).name if folder and corpus in ("kaldi", "lhotse", "folder") else corpus
        where = ("--corpus-dir", folder) if folder else ()
        corpora["main"] = Corpus(("--corpus", corpus, *where), data, corpus != "kaldi" or _has_audio(folder))
    for name, option, given in (
        ("phrase", "phrase-corpus-dir", phrase_corpus_dir),
        ("language", "other-corpus-dir", other_corpus_dir),
    ):
        if given:
            folder = found(option, given)
            corpora[name] = Corpus(("--corpus", "kaldi", "--corpus-dir", folder), Path(folder).name, _has_audio(folder))
    if len({one.data for one in corpora.values()}) < len(corpora):
        raise InputError("two of the corpora are in folders of one name, which names their data; rename one of them")
    if phrase_corpus_dir:
        _check_phrases(Path(found("phrase-corpus-dir", phrase_corpus_dir)))
    configs = {
        "rescnn": found("config", config) if config else rescnn,
        "gru": found("gru-config", gru_config) if gru_config else gru,
    }
    overrides = tuple(value for name, value in pairwise(options) if name == "--set")
    loaded = {network: load(Path(path), overrides) for network, path in configs.items()}
    for network, one in loaded.items():
        if one.model.name != network:
            raise InputError(f"{configs[network]}: its network is {one.model.name}; the tables need {network} here")
    if (loaded["rescnn"].features, loaded["rescnn"].demo) != (loaded["gru"].features, loaded["gru"].demo):
        raise InputError(f"{configs['gru']}: its sections features and demo differ from those of {configs['rescnn']}")
    setting = Setting(
        name=exp or f"tables_{corpora['main'].data.removeprefix('tables_')}",
        seeds=_seeds(seeds or default_seeds),
        configs=configs,
        corpora=corpora,
        options=options,
        steps=loaded["rescnn"],
        hard_steps=hard_steps,
        draws=draws,
        synthetic=corpus == "demo",
    )
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # run.sh ends with this process
    try:
        make_tables(wanted, setting, Path.cwd(), origin, say=lambda line: print(line, flush=True))
    finally:
        signal.signal(signal.SIGTERM, before)


def _seeds(text: str) -> tuple[int, ...]:
    words = text.replace(",", " ").split()
    if not words or not all(word.isdigit() for word in words) or len(set(words)) < len(words):
        raise click.UsageError(f"--seeds {text}: give different numbers, such as '0 1 2'")
    return tuple(sorted(map(int, words)))


def _has_audio(folder: str) -> bool:
    return (Path(folder) / "train" / "wav.scp").is_file()


def _check_phrases(folder: Path) -> None:
    names = ("utt2phrase", "utt2word")
    if not any((folder / "test" / name).is_file() for name in names):
        raise InputError(f"{folder}/test: has no {' or '.join(names)}, which tells the phrase of each utterance")
