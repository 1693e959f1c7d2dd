"""Files at an address such as ``s3://bucket/sales/*.parquet``, through fsspec.

They are copied into the working folder, so that every later step reads local files and
the fingerprint is taken of what was read.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from core.data.files import (
    READABLE,
    SourceFile,
    describe,
    folder_partitions,
    is_table_name,
    new_file,
)
from core.errors import SourceError, listed

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
        raise SourceError(_explain(error, address)) from None


def _fetch(address: str, work: Path) -> list[SourceFile]:
    """Copy the files; errors are those of fsspec and of the protocol."""
    import fsspec

    options: dict[str, Any] = {"skip_instance_cache": True}
    if re.match(r"s3a?://", address):
        options |= {"config_kwargs": S3_CONFIG, "use_listings_cache": False}
    filesystem, root = fsspec.url_to_fs(address, **options)
    names = _names_at(filesystem, root, address)
    folder = root if names != [root] else root.rpartition("/")[0]
    files = []
    for path in names:
        name = path.removeprefix(folder).lstrip("/")
        name = name.partition("?")[0] if _is_web(address) else name
        target = new_file(work, name)
        filesystem.get_file(path, str(target))
        files.append(SourceFile(target, name, folder_partitions(name)))
    return files


def _is_web(address: str) -> bool:
    """Return whether an address is one of the web."""
    return re.match(r"https?://", address) is not None


def _names_at(filesystem: Any, root: str, address: str) -> list[str]:
    """Return the paths of the files at `root`, sorted."""
    if _is_web(address):
        # A web server lists nothing, and `?` begins a query.
        return [root]
    if any(mark in root for mark in "*?["):
        names = [path for path in filesystem.glob(root) if filesystem.isfile(path)]
    elif filesystem.isfile(root):
        return [root]
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


def _explain(error: Exception, address: str) -> str:
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
    if isinstance(error, PermissionError) or "Credential" in kind:
        advice = CREDENTIALS_ADVICE if protocol.startswith("s3") else ""
        reason = describe(error) if "Credential" in kind else f"access denied ({error})"
        return f"`{address}`: {reason}. {advice}".rstrip()
    is_network = isinstance(error, OSError | TimeoutError) or re.search(
        "Connect|Timeout|Endpoint", kind
    )
    advice = " Check the network and the address." if is_network else ""
    return f"`{address}` could not be fetched ({kind}: {describe(error)}).{advice}"
