"""One store of customers for all tests of the API."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_world import World, segmented, stored
from once import Once


@pytest.fixture(scope="session")
def world(once: Once, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Yield a running store; tests add stores of their own beside `default`."""
    folder, _ = once.made("api", segmented)
    own = tmp_path_factory.mktemp("api") / "artifacts"
    with stored(Path(shutil.copytree(folder, own))) as made:
        yield made
