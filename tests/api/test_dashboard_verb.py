"""`dashboard`: what it loads, prints, takes back at the end, and writes as a page."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from core.cli import app
from core.cli.dashboard import shown
from core.dashboard.pages import place_of
from core.errors import StoreError
from core.resolve import resolve_config
from core.store import list_keys


@pytest.fixture(scope="module")
def config(world):
    return resolve_config(flags={"artifacts": str(world.artifacts)}, environ={})


def test_the_service_has_the_dashboard_beside_the_api(world, client):
    page = client.get("/dashboard", headers={"X-API-Key": world.key})
    # The key of the API is no session.
    assert page.headers["Location"] == "/dashboard/login"
    form = client.get("/dashboard/login")
    token = re.search(r'name="token" value="([^"]+)"', form.text)[1]
    answer = client.post("/dashboard/login", data={"key": world.key, "token": token})
    assert answer.headers["Location"] == "/dashboard"
    assert "400 customers" in client.get("/dashboard/entities").text
    assert "/dashboard" not in client.get("/openapi.json").text


def test_the_key_is_printed_alone_and_is_valid_until_the_end(world, config, capsys):
    with shown(config, "default", "http://127.0.0.1:9", world.store):
        told = capsys.readouterr()
        key = told.out.strip()
        assert "http://127.0.0.1:9/dashboard" in told.err
        assert "holds these profiles already" in told.err
        known = {entry.prefix: entry for entry in list_keys(world.store, "default")}
        assert known[key.split("_")[1]].revoked_at is None
    known = {entry.prefix: entry for entry in list_keys(world.store, "default")}
    assert known[key.split("_")[1]].revoked_at is not None


def test_what_the_folder_holds_is_shown_unless_another_store_is_named(
    world, config, capsys
):
    for wanted, found in ((None, "default"), ("other", "other")):
        with shown(config, wanted, "http://127.0.0.1:9", world.store):
            assert f"Dashboard of the store `{found}`" in capsys.readouterr().err
    with (
        pytest.raises(StoreError, match=r"`--store nobody`; .*`default`"),
        shown(config, "nobody", "http://127.0.0.1:9", world.store),
    ):
        pass


def test_every_segment_of_the_board_leads_to_as_many_as_it_tells(world):
    board = world.store.board("default")
    with world.store.begin("count") as connection:
        row = connection.execute(
            "SELECT stats FROM axis_models WHERE store_id = 'default' AND is_current"
        ).fetchone()
    counted = row[0]["segment_distribution"]
    told = {}
    for axis in board.axes:
        for segment in axis.segments:
            name, known_as = place_of(axis, segment)
            told.setdefault(name, {})[known_as] = segment.n
    assert told == counted


def test_the_export_is_one_page_that_needs_nothing(world, tmp_path):
    page = tmp_path / "new" / "page.html"
    verb = ["dashboard", "--artifacts", str(world.artifacts), "--export", str(page)]
    done = CliRunner().invoke(app, verb)
    assert done.exit_code == 0, done.output
    text = page.read_text(encoding="utf-8")
    assert "400 customers" in text
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    # No link leads to the server that made it.
    assert re.findall(r'(?:href|src|action)="(?!#)[^"]*"|<script|<form', text) == []
