"""One more model of retailers that several files here share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from once import Once
from verdicts import REPRODUCIBLE, publish


@pytest.fixture(scope="session")
def partitioned(once: Once, trained: Path) -> Path:
    """Return `trained` under a verdict that publishes its partition, to be read."""

    def make(folder: Path) -> None:
        shutil.copytree(trained, folder)
        publish(folder, REPRODUCIBLE)

    return once.made("partitioned", make)[0]
