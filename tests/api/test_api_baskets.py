"""A store of basket segments is served as one of axes is."""

from __future__ import annotations

import polars as pl
import pytest
from api_world import serving

from core.api import schemas
from core.api.app import ApiSettings
from core.baskets.run import run_baskets
from core.config import Config
from core.reporting.board import Board
from core.store import create_key
from core.store.publish import publish_profiles


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("baskets")
    baskets = {"sample_customers": 60, "study": False, "cuts": 0}
    tree = {"artifacts": str(folder), "baskets": baskets}
    config = Config.model_validate({**tree, "store": {"url": world.store.address}})
    done = run_baskets(config, into_store=publish_profiles)
    assert done.exit_code == 0, done.lines
    return done


@pytest.fixture(scope="module")
def client(world, run):
    key = create_key(world.store, "baskets", "test")
    with serving(ApiSettings(world.store.address), key) as started:
        yield started


def test_a_customer_has_the_segment_of_the_run(client, run):
    segments = pl.read_parquet(run.folder / "segments.parquet").head(4)
    for row in segments.iter_rows(named=True):
        answer = client.get(f"/segments/customer/{row['customer_id']}")
        assert answer.status_code == 200
        body = schemas.CustomerSegments.model_validate(answer.json())
        assert body.segment_memberships == {"segment": row["segment"]}
        assert body.membership_strengths == {"segment": 1.0}
        assert body.total_orders >= 5
    answer = client.post("/segments/assign", json={"customer_id": "x", "orders": []})
    assert answer.status_code == 409
    assert "holds basket segments" in answer.json()["detail"]


def test_the_board_of_the_run_is_in_the_store(world, run):
    with world.store.begin("read") as connection:
        statement = "SELECT board::text FROM axis_models WHERE store_id = 'baskets'"
        (text,) = connection.execute(statement).fetchone()
    board = Board.from_json(text)
    profiles = pl.read_parquet(run.folder / "customer_profiles.parquet")
    assert board.headline in (run.folder / "baskets.html").read_text("utf-8")
    assert ("Customers", f"{profiles.height}") in board.tiles
    (axis,) = board.axes
    assert sum(own.n for own in axis.segments) == profiles.height
    assert {name for name, _ in board.rules} == {own.name for own in axis.segments}
    assert all("frequency score" in rule for _, rule in board.rules)
    (period,) = board.periods
    assert sum(period.sizes["segment"].values()) == profiles.height
