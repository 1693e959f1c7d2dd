"""All entities in a page: packed whole, or the first that fit; placed on the map."""

from __future__ import annotations

import base64
import gzip
import json

import numpy as np
import polars as pl
import pytest

from core.entities import Entity
from core.reporting.explorer import explorer, map_view

SHOP = Entity("shop_id", "shop", "shops", "sales")
GROUPS = pl.Enum(["0 Steady", "1 Rising", "unassigned"])
TITLES = {"shop_id": "Shop", "segment": "Segment", "sales": "Sales"}


def table(n: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "shop_id": [f"S{number:06}" for number in rng.permutation(n)],
            "segment": pl.Series(["0 Steady", None, "unassigned"] * (n // 3)).cast(
                GROUPS
            ),
            "sales": rng.lognormal(8, 1, n).round(),
            "x": rng.integers(0, 1024, n),
        }
    )


def unpacked(packed: dict) -> dict:
    return json.loads(gzip.decompress(base64.b64decode(packed["data"])))


def test_a_script_gets_every_entity_as_it_is():
    shops = table(300)
    packed = explorer(shops, TITLES, SHOP, ["segment"])
    data = unpacked(packed)
    assert packed["n_shown"] == packed["n"] == 300
    assert data["shop_id"] == shops["shop_id"].to_list()
    assert data["x"] == shops["x"].to_list()
    assert data["segment"][:3] == [0, -1, 2]
    columns = {column["key"]: column for column in packed["columns"]}
    assert columns["segment"]["values"] == GROUPS.categories.to_list()
    assert [c["digits"] for c in columns.values()] == [None, None, 0]
    assert [c["is_filter"] for c in columns.values()] == [False, True, False]
    assert packed == explorer(shops, TITLES, SHOP, ["segment"])


def test_what_is_no_number_is_not_known_to_the_script():
    shops = table(3).with_columns(sales=pl.Series([1.5, float("nan"), float("inf")]))
    data = unpacked(explorer(shops, TITLES, SHOP, []))
    assert data["sales"] == [1.5, None, None]


@pytest.mark.parametrize("limit", [20_000, 4_000])
def test_of_many_entities_the_first_that_fit_are_kept(limit):
    shops = table(9_000)
    packed = explorer(shops, TITLES, SHOP, [], limit=limit)
    assert 0.9 * limit < len(packed["data"]) <= limit
    n = packed["n_shown"]
    assert 0 < n < packed["n"] == 9_000
    assert unpacked(packed)["shop_id"] == shops["shop_id"][:n].to_list()


def test_the_map_keeps_outliers_off_and_names_segments_where_they_are_densest():
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal(0, 1, (500, 2)), rng.normal(9, 1, (500, 2))])
    points = np.concatenate([points, [[900.0, 0.0]], [[4.0, 4.0]]])
    names = ["0 Steady"] * 500 + ["1 Rising"] * 500 + ["1 Rising", "unassigned"]
    segments = pl.Series("segment", names, dtype=GROUPS)
    places, view = map_view(points, segments, ["unassigned"])
    assert places.row(1_000) == (-1, -1)
    inside = places.filter(pl.col("x") >= 0)
    assert inside.height == 1_001
    assert inside.select(pl.min_horizontal(pl.all().min())).item() >= 0
    assert inside.select(pl.max_horizontal(pl.all().max())).item() <= 1_023
    assert view["key"] == "segment"
    assert [text for *_, text in view["labels"]] == ["0", "1"]
    (left, *_), (right, *_) = view["labels"]
    assert left < 400
    assert right > 600
    assert [name for name, _ in view["legend"]] == GROUPS.categories.to_list()
    assert [colour for _, colour in view["legend"]] == view["colours"]
    assert len(set(view["colours"])) == 3
