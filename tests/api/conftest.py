"""One store of customers for all tests of the API."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from api_world import World, segmented, serving, stored
from once import Once

from core.api.app import ApiSettings


@pytest.fixture(scope="session")
def world(once: Once, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Yield a running store; tests add stores of their own beside `default`."""
    folder, _ = once.made("api", segmented)
    own = tmp_path_factory.mktemp("api") / "artifacts"
    with stored(Path(shutil.copytree(folder, own))) as made:
        yield made


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[httpx.Client]:
    """Yield a client of an app of its own over that store."""
    with serving(ApiSettings(world.store.address), world.key) as started:
        yield started
