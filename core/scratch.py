"""Temporary folders that a killed run does not leave for ever.

Each has a lock file beside it, held as long as its process lives. What nobody holds any
more was left by a run that was killed, and goes when the next one begins.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "stable-segments-"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a new folder where the system keeps temporary files, and remove it."""
    root = Path(tempfile.gettempdir())
    clear_leftovers(root)
    folder = root / f"{PREFIX}{secrets.token_hex(8)}"
    try:
        with FileLock(_lock_of(folder)):
            folder.mkdir(mode=0o700)
            try:
                yield folder
            finally:
                # Windows may still hold a file that was mapped; a later run clears it.
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        if not folder.exists():
            _forget(folder)


@cache
def clear_leftovers(root: Path) -> None:
    """Remove the folders of runs that were killed; once per process."""
    for path in root.glob(f"{PREFIX}*.lock"):
        folder = path.with_suffix("")
        # Another user's is theirs, and one in use is not left over.
        with suppress(OSError, Timeout):
            with FileLock(path, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
            _forget(folder)


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _forget(folder: Path) -> None:
    """Remove a lock file; Windows refuses where somebody has it open."""
    with suppress(OSError):
        _lock_of(folder).unlink(missing_ok=True)
