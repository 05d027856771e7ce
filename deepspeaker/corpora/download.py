"""LibriSpeech from the net: downloads that go on where they were cut, checked, unpacked only where they belong.

Lhotse's ``download_librispeech`` is not used: it takes a cut connection for the end of the file, appends the whole file
to a partial one where a server does not know ranges, and knows no checksums.
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path

BASE_URL = "https://www.openslr.org/resources"

#: Part -> the number of its resource at openslr.org, and the MD5 that its md5sum.txt gives.
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

#: The folder that every archive holds, and in which its members must lie.
CORPUS = "LibriSpeech"
#: An archive whose connection is cut so often without a byte more is given up.
TRIES = 5
TIMEOUT_SECONDS = 30.0
_BLOCK = 1 << 20
_LINE_EVERY_SECONDS = 30.0

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
    """Downloads and unpacks parts of LibriSpeech into ``folder``; returns the corpus' folder, ``folder/LibriSpeech``.

    A part that is there already is left alone. An archive ``folder/PART.tar.gz`` of the user's is taken instead of
    the net's, and stays. What was downloaded lies as ``PART.tar.gz.part`` until it is unpacked, and the next try goes
    on from there. ``base_url`` is a mirror, ``md5`` the checksums of its archives (part -> MD5; a part without one is
    checked by its length alone), by default those of openslr.org. ``progress`` shows a bar on stderr, else a line is
    said now and then.

    Raises ``InputError`` for a part that does not exist, a download that cannot be completed, a wrong checksum, an
    archive that is damaged or has a member outside ``LibriSpeech/``, and a disk that is too small.
    """
    for part in parts:
        if part not in ARCHIVES:
            raise InputError(f"{part}: LibriSpeech has no such part; known: {' '.join(ARCHIVES)}")
    sums = {part: checksum for part, (_, checksum) in ARCHIVES.items()} if md5 is None else md5
    folder.mkdir(parents=True, exist_ok=True)
    for part in dict.fromkeys(parts):
        finished = folder / CORPUS / part / ".completed"  # the name that Lhotse's recipe gives it
        if finished.is_file():
            say(f"{part}: is there already")
            continue
        given = folder / f"{part}.tar.gz"
        archive = given
        if not given.is_file():
            url = f"{base_url.rstrip('/')}/{ARCHIVES[part][0]}/{part}.tar.gz"
            archive = folder / f"{part}.tar.gz.part"
            _fetch(url, archive, progress, say, pause_seconds)
        _check(archive, sums.get(part), say)
        _unpack(archive, part, folder)
        finished.touch()
        if archive != given:
            archive.unlink()
        say(f"{part}: unpacked into {finished.parent}")
    return folder / CORPUS


def read_md5sums(path: Path) -> dict[str, str]:
    """Part -> MD5 of a file as ``md5sum *.tar.gz`` writes it; raises ``InputError`` with file and line."""
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
            raise InputError(f"{path}:{number}: 'MD5  PART.tar.gz' is wanted, as md5sum writes it")
    return sums


class _WrongPlaceError(Exception):
    """The server sends other bytes than those that were asked for."""


def _fetch(url: str, partial: Path, progress: bool, say: Callable[[str], None], pause_seconds: float) -> None:
    """Completes ``partial``; tries again after a cut connection as long as bytes come."""
    tries, most = 0, -1
    while True:
        have = partial.stat().st_size if partial.is_file() else 0
        try:
            if _fetch_more(url, partial, have, progress, say):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):
                raise _failed(url, reason, partial) from None
        except _NET_ERRORS as error:
            reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        except _WrongPlaceError as error:
            partial.unlink()
            reason = str(error)
        have = partial.stat().st_size if partial.is_file() else 0
        if have > most:
            tries, most = 0, have
        tries += 1
        if tries >= TRIES:
            raise _failed(url, reason, partial)
        say(f"{partial.name}: {reason} at byte {have}; trying again")
        time.sleep(pause_seconds * 2 ** (tries - 1))


def _failed(url: str, reason: str, partial: Path) -> InputError:
    kept = f"{partial} stays and the next try goes on from there" if partial.is_file() else "nothing came"
    return InputError(f"download of {url}: {reason}; {kept}; or fetch the parts yourself and give --corpus-dir DIR")


def _fetch_more(url: str, partial: Path, have: int, progress: bool, say: Callable[[str], None]) -> bool:
    """One request, from byte ``have`` on; whether the file is whole now."""
    request = urllib.request.Request(url, headers={"User-Agent": "deepspeaker", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
            return True  # it was whole already
        raise _WrongPlaceError("the server's file is another one than that of the last try") from None
    with response:
        if response.status == 206:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not match or int(match[1]) != have:
                raise _WrongPlaceError("the server sent another range than was asked for")
            total = int(match[2])
        else:
            have = 0  # the server does not know ranges and sends everything again
            length = response.headers.get("Content-Length")
            if length is None:
                raise _failed(url, "the server does not say how long the file is", partial)
            total = int(length)
        _check_disk(partial, total, total - have)
        with partial.open("r+b" if have else "wb") as stream:
            stream.seek(have)
            for size in _shown(_blocks(response, stream), partial.name, have, total, progress, say):
                have = size
        return have == total


def _blocks(response: http.client.HTTPResponse, stream: BinaryIO) -> Iterable[int]:
    """Copies the response and yields the sizes of its blocks."""
    while block := response.read1(_BLOCK):  # read would hold back what came before a cut
        stream.write(block)
        yield len(block)


def _shown(
    blocks: Iterable[int], name: str, have: int, total: int, progress: bool, say: Callable[[str], None]
) -> Iterable[int]:
    """The bytes that are there after each block, shown as they grow."""
    from tqdm import tqdm

    began, first = time.monotonic(), have
    last = began
    say(f"{name}: {total / 1e6:.1f} MB" + (f", goes on from {have / 1e6:.1f} MB" if have else ""))
    with tqdm(total=total, initial=have, unit="B", unit_scale=True, disable=not progress, desc=name) as bar:
        for size in blocks:
            have += size
            bar.update(size)
            now = time.monotonic()
            if not progress and now - last > _LINE_EVERY_SECONDS:
                last = now
                rate = (have - first) / (now - began)
                say(f"{name}: {have / 1e6:.1f} of {total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s")
            yield have


def _check_disk(partial: Path, total: int, missing: int) -> None:
    """The archive and what it holds must fit: flac hardly shrinks in a tar.gz, so both take about as much."""
    free = shutil.disk_usage(partial.parent).free
    if free < total + missing:
        raise InputError(
            f"{partial.parent}: {free / 1e9:.1f} GB are free, {(total + missing) / 1e9:.1f} GB are needed for "
            f"{partial.name.removesuffix('.part')} and what it holds; make room or take another disk"
        )


def _check(archive: Path, wanted: str | None, say: Callable[[str], None]) -> None:
    if wanted is None:
        say(f"{archive.name}: no checksum is known, only its length was checked")
        return
    digest = hashlib.md5(usedforsecurity=False)
    with archive.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() == wanted.lower():
        say(f"{archive.name}: MD5 {wanted} as it should be")
        return
    if archive.suffix == ".part":
        archive.unlink()
        mend = "it was removed; try again"
    else:
        mend = "remove it and try again"
    raise InputError(f"{archive}: its MD5 is {digest.hexdigest()}, should be {wanted}; {mend}")


def _unpack(archive: Path, part: str, folder: Path) -> None:
    """Unpacks beside the corpus and renames when all is there; nothing is kept of an archive that is refused."""
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
            if path.is_file():  # SPEAKERS.TXT and its like, which each archive brings
                with atomic_path(corpus / path.name) as place:
                    shutil.copyfile(path, place)
        shutil.rmtree(corpus / part, ignore_errors=True)
        (temporary / CORPUS / part).rename(corpus / part)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InputError(f"{archive}: is damaged ({' '.join(str(error).split())}); remove it and try again") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, temporary: Path, archive: Path) -> None:
    """Folders and plain files below ``LibriSpeech`` only: LibriSpeech has no others, so links need no following."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or path.parts[:1] != (CORPUS,):
        raise InputError(f"{archive}: its member {member.name!r} lies outside {CORPUS}/; nothing was unpacked")
    if not (member.isdir() or member.isfile()):
        raise InputError(
            f"{archive}: its member {member.name!r} is neither a file nor a folder (a link?); nothing was unpacked"
        )
    place = temporary / path
    if member.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    source = tar.extractfile(member)
    assert source is not None
    place.parent.mkdir(parents=True, exist_ok=True)
    with source, place.open("wb") as stream:
        shutil.copyfileobj(source, stream, _BLOCK)
