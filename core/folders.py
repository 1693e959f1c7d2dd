"""Files and folders that appear, change place and go in one step."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def replace_folder(new: Path, target: Path, root: Path) -> None:
    """Put a folder in the place of another one; `root` as for `discard`."""
    discard(target, root)
    new.rename(target)


def discard(folder: Path, root: Path) -> None:
    """Take a folder away in one step, then delete it.

    Until it is deleted it lies as ``.trash-*`` in `root`, where a later run clears it
    if this one is killed.
    """
    if folder.exists():
        trash = root / f".trash-{os.getpid()}-{time.monotonic_ns()}"
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)
