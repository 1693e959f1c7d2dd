"""Folders made once per run of the tests, and only read after that."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

State = dict[str, tuple[int, int]]

SMALL_RUN: dict[str, Any] = {
    "sample": {"n_shops": 300, "difficulty": "easy"},
    "autoencoder": {"epochs": 8},
    "clustering": {"min_cluster_size": 12, "min_samples": 5},
}
"""Configuration of the fixture `trained`: eight segments after some seconds."""


class Once:
    """What several test files need and none of them changes.

    The first test that asks for a folder makes it; the workers of one run share it.

    Parameters
    ----------
    root : path
        A folder that all workers of this run of the tests know.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._states: dict[Path, State] = {}

    def made(self, name: str, make: Callable[[Path], Any]) -> tuple[Path, Any]:
        """Return a folder and what making it returned.

        Parameters
        ----------
        name : str
        make : callable
            Fills a folder that does not exist yet; what it returns is pickled.
        """
        folder, told = self.root / name / "artifacts", self.root / name / "told.pickle"
        self.root.mkdir(exist_ok=True)
        with FileLock(self.root / f"{name}.lock"):
            if not told.exists():
                shutil.rmtree(folder.parent, ignore_errors=True)
                folder.parent.mkdir()
                result = make(folder)
                told.write_bytes(pickle.dumps(result))
        self._states.setdefault(folder, _state(folder))
        return folder, pickle.loads(told.read_bytes())

    def check(self) -> None:
        """Fail if anything was written to a folder since it was made."""
        for folder, before in self._states.items():
            now = _state(folder)
            changed = {
                k for k in before.keys() | now.keys() if before.get(k) != now.get(k)
            }
            self._states[folder] = now
            assert not changed, (
                f"a test wrote {sorted(changed)} to `{folder}`, which all tests share. "
                "Let it write to a copy."
            )


def _state(folder: Path) -> State:
    """Return size and time of every file; a lock that was held leaves no trace.

    It is asked for after every test: `os.scandir` takes a fourth of what `rglob` does.
    """
    found: State = {}
    folders = [str(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                elif entry.name != ".lock":
                    stat = entry.stat()
                    found[entry.path] = (stat.st_size, stat.st_mtime_ns)
    return found
