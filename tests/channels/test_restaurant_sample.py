"""The built-in restaurant chain: reproducible, with all that has to be taken out."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from core.channels.guests import CHANNELS, settings
from core.channels.model import Naming
from core.channels.rows import rows_of_channels
from core.channels.run import run_channels
from core.channels.sample import (
    RestaurantSample,
    generate_restaurant,
    with_sample,
    write_sample,
)
from core.errors import ConfigError
from core.resolve import build_config, resolve_config
from core.rules.grammar import read_rules
from core.segments.rule_axis import segment_names


@pytest.fixture(scope="module")
def sample() -> RestaurantSample:
    return generate_restaurant(400, 7)


def test_same_seed_gives_the_same_rows_and_another_seed_others(sample):
    again, other = generate_restaurant(400, 7), generate_restaurant(400, 8)
    for channel in CHANNELS:
        assert_frame_equal(again.orders[channel], sample.orders[channel])
        assert_frame_equal(again.items[channel], sample.items[channel])
        assert_frame_equal(again.customers[channel], sample.customers[channel])
    assert not other.orders["ownapp"].equals(sample.orders["ownapp"])


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_order_has_items_and_adds_up(sample, channel: str):
    orders, items = sample.orders[channel], sample.items[channel]
    assert orders["order_id"].is_unique().all()
    assert set(items["order_id"]) == set(orders["order_id"])
    gross = items.group_by("order_id").agg(
        gross=(pl.col("price") * pl.col("quantity")).sum()
    )
    difference = pl.col("gross") - pl.col("total_price") - pl.col("discount_amount")
    joined = orders.join(gross, on="order_id")
    assert joined.select(difference.abs().max()).item() < 0.01


def test_choices_belong_to_a_meal_of_their_order_and_stand_beside_own_lines(sample):
    items = sample.items["ownapp"]
    is_choice = pl.col("header_item_id").is_not_null()
    choices, lines = items.filter(is_choice), items.filter(~is_choice)
    headers = lines.select("order_id", header_item_id="item_id")
    assert choices.join(
        headers, on=["order_id", "header_item_id"], how="anti"
    ).is_empty()
    twins = choices.join(lines, on=["order_id", "item_id"], how="semi").height
    assert 0.3 < twins / choices.height < 0.9


def test_maps_catalogue_and_stores_have_gaps(sample):
    for channel in CHANNELS:
        key = sample.customers[channel].columns[0]
        mapped = sample.orders[channel].join(
            sample.customers[channel], on=key, how="anti"
        )
        assert 0 < mapped.height < sample.orders[channel].height / 2
        assert sample.customers[channel][key].is_unique().all()
    sold = pl.concat(list(sample.items.values())).select("item_id").unique()
    assert not sold.join(sample.catalog, on="item_id", how="anti").is_empty()
    assert sample.catalog["base_category"].null_count() == 2
    assert "Exclude" in sample.catalog["driver_category"].to_list()
    visited = sample.orders["ownapp"].join(sample.stores, on="store_id", how="anti")
    assert 0 < visited.height < 0.1 * sample.orders["ownapp"].height
    accounts = sample.customers["ownapp"].group_by("central_id").len()
    assert accounts["len"].max() == 2


def test_nights_cross_midnight_and_clocks_change(sample):
    zone = settings()["options"]["timezone"]
    utc = pl.col("order_time").dt.replace_time_zone("UTC")
    local = sample.orders["ownapp"].select(local=utc.dt.convert_time_zone(zone))
    assert local["local"].dt.hour().is_in([0, 1, 2, 3]).any()
    assert local["local"].dt.dst_offset().n_unique() == 2
    # Restaurants are closed in the hour that comes twice.
    closed = sample.orders["instore"]["order_time"].dt.hour().is_between(3, 4)
    assert closed.mean() < 0.01


def test_planted_kinds_are_seen_in_the_orders(sample):
    whose = sample.orders["ownapp"].join(sample.customers["ownapp"], on="customer_id")
    known = whose.join(sample.truth, on="central_id")
    of_kind = known.group_by("kind").agg(
        weekend=(pl.col("order_time").dt.weekday() > 5).mean(),
        discounted=(pl.col("discount_amount") > 0).mean(),
        orders=pl.len() / pl.col("central_id").n_unique(),
    )
    kinds = {row.pop("kind"): row for row in of_kind.to_dicts()}
    assert kinds["office_lunch"]["weekend"] < 0.1
    assert kinds["family_weekend"]["weekend"] > 0.8
    assert kinds["premium"]["discounted"] < 0.2
    assert kinds["deal_seeker"]["discounted"] > 0.7
    assert kinds["one_time"]["orders"] == 1
    assert kinds["regular"]["orders"] > 5


def test_blocks_are_written_as_they_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("core.channels.sample.BLOCK", 150)
    made = generate_restaurant(400, 7)
    assert made.truth["central_id"].n_unique() == 400
    ids = pl.concat([table.select("order_id") for table in made.orders.values()])
    assert ids["order_id"].is_unique().all()
    rows = write_sample(tmp_path, 400, 7, "parquet")
    for channel in CHANNELS:
        read = pl.read_parquet(tmp_path / f"{channel}_items.parquet")
        assert_frame_equal(read, made.items[channel])
        assert rows[f"{channel}_items.parquet"] == read.height
    assert_frame_equal(pl.read_parquet(tmp_path / "catalog.parquet"), made.catalog)


def test_csv_holds_what_parquet_holds(tmp_path: Path, sample):
    write_sample(tmp_path, 400, 7)
    orders = pl.read_csv(tmp_path / "ownapp_orders.csv", try_parse_dates=True)
    assert_frame_equal(orders, sample.orders["ownapp"])
    assert orders["order_time"].min() < datetime(2023, 4, 1)


def test_written_configuration_names_the_written_files(tmp_path: Path):
    write_sample(tmp_path, 20, 7)
    written = resolve_config(tmp_path / "channels.yaml").channels
    assert list(written.sources) == list(CHANNELS)
    for source in written.sources.values():
        for address in (source.orders, source.items, source.customers):
            assert Path(address).is_file()
    saved = yaml.safe_load((tmp_path / "channels.yaml").read_text("utf-8"))
    assert saved["channels"]["timezone"] == written.timezone != "UTC"


def test_built_in_run_takes_the_options_of_the_sample_and_keeps_the_users(tmp_path):
    asked = build_config({"channels": {"sample_customers": 20, "months_offset": 3}})
    channels = with_sample(asked, tmp_path).channels
    assert channels.months_offset == 3
    assert channels.run_date == "2025-07-01"
    assert channels.timezone == settings()["options"]["timezone"]
    assert Path(channels.catalog or "").is_file()


def test_files_and_built_in_run_give_the_same(tmp_path: Path):
    write_sample(tmp_path / "rows", 120, 42)
    flags = {"artifacts": str(tmp_path / "files")}
    run_channels(resolve_config(tmp_path / "rows" / "channels.yaml", flags))
    flags = {"artifacts": str(tmp_path / "own"), "channels.sample_customers": 120}
    run_channels(resolve_config(None, flags))
    for name in ("customer_features", "segments", "micro_segments"):
        files, own = (
            pl.read_parquet(tmp_path / folder / "channels" / f"{name}.parquet")
            for folder in ("files", "own")
        )
        assert_frame_equal(files, own)


def test_every_rule_segment_has_guests_in_the_default_sample(tmp_path: Path):
    config = with_sample(build_config({}), tmp_path)
    rows = rows_of_channels(config, tmp_path)
    rules = read_rules("order-bands")
    view = Naming.of(config.channels, rows.home).view(rows.features, rules)
    found = segment_names(rules, view).value_counts()
    assert found["segment"].null_count() == 0
    assert found.height == len(rules.segments) == 27


@pytest.mark.parametrize(("customers", "seed"), [(0, 1), (-1, 1), (1, -1)])
def test_impossible_numbers_are_refused(customers: int, seed: int):
    with pytest.raises(ConfigError, match="at least 1 customer"):
        generate_restaurant(customers, seed)
