"""Every shop in the report: nobody is lost on the way into its table."""

from __future__ import annotations

import base64
import gzip
import json
import re

import polars as pl


def packed_shops(folder) -> tuple[dict, pl.DataFrame]:
    """Return what the page tells of its table, and the table as a reader sees it."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    found = re.search(
        r'<script type="application/json" id="packed">(.*?)</script>', page
    )
    head = json.loads(found[1])
    data = json.loads(gzip.decompress(base64.b64decode(head["data"])))
    for column in head["columns"]:
        if values := column["values"]:
            codes = data[column["key"]]
            data[column["key"]] = [None if c < 0 else values[c] for c in codes]
    return head, pl.DataFrame(data)


def test_every_shop_is_in_the_page_with_its_segment_or_the_reason_why_not(trained):
    head, shops = packed_shops(trained)
    written = pl.read_csv(
        trained / "cluster_predictions.csv", schema_overrides={"shop_id": pl.String}
    )
    assert head["n_shown"] == head["n"] == written.height
    both = shops.join(written, on="shop_id", validate="1:1", suffix="_written")
    assert both.height == written.height
    named = both.filter(pl.col("reason").is_null())
    names = named["segment"].str.replace(r"^\d+ ", "")
    assert names.to_list() == named["segment_name"].to_list()
    assert both["reason"].to_list() == both["reason_written"].to_list()
    assert both["state"].to_list() == both["state_written"].to_list()
    others = both.filter(pl.col("reason").is_not_null())
    assert others.height > 0
    assert set(others["segment"]) == {"not segmented"}
    assert set(others["x"]) == {-1}


def test_the_largest_shops_come_first_and_lie_where_their_segment_is_named(trained):
    head, shops = packed_shops(trained)
    sales = shops["sales"].drop_nulls().to_list()
    assert sales == sorted(sales, reverse=True)
    x, y, text = head["map"]["labels"][0]
    own = shops.filter(pl.col("segment").str.starts_with(f"{text} "), pl.col("x") >= 0)
    assert own["x"].min() <= x <= own["x"].max()
    assert own["y"].min() <= y <= own["y"].max()
