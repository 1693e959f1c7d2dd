"""Every page that is written, in a browser: whole, quiet, legible, on a phone too."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from api_world import segmented
from basket_findings import whole, write_basket_page
from guest_runs import guests, published, run
from refresh_contents import shared_content
from sklearn.datasets import load_wine
from tabs import PAPER, PHONE

from core.config import Config
from core.tabular.run import run_fit

CONTROLS = """[...document.querySelectorAll(
    "a[href], button:enabled, input, select, summary, [tabindex='0']"
)].filter(e => e.checkVisibility({ visibilityProperty: true })).length"""
# Notes which elements get the focus, and whether one sees it.
NOTED = """() => {
    document.activeElement.blur();
    window.scrollTo(0, 0);
    window.reached = new Map();
    document.addEventListener("focusin", ({ target }) => {
        const { outlineStyle, outlineWidth } = getComputedStyle(target);
        const isSeen = outlineStyle !== "none" && parseFloat(outlineWidth) > 0;
        window.reached.set(target, isSeen);
    });
}"""


def number(text: str) -> float:
    """Return the first number of a cell."""
    return float(re.search(r"-?[\d,.]+", text)[0].replace(",", ""))


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


def _table(folder, **_) -> Path:
    wines = load_wine()
    table = pl.DataFrame(wines.data, schema=wines.feature_names)
    tree = {"artifacts": str(folder), "fit": {"id": "wine", "segments": 3}}
    run_fit(Config.model_validate(tree), table.with_row_index("wine"))
    return folder / "fit" / "fit.html"


def _refresh(once, **_) -> Path:
    return shared_content(once)[0]


def _report(profiled, **_) -> Path:
    return profiled / "report.html"


PAGES = [_report, _axes, _channels, _baskets, _table, _refresh]


@pytest.fixture(scope="module", params=PAGES)
def path(request, once, profiled, folder) -> Path:
    return request.param(once=once, profiled=profiled, folder=folder)


@pytest.fixture
def page(path, tab):
    """The page as it opens on a desk; another test may have left it otherwise."""
    if tab.page.url != path.as_uri():
        tab.visit(path)
    yield tab.page
    tab.look()
    tab.page.emulate_media(color_scheme="light", media="screen")


def test_a_page_needs_nothing_but_itself(page, tab, path):
    page.wait_for_load_state()
    assert tab.requests == [path.as_uri()]
    assert tab.faults == []
    assert path.stat().st_size < 3_000_000


def test_axe_finds_nothing(page, tab):
    assert tab.violations() == []


# All pages have the same colours; these have the most of them.
@pytest.mark.parametrize("path", [_report, _axes, _refresh], indirect=True)
def test_dark_colours_have_contrast(page, tab):
    page.emulate_media(color_scheme="dark")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", ground))) < 64
    assert tab.violations("color-contrast") == []


def test_a_phone_needs_no_sideways_scrolling(page, tab):
    tab.look(PHONE)
    assert tab.overflow == 0


def test_print_fits_the_paper_and_has_no_controls(page, tab):
    page.emulate_media(media="print")
    tab.look(PAPER)
    assert tab.overflow == 0
    assert page.locator("input:visible, select:visible").count() == 0


def test_the_keyboard_reaches_every_control_and_shows_where_it_is(page):
    wanted = page.evaluate(CONTROLS)
    page.evaluate(NOTED)
    for _ in range(wanted):
        page.keyboard.press("Tab")
    seen = page.evaluate("[...reached.values()]")
    assert seen == [True] * wanted
    assert wanted > 0


def test_a_table_is_sorted_by_its_headings_with_the_keyboard(page):
    table = page.locator("table:has(button.sort)").first
    heading = table.locator("th.number:has(button.sort)").first
    column = heading.evaluate("cell => cell.cellIndex")
    heading.locator("button").focus()
    orders = []
    for direction in ("descending", "ascending"):
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == direction
        cells = table.locator(f"tbody tr:not(.part, .rest) > :nth-child({column + 1})")
        orders.append([number(text) for text in cells.all_inner_texts()])
    assert len(orders[0]) >= 3
    assert orders[0] == sorted(orders[0], reverse=True)
    assert orders[1] == sorted(orders[0])


def test_without_scripts_everything_is_there_and_nothing_is_dead(still_tab, path):
    page = still_tab.visit(path)
    assert still_tab.faults == []
    assert page.locator("button:visible, input:visible, select:visible").count() == 0
    assert page.locator("main table").count() > 0
    unseen = "[...document.images].filter(i => !i.naturalWidth).map(i => i.alt)"
    assert page.evaluate(unseen) == []
