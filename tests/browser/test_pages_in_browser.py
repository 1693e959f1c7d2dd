"""Every page that is written, in a browser: whole, quiet, legible, on a phone too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from api_world import segmented
from basket_findings import whole, write_basket_page
from guest_runs import guests, published, run

PHONE = (390, 844)
pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pages")


def _axes(once, **_) -> Path:
    return once.made("api", segmented)[0] / "axes" / "axes.html"


def _channels(folder, **_) -> Path:
    run(folder / "channels", guests())
    return published(folder / "channels").path("channels.html")


def _baskets(folder, **_) -> Path:
    write_basket_page(folder, whole())
    return folder / "baskets.html"


def _report(profiled, **_) -> Path:
    return profiled / "report.html"


@pytest.fixture(scope="module", params=[_report, _axes, _channels, _baskets])
def path(request, once, profiled, folder) -> Path:
    return request.param(once=once, profiled=profiled, folder=folder)


@pytest.fixture
def page(path, tab):
    """The page as it opens on a desk; another test may have left it otherwise."""
    if tab.page.url != path.as_uri():
        tab.visit(path)
    yield tab.page
    tab.look()
    tab.page.emulate_media(color_scheme="light")


def test_a_page_needs_nothing_but_itself(page, tab, path):
    page.wait_for_load_state()
    assert tab.requests == [path.as_uri()]
    assert tab.faults == []
    assert path.stat().st_size < 3_000_000


def test_axe_finds_nothing(page, tab):
    assert tab.violations() == []


def test_dark_colours_have_contrast(page, tab):
    page.emulate_media(color_scheme="dark")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", ground))) < 64
    assert tab.violations("color-contrast") == []


def test_a_phone_needs_no_sideways_scrolling(page, tab):
    tab.look(PHONE)
    assert tab.overflow == 0
