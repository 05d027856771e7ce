"""Identify a corpus on disk by file names and sizes, without reading its audio."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from pathlib import Path

from deepspeaker.audio import audio_file
from deepspeaker.corpora.folder import audio_files
from deepspeaker.errors import InputError
from deepspeaker.files import sha256_of
from deepspeaker.kaldi import has_precomputed_features

#: In the test part only, as are the utt2X tables.
_TEST_TABLES = ("trials", "enrol_spk2utt")
_TABLES = ("utt2spk", "wav.scp", "segments", "feats.scp", "vad.scp", "utt2num_frames", "utt2dur", "text", "spk2gender")


def fingerprint(corpus: str, folder: Path) -> str:
    """Return a SHA-256 of the list of a corpus' files with their sizes.

    For ``corpus="kaldi"`` it covers the tables of the data directories, and for "lhotse" the CutSets. Both include the
    sizes of the audio and feature files that are named there. For "folder" it covers the audio files.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; correct --corpus-dir")
    digest = hashlib.sha256()
    if corpus == "kaldi":
        for part in ("train", "dev", "test"):
            names = [*_TABLES, "utt2corpus"] if part != "test" else list(_TABLES)
            if part == "test":
                more = {path.name for path in (folder / part).glob("utt2*")} - {*_TABLES}
                names += [*_TEST_TABLES, *sorted(more)]
            for name in names:
                table = folder / part / name
                if table.is_file():
                    content = table.read_bytes()
                    digest.update(f"{part}/{name}\n".encode() + content)
                    if name in ("wav.scp", "feats.scp", "vad.scp"):
                        digest.update(repr(_sizes(content.decode(errors="replace"))).encode())
    elif corpus == "lhotse":
        for path in sorted(folder.glob("*_cuts.jsonl*")):
            digest.update(f"{path.name} {sha256_of(path)} {_sizes_of_cuts(path, folder)!r}\n".encode())
    elif corpus == "folder":
        for name in sorted(audio_files(folder)):
            path = folder / name
            size = path.stat().st_size if path.exists() else None  # a link may lead nowhere
            digest.update(f"{name} {size}\n".encode(errors="surrogateescape"))
    else:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".flac", ".txt", ".TXT"):
                digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def fingerprint_of_data_dir(data_dir: Path) -> str:
    """Return a SHA-256 of everything that decides the features of a data directory.

    This covers the speakers, how copies of other parts are changed, and either the audio (``wav.scp`` and ``segments``)
    or the features that came with the directory, with the sizes of the files named there. Files that stage 2 adds to
    the directory do not count.
    """
    digest = hashlib.sha256()
    given = ("feats.scp", "vad.scp") if has_precomputed_features(data_dir) else ("wav.scp", "segments")
    changes = ("augmentation.json", "utt2condition", *sorted(path.name for path in data_dir.glob("sources_*.scp")))
    copies = changes if (data_dir / changes[0]).is_file() else ()  # of other parts; utt2condition may be a user's table
    for name in ("utt2spk", *given, *copies):
        if (data_dir / name).is_file():
            content = (data_dir / name).read_bytes()
            digest.update(f"{name}\n".encode() + content)
            if name.endswith(".scp"):
                digest.update(repr(_sizes(content.decode(errors="replace"))).encode())
    return digest.hexdigest()


def _sizes(table: str) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for line in table.splitlines():
        location = line.partition(" ")[2].strip()
        path = Path(audio_file(location) or "")
        if not path.is_file():
            path = Path(location.rpartition(":")[0])
        if path.is_file() and str(path) not in sizes:
            sizes[str(path)] = path.stat().st_size
    return sizes


#: The name of an audio or feature file in a manifest.
_FILE_NAME = re.compile(r'"(?:source|storage_path)": *"((?:[^"\\]|\\.)*)"')


def _sizes_of_cuts(path: Path, folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
            for line in stream:
                for quoted in _FILE_NAME.findall(line):
                    name = re.sub(r":\d+$", "", str(json.loads(f'"{quoted}"')))
                    for base in (Path(), folder, folder.parent):
                        if name not in sizes and (base / name).is_file():
                            sizes[name] = (base / name).stat().st_size
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())}); write it again") from None
    return sizes
