"""Runs of the axes that several test files read, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from axes_runs import JUNE, MAY, run, until
from once import Once


@pytest.fixture(scope="session")
def learnt(once: Once) -> Path:
    """Return a folder with one published run in May, to be read."""

    def make(folder: Path) -> None:
        run(folder, until(MAY))

    return once.made("axes", make)[0]


@pytest.fixture(scope="session")
def two_versions(once: Once, learnt: Path) -> Path:
    """Return the same with a run in June that learnt anew, to be read."""

    def make(folder: Path) -> None:
        shutil.copytree(learnt, folder)
        run(folder, until(JUNE))

    return once.made("axes-again", make)[0]
