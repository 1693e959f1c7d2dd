"""Files that an address means, on disk, S3 or Kaggle, and what each of them is.

A file's kind is told by its first bytes, not by its name. Packed files (gzip, zip) are
unpacked into the working folder, where a stream needs no memory.

They are copied into the working folder, so that every later step reads local files and
the fingerprint is taken of what was read.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from core.errors import SourceError, did_you_mean, listed
from core.redaction import redacted_address

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
# The folder of rows whose key is missing.
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
WEB = ("http://", "https://")
READABLE = "Expected CSV (also .gz or .zip), Parquet or Excel."
# Named in tables of HTML or XML that are written for Excel.
OFFICE = b"schemas-microsoft-com:office"
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
# Seconds and attempts; botocore's own (60 s, 5 times) keep a user waiting for minutes
# where there is no network.
S3_CONFIG = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "retries": {"max_attempts": 2, "mode": "standard"},
}
CREDENTIALS_ADVICE = (
    "Give credentials as for the AWS command line (`AWS_ACCESS_KEY_ID` and "
    "`AWS_SECRET_ACCESS_KEY`, or `AWS_PROFILE`), or `FSSPEC_S3_ANON=true` for a public "
    "bucket."
)
# Seconds to wait for an answer of any kind, before anything is asked of kagglehub,
# which sets no limit of its own.
PROBE_SECONDS = 10
BY_HAND = (
    "Or download it by hand from https://www.kaggle.com/datasets/{handle} and pass "
    "{instead}."
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
    partitions : dict of str to str or None
        Columns told by folder names such as ``year=2024``.
    notes : tuple of str
        What was done to reach it.
    """

    path: Path
    name: str
    partitions: dict[str, str | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileStats:
    """What one pass over the bytes of a file tells.

    Attributes
    ----------
    sha256 : str
        Hexadecimal digest of the content.
    n_bytes, n_line_breaks, n_lone_returns : int
        Sizes; line breaks are line feeds, lone carriage returns have none behind them.
    is_utf8, has_quotes, has_nul : bool
        Whether the content is UTF-8, and whether a double quote or NUL occurs in it.
    """

    sha256: str
    n_bytes: int
    n_line_breaks: int
    n_lone_returns: int
    is_utf8: bool
    has_quotes: bool
    has_nul: bool


def locate(address: str) -> list[SourceFile]:
    """Return the local files that a path, a folder or a glob means, in name order.

    Raises
    ------
    SourceError
        If nothing is there (with near names), or the folder holds no table.
    """
    try:
        path = Path(address).expanduser()
    except RuntimeError:
        raise SourceError(
            f"`{address}`: there is no user whose folder this could be. Name the "
            "whole path."
        ) from None
    try:
        if path.is_file():
            return [SourceFile(path, path.name)]
        if path.is_dir():
            return _in_folder(path)
    except OSError as error:
        raise SourceError(f"`{address}`: {describe(error)}.") from None
    if any(mark in address for mark in "*?["):
        # A folder that is there is meant as it is called, brackets and all.
        folder = next(parent for parent in path.parents if parent.is_dir())
        pattern = Path(glob.escape(str(folder))) / path.relative_to(folder)
        # pathlib cannot glob from an absolute pattern before Python 3.13.
        matches = sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise SourceError(f"`{address}`: no file matches. {READABLE}")
        root = path.parent if len({file.parent for file in files}) == 1 else None
        return [SourceFile(f, f.name if root else f.as_posix()) for f in files]
    if path.exists():
        raise SourceError(
            f"`{address}` is a pipe or a device, and not a file. Rows are read more "
            "than once: save them to a file, and name that."
        )
    raise SourceError(_explain_missing(path, address))


def find_files(address: str, work: Path) -> tuple[list[SourceFile], str]:
    """Return the files at an address, fetched into `work` if need be, and its name."""
    files = fetch(address, work) if is_remote(address) else locate(address)
    return files, files[0].name if len(files) == 1 else redacted_address(address)


def is_table_name(name: str) -> bool:
    """Return whether a file in a folder is taken for a table, by its name."""
    file = PurePosixPath(name)
    return not file.name.startswith((".", "_", "~$")) and (
        file.suffix.lower() in FOLDER_SUFFIXES
    )


def folder_partitions(name: str) -> dict[str, str | None]:
    """Return the columns that folder names tell, as Hive writes them.

    >>> folder_partitions("year=2024/shop=A%26B/part-0.parquet")
    {'year': '2024', 'shop': 'A&B'}
    >>> folder_partitions(f"shop={HIVE_NULL}/part-0.parquet")
    {'shop': None}
    """
    parents = PurePosixPath(name).parts[:-1]
    pairs = [part.partition("=") for part in parents if "=" in part]
    return {
        unquote(key): None if value == HIVE_NULL else unquote(value)
        for key, _, value in pairs
        if key
    }


def describe(error: BaseException) -> str:
    """Return an operating system's error in a few words."""
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _in_folder(folder: Path) -> list[SourceFile]:
    """Return the tables in a folder and the folders inside it."""
    names = _names_in(folder)
    tables = [name for name in names if is_table_name(name)]
    if not tables:
        raise SourceError(
            f"folder `{folder}` holds no table; found {listed(names, 5) or 'no file'}. "
            f"{READABLE}"
        )
    return [SourceFile(folder / n, n, folder_partitions(n)) for n in tables]


def _names_in(folder: Path) -> list[str]:
    """Return the files in a folder and the folders inside it, by their names there."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


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
    except SourceError:
        raise
    except Exception as error:
        # Damaged bytes make zipfile raise whatever comes of them, an IndexError too.
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


def scan_file(file: SourceFile) -> FileStats:
    """Read a file once, in chunks, for its digest and the facts that a CSV needs."""
    digest = hashlib.sha256()
    decoder = codecs.getincrementaldecoder("utf-8")()
    n_bytes = n_line_breaks = n_returns = 0
    before = b""
    is_utf8, has_quotes, has_nul = True, False, False
    for chunk in chunks(file):
        digest.update(chunk)
        n_bytes += len(chunk)
        n_line_breaks += chunk.count(b"\n")
        if b"\r" in chunk or before == b"\r":
            n_returns += chunk.count(b"\r") - (before + chunk).count(b"\r\n")
        before = chunk[-1:]
        has_quotes = has_quotes or b'"' in chunk
        has_nul = has_nul or b"\0" in chunk
        if is_utf8:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                is_utf8 = False
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        is_utf8 = False
    sizes = (n_bytes, n_line_breaks, n_returns)
    return FileStats(digest.hexdigest(), *sizes, is_utf8, has_quotes, has_nul)


def chunks(file: SourceFile) -> Iterator[bytes]:
    """Yield a file's bytes in chunks."""
    try:
        with file.path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise SourceError(f"{file.name}: {describe(error)}.") from None


def _head(file: SourceFile) -> bytes:
    """Return the first bytes of a file."""
    try:
        with file.path.open("rb") as stream:
            return stream.read(4096)
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
    is_named = PurePosixPath(name).suffix.lower() in KIND_SUFFIXES["excel"]
    if start.startswith(b"<") and (is_named or OFFICE in start):
        raise SourceError(
            f"{name} is HTML or XML made for Excel, not a workbook, as some systems "
            "export tables. Open it in Excel, save it as a workbook (.xlsx) or CSV, "
            f"and name that. {READABLE}"
        )
    if re.match(rb"<(!doctype|html|head|body|table|\?xml)", start):
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


def is_remote(address: str) -> bool:
    r"""Return whether an address names a protocol; a Windows drive letter does not.

    >>> is_remote("s3://bucket/sales.csv"), is_remote("C:\\sales.csv")
    (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+(::|://)", address) is not None


def fetch(address: str, work: Path) -> list[SourceFile]:
    """Copy the files that an address, a prefix or a glob means into `work`.

    Raises
    ------
    SourceError
        If the protocol is unknown or its package missing, nothing is there, or access
        is denied; says what to do.
    """
    try:
        return _fetch(address, work)
    except SourceError:
        raise
    except Exception as error:
        # Each protocol has errors of its own (botocore's, aiohttp's, ...).
        raise SourceError(explain_remote(error, address)) from None


def _fetch(address: str, work: Path) -> list[SourceFile]:
    """Copy the files; errors are those of fsspec and of the protocol."""
    filesystem, root = filesystem_of(address)
    names = _names_at(filesystem, root, address)
    folder = root if names != [root] else root.rpartition("/")[0]
    files = []
    for path in names:
        name = path.removeprefix(folder).lstrip("/")
        name = name.partition("?")[0] if address.startswith(WEB) else name
        target = new_file(work, name)
        filesystem.get_file(path, str(target))
        files.append(SourceFile(target, name, folder_partitions(name)))
    return files


def filesystem_of(address: str) -> tuple[Any, str]:
    """Return the file system of fsspec that an address names, and the path in it."""
    import fsspec

    options: dict[str, Any] = {"skip_instance_cache": True}
    if re.match(r"s3a?://", address):
        options |= {"config_kwargs": S3_CONFIG, "use_listings_cache": False}
    found: tuple[Any, str] = fsspec.url_to_fs(address, **options)
    return found


def _names_at(filesystem: Any, root: str, address: str) -> list[str]:
    """Return the paths of the files at `root`, sorted."""
    if address.startswith(WEB):
        # A web server lists nothing, and `?` begins a query.
        return [root]
    if filesystem.isfile(root):
        return [root]
    if any(mark in root for mark in "*?["):
        names = [path for path in filesystem.glob(root) if filesystem.isfile(path)]
    else:
        found = filesystem.find(root)
        names = [path for path in found if is_table_name(path.rpartition("/")[2])]
        if found and not names:
            raise SourceError(
                f"`{address}` holds no table; found "
                f"{listed([PurePosixPath(path).name for path in found], 5)}. {READABLE}"
            )
    if not names:
        raise SourceError(
            f"`{address}`: nothing is there. Check the name, the folder and the key."
        )
    return sorted(names)


def explain_remote(error: Exception, address: str) -> str:
    """Return an error of fsspec or a protocol in the house's grammar."""
    kind = type(error).__name__
    protocol = address.partition(":")[0]
    if isinstance(error, ImportError):
        return f"`{address}`: {describe(error)}, for `{protocol}://` addresses."
    if isinstance(error, ValueError) and "rotocol" in str(error):
        return (
            f"`{address}`: `{protocol}` is no known protocol. Expected a path, or an "
            "address such as `s3://bucket/sales.parquet`."
        )
    if isinstance(error, FileNotFoundError):
        return f"`{address}`: nothing is there. Check the name, the bucket and the key."
    if re.search(r"token\b.*\bexpired|ExpiredToken", str(error), re.I):
        return (
            f"`{address}`: the credentials have expired. Renew them, such as with "
            "`aws sso login`, and run again."
        )
    if isinstance(error, PermissionError) or "Credential" in kind:
        advice = CREDENTIALS_ADVICE if protocol.startswith("s3") else ""
        reason = describe(error) if "Credential" in kind else f"access denied ({error})"
        return f"`{address}`: {reason}. {advice}".rstrip()
    is_network = isinstance(error, OSError | TimeoutError) or re.search(
        "Connect|Timeout|Endpoint", kind
    )
    advice = " Check the network and the address." if is_network else ""
    return f"`{address}` could not be fetched ({kind}: {describe(error)}).{advice}"


def fetch_kaggle(
    handle: str, file: str | None, instead: str = "the file: `--input FILE`"
) -> list[SourceFile]:
    """Download a data set (or take it from kagglehub's cache) and return its tables.

    Parameters
    ----------
    handle : str
        ``owner/data-set``, or ``owner/data-set/versions/3``, which needs no network
        once it is in the cache.
    file : str or None
        The file wanted, by its path inside the data set; None: every table.
    instead : str
        What to pass where it was downloaded by hand, for messages.

    Raises
    ------
    SourceError
        If there is no network, no such data set or file, or no access.
    """
    parts = handle.split("/")
    is_versioned = len(parts) == 4 and parts[2] == "versions" and parts[3].isdigit()
    if not all(parts) or not (len(parts) == 2 or is_versioned):
        raise SourceError(
            f"`data.kaggle_handle` is `{handle}`; expected `owner/data-set`, as in the "
            "address of its page, or `owner/data-set/versions/3`."
        )
    folder = Path(_download(handle, instead, is_versioned=is_versioned))
    return _choose(folder, handle, file)


def _download(handle: str, instead: str, *, is_versioned: bool) -> str:
    """Return the folder that kagglehub keeps the data set in."""
    try:
        import kagglehub
    except ImportError as error:
        raise SourceError(
            f"kagglehub cannot be imported ({describe(error)}). Install it, or pass "
            f"{instead}."
        ) from None
    try:
        # A version in the cache needs no network; Kaggle's notebooks have a road of
        # their own.
        if not is_versioned and "KAGGLE_DATA_PROXY_URL" not in os.environ:
            _probe()
        return str(kagglehub.dataset_download(handle))
    except Exception as error:
        # requests' errors, kagglehub's own and plain ValueErrors all arrive here.
        raise SourceError(_explain_kaggle(error, handle, instead)) from None


def _probe() -> None:
    """Ask Kaggle for any answer at all, within a time limit."""
    import requests
    from kagglesdk.kaggle_env import (  # type: ignore[import-untyped] # ships no types
        get_endpoint,
        get_env,
    )

    with requests.Session() as session:
        session.head(get_endpoint(get_env()), timeout=PROBE_SECONDS)


def _explain_kaggle(error: Exception, handle: str, instead: str) -> str:
    """Return what went wrong with a download, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    page = "/".join(handle.split("/")[:2])
    by_hand = BY_HAND.format(handle=page, instead=instead)
    if status == 404:
        return (
            f"Kaggle knows no data set `{handle}`. Check `data.kaggle_handle` against "
            f"the address of its page. {by_hand}"
        )
    if status in (401, 403):
        return (
            f"Kaggle denies access to `{handle}` ({status}): it is private or asks for "
            "consent, or the handle is misspelt. Check `data.kaggle_handle`; log in "
            f"with `KAGGLE_USERNAME` and `KAGGLE_KEY`. {by_hand}"
        )
    if status is not None:
        return f"Kaggle answered `{handle}` with status {status}. Try later. {by_hand}"
    if isinstance(error, OSError):
        return (
            f"Kaggle cannot be reached for `{handle}` ({type(error).__name__}). Check "
            f"the network or the proxy. {by_hand}"
        )
    return f"the download of `{handle}` failed: {describe(error)}. {by_hand}"


def _choose(folder: Path, handle: str, file: str | None) -> list[SourceFile]:
    """Return the wanted file of a downloaded data set, or every table in it."""
    if file is None:
        return locate(str(folder))
    names = _names_in(folder)
    if file in names:
        return [SourceFile(folder / file, file)]
    raise SourceError(
        f"the Kaggle data set `{handle}` holds no file `{file}`."
        f"{did_you_mean(file, names)} It holds {listed(names)}. Set "
        "`data.kaggle_file` to one of them, or to null for every table."
    )


def counted(n: int, noun: str = "row") -> str:
    """Return a number with its noun.

    >>> counted(1), counted(2_000, "shop")
    ('1 row', '2,000 shops')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
