"""One store for all tests of the dashboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dashboard_world import filled

from core.store import Store, create_key


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a running store of shops."""
    with Store.open(None, tmp_path_factory.mktemp("board") / "postgres") as opened:
        filled(opened)
        yield opened


@pytest.fixture(scope="module")
def key(store: Store) -> str:
    """Return a key of the shops that no test revokes."""
    return create_key(store, "shops", "test")
