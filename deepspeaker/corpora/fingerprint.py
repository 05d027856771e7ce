"""What identifies a corpus on disk without reading its audio: names and sizes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from deepspeaker.audio import audio_file
from deepspeaker.errors import InputError

#: Of the test part alone, with the utt2X tables.
_OF_TEST = ("trials", "enrol_spk2utt")
_TABLES = (
    "utt2spk", "wav.scp", "segments", "feats.scp", "vad.scp", "utt2num_frames", "utt2dur", "text", "spk2gender"
)


def fingerprint(corpus: str, folder: Path) -> str:
    """SHA-256 over the corpus' file list with sizes.

    For ``kaldi`` over the data directories' tables as they are, with the sizes of the files that they name.
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
    else:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".flac", ".txt", ".TXT"):
                digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
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
