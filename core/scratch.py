"""Room on disk: temporary folders, what killed runs leave of them, and full disks.

Each folder has a lock file beside it, held as long as its process lives. What nobody
holds any more was left by a run that was killed, and goes when the next one begins.
"""

from __future__ import annotations

import errno
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "stable-segments-"
FULL = (errno.ENOSPC, errno.EDQUOT)
# As libraries say it that hand on no number.
FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "not enough space on")
_free_bytes: dict[Path, int] = {}


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a new folder where the system keeps temporary files, and remove it."""
    root = Path(tempfile.gettempdir())
    will_write_to(root)
    clear_leftovers(root)
    folder = root / f"{PREFIX}{secrets.token_hex(8)}"
    try:
        with FileLock(_lock_of(folder)):
            try:
                folder.mkdir(mode=0o700)
                yield folder
            finally:
                _remove(folder)
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


def _remove(folder: Path) -> None:
    """Remove a folder, again where a thread is ending that still writes to it.

    So does one of Polars after Ctrl-C. Windows may go on holding a file that was
    mapped; a later run clears it.
    """
    for pause in (0.0, 0.1, 0.4):
        time.sleep(pause)
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _forget(folder: Path) -> None:
    """Remove a lock file; Windows refuses where somebody has it open."""
    with suppress(OSError):
        _lock_of(folder).unlink(missing_ok=True)


def will_write_to(folder: Path) -> None:
    """Note how much is free in a folder, for `full_disk_message`."""
    with suppress(OSError):
        _free_bytes.setdefault(folder, shutil.disk_usage(folder).free)


def full_disk_message(error: BaseException) -> str | None:
    """Return which folder is full, the need and the cure; None for another error.

    Of the folders that this process writes to, the one with the least room is meant:
    few libraries say it.
    """
    is_full = isinstance(error, OSError) and error.errno in FULL
    if not (is_full or any(text in str(error) for text in FULL_TEXTS)):
        return None
    temporary = Path(tempfile.gettempdir())
    will_write_to(temporary)
    folder = min(_free_bytes, key=lambda path: _free_bytes[path])
    name = "`TMPDIR` (Windows: `TEMP`)" if folder == temporary else "`--artifacts`"
    return (
        f"the disk of `{folder}` is full ({_free_bytes[folder] / 1e6:,.0f} MB were "
        "free when the run began). A run needs about twice the size of its rows, "
        f"unpacked. Free some space, or set {name} to a folder on a larger disk. The "
        "last complete run is unchanged."
    )
