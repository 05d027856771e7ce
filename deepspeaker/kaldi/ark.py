"""Binary Kaldi archives: kaldiio writes entries, and matrices are read whole or by rows straight from the file.

The layout of the compressed kinds (CM, CM2, CM3) is defined in Kaldi's ``src/matrix/compressed-matrix.{h,cc}``.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import kaldiio
import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path, atomic_write, named_disk_errors

#: Kaldi's names of compression methods -> their numbers in kaldiio.
COMPRESSIONS: dict[str, int | None] = {"none": None, "speech-feature": 2, "two-byte": 3, "one-byte": 5}

_HEADER = struct.Struct("<ffii")
_ALL_HEADERS_BYTES = 32
#: Type of the values in each kind of matrix.
_VALUES: dict[str, np.dtype[Any]] = {
    kind: np.dtype(item) for kind, item in (("FM", "<f4"), ("DM", "<f8"), ("CM", "u1"), ("CM2", "<u2"), ("CM3", "u1"))
}
#: First bytes of the compressed kinds that are stored by rows -> type of a value and the largest value.
_ROW_WISE: dict[bytes, tuple[np.dtype[Any], int]] = {
    b"\0BCM3 ": (_VALUES["CM3"], 255),
    b"\0BCM2 ": (_VALUES["CM2"], 65535),
}


class MatrixHeader(NamedTuple):
    """The header of a matrix in an archive."""

    kind: str  # "FM", "DM", "CM", "CM2" or "CM3"
    rows: int
    cols: int
    minimum: float  # of the values, 0 if not compressed
    range: float  # of the values, 0 if not compressed
    data: int  # byte of the file at which the values begin

    @property
    def end(self) -> int:
        """The byte of the file at which the values end."""
        percentiles = 8 * self.cols if self.kind == "CM" else 0
        return self.data + percentiles + self.rows * self.cols * _VALUES[self.kind].itemsize


def parse_location(location: str) -> tuple[str, int]:
    """Split ``path:offset`` of an scp file; a missing offset is 0.

    Raises
    ------
    InputError
        The location is a pipe or a range of rows.

    Examples
    --------
    >>> parse_location("/data/feats.ark:1234")
    ('/data/feats.ark', 1234)
    """
    if location.endswith("|") or location.endswith("]"):
        raise InputError(f"{location}: pipes and row ranges are not supported; write an ark with copy-feats first")
    path, colon, offset = location.rpartition(":")
    if colon and offset.isascii() and offset.isdigit() and len(offset) < 19:
        return path, int(offset)
    return location, 0


def read_header(descriptor: int, offset: int) -> MatrixHeader:
    """Read the header of the matrix at byte ``offset`` of an open file.

    Raises
    ------
    InputError
        There is no binary Kaldi matrix.
    """
    head = os.pread(descriptor, _ALL_HEADERS_BYTES, offset)
    if not head:
        raise InputError(f"the ark ends at byte {os.fstat(descriptor).st_size}, before {offset}; recreate it")
    if head[:2] != b"\0B":
        raise InputError(f"no binary Kaldi matrix at byte {offset}; scp and ark do not match; recreate both")
    kind, blank, rest = head[2:].partition(b" ")
    try:
        if blank and kind in (b"CM", b"CM2", b"CM3"):
            minimum, value_range, rows, cols = _HEADER.unpack_from(rest)
            header = MatrixHeader(kind.decode(), rows, cols, minimum, value_range, offset + 3 + len(kind) + 16)
        elif blank and kind in (b"FM", b"DM") and rest[0] == rest[5] == 4:
            (rows,), (cols,) = struct.unpack_from("<i", rest, 1), struct.unpack_from("<i", rest, 6)
            header = MatrixHeader(kind.decode(), rows, cols, 0.0, 0.0, offset + 5 + 10)
        else:
            raise InputError(f"unknown kind of Kaldi matrix at byte {offset}: {head[2:6]!r}")
    except (struct.error, IndexError):
        raise InputError(f"the ark ends inside the header at byte {offset}; recreate it") from None
    if header.rows < 0 or header.cols < 0:
        raise InputError(f"a matrix cannot have {header.rows} rows and {header.cols} columns; recreate the ark")
    return header


def read_rows(
    descriptor: int, offset: int, start: int = 0, count: int | None = None, header: MatrixHeader | None = None
) -> NDArray[np.float32]:
    """Read rows ``start`` to ``start + count`` of the matrix at byte ``offset`` of an open file.

    Parameters
    ----------
    descriptor
        Descriptor of the file.
    offset
        Byte at which the matrix begins.
    start
        First row.
    count
        Number of rows, None for all from ``start``.
    header
        Header of the matrix, if it has already been read.

    Returns
    -------
    ndarray of shape (count, cols)
        The rows.

    Raises
    ------
    InputError
        The matrix has fewer rows, or the file ends before them.

    Notes
    -----
    Only these rows are read, except from CM matrices, which are stored by columns and read whole.
    """
    header = header or read_header(descriptor, offset)
    count = header.rows - start if count is None else count
    if start < 0 or count < 0 or start + count > header.rows:
        raise InputError(f"rows {start} to {start + count} of a matrix of {header.rows} rows at byte {offset}")
    if header.kind == "CM":
        return _read_cm_rows(descriptor, header, start, count)
    item = _VALUES[header.kind]
    width = header.cols * item.itemsize
    values = np.frombuffer(_read_exactly(descriptor, count * width, header.data + start * width), dtype=item)
    matrix = values.reshape(count, header.cols).astype(np.float32)
    if header.kind.startswith("CM"):
        matrix *= np.float32(header.range / np.iinfo(item).max)
        matrix += np.float32(header.minimum)
    return np.asarray(matrix)


def read_rows_into(descriptor: int, offset: int, rows: int, start: int, out: NDArray[np.float32]) -> bool:
    """Read rows of a compressed matrix into an array, with the values of ``read_rows`` but faster.

    Parameters
    ----------
    descriptor
        Descriptor of an open file.
    offset
        Byte at which the matrix begins.
    rows
        Expected number of rows of the matrix.
    start
        First row to read.
    out : ndarray of shape (count, cols)
        Array for the rows.

    Returns
    -------
    bool
        False if this is not a matrix of kind CM2 or CM3 with the expected shape, or the file ends too early. ``out``
        is then undefined; call ``read_rows``, which reads the other kinds and raises errors.
    """
    head = os.pread(descriptor, 22, offset)
    form = _ROW_WISE.get(head[:6])
    if form is None or len(head) < 22:
        return False
    item, largest = form
    minimum, value_range, stored_rows, cols = _HEADER.unpack_from(head, 6)
    width = cols * item.itemsize
    if out.shape[1] != cols or stored_rows != rows or start < 0 or start + len(out) > rows:
        return False
    body = os.pread(descriptor, len(out) * width, offset + 22 + start * width)
    if len(body) != len(out) * width:
        return False
    np.multiply(np.frombuffer(body, dtype=item).reshape(out.shape), np.float32(value_range / largest), out=out)
    np.add(out, np.float32(minimum), out=out)
    return True


def _read_cm_rows(descriptor: int, header: MatrixHeader, start: int, count: int) -> NDArray[np.float32]:
    """Read rows of CM: per column four 16-bit percentiles (0, 25, 75, 100), then by columns one byte per value."""
    percentiles = np.frombuffer(_read_exactly(descriptor, header.cols * 8, header.data), dtype="<u2")
    p0, p25, p75, p100 = (
        header.minimum + header.range / 65535.0 * percentiles.reshape(header.cols, 4).T.astype(np.float64)
    )
    body = _read_exactly(descriptor, header.rows * header.cols, header.data + header.cols * 8)
    value = np.frombuffer(body, dtype="u1").reshape(header.cols, header.rows)[:, start : start + count]
    value = value.T.astype(np.float64)
    low = p0 + (p25 - p0) * value / 64.0
    middle = p25 + (p75 - p25) * (value - 64.0) / 128.0
    high = p75 + (p100 - p75) * (value - 192.0) / 63.0
    return np.asarray(np.where(value <= 64, low, np.where(value <= 192, middle, high)), dtype=np.float32)


def _read_exactly(descriptor: int, size: int, offset: int) -> bytes:
    # A damaged header may ask for more than the memory, so the size is checked first. The file may still be truncated.
    data = os.pread(descriptor, size, offset) if offset + size <= os.fstat(descriptor).st_size else b""
    if len(data) < size:
        raise InputError(f"the ark ends at byte {os.fstat(descriptor).st_size}, not {offset + size}; recreate it")
    return data


def read_matrix(location: str) -> NDArray[np.float32]:
    """Read the matrix at ``path:offset``, of shape (rows, cols).

    Raises
    ------
    InputError
        There is no whole binary Kaldi matrix; names the path.
    """
    with _opened(location) as (descriptor, offset):
        return read_rows(descriptor, offset)


def read_header_of(location: str) -> MatrixHeader:
    """Read the header of the matrix at ``path:offset``."""
    with _opened(location) as (descriptor, offset):
        return read_header(descriptor, offset)


@contextlib.contextmanager
def _opened(location: str) -> Iterator[tuple[int, int]]:
    """Yield the descriptor and offset of ``path:offset``, and name the path in errors."""
    path, offset = parse_location(location)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    try:
        yield descriptor, offset
    except (InputError, OSError) as error:
        raise InputError(f"{path}: {error}") from None
    finally:
        os.close(descriptor)


def read_vector(location: str) -> NDArray[np.float32]:
    """Read the vector at ``path:offset``, of shape (size,).

    Raises
    ------
    InputError
        There is no whole binary Kaldi vector; names the path.
    """
    # Not with kaldiio.load_mat, which runs pipes and loads pickles.
    with _opened(location) as (descriptor, offset):
        head = os.pread(descriptor, 10, offset)
        if len(head) < 10 or head[:6] not in (b"\0BFV \4", b"\0BDV \4"):
            raise InputError(f"no binary Kaldi vector at byte {offset}; scp and ark do not match; recreate both")
        item: np.dtype[Any] = np.dtype("<f4" if head[2:4] == b"FV" else "<f8")
        (size,) = struct.unpack_from("<i", head, 6)
        if size < 0:
            raise InputError(f"a vector cannot have {size} values; recreate the ark")
        values = np.frombuffer(_read_exactly(descriptor, size * item.itemsize, offset + 10), dtype=item)
        return values.astype(np.float32)


def write_vector(path: str | Path, vector: NDArray[np.float32]) -> None:
    """Write a file of a single vector of shape (size,), like ``mean.vec`` of ``ivector-mean``."""
    with atomic_path(path) as temporary:
        kaldiio.save_mat(str(temporary), vector)


class ArkWriter:
    """Write an ark and its scp, which names the ark by absolute path.

    Both files appear when the ``with`` block ends without an exception.

    Parameters
    ----------
    ark, scp
        Paths of the files.
    compression
        Compression of matrices, a key of ``COMPRESSIONS``.

    Raises
    ------
    InputError
        The disk is full; names the ark.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with ArkWriter(f"{folder}/xvector.ark", f"{folder}/xvector.scp") as writer:
    ...         location = writer.write("utterance-1", np.array([0.5, 1.5], dtype=np.float32))
    ...     read_vector(location)
    array([0.5, 1.5], dtype=float32)
    """

    def __init__(self, ark: str | Path, scp: str | Path, compression: str = "none") -> None:
        self._ark = Path(ark).resolve()
        self._scp = Path(scp)
        self._method = COMPRESSIONS[compression]
        self._lines: list[str] = []
        self._last = ""

    def __enter__(self) -> ArkWriter:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._ark))
            self._stream: BinaryIO = stack.enter_context(temporary.open("wb"))
            self._stack = stack.pop_all()
        return self

    def write(self, key: str, value: NDArray[np.float32]) -> str:
        """Append a matrix of shape (rows, cols) or a vector of shape (size,).

        Parameters
        ----------
        key
            Id of the entry. Keys must be unique and in C order, so that the scp is sorted.
        value
            The matrix or vector.

        Returns
        -------
        str
            Location of the entry as ``path:offset``.
        """
        if key <= self._last:
            raise ValueError(f"{key} after {self._last}: keys must be unique and in C order")
        self._last = key
        begin = self._stream.tell()
        method = self._method if value.ndim == 2 else None
        with named_disk_errors(self._ark):
            kaldiio.save_ark(self._stream, {key: value}, compression_method=method)
        location = f"{self._ark}:{begin + len(key.encode()) + 1}"
        self._lines.append(f"{key} {location}\n")
        return location

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is None:
            atomic_write(self._scp, "".join(self._lines))
