"""The dashboard over HTTP: who gets in, what is shown to whom, and how it is kept."""

from __future__ import annotations

import html
import logging
import re
from contextlib import contextmanager

import pytest
from api_world import serving
from dashboard_world import AXES, N_SHOPS, STEADY, SUMMER

from core.api.app import ApiSettings
from core.dashboard.filters import address_of
from core.store import create_key, revoke_key

HOST = "127.0.0.1:8000"
PAGES = ("", "/axis/segment", "/entities", "/entity/S003")
SESSION = "segments-session"


@contextmanager
def browsing(address, secret="s" * 32, **headers):
    """Yield a browser without a session, at a server of its own."""
    settings = ApiSettings(address, session_secret=secret, only_dashboard=True)
    with serving(settings) as client:
        client.follow_redirects = True
        client.headers.update({"Host": HOST, **headers})
        yield client


@pytest.fixture
def stranger(store):
    with browsing(store.address) as client:
        yield client


@pytest.fixture
def member(stranger, key):
    assert sign_in(stranger, key).status_code == 200
    return stranger


@pytest.fixture(scope="module")
def visitor(store, key):
    """Yield a browser that is signed in, for tests that leave it so."""
    with browsing(store.address) as client:
        assert sign_in(client, key).status_code == 200
        yield client


def sign_in(client, key, **more):
    token = token_in(client.get("/dashboard/login"))
    return client.post("/dashboard/login", data={"key": key, "token": token}, **more)


def token_in(page):
    return re.search(r'name="token" value="([^"]+)"', page.text)[1]


def ids_in(page):
    return re.findall(r'href="/dashboard/entity/([\w-]+)"', page.text)


def test_a_key_opens_the_pages_of_its_store(visitor):
    for path in PAGES:
        page = visitor.get(f"/dashboard{path}")
        assert page.status_code == 200, path
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "120 of 130 shops could be segmented" in visitor.get("/dashboard").text


def test_nobody_sees_anything_without_a_session(stranger):
    for path in (*PAGES, "/"):
        page = stranger.get(f"/dashboard{path}", follow_redirects=False)
        assert page.status_code == 303, path
        assert page.headers["Location"] == "/dashboard/login"
        assert page.text == ""


def test_the_cookie_is_kept_from_scripts_and_other_sites(stranger, key):
    answer = sign_in(stranger, key, follow_redirects=False)
    cookies = answer.headers.get_list("set-cookie")
    kept = next(text for text in cookies if text.startswith(f"{SESSION}="))
    flags = set(kept.split("; "))
    assert {"HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"} <= flags
    assert "Secure" not in flags  # plain HTTP on this machine
    assert key.rpartition("_")[2] not in kept


@pytest.mark.parametrize("host", ["segments.example.com", HOST])
def test_over_tls_the_cookie_is_sent_over_tls_only(store, host):
    headers = {"Host": host, "X-Forwarded-Proto": "https"}
    with browsing(store.address, **headers) as client:
        kept = client.get("/dashboard/login").headers["set-cookie"]
    assert kept.startswith("__Host-segments-sign-in=")
    assert "Secure" in kept.split("; ")


@pytest.mark.parametrize(
    "headers", [{"Host": "192.0.2.7:8000"}, {"X-Forwarded-For": "192.0.2.7"}]
)
def test_no_key_is_asked_for_in_the_clear(store, headers):
    with browsing(store.address, **headers) as client:
        page = client.get("/dashboard/login")
    assert "<form" not in page.text
    assert "HTTPS" in page.text


def test_a_page_that_was_asked_for_comes_after_the_sign_in(stranger, key):
    wanted = "/dashboard/entities?q=S00&in=state%3Alapsed"
    stranger.get(wanted)
    answer = sign_in(stranger, key, follow_redirects=False)
    assert answer.headers["Location"] == wanted


@pytest.mark.parametrize("where", ["//evil.example", "https://evil.example"])
def test_the_sign_in_leads_nowhere_else(stranger, key, where):
    stranger.get("/dashboard/login", params={"next": where})
    stranger.get(f"/dashboard/{where}")
    answer = sign_in(stranger, key, follow_redirects=False)
    assert answer.headers["Location"] == "/dashboard"


def test_a_wrong_key_is_refused_and_not_repeated(stranger):
    for wrong in ("ss_1", "ss_" + 12 * "0" + "_" + 64 * "0", "' OR 1"):
        answer = sign_in(stranger, wrong)
        assert answer.status_code == 401
        assert "wrong, or it has been revoked" in answer.text
        assert html.escape(wrong) not in answer.text
    assert SESSION not in stranger.cookies


def test_forms_need_the_token_of_their_own_page(stranger, key):
    stranger.get("/dashboard/login")
    for data in ({"key": key}, {"key": key, "token": "x"}):
        assert stranger.post("/dashboard/login", data=data).status_code == 400
    assert SESSION not in stranger.cookies
    assert sign_in(stranger, key).status_code == 200
    assert stranger.post("/dashboard/logout", data={"token": "x"}).status_code == 400
    assert stranger.get("/dashboard", follow_redirects=False).status_code == 200


def test_who_signs_out_is_out(member):
    token = token_in(member.get("/dashboard"))
    member.post("/dashboard/logout", data={"token": token})
    page = member.get("/dashboard", follow_redirects=False)
    assert page.status_code == 303


def test_a_revoked_key_is_refused_with_the_next_request(store, stranger):
    short = create_key(store, "shops", "short")
    sign_in(stranger, short)
    assert stranger.get("/dashboard", follow_redirects=False).status_code == 200
    revoke_key(store, short)
    page = stranger.get("/dashboard", follow_redirects=False)
    assert page.headers["Location"] == "/dashboard/login"
    # htmx asks beside the page: it is told to leave it.
    part = stranger.get("/dashboard/entities", headers={"HX-Request": "true"})
    assert part.status_code == 204
    assert part.headers["HX-Redirect"] == "/dashboard/login"
    assert sign_in(stranger, short).status_code == 401


def test_a_cookie_of_another_server_or_a_changed_one_is_worthless(store, member):
    value = member.cookies[SESSION]
    with browsing(store.address, secret="t" * 32) as other:
        other.cookies.set(SESSION, value)
        assert other.get("/dashboard", follow_redirects=False).status_code == 303
    member.cookies.clear()
    member.cookies.set(SESSION, "A" + value[1:] if value[0] != "A" else "B" + value)
    assert member.get("/dashboard", follow_redirects=False).status_code == 303


def test_sign_ins_are_limited(stranger):
    answers = [sign_in(stranger, "wrong") for _ in range(7)]
    codes = [answer.status_code for answer in answers]
    assert codes[:5] == [401] * 5
    assert codes[-1] == 429
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_the_key_stands_in_no_address_and_no_log(stranger, key, caplog):
    with caplog.at_level(logging.DEBUG):
        answer = sign_in(stranger, key)
    secret = key.rpartition("_")[2]
    assert all(secret not in str(step.url) for step in [*answer.history, answer])
    assert secret not in answer.text
    assert all(secret not in str(vars(record)) for record in caplog.records)
    # The log knows whose data was read.
    stores = [getattr(record, "fields", {}).get("store") for record in caplog.records]
    assert "shops" in stores


@pytest.mark.parametrize("path", [*PAGES, "/login", "/nothing", "/axis/nothing"])
def test_pages_forbid_foreign_scripts_and_frames(visitor, path):
    page = visitor.get(f"/dashboard{path}", follow_redirects=False)
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "same-origin"
    # What the policy would stop is not there.
    inline = r"<script(?![^>]*\bsrc=)|<style|<[^>]*\s(?:style|on\w+)="
    assert re.findall(inline, page.text) == []
    foreign = r'(?:src|href|action)="(?!/dashboard|#|\?)[^"]*"'
    assert re.findall(foreign, page.text) == []


def test_files_of_the_pages_are_served_and_kept(visitor):
    names = re.findall(r'"(/dashboard/static/[^"]+)"', visitor.get("/dashboard").text)
    assert len(names) == 3
    for name in names:
        answer = visitor.get(name)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert visitor.get("/dashboard/static/..%2Froutes.py").status_code == 404


def test_a_link_on_another_site_asks_once_more(member):
    address, kept = "/dashboard/entity/S003?a=1", dict(member.cookies)
    # The browser sends no cookie with it: SameSite=Strict.
    member.cookies.clear()
    page = member.get(address, headers={"Sec-Fetch-Site": "cross-site"})
    assert f'content="0; url={address}"' in page.text
    assert "set-cookie" not in page.headers
    member.cookies.update(kept)
    again = member.get(address, headers={"Sec-Fetch-Site": "same-origin"})
    assert "Shop S003" in again.text


def test_only_the_own_store_is_shown(store, visitor):
    for path in ("/entity/stranger-S000", "/axis/nothing"):
        assert visitor.get(f"/dashboard{path}").status_code == 404
    listed = visitor.get("/dashboard/entities?q=stranger")
    assert "0 shops" in listed.text
    assert ids_in(listed) == []
    assert "THEIR HEADLINE" not in visitor.get("/dashboard").text
    with browsing(store.address) as theirs:
        page = sign_in(theirs, create_key(store, "theirs", "test"))
        assert "THEIR HEADLINE" in page.text
        assert theirs.get("/dashboard/entity/S003").status_code == 404


def test_names_are_text_and_no_markup(visitor):
    for path in PAGES:
        text = visitor.get(f"/dashboard{path}").text
        assert "<b>Large</b>" not in text
        assert "Summer / &lt;b&gt;Large&lt;/b&gt;" in text


def test_the_overview_tells_verdict_figures_sizes_moves_drift_and_rules(visitor):
    text = visitor.get("/dashboard").text
    for told in (
        "No separate groups.",
        "sales 12% up in a year",
        "sells in every month; large assortment",
        "Offer the full assortment",
        "80%",  # share of sales
        f"{STEADY}: 60 in 2025-10, 80 in 2025-12, most 80",
        "2025-12: 14 shops moved; the most: 12 from Summer",
        "2025-12: 7 shops moved; the most: 7 from active to lapsed",
        "1 measure above the limit",
        "share of July above 20%",
        "The segments tell of later sales.",
    ):
        assert told in text, told


def test_many_axes_are_told_in_brief_and_lead_to_pages_of_their_own(store, stranger):
    text = sign_in(stranger, create_key(store, "customers", "test")).text
    assert f"{len(AXES)} ways to divide the customers" in text
    assert text.count("moved") == text.count("2025-12-31: 1 customer moved") == 1
    for axis in AXES:
        assert f'href="/dashboard/axis/{axis}">By {axis}</a>' in text
    assert "No segments, one group only: <a" in text
    assert "high_value</a>" not in text  # but in words
    page = stranger.get("/dashboard/axis/price").text
    assert "1 from low to high value" in page
    assert html.escape(address_of("price", "high_value")) in page
    assert "1 customer (50%)" in page


def test_a_list_shows_what_tells_customers_apart(store, stranger):
    sign_in(stranger, create_key(store, "customers", "test"))
    text = stranger.get("/dashboard/entities").text
    assert text.index("By channel") < text.index("Loyalty")
    headings = re.findall(r"<th scope=\"col\"[^>]*>(?:<a[^>]*>)?([\w ]+)", text)
    assert headings == ["Customer", *(f"By {axis}" for axis in AXES[:4]), "Strength"]


def test_moves_of_another_month_are_a_link_away(visitor):
    assert 'href="?period=2025-11#flows-segment"' in visitor.get("/dashboard").text
    earlier = visitor.get("/dashboard?period=2025-11").text
    assert "2025-11: 10 shops moved" in earlier
    # What was not told of that month shows the newest.
    assert "2025-12: 7 shops moved" in earlier


def test_a_segment_leads_to_its_shops(visitor):
    link = html.escape(address_of("segment", SUMMER))
    assert f'href="{link}"' in visitor.get("/dashboard").text
    page = visitor.get(address_of("segment", SUMMER))
    assert "40 shops" in page.text
    assert ids_in(page)[:3] == ["S000", "S003", "S006"]


def test_the_list_is_searched_filtered_sorted_and_turned_by_links_alone(visitor):
    first = visitor.get("/dashboard/entities")
    assert len(ids_in(first)) == 50
    assert ids_in(first)[0] == "S000"  # the most sales
    last = visitor.get(re.search(r'href="([^"]+)">Last', first.text)[1])
    assert ids_in(last)[-1] == f"S{N_SHOPS - 1:03d}"
    asked = [("q", "s0"), ("in", "segment:"), ("in", "state:lapsed"), ("sort", "id")]
    narrow = visitor.get("/dashboard/entities", params=asked)
    assert ids_in(narrow) == [f"S0{tens}0" for tens in range(10)]
    turned = re.search(r'aria-sort="ascending"><a href="([^"]+)"', narrow.text)[1]
    assert ids_in(visitor.get(html.unescape(turned)))[0] == "S090"


@pytest.mark.parametrize(
    "query", ["page=0", "page=x", "page=" + 20 * "9", "sort=x&order=y", "in=", "in=x:y"]
)
def test_an_address_that_says_nonsense_is_a_page_all_the_same(visitor, query):
    assert visitor.get(f"/dashboard/entities?{query}").status_code == 200


def test_htmx_gets_the_same_page_and_a_short_address(visitor):
    asked = "/dashboard/entities?q=&in=&in=state%3Alapsed"
    page = visitor.get(asked, headers={"HX-Request": "true"})
    assert page.headers["HX-Push-Url"] == "/dashboard/entities?in=state%3Alapsed"
    assert page.text == visitor.get(asked).text


def test_one_shop_tells_where_it_is_and_how_it_came_there(visitor):
    text = visitor.get("/dashboard/entity/S003").text
    for told in ("Shop S003", "997", "0.03", STEADY, "Order early", "behaviour"):
        assert told in text, told


def test_a_store_without_a_board_says_what_to_do(store, stranger):
    page = sign_in(stranger, create_key(store, "old", "test"))
    assert "Nothing to show yet" in page.text
    assert len(ids_in(stranger.get("/dashboard/entities"))) == 2


def test_a_database_that_is_away_is_told_on_a_page(key):
    with browsing("postgresql://nobody@127.0.0.1:1/none") as client:
        answer = sign_in(client, key)
    assert answer.status_code == 503
    assert "The database is away" in answer.text
    assert "frame-ancestors" in answer.headers["Content-Security-Policy"]


def test_the_dashboard_alone_serves_no_api(stranger):
    first = stranger.get("/", follow_redirects=False)
    assert first.headers["Location"] == "/dashboard"
    assert stranger.get("/segments/stats").status_code == 404
    assert stranger.get("/docs").status_code == 404
