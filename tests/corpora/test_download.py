"""Downloads of LibriSpeech from local HTTP servers, correct and faulty."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from deepspeaker.cli import commands
from deepspeaker.corpora import ARCHIVES, MINI_PARTS, download, find_parts, read_md5sums
from deepspeaker.errors import InputError
from tests.recipe.tiny import Recipe, make_recipe

PART = "train-clean-5"


class Site:
    """A server of archives that can lose connections and fail, and that records all requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.cuts: list[int] = []  # after how many bytes the next answers end
        self.failures: list[int] = []  # HTTP statuses of the next answers
        self.answer: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.requests: list[tuple[str, str | None]] = []
        self.url = ""

    def md5(self) -> dict[str, str]:
        return {Path(path).name.removesuffix(".tar.gz"): hashlib.md5(b).hexdigest() for path, b in self.files.items()}

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        byte_range = handler.headers.get("Range")
        self.requests.append((handler.path, byte_range))
        handler.close_connection = True
        if self.answer:
            self.answer(handler)
            return
        content = self.files.get(handler.path.removeprefix("/resources"))
        if content is None or self.failures:
            handler.send_error(self.failures.pop(0) if self.failures else 404)
            return
        begin = 0
        if byte_range and self.ranges:
            begin = int(byte_range.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(content)}")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) - begin))
        handler.end_headers()
        body = content[begin:]
        handler.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    with serving(site):
        yield site


@contextmanager
def serving(site: Site) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.serve(self)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}/resources"
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def archive(part: str, *extra: tarfile.TarInfo, corpus: str = "LibriSpeech") -> bytes:
    """Return a tar.gz like those of LibriSpeech: two incompressible files, SPEAKERS.TXT, and ``extra`` members."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for number in range(2):
            content = b"".join(hashlib.sha256(f"{part}{number}{i}".encode()).digest() for i in range(2000))
            add(tar, f"{corpus}/{part}/19/198/19-198-{number:04d}.flac", content)
        add(tar, f"{corpus}/SPEAKERS.TXT", b"19 | F | train-clean-5 | 25.19 | Kara\n")
        for member in extra:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return packed.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def fetch(site: Site, folder: Path, *parts: str, md5: dict[str, str] | None = None) -> tuple[Path, str]:
    """Download; return the folder of the corpus and the printed lines."""
    lines: list[str] = []
    md5 = site.md5() if md5 is None else md5
    corpus = download(folder, parts or [PART], base_url=site.url, md5=md5, say=lines.append, pause_seconds=0.0)
    return corpus, "\n".join(lines)


def utterances(corpus: Path, part: str = PART) -> int:
    return len(list((corpus / part).glob("*/*/*.flac")))


def test_parts_are_downloaded_checked_and_unpacked(site: Site, tmp_path: Path) -> None:
    site.files = {f"/31/{PART}.tar.gz": archive(PART), "/12/test-clean.tar.gz": archive("test-clean")}
    corpus, printed = fetch(site, tmp_path / "here", PART, "test-clean")
    assert corpus == tmp_path / "here" / "LibriSpeech"
    assert find_parts(corpus) == ["test-clean", PART]
    assert f"{PART}.tar.gz.part: MD5 {site.md5()[PART]} is correct" in printed
    assert (corpus / "SPEAKERS.TXT").is_file()
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["LibriSpeech"]  # the archives were removed
    site.requests.clear()
    assert "is already complete" in fetch(site, tmp_path / "here")[1]
    assert site.requests == []


def test_a_lost_connection_resumes(site: Site, tmp_path: Path) -> None:
    content = archive(PART)
    site.files[f"/31/{PART}.tar.gz"] = content
    site.cuts = [50_000, 10_000, 20_000]
    corpus, printed = fetch(site, tmp_path)
    assert utterances(corpus) == 2
    assert [byte_range for _, byte_range in site.requests] == [None, "bytes=50000-", "bytes=60000-", "bytes=80000-"]
    assert "the connection was lost at byte 50000; trying again" in printed


def test_a_server_without_ranges_sends_the_whole_file_again(site: Site, tmp_path: Path) -> None:
    site.files[f"/31/{PART}.tar.gz"] = archive(PART)
    site.ranges, site.cuts = False, [50_000, 70_000]
    corpus, _ = fetch(site, tmp_path)
    assert utterances(corpus) == 2
    assert len(site.requests) == 3


def test_a_failed_download_resumes_in_the_next_run(site: Site, tmp_path: Path) -> None:
    site.files[f"/31/{PART}.tar.gz"] = archive(PART)
    site.cuts = [50_000, 0, 0, 0, 0]
    with pytest.raises(InputError, match=r"the connection was lost; .*gz\.part is kept and the next run") as raised:
        fetch(site, tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "LibriSpeech").exists()
    assert (tmp_path / f"{PART}.tar.gz.part").stat().st_size == 50_000
    site.requests.clear()
    corpus, printed = fetch(site, tmp_path)
    assert utterances(corpus) == 2
    assert site.requests == [(f"/resources/31/{PART}.tar.gz", "bytes=50000-")]
    assert "resuming from 0.1 MB" in printed


def test_a_complete_archive_is_not_downloaded_again(site: Site, tmp_path: Path) -> None:
    content = archive(PART)
    site.files[f"/31/{PART}.tar.gz"] = content
    (tmp_path / f"{PART}.tar.gz.part").write_bytes(content)
    assert utterances(fetch(site, tmp_path)[0]) == 2
    assert len(site.requests) == 1


def test_the_partial_download_of_a_different_file_is_discarded(site: Site, tmp_path: Path) -> None:
    content = archive(PART)
    site.files[f"/31/{PART}.tar.gz"] = content
    (tmp_path / f"{PART}.tar.gz.part").write_bytes(b"x" * (len(content) + 5))
    assert utterances(fetch(site, tmp_path)[0]) == 2


def test_temporary_failures_of_the_server_are_retried(site: Site, tmp_path: Path) -> None:
    site.files[f"/31/{PART}.tar.gz"] = archive(PART)
    site.failures = [503, 429, 500]
    assert utterances(fetch(site, tmp_path)[0]) == 2


def test_a_wrong_checksum_is_an_error_and_nothing_is_unpacked(site: Site, tmp_path: Path) -> None:
    site.files[f"/31/{PART}.tar.gz"] = archive(PART)
    with pytest.raises(InputError, match=rf"its MD5 is {site.md5()[PART]}, expected {'0' * 32}; it was removed"):
        fetch(site, tmp_path, md5={PART: "0" * 32})
    assert list(tmp_path.iterdir()) == []
    _, printed = fetch(site, tmp_path, md5={"other": "0" * 32})
    assert "no checksum is known" in printed


def test_a_given_archive_is_used_and_kept(site: Site, tmp_path: Path) -> None:
    given = tmp_path / f"{PART}.tar.gz"
    given.write_bytes(archive(PART))
    md5 = {PART: hashlib.md5(given.read_bytes()).hexdigest()}
    assert utterances(fetch(site, tmp_path, md5=md5)[0]) == 2
    assert given.is_file() and site.requests == []
    (tmp_path / "LibriSpeech" / PART / ".completed").unlink()
    with pytest.raises(InputError, match="remove it and try again"):
        fetch(site, tmp_path, md5={PART: "0" * 32})
    assert given.is_file()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (tarfile.TarInfo("../outside"), "lies outside LibriSpeech/"),
        (tarfile.TarInfo("LibriSpeech/../../outside"), "lies outside LibriSpeech/"),
        (tarfile.TarInfo("/tmp/outside"), "lies outside LibriSpeech/"),
        (tarfile.TarInfo("outside"), "lies outside LibriSpeech/"),
        (link("LibriSpeech/link", "/etc"), "neither a file nor a folder"),
        (link("LibriSpeech/link", "../.."), "neither a file nor a folder"),
        (link("LibriSpeech/link", "../../outside", tarfile.LNKTYPE), "neither a file nor a folder"),
        (link("LibriSpeech/device", "", tarfile.CHRTYPE), "neither a file nor a folder"),
    ],
)
def test_members_outside_their_folder_are_refused(
    site: Site, tmp_path: Path, member: tarfile.TarInfo, message: str
) -> None:
    site.files[f"/31/{PART}.tar.gz"] = archive(PART, member)
    with pytest.raises(InputError, match=message) as raised:
        fetch(site, tmp_path / "in" / "here")
    assert member.name in str(raised.value) and "\n" not in str(raised.value)
    kept = [path.name for path in tmp_path.rglob("*")]
    assert sorted(kept) == ["here", "in", f"{PART}.tar.gz.part"]


def test_junk_and_wrong_archives_are_errors(site: Site, tmp_path: Path) -> None:
    content = archive(PART)
    for number, junk in enumerate((b"<html>", content[:5000], content[:60] + b"\xff" * 500 + content[560:])):
        site.files[f"/31/{PART}.tar.gz"] = junk
        with pytest.raises(InputError, match="is damaged") as raised:
            fetch(site, tmp_path / str(number))
        assert "\n" not in str(raised.value)
        assert not (tmp_path / str(number) / "LibriSpeech").exists()
    site.files[f"/31/{PART}.tar.gz"] = archive("test-clean")
    with pytest.raises(InputError, match=f"has no LibriSpeech/{PART}"):
        fetch(site, tmp_path / "other")


def test_failing_servers_are_errors(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="HTTP 404 Not Found; no data was received; or download the parts yourself"):
        fetch(site, tmp_path)
    assert len(site.requests) == 1
    answers: list[Callable[[BaseHTTPRequestHandler], None]] = [
        lambda handler: None,  # closes at once
        lambda handler: handler.send_error(503),
        lambda handler: handler.wfile.write(b"this is not HTTP\r\n\r\n") and None,
    ]
    for answer in answers:
        site.answer = answer
        with pytest.raises(InputError, match=f"download of {site.url}/31/{PART}.tar.gz: ") as raised:
            fetch(site, tmp_path)
        assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_no_server_is_an_error(tmp_path: Path) -> None:
    site = Site()
    with serving(site):
        pass
    with pytest.raises(InputError, match="refused"):
        fetch(site, tmp_path, md5={})


def test_an_unknown_part_is_an_error_before_any_request(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train-clean-6: LibriSpeech has no such part; known: train-clean-100"):
        fetch(site, tmp_path / "here", PART, "train-clean-6")
    assert not (tmp_path / "here").exists() and not site.requests


def test_the_command_downloads_mini_librispeech_from_a_mirror(site: Site, tmp_path: Path) -> None:
    site.files = {f"/31/{part}.tar.gz": archive(part) for part in MINI_PARTS}
    sums, names = tmp_path / "md5sum.txt", [tmp_path / f"{part}.tar.gz" for part in MINI_PARTS]
    for name in names:
        name.write_bytes(site.files[f"/31/{name.name}"])
    sums.write_text(subprocess.run(["md5sum", *names], capture_output=True, text=True, check=True).stdout)
    options = ["--parts", "mini", "--mirror", site.url, "--progress", "false"]
    done = CliRunner().invoke(commands, ["download", *options, "--md5sums", str(sums), str(tmp_path / "corpus")])
    assert done.exit_code == 0, done.output
    assert find_parts(tmp_path / "corpus" / "LibriSpeech") == sorted(MINI_PARTS)
    sums.write_text("not a sum\n")
    with pytest.raises(InputError, match=r"md5sum\.txt:1: expected 'MD5  PART\.tar\.gz'"):
        read_md5sums(sums)


def test_the_checksums_of_all_parts_are_known() -> None:
    assert all(len(checksum) == 32 for _, checksum in ARCHIVES.values())
    assert len({checksum for _, checksum in ARCHIVES.values()}) == 9


@pytest.mark.parametrize(
    ("options", "path"),
    [
        (["--mini", "true"], f"/resources/31/{PART}.tar.gz"),
        (["--train-parts", "train-clean-360"], "/resources/12/train-clean-360.tar.gz"),
    ],
)
def test_stage_0_uses_the_mirror_and_checks_its_archives(
    site: Site, tmp_path: Path, options: list[str], path: str
) -> None:
    recipe: Recipe = make_recipe(tmp_path)
    site.files[path.removeprefix("/resources")] = archive(PART)
    done = recipe.run("--corpus", "librispeech", *options, "--mirror", site.url, "--stop-stage", "0")
    assert done.returncode == 1
    assert [requested for requested, _ in site.requests] == [path]
    assert "its MD5 is" in done.stderr and "Traceback" not in done.stderr + done.stdout
    name = "mini_librispeech" if "--mini" in options else "librispeech"
    assert not (recipe.folder / "data" / name / "corpus" / "LibriSpeech").exists()
