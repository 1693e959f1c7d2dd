"""A store of a feature table places a row of features as the run did."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from api_world import serving

from core.api import schemas
from core.api.app import ApiSettings
from core.config import Config
from core.store import create_key
from core.store.publish import publish_profiles
from core.tabular.run import run_fit


@pytest.fixture(scope="module")
def members():
    """Return members of two groups; of one of them nothing is known."""
    rng = np.random.default_rng(0)
    is_large = np.arange(120) % 3 == 0
    table = pl.DataFrame(
        {
            "member": [f"M{i}" for i in range(120)],
            "income": np.where(is_large, 90_000, 30_000) + rng.normal(0, 900, 120),
            "visits": np.where(is_large, 40, 5) + rng.integers(0, 3, 120),
            "plan": np.where(is_large, "team", "free"),
        }
    )
    blank = pl.DataFrame({"member": ["M120"]})
    return pl.concat([table, blank], how="diagonal")


@pytest.fixture(scope="module")
def client(world, members, tmp_path_factory):
    tree = {
        "artifacts": str(tmp_path_factory.mktemp("fit")),
        "fit": {"id": "member", "max_segments": 3},
        "store": {"url": world.store.address},
    }
    done = run_fit(Config.model_validate(tree), members, into_store=publish_profiles)
    assert done.exit_code == 0, done.lines
    key = create_key(world.store, "table", "test")
    with serving(ApiSettings(world.store.address), key) as started:
        yield started


def test_a_row_gets_the_segment_that_the_run_gave_it(client, members):
    for row in [*members.head(5).to_dicts(), members.row(120, named=True)]:
        name = row.pop("member")
        body = {"customer_id": name, "features": {**row, "shoe size": 43}}
        answer = client.post("/segments/assign", json=body)
        assert answer.status_code == 200, answer.text
        found = schemas.AssignedSegments.model_validate(answer.json())
        stored = client.get(f"/segments/customer/{name}").json()
        assert found.segment_memberships == stored["segment_memberships"]
        assert found.membership_strengths == stored["membership_strengths"]
        assert found.runner_up_segments == stored["runner_up_segments"]
        assert found.confidence == stored["confidence"]
        nothing = {"segment": "every column that counts is null"}
        assert found.not_placed == (nothing if row["income"] is None else {})


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"income": 1, "plan": "free"}, "lacks `visits`"),
        ({"income": "much", "visits": 3, "plan": "free"}, "`income` held numbers"),
        ({"income": 1e31, "visits": 3, "plan": "free"}, "beyond 1e30"),
        ({"income": [1], "visits": 3, "plan": "free"}, "`features.income"),
        ({}, "lacks `income`"),
    ],
)
def test_a_row_that_cannot_be_placed_is_refused_with_the_column(
    client, features, message
):
    body = {"customer_id": "new", "features": features}
    answer = client.post("/segments/assign", json=body)
    assert answer.status_code == 422
    assert message in answer.json()["detail"][0]["msg"]


def test_orders_are_refused_with_what_is_expected(client):
    answer = client.post("/segments/assign", json={"customer_id": "x", "orders": []})
    assert answer.status_code == 422
    assert any("`features`" in one["msg"] for one in answer.json()["detail"])
