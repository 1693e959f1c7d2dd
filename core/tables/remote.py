"""Files written to an address whole or not at all: on disk, S3, what fsspec has.

How they are read is `core.tables.files`.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from core.errors import SourceError
from core.tables.files import describe, explain_remote, filesystem_of, is_remote


def store_file(source: Path, address: str) -> None:
    """Copy a file to a path or address; a reader never sees half of it.

    Parameters
    ----------
    source : Path
        A local file.
    address : str
        Path or address of the copy; folders are made, what is there is replaced.

    Raises
    ------
    SourceError
        If it cannot be written there; says what to do.
    """
    try:
        if is_remote(address):
            _put(source, address)
        else:
            _copy(source, Path(address).expanduser())
    except Exception as error:
        # Each protocol has errors of its own (botocore's, aiohttp's, ...).
        said = (
            explain_remote(error, address)
            if is_remote(address)
            else _explain(error, address)
        )
        raise SourceError(f"nothing was written: {said}") from None


def _copy(source: Path, target: Path) -> None:
    """Copy beside the target, and put the copy in its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        shutil.copyfile(source, half)
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)


def _put(source: Path, address: str) -> None:
    """Upload; an object store shows a key when all of it is there."""
    filesystem, path = filesystem_of(address)
    if address.startswith("file:"):
        _copy(source, Path(path))
    else:
        filesystem.put_file(str(source), path)


def _explain(error: Exception, address: str) -> str:
    return f"`{address}`: {describe(error).replace('read', 'write')}."
