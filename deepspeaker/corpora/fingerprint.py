"""What identifies a corpus on disk without reading its audio: names and sizes."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from pathlib import Path

from deepspeaker.audio import audio_file
from deepspeaker.errors import InputError
from deepspeaker.files import sha256_of
from deepspeaker.kaldi import has_precomputed_features

#: Of the test part alone, with the utt2X tables.
_OF_TEST = ("trials", "enrol_spk2utt")
_TABLES = (
    "utt2spk", "wav.scp", "segments", "feats.scp", "vad.scp", "utt2num_frames", "utt2dur", "text", "spk2gender"
)


def fingerprint(corpus: str, folder: Path) -> str:
    """SHA-256 over the corpus' file list with sizes.

    For ``kaldi`` over the data directories' tables as they are, for ``lhotse`` over the CutSets, both with the sizes of
    the files that they name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --corpus-dir names no corpus")
    digest = hashlib.sha256()
    if corpus == "kaldi":
        for part in ("train", "dev", "test"):
            names = list(_TABLES)
            if part == "test":
                more = {path.name for path in (folder / part).glob("utt2*")} - {*_TABLES}
                names += [*_OF_TEST, *sorted(more)]
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
    else:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".flac", ".txt", ".TXT"):
                digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def fingerprint_of_data_dir(data_dir: Path) -> str:
    """SHA-256 over what decides the features of a data directory.

    These are its speakers and either its audio (``wav.scp``, ``segments``) or the features that it came with, with the
    sizes of the files that are named. What stage 2 adds to the directory does not count.
    """
    digest = hashlib.sha256()
    given = ("feats.scp", "vad.scp") if has_precomputed_features(data_dir) else ("wav.scp", "segments")
    for name in ("utt2spk", *given):
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


#: A file of audio or features in a manifest.
_NAMED = re.compile(r'"(?:source|storage_path)": *"((?:[^"\\]|\\.)*)"')


def _sizes_of_cuts(path: Path, folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
            for line in stream:
                for quoted in _NAMED.findall(line):
                    name = re.sub(r":\d+$", "", str(json.loads(f'"{quoted}"')))
                    for base in (Path(), folder, folder.parent):
                        if name not in sizes and (base / name).is_file():
                            sizes[name] = (base / name).stat().st_size
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())}); write it again") from None
    return sizes
