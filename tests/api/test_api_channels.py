"""A store of channel segments is served as one of axes is."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from api_world import World, serving

from core.api import schemas
from core.api.app import ApiSettings
from core.channels.run import run_channels
from core.config import Config
from core.errors import StoreError
from core.store import create_key
from core.store.publish import publish_profiles

RULES = """
features: {ownapp_order_count: {type: integer, from: 0}}
segments:
  - {name: few, when: ownapp_order_count < 4}
  - {name: many, when: ownapp_order_count >= 4}
"""


def config(world: World, folder, store="channels"):
    orders = np.arange(1, 41) % 8
    table = pl.DataFrame(
        {
            "customer_id": [f"G{i}" for i in range(40)],
            "ownapp_order_count": orders,
            "hours": np.where(np.arange(40) % 3 > 0, 1.0, 9.0) + np.arange(40) / 100,
        }
    )
    folder.mkdir(exist_ok=True)
    table.write_parquet(folder / "guests.parquet")
    (folder / "rules.yaml").write_text(RULES, encoding="utf-8")
    item = {"name": "deep", "source_segments": ["many"], "features": ["hours"], "k": 2}
    channels = {
        "features": str(folder / "guests.parquet"),
        "rules": str(folder / "rules.yaml"),
        "micro": [item],
        "run_date": "2025-06-01",
        "store": store,
    }
    tree = {"artifacts": str(folder), "channels": channels}
    return Config.model_validate({**tree, "store": {"url": world.store.address}})


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("channels")
    done = run_channels(config(world, folder), into_store=publish_profiles)
    assert done.exit_code == 0, done.lines
    return done


@pytest.fixture(scope="module")
def client(world, run):
    key = create_key(world.store, "channels", "test")
    with serving(ApiSettings(world.store.address), key) as started:
        yield started


def test_a_customer_has_a_rule_segment_and_only_where_divided_a_micro_segment(
    client, run
):
    table = pl.read_parquet(run.folder / "customer_profiles.parquet")
    for row in table.head(8).iter_rows(named=True):
        answer = client.get(f"/segments/customer/{row['customer_id']}")
        assert answer.status_code == 200
        body = answer.json()
        schemas.CustomerSegments.model_validate(body)
        said = {a: s for a, s in row["segment_memberships"].items() if s is not None}
        assert body["segment_memberships"] == said
        assert ("deep" in said) == (said["segment"] == "many")
        assert body["membership_strengths"].keys() == said.keys()


def test_segments_are_listed_with_their_ids(client):
    body = schemas.AxesOut.model_validate(client.get("/segments/axes").json())
    axes = {axis.name: axis for axis in body.axes}
    assert list(axes) == ["segment", "deep"]
    assert [(s.id, s.name) for s in axes["segment"].segments] == [
        (0, "few"),
        (1, "many"),
        (-1, "no_rule"),
    ]
    stats = client.get("/segments/stats").json()
    assert stats["segments_per_axis"] == {"segment": 2, "deep": 2}


def test_a_request_to_assign_is_told_that_runs_do_it(client):
    answer = client.post("/segments/assign", json={"customer_id": "x", "orders": []})
    assert answer.status_code == 409
    assert "assigned by runs only" in answer.json()["detail"]


def test_a_store_of_axes_is_not_overwritten(world, tmp_path):
    before = world.store.model("default")
    done = run_channels(config(world, tmp_path, "default"), into_store=publish_profiles)
    assert done.exit_code == StoreError.exit_code
    assert "holds axes under the name `default`" in done.lines[-1]
    assert world.store.model("default") == before
