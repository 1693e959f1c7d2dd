"""Which files an address means, and what each of them really is.

A file's kind is told by its first bytes, not by its name. Packed files (gzip, zip) are
unpacked into the working folder, where a stream needs no memory.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from core.errors import SourceError, did_you_mean, listed

CHUNK_BYTES = 1 << 22
# A zip may hold itself; real ones are packed twice at most.
DEEPEST_PACKING = 3
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".xlsx", ".xlsm", ".xls")
FOLDER_SUFFIXES = (*TABLE_SUFFIXES, ".gz", ".zip")
KIND_SUFFIXES = {
    "csv": (".csv", ".tsv", ".txt", ".dat", ".psv", ".tab", ""),
    "parquet": (".parquet", ".pq", ".parq"),
    "excel": (".xlsx", ".xlsm", ".xls", ".xlsb"),
}
KIND_NAMES = {"csv": "text (CSV)", "parquet": "Parquet", "excel": "an Excel workbook"}
READABLE = "Expected CSV (also .gz or .zip), Parquet or Excel."
# First bytes of what cannot be read, with what to do about it.
FOREIGN = (
    (b"ARROW1", "an Arrow file", "Save it as Parquet."),
    (b"SQLite format 3", "an SQLite database", "Export the table as CSV."),
    (b"BZh", "packed with bzip2", "Unpack it first."),
    (b"\xfd7zXZ\x00", "packed with xz", "Unpack it first."),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "Unpack it first."),
    (b"7z\xbc\xaf", "packed with 7-Zip", "Unpack it first."),
    (b"Rar!", "packed with RAR", "Unpack it first."),
    (b"%PDF", "a PDF document", "Export the table as CSV."),
    (b"\x89PNG", "a picture", "Name the table itself."),
    (b"\x80\x04\x95", "a Python pickle, which is never opened", "Save it as Parquet."),
)


@dataclass(frozen=True)
class SourceFile:
    """One local file to read.

    Attributes
    ----------
    path : Path
        Where the bytes are; a file unpacked or fetched into the working folder too.
    name : str
        What it is called in messages, relative to the folder that was asked for.
    partitions : dict of str to str
        Columns told by folder names such as ``year=2024``.
    notes : tuple of str
        What was done to reach it.
    """

    path: Path
    name: str
    partitions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What one pass over the bytes of a file tells.

    Attributes
    ----------
    sha256 : str
        Hexadecimal digest of the content.
    n_bytes, n_line_breaks : int
        Sizes; line breaks are line feeds.
    is_utf8, has_quotes : bool
        Whether the content is UTF-8, and whether a double quote occurs in it.
    """

    sha256: str
    n_bytes: int
    n_line_breaks: int
    is_utf8: bool
    has_quotes: bool


def locate(address: str) -> list[SourceFile]:
    """Return the local files that a path, a folder or a glob means, in name order.

    Raises
    ------
    SourceError
        If nothing is there (with near names), or the folder holds no table.
    """
    path = Path(address).expanduser()
    try:
        if path.is_file():
            return [SourceFile(path, path.name)]
        if path.is_dir():
            return _in_folder(path)
    except OSError as error:
        raise SourceError(f"`{address}`: {describe(error)}.") from None
    if any(mark in address for mark in "*?["):
        # pathlib cannot glob from an absolute pattern before Python 3.13.
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise SourceError(f"`{address}`: no file matches. {READABLE}")
        root = path.parent if len({file.parent for file in files}) == 1 else None
        return [SourceFile(f, f.name if root else f.as_posix()) for f in files]
    raise SourceError(_explain_missing(path, address))


def is_table_name(name: str) -> bool:
    """Return whether a file in a folder is taken for a table, by its name."""
    file = PurePosixPath(name)
    return not file.name.startswith((".", "_", "~$")) and (
        file.suffix.lower() in FOLDER_SUFFIXES
    )


def folder_partitions(name: str) -> dict[str, str]:
    """Return the columns that folder names tell.

    >>> folder_partitions("year=2024/month=3/part-0.parquet")
    {'year': '2024', 'month': '3'}
    """
    parents = PurePosixPath(name).parts[:-1]
    pairs = [part.partition("=") for part in parents if "=" in part]
    return {key: value for key, _, value in pairs if key}


def describe(error: BaseException) -> str:
    """Return an operating system's error in a few words."""
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _in_folder(folder: Path) -> list[SourceFile]:
    """Return the tables in a folder and the folders inside it."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))
    tables = [n for n in names if is_table_name(n) and (folder / n).is_file()]
    if not tables:
        seen = [n for n in names if (folder / n).is_file()]
        raise SourceError(
            f"folder `{folder}` holds no table; found {listed(seen, 5) or 'no file'}. "
            f"{READABLE}"
        )
    return [SourceFile(folder / n, n, folder_partitions(n)) for n in tables]


def _explain_missing(path: Path, address: str) -> str:
    """Return which part of a path is not there, and near names beside it."""
    message = f"`{address}` does not exist."
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        path, folder = folder, folder.parent
        message = f"`{address}` does not exist: there is no folder `{path}`."
    try:
        names = sorted(child.name for child in folder.iterdir())
    except OSError:
        return message
    if hint := did_you_mean(path.name, names):
        return message + hint
    tables = [name for name in names if is_table_name(name)]
    beside = f" Tables in `{folder}`: {listed(tables, 5)}." if tables else ""
    return message + beside


def unpack(file: SourceFile, work: Path, depth: int = 0) -> list[SourceFile]:
    """Return the file itself, or what a gzip or zip file holds, unpacked into `work`.

    Raises
    ------
    SourceError
        If the file cannot be read, is damaged, or is a zip without a table.
    """
    head = _head(file)
    if depth > DEEPEST_PACKING:
        raise SourceError(
            f"{file.name}: packed more than {DEEPEST_PACKING} times over."
        )
    try:
        if head.startswith(b"\x1f\x8b"):
            name = file.name.removesuffix(".gz")
            if name == file.name:
                note = f"{file.name} is packed with gzip; it was unpacked."
                file = replace(file, notes=(*file.notes, note))
            target = new_file(work, name)
            with gzip.open(file.path, "rb") as packed, target.open("wb") as plain:
                shutil.copyfileobj(packed, plain, CHUNK_BYTES)
            return unpack(replace(file, path=target, name=name), work, depth + 1)
        if head.startswith(b"PK") and not _is_workbook(file.path):
            return _unzip(file, work, depth)
    except (EOFError, zlib.error, zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise SourceError(
            f"{file.name} could not be unpacked ({describe(error)}). "
            "It is damaged, cut off or protected; fetch it again."
        ) from None
    return [file]


def kind_of(file: SourceFile, encoding: str | None) -> tuple[str, str | None]:
    """Return `csv`, `parquet` or `excel`, and a note where the name says another.

    Bytes that would not be text otherwise are, if the user named their `encoding`.

    Raises
    ------
    SourceError
        If the file is empty, or is nothing that can be read, such as a web page.
    """
    head = _head(file)
    if not head:
        raise SourceError(f"{file.name} is empty (0 bytes). {READABLE}")
    kind = _kind_of_bytes(head, file.name, is_text=encoding is not None)
    suffix = PurePosixPath(file.name).suffix.lower()
    expected = next((k for k, ends in KIND_SUFFIXES.items() if suffix in ends), None)
    if expected in (None, kind):
        return kind, None
    return kind, f"{file.name} is really {KIND_NAMES[kind]}, and was read as such."


def survey(file: SourceFile) -> Survey:
    """Read a file once, in chunks, for its digest and the facts that a CSV needs."""
    digest = hashlib.sha256()
    decoder = codecs.getincrementaldecoder("utf-8")()
    n_bytes = n_line_breaks = 0
    is_utf8, has_quotes = True, False
    for chunk in chunks(file):
        digest.update(chunk)
        n_bytes += len(chunk)
        n_line_breaks += chunk.count(b"\n")
        has_quotes = has_quotes or b'"' in chunk
        if is_utf8:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                is_utf8 = False
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        is_utf8 = False
    return Survey(digest.hexdigest(), n_bytes, n_line_breaks, is_utf8, has_quotes)


def chunks(file: SourceFile) -> Iterator[bytes]:
    """Yield a file's bytes in chunks."""
    try:
        with file.path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise SourceError(f"{file.name}: {describe(error)}.") from None


def _head(file: SourceFile, n_bytes: int = 4096) -> bytes:
    """Return the first bytes of a file."""
    try:
        with file.path.open("rb") as stream:
            return stream.read(n_bytes)
    except OSError as error:
        raise SourceError(f"{file.name}: {describe(error)}.") from None


def _kind_of_bytes(head: bytes, name: str, *, is_text: bool) -> str:
    """Return the kind that the first bytes tell."""
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return "excel"
    for magic, what, advice in FOREIGN:
        if head.startswith(magic):
            raise SourceError(f"{name} is {what}. {advice} {READABLE}")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "csv"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if re.match(rb"<(!doctype|html|head|body|\?xml)", start):
        raise SourceError(
            f"{name} is a web page, not a table: the address may lead to a log-in or "
            f"preview page. Download the file itself. {READABLE}"
        )
    if re.match(rb'(\{\s*"|\[\s*[\[{])', start):
        raise SourceError(f"{name} is JSON. Convert it to CSV or Parquet. {READABLE}")
    n_controls = sum(byte < 9 or 13 < byte < 32 for byte in head)
    if n_controls > len(head) // 10 and not is_text:
        raise SourceError(
            f"{name} is binary data of an unknown kind (first bytes "
            f"{head[:8].hex(' ')}). {READABLE} For a text without a byte order mark, "
            "name the encoding: `--set data.encoding=utf-16-le`."
        )
    return "csv"


def _is_workbook(path: Path) -> bool:
    """Return whether a zip file is an Excel workbook."""
    with zipfile.ZipFile(path) as archive:
        return any(name.startswith("xl/") for name in archive.namelist())


def _unzip(file: SourceFile, work: Path, depth: int) -> list[SourceFile]:
    """Unpack the tables of a zip file; nothing is written outside `work`."""
    unpacked: list[SourceFile] = []
    with zipfile.ZipFile(file.path) as archive:
        members = sorted(m.filename for m in archive.infolist() if not m.is_dir())
        tables = [name for name in members if is_table_name(name)]
        if not tables:
            raise SourceError(
                f"{file.name} is a zip file without a table; it holds "
                f"{listed(members, 5) or 'nothing'}. {READABLE}"
            )
        for member in tables:
            target = new_file(work, member)
            with archive.open(member) as packed, target.open("wb") as plain:
                shutil.copyfileobj(packed, plain, CHUNK_BYTES)
            name = f"{file.name}/{member}"
            parts = {**file.partitions, **folder_partitions(member)}
            inner = SourceFile(target, name, parts, file.notes)
            unpacked += unpack(inner, work, depth + 1)
    return unpacked


def new_file(work: Path, name: str) -> Path:
    """Return a path in `work` that is not taken yet; `name` is only for the reader."""
    plain = re.sub(r"[^\w.-]", "_", PurePosixPath(name).name)[-80:]
    number = sum(1 for _ in work.iterdir())
    return work / f"{number:04d}-{plain}"
