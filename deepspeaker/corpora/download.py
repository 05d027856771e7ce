"""Download LibriSpeech: interrupted downloads resume, checksums are checked, and archives are unpacked safely.

Lhotse's ``download_librispeech`` mistakes a lost connection for the end of the file, appends the whole file to a
partial one if the server does not support ranges, and checks no checksums.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path

BASE_URL = "https://www.openslr.org/resources"

#: Part -> the number of its resource at openslr.org, and its MD5 from the md5sum.txt there.
ARCHIVES: dict[str, tuple[int, str]] = {
    "train-clean-100": (12, "2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": (12, "c0e676e450a7ff2f54aeade5171606fa"),
    "train-other-500": (12, "d1a0fd59409feb2c614ce4d30c387708"),
    "dev-clean": (12, "42e2234ba48799c1f50f24a7926300a1"),
    "dev-other": (12, "c8d0bcc9cca99d4f8b62fcc847357931"),
    "test-clean": (12, "32fa31d27d2e1cad72775fee3f4849a9"),
    "test-other": (12, "fb5a50374b501bb3bac4815ee91d3135"),
    "train-clean-5": (31, "5df7d4e78065366204ca6845bb08f490"),
    "dev-clean-2": (31, "6d7ab67ac6a1d2c993d050e16d61080d"),
}
MINI_PARTS = ("train-clean-5", "dev-clean-2")
ALL_PARTS = tuple(part for part in ARCHIVES if part not in MINI_PARTS)

#: The folder that contains all members of each archive.
CORPUS = "LibriSpeech"
#: How many tries without a new byte end a download.
TRIES = 5
TIMEOUT_SECONDS = 30.0
_BLOCK = 1 << 20
_SECONDS_BETWEEN_LINES = 30.0

_NET_ERRORS = (OSError, http.client.HTTPException)


def download(
    folder: Path,
    parts: Sequence[str],
    *,
    base_url: str = BASE_URL,
    md5: Mapping[str, str] | None = None,
    progress: bool = False,
    say: Callable[[str], None] = print,
    pause_seconds: float = 2.0,
) -> Path:
    """Download and unpack parts of LibriSpeech.

    A part that is already complete is skipped. If you put an archive at ``folder/PART.tar.gz``, it is used and kept.
    Otherwise the archive is downloaded to ``PART.tar.gz.part`` and removed after it is unpacked. An interrupted
    download resumes, even after a restart.

    Parameters
    ----------
    folder
        Where to put the corpus.
    parts
        For example ``["train-clean-5", "dev-clean-2"]``.
    base_url
        openslr.org or a mirror.
    md5
        Part -> MD5 of its archive. Default: those of openslr.org. A part without an MD5 is checked by its length only.
    progress
        Whether to show a progress bar on stderr, instead of a line every 30 seconds.
    say
        Prints lines for the user.
    pause_seconds
        The pause before the second try. It doubles with each further try that brings no data.

    Returns
    -------
    Path
        ``folder/LibriSpeech``.

    Raises
    ------
    InputError
        A part does not exist, a download cannot be completed, a checksum is wrong, an archive is damaged or has a
        member outside ``LibriSpeech/``, or the disk is too small.
    """
    for part in parts:
        if part not in ARCHIVES:
            raise InputError(f"{part}: LibriSpeech has no such part; known: {' '.join(ARCHIVES)}")
    sums = {part: checksum for part, (_, checksum) in ARCHIVES.items()} if md5 is None else md5
    folder.mkdir(parents=True, exist_ok=True)
    for part in dict.fromkeys(parts):
        finished = folder / CORPUS / part / ".completed"  # as in Lhotse's recipe
        if finished.is_file():
            say(f"{part}: is already complete")
            continue
        archive = folder / f"{part}.tar.gz"
        downloaded = not archive.is_file()
        if downloaded:
            url = f"{base_url.rstrip('/')}/{ARCHIVES[part][0]}/{part}.tar.gz"
            archive = folder / f"{part}.tar.gz.part"
            _fetch(url, archive, progress, say, pause_seconds)
        _check(archive, sums.get(part), say)
        _unpack(archive, part, folder)
        finished.touch()
        if downloaded:
            archive.unlink()
        say(f"{part}: unpacked into {finished.parent}")
    return folder / CORPUS


def read_md5sums(path: Path) -> dict[str, str]:
    """Read the output of ``md5sum *.tar.gz`` as part -> MD5.

    Raises
    ------
    InputError
        A line is not of this form. The message names file and line.
    """
    sums = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"([0-9a-fA-F]{32})\s+\*?(?:.*/)?([^/]+)\.tar\.gz", line.strip())
        if match:
            sums[match[2]] = match[1].lower()
        elif line.strip() and not re.match(r"[0-9a-fA-F]{32}\s", line):
            raise InputError(f"{path}:{number}: expected 'MD5  PART.tar.gz', as md5sum writes it")
    return sums


class _WrongRangeError(Exception):
    """The server did not send the requested bytes."""


def _fetch(url: str, partial: Path, progress: bool, say: Callable[[str], None], pause_seconds: float) -> None:
    """Complete ``partial``; after a lost connection, try again as long as bytes arrive."""
    tries, longest = 0, -1
    while True:
        have = partial.stat().st_size if partial.is_file() else 0
        try:
            if _fetch_more(url, partial, have, progress, say):
                return
            reason = "the connection was lost"
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):
                raise _failed(url, reason, partial) from None
        except _NET_ERRORS as error:
            reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        except _WrongRangeError as error:
            partial.unlink()
            reason = str(error)
        have = partial.stat().st_size if partial.is_file() else 0
        if have > longest:
            tries, longest = 0, have
        tries += 1
        if tries >= TRIES:
            raise _failed(url, reason, partial)
        say(f"{partial.name}: {reason} at byte {have}; trying again")
        time.sleep(pause_seconds * 2 ** (tries - 1))


def _failed(url: str, reason: str, partial: Path) -> InputError:
    kept = f"{partial} is kept and the next run resumes it" if partial.is_file() else "no data was received"
    return InputError(f"download of {url}: {reason}; {kept}; or download the parts yourself and give --corpus-dir DIR")


def _fetch_more(url: str, partial: Path, have: int, progress: bool, say: Callable[[str], None]) -> bool:
    """Request the file from byte ``have`` on; return whether it is complete now."""
    request = urllib.request.Request(url, headers={"User-Agent": "deepspeaker", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
            return True  # it was complete already
        raise _WrongRangeError("the file on the server differs from that of the last try") from None
    with response:
        if response.status == 206:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not match or int(match[1]) != have:
                raise _WrongRangeError("the server sent a different range than requested")
            total = int(match[2])
        else:
            have = 0  # the server does not support ranges and sends the whole file
            length = response.headers.get("Content-Length")
            if length is None:
                raise _failed(url, "the server does not report the length of the file", partial)
            total = int(length)
        _check_disk(partial, total, total - have)
        with partial.open("r+b" if have else "wb") as stream:
            stream.seek(have)
            return _copy(response, stream, partial.name, have, total, progress, say) == total


def _copy(
    response: http.client.HTTPResponse,
    stream: BinaryIO,
    name: str,
    have: int,
    total: int,
    progress: bool,
    say: Callable[[str], None],
) -> int:
    """Copy the response and show the progress; return the size of the file."""
    from tqdm import tqdm

    started, first = time.monotonic(), have
    last = started
    say(f"{name}: {total / 1e6:.1f} MB" + (f", resuming from {have / 1e6:.1f} MB" if have else ""))
    with tqdm(total=total, initial=have, unit="B", unit_scale=True, disable=not progress, desc=name) as bar:
        while block := response.read1(_BLOCK):  # read() would lose what arrived before the connection was lost
            stream.write(block)
            have += len(block)
            bar.update(len(block))
            now = time.monotonic()
            if not progress and now - last > _SECONDS_BETWEEN_LINES:
                last = now
                rate = (have - first) / (now - started)
                say(f"{name}: {have / 1e6:.1f} of {total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s")
    return have


def _check_disk(partial: Path, total: int, missing: int) -> None:
    """Check that the archive and its content, which is of about the same size, fit on the disk."""
    free = shutil.disk_usage(partial.parent).free
    if free < total + missing:
        raise InputError(
            f"{partial.parent}: {free / 1e9:.1f} GB are free, but {partial.name.removesuffix('.part')} and its content "
            f"need {(total + missing) / 1e9:.1f} GB; free some space or use another disk"
        )


def _check(archive: Path, expected: str | None, say: Callable[[str], None]) -> None:
    if expected is None:
        say(f"{archive.name}: no checksum is known, only the length was checked")
        return
    digest = hashlib.md5(usedforsecurity=False)
    with archive.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() == expected.lower():
        say(f"{archive.name}: MD5 {expected} is correct")
        return
    fix = "remove it and try again"
    if archive.suffix == ".part":
        archive.unlink()
        fix = "it was removed; try again"
    raise InputError(f"{archive}: its MD5 is {digest.hexdigest()}, expected {expected}; {fix}")


def _unpack(archive: Path, part: str, folder: Path) -> None:
    """Unpack beside the corpus, then rename; nothing of a refused archive is kept."""
    corpus = folder / CORPUS
    temporary = folder / f".{part}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                _unpack_member(tar, member, temporary, archive)
        if not (temporary / CORPUS / part).is_dir():
            raise InputError(f"{archive}: has no {CORPUS}/{part}; it is not the archive of that part, remove it")
        corpus.mkdir(exist_ok=True)
        for path in sorted((temporary / CORPUS).iterdir()):
            if path.is_file():  # SPEAKERS.TXT and similar files, which are in each archive
                with atomic_path(corpus / path.name) as copy:
                    shutil.copyfile(path, copy)
        shutil.rmtree(corpus / part, ignore_errors=True)
        (temporary / CORPUS / part).rename(corpus / part)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InputError(f"{archive}: is damaged ({' '.join(str(error).split())}); remove it and try again") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, temporary: Path, archive: Path) -> None:
    """Unpack a folder or a plain file below ``LibriSpeech``. LibriSpeech has no links, so all others are refused."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or path.parts[:1] != (CORPUS,):
        raise InputError(f"{archive}: its member {member.name!r} lies outside {CORPUS}/; nothing was unpacked")
    if not (member.isdir() or member.isfile()):
        raise InputError(f"{archive}: its member {member.name!r} is neither a file nor a folder; nothing was unpacked")
    target = temporary / path
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    source = tar.extractfile(member)
    assert source is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as stream:
        shutil.copyfileobj(source, stream, _BLOCK)
