"""Shops of a run in the store: profiles, states and what the dashboard is told."""

from __future__ import annotations

import asyncio

import polars as pl
import pytest
from api_world import serving
from typer.testing import CliRunner

from core.api import schemas
from core.api.app import ApiSettings
from core.cli import app
from core.errors import StoreError
from core.resolve import resolve_config
from core.store import AsyncReader, create_key
from core.store.browsing import stored_board
from core.store.runs import publish_runs, publish_shops


@pytest.fixture(scope="module")
def config(world, trained):
    flags = {"artifacts": str(trained), "store.url": world.store.address}
    return resolve_config(flags=flags, environ={})


@pytest.fixture(scope="module")
def shops(config, trained):
    """Return the shops of the run, published by the verb."""
    where = ["--artifacts", config.artifacts, "--database", config.store.url]
    done = CliRunner().invoke(app, ["publish", *where])
    assert done.exit_code == 0, done.output
    table = pl.read_parquet(trained / "shops.parquet")
    assert f"{table.height:,} profiles of the store `shops`" in done.stdout
    return table


@pytest.fixture(scope="module")
def client(world, shops):
    key = create_key(world.store, "shops", "test")
    with serving(ApiSettings(world.store.address), key) as started:
        yield started


def profile(client, shop):
    answer = client.get(f"/segments/customer/{shop}")
    assert answer.status_code == 200, answer.text
    return schemas.CustomerSegments.model_validate(answer.json())


def test_every_shop_is_answered_for_as_its_file_says(client, shops, trained):
    predictions = pl.read_csv(
        trained / "cluster_predictions.csv", schema_overrides={"shop_id": pl.String}
    )
    for row in predictions.filter(pl.col("segment") >= 0).head(3).to_dicts():
        found = profile(client, row["shop_id"])
        assert found.segment_memberships == {
            "segment": row["segment_name"],
            "state": row["state"],
        }
        assert found.dominant_segments["segment"] == str(row["segment"])
        assert found.membership_strengths["segment"] == pytest.approx(
            row["latent_cluster_strength"]
        )
        own = shops.filter(shop_id=row["shop_id"])
        assert found.lifetime_value == own["sales_qty_last_12_months"][0]
        assert set(found.runner_up_segments) == {"segment"}


def test_shops_without_a_segment_say_why(client, shops):
    unassigned = profile(client, shops.filter(segment=-1)["shop_id"][0])
    assert unassigned.segment_memberships["segment"] == "unassigned"
    assert unassigned.membership_strengths["segment"] == 0
    row = shops.filter(pl.col("segment").is_null()).row(0, named=True)
    excluded = profile(client, row["shop_id"])
    assert excluded.segment_memberships["segment"] == "not segmented"
    assert excluded.segment_memberships["reason"] == row["reason"]
    assert excluded.membership_strengths == {"segment": 0}


def test_statistics_count_every_shop_once(client, shops):
    stats = client.get("/segments/stats").json()
    assert stats["total_customers"] == shops.height
    assert stats["customers_with_segments"] == int((shops["segment"] >= 0).sum())
    assert sum(stats["segment_distribution"]["segment"].values()) == shops.height
    (axis,) = client.get("/segments/axes").json()["axes"]
    named = {own["name"] for own in axis["segments"]} - {"unassigned"}
    assert stats["segments_per_axis"]["segment"] == len(named)
    body = {"customer_id": "x", "orders": []}
    answer = client.post("/segments/assign", json=body)
    assert answer.status_code == 409
    assert "holds segments of shops" in answer.json()["detail"]


def test_another_stores_key_does_not_find_a_shop(world, shops, client):
    answer = client.get(
        f"/segments/customer/{shops['shop_id'][0]}",
        headers={"X-API-Key": world.other_key},
    )
    assert answer.status_code == 404


def test_the_board_tells_what_the_report_tells(world, shops, trained):
    async def read():
        async with AsyncReader(world.store.address) as reader:
            return await stored_board(reader, "shops")

    board = asyncio.run(read()).board
    n = int(shops["segment"].is_not_null().sum())
    assert board.headline == f"{n} of {shops.height} shops could be segmented"
    (axis,) = board.axes
    assert sum(own.n for own in axis.segments if own.parent is None) == n
    shares = [own.value_share for own in axis.segments if own.parent is None]
    assert sum(shares) == pytest.approx(1)
    report = (trained / "report.html").read_text("utf-8")
    told = [own for own in axis.segments if own.id != "-1"]
    assert all(own.name in report and own.actions[0] in report for own in told)
    assert all(len(own.curve) == 36 and own.how_sure for own in told)
    (now,) = board.periods
    known = dict(shops["state"].drop_nulls().value_counts().iter_rows())
    assert now.states == dict.fromkeys(now.states, 0) | known
    # Before the first refresh: of shops that were known at both dates looked back to.
    assert {flow.kind for flow in board.flows} == {"state"}
    assert all(flow.old and flow.new != flow.old for flow in board.flows)


def test_publishing_again_changes_nothing(config, shops):
    again = publish_shops(config)
    assert again.facts == {"is_loaded": False}
    assert publish_runs(config)["shops"].facts == {"is_loaded": False}


def test_a_name_that_holds_something_else_is_refused(config, shops):
    with pytest.raises(StoreError, match="holds axes under the name `default`"):
        publish_shops(config, "default")
