"""The dashboard in a browser: one key, one store, by mouse and by keyboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
import pytest
from api_world import serving
from dashboard_world import BOARD, filled, shops
from tabs import PAPER, PHONE, Tab

from core.api.app import ApiSettings
from core.dashboard.pages import exported
from core.resolve import resolve_config
from core.store import Store, create_key, revoke_key
from core.store.runs import publish_shops
from core.store.store import store_statistics

pytestmark = pytest.mark.chromium
N_MANY = 100_000
OVERVIEW, LOGIN = "/dashboard", "/dashboard/login"


@dataclass
class World:
    """A server over a store of shops, and one of 100,000 with a key of its own."""

    store: Store
    url: str
    key: str
    key_of_many: str
    shops: pl.DataFrame


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("dashboard")
    with Store.open(None, folder / "postgres") as store:
        filled(store)
        multiply(store)
        keys = [create_key(store, name) for name in ("shops", "many")]
        with serving(ApiSettings(store.address)) as client:
            yield World(store, str(client.base_url), *keys, own_shops())


def own_shops() -> pl.DataFrame:
    """Return id, segment and state of the shops in the store."""
    return shops().select("customer_id", pl.col("segment_memberships").struct.unnest())


def multiply(store: Store) -> None:
    """Fill the store `many` with as many shops as a large chain has."""
    copied = "confidence, lifetime_value, model_version, last_updated"
    with store.begin("multiply the shops") as connection:
        connection.execute(
            f"""
            INSERT INTO customer_profiles (
                store_id, customer_id, segment_memberships, dominant_segments,
                membership_strengths, runner_up_segments, {copied}
            )
            SELECT 'many', 'many-' || i || '-' || customer_id, segment_memberships,
                   '{{}}', membership_strengths, '{{}}', {copied}
            FROM customer_profiles, generate_series(1, 1000) AS i
            WHERE store_id = 'shops' LIMIT {N_MANY}
            """
        )
        connection.execute(
            """
            INSERT INTO axis_models
            SELECT (jsonb_populate_record(m, '{"store_id": "many"}')).*
            FROM axis_models AS m WHERE store_id = 'shops'
            """
        )
        connection.execute("ANALYZE customer_profiles")
        stats = store_statistics(connection, "many")
        connection.execute(
            "UPDATE axis_models SET stats = %s WHERE store_id = 'many'",
            (json.dumps(stats),),
        )


@pytest.fixture(scope="module")
def signed_in(browser, world) -> Tab:
    """A tab of whoever has the key of the shops."""
    tab = Tab(browser)
    sign_in(tab, world, world.key)
    return tab


def sign_in(tab: Tab, world: World, key: str) -> None:
    page = tab.visit(f"{world.url}{LOGIN}")
    page.get_by_label("Key").fill(key)
    page.get_by_label("Key").press("Enter")
    page.wait_for_url(re.compile(f"{OVERVIEW}$"))


@pytest.fixture(scope="module")
def one_tab(browser) -> Tab:
    return Tab(browser)


@pytest.fixture
def stranger(one_tab) -> Tab:
    """A tab of whoever has not signed in yet."""
    one_tab.page.context.clear_cookies()
    one_tab.look()
    return one_tab


@pytest.fixture
def tab(signed_in) -> Iterator[Tab]:
    yield signed_in
    signed_in.look()


def n_found(page) -> int:
    """Return how many entities the list says there are."""
    return int(re.sub(r"\D", "", page.locator("#count").inner_text()))


def column(page, title: str) -> list[str]:
    """Return the cells of one column of the list."""
    titles = [text.strip(" ↓↑") for text in page.locator("thead th").all_inner_texts()]
    place = titles.index(title) + 1
    return page.locator(f"tbody tr > :nth-child({place})").all_inner_texts()


# --- one key, one store ------------------------------------------------------------


def test_only_a_key_opens_it(stranger, world):
    page = stranger.visit(f"{world.url}/dashboard/entities")
    assert page.url == f"{world.url}{LOGIN}"
    assert stranger.violations() == []
    page.get_by_label("Key").fill("ss_wrong")
    page.get_by_role("button", name="Sign in").click()
    assert "wrong" in page.get_by_role("alert").inner_text().lower()
    page.get_by_label("Key").fill(world.key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/entities")
    assert n_found(page) == world.shops.height
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"**{LOGIN}")
    page.go_back()
    assert world.shops["customer_id"][0] not in page.content()
    page.goto(f"{world.url}{OVERVIEW}")
    assert page.url == f"{world.url}{LOGIN}"


def test_a_revoked_key_is_out_at_the_next_click(stranger, world):
    key = create_key(world.store, "shops")
    sign_in(stranger, world, key)
    revoke_key(world.store, key.split("_")[1])
    stranger.page.get_by_role("link", name="Shops").click()
    stranger.page.wait_for_url(f"**{LOGIN}")
    assert stranger.page.get_by_label("Key").is_visible()


def test_another_store_never_shows(tab, world):
    foreign = f"many-1-{world.shops['customer_id'][0]}"
    page = tab.visit(f"{world.url}/dashboard/entities?q={foreign}")
    assert n_found(page) == 0
    answer = page.goto(f"{world.url}/dashboard/entity/{foreign}")
    assert answer.status == 404
    assert page.locator("table").count() == 0


# --- every page ---------------------------------------------------------------------


@pytest.mark.parametrize("road", ["", "/axis/segment", "/entities", "/entity/S003"])
def test_a_page_is_quiet_legible_and_fits_a_phone(tab, world, road):
    page = tab.visit(f"{world.url}/dashboard{road}")
    page.wait_for_load_state("networkidle")
    assert page.locator("h1").count() == 1
    assert tab.violations() == []
    tab.look(PHONE)
    assert tab.overflow == 0
    assert tab.strangers == []
    assert tab.faults == []


def test_dark_colours_have_contrast(tab, world):
    tab.visit(f"{world.url}{OVERVIEW}", scheme="dark")
    assert tab.violations("color-contrast") == []


def test_the_way_leads_from_a_segment_to_its_shops_and_to_one_of_them(tab, world):
    page = tab.visit(f"{world.url}{OVERVIEW}")
    link = page.locator("#axes tbody a").first
    segment = link.inner_text()
    link.click()
    page.wait_for_url("**/entities?*")
    assert set(column(page, "Segment")) == {segment}
    expected = world.shops.filter(segment=segment)
    assert n_found(page) == expected.height
    shop = page.locator("tbody a").first.inner_text()
    assert shop in expected["customer_id"]
    page.locator("tbody a").first.click()
    page.wait_for_url(f"**/entity/{shop}")
    assert shop in page.locator("h1").inner_text()
    assert page.get_by_role("link", name=segment, exact=True).count() >= 1


def test_the_list_is_searched_filtered_and_sorted_in_place(tab, world):
    page = tab.visit(f"{world.url}/dashboard/entities")
    page.evaluate("window.kept = true")
    state = world.shops["state"][0]
    page.get_by_label("State").select_option(f"state:{state}")
    expected = world.shops.filter(state=state)
    expect_found(page, expected.height)
    assert set(column(page, "State")) == {state}
    page.locator("thead a", has_text="Shop").click()
    page.wait_for_url("**sort=id*")
    assert column(page, "Shop") == expected["customer_id"].sort()[:50].to_list()
    part = expected["customer_id"][0][-2:]
    page.get_by_label("Part of the name").type(part)
    expect_found(page, expected["customer_id"].str.contains(part).sum())
    assert page.evaluate("window.kept"), "the page was loaded anew"
    page.reload()
    assert n_found(page) == expected["customer_id"].str.contains(part).sum()


def expect_found(page, n: int) -> None:
    from playwright.sync_api import expect

    told = re.compile(rf"^{n:,} shops?$")
    expect(page.locator("#count")).to_have_text(told, timeout=30_000)


def test_everything_can_be_done_with_the_keyboard(stranger, world):
    page = stranger.visit(f"{world.url}{LOGIN}")
    page.keyboard.type(world.key)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{OVERVIEW}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    tab_to(page, "Shops")
    page.keyboard.press("Enter")
    page.wait_for_url("**/entities")
    shop = world.shops["customer_id"][0]
    tab_to(page, "q", "id")
    page.keyboard.type(shop)
    expect_found(page, 1)
    tab_to(page, shop)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/entity/{shop}")
    tab_to(page, "Sign out")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{LOGIN}")
    assert stranger.faults == []


def tab_to(page, wanted: str, what: str = "textContent") -> None:
    """Press Tab until the element has the focus, and check that one sees it."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(f"document.activeElement.{what}.trim()") == wanted:
            break
    else:
        raise AssertionError(f"Tab never reaches {wanted}")
    style = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(style) != "none"


def test_without_scripts_forms_and_links_do_the_same(browser, world):
    tab = Tab(browser, has_scripts=False)
    sign_in(tab, world, world.key)
    page = tab.visit(f"{world.url}/dashboard/entities")
    page.get_by_label("State").select_option("state:active")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**in=state*")
    active = world.shops.filter(state="active")
    assert n_found(page) == active.height
    seen = column(page, "Shop")
    while page.get_by_role("link", name="Next").count():
        page.get_by_role("link", name="Next").click()
        seen += column(page, "Shop")
    assert sorted(seen) == active["customer_id"].sort().to_list()


# --- a run, and its file ------------------------------------------------------------


def test_a_run_is_shown_as_its_report_tells_it(stranger, world, trained):
    options = {"artifacts": str(trained), "store.url": world.store.address}
    publish_shops(resolve_config(flags=options, environ={}), "run")
    page = stranger.visit(trained / "report.html")
    headline = page.locator("h1").inner_text()
    rows = page.locator(".segments tbody tr:not(.part, .rest)")
    named = rows.locator("th a").all_inner_texts()
    sign_in(stranger, world, create_key(world.store, "run"))
    assert page.locator("h1").inner_text() == headline
    shown = page.locator("#axes table").first.locator("tbody tr:not(.sub, .noise) th")
    assert [text.partition("\n")[0] for text in shown.all_inner_texts()] == named
    page.get_by_role("link", name="Shops", exact=True).click()
    page.wait_for_url("**/entities")
    assert n_found(page) == 300
    page.locator("tbody a").first.click()
    page.wait_for_url("**/entity/*")
    stranger.look(PHONE)
    assert stranger.overflow == 0
    assert stranger.faults == []


def test_the_file_of_an_overview_needs_nothing_but_itself(stranger, tmp_path):
    path = tmp_path / "dashboard.html"
    path.write_text(exported(BOARD), encoding="utf-8")
    page = stranger.visit(path)
    assert stranger.requests == [path.as_uri()]
    page.emulate_media(media="print")
    for size in (PHONE, PAPER):
        stranger.look(size)
        assert stranger.overflow == 0
    assert stranger.faults == []


# --- 100,000 shops ------------------------------------------------------------------


def test_a_hundred_thousand_shops_are_as_quick(stranger, world):
    sign_in(stranger, world, world.key_of_many)
    for road in ("", "/entities", "/entities?page=2000"):
        assert stranger.is_quick(f"{world.url}/dashboard{road}")
        assert stranger.n_bytes < 3_000_000
        assert stranger.faults == []
        if road:
            assert n_found(stranger.page) == N_MANY
            assert len(column(stranger.page, "Shop")) == 50
