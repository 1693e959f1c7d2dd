"""One browser per file of tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from tabs import Tab

_NAMES = ("chromium", "chromium-browser", "google-chrome", "msedge")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Yield a browser, or skip.

    It is closed with the file: as long as Playwright runs, `asyncio.run` of another
    test would find its event loop.
    """
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(_NAMES)} is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found)


@pytest.fixture(scope="module")
def tab(browser: Any) -> Tab:
    """Return a tab that runs scripts; each test visits what it needs."""
    return Tab(browser)


@pytest.fixture(scope="module")
def still_tab(browser: Any) -> Tab:
    """Return a tab that runs no scripts."""
    return Tab(browser, has_scripts=False)
