"""Spark: the same results as one machine, from DataFrames that nobody collects.

All tests are in one file, since each process that runs some starts a JVM.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from rules import random_guests
from untidy import (
    everyone,
    on_spark,
    untidy,
    untidy_baskets,
    untidy_channel,
    untidy_lines,
    untidy_sales,
)

from core.axes import AxesAssigner, run_axes
from core.axes.sample import generate_shoppers, order_lines
from core.baskets.intake import read_baskets
from core.baskets.model import BasketsAssigner
from core.baskets.rows import rows_of
from core.baskets.run import run_baskets
from core.baskets.sample import write_sample
from core.baskets.spark import given_tables
from core.channels.model import ChannelsAssigner
from core.channels.rows import rows_of_channels
from core.channels.run import run_channels
from core.channels.sample import with_sample
from core.config import (
    AxesConfig,
    BasketsConfig,
    ChannelsConfig,
    Config,
    DataConfig,
    SampleConfig,
    SparkConfig,
)
from core.errors import ArtifactError, ConfigError, SourceError
from core.months import month_index
from core.retailers.model import Model
from core.retailers.on_spark import prepared_on_spark
from core.retailers.pipelines import prepare_features, run_all
from core.retailers.refresh.run import run_refresh
from core.retailers.sample import generate_sales
from core.retailers.spark_parts import KEPT, Known, shops_part, shops_schema
from core.rules.assign import assign_rules
from core.rules.compile import to_sql
from core.rules.grammar import read_rules
from core.segments.export import to_statements
from core.segments.states import LifeCycle
from core.spark import session as sessions
from core.spark import tables
from core.spark.rows import parsed_rows
from core.spark.sources import SparkSource, read_source
from core.spark.tables import by_entity, collected, map_tables, read, write
from core.tables.cells import parse_rows
from core.tables.ids import drawn_by_hash
from core.tables.orders import intake_lines, purchases_from_frames, read_purchases
from core.tables.readers import ReceivedTable
from core.tables.reconcile import ORDERS

# Notes on amounts of order lines.
MONEY = ("`discount_amount` is", "`line_total` is")

pytestmark = [pytest.mark.spark, pytest.mark.slow]


def test_each_partition_holds_all_rows_of_its_shops(spark, monkeypatch):
    # Inside the test, so that executors get it by value.
    def counted(table: pl.DataFrame, least: int) -> pl.DataFrame:
        counts = table.group_by("shop_id").agg(pl.len().cast(pl.Int64).alias("n"))
        return counts.filter(pl.col("n") >= least)

    monkeypatch.setattr(tables, "ROWS_OF_PARTITION", 100)
    rows = pl.DataFrame({"shop_id": [f"S{i % 37}" for i in range(500)] + [None] * 3})
    df = spark.createDataFrame(rows.to_arrow()).repartition(4)
    parts = by_entity(df, "shop_id", 503)
    assert parts.rdd.getNumPartitions() == 6
    schema = {"shop_id": pl.String, "n": pl.Int64}
    counts = collected(map_tables(parts, counted, schema, 13, is_whole=True))
    assert counts.sort("shop_id").equals(counted(rows, 13).sort("shop_id"))
    assert 0 < counts.height < 38


def test_files_are_read_as_on_one_machine_and_the_session_stays_as_it_was(
    spark, tmp_path
):
    def same(table: pl.DataFrame, _: Any) -> pl.DataFrame:
        return table

    moment = datetime(2024, 1, 1, 2, 30)
    times = pl.DataFrame({"naive": [moment], "zoned": [moment.replace(tzinfo=UTC)]})
    (tmp_path / "shop=007").mkdir()
    times.write_parquet(tmp_path / "shop=007" / "a.parquet")
    before = {name: spark.conf.get(name, None) for name in sessions.READING}
    with sessions.read_as_here(spark):
        df = spark.read.parquet(str(tmp_path))
        schema = {"naive": pl.Datetime, "shop": pl.String}
        found = collected(map_tables(df, same, schema))
        zoned = collected(df)["zoned"].dt.replace_time_zone(None)
    assert found.row(0) == (moment, "007")
    assert zoned[0] == moment
    assert {name: spark.conf.get(name, None) for name in sessions.READING} == before
    assert before["spark.sql.session.timeZone"] == "America/New_York"


def test_moments_are_of_utc_for_customers_and_of_the_session_for_sales_handed_in(
    spark,
):
    # In New York, where the session is, it is still the last day of the month before.
    months = [
        datetime(2022 + i // 12, 1 + i % 12, 1, 2, 30, tzinfo=UTC) for i in range(26)
    ]
    n = len(months)
    cells = {"customer_id": ["a"] * n, "order_date": months, "total_price": [1.0] * n}
    orders = pl.DataFrame({"order_id": [str(i) for i in range(n)], **cells})
    with sessions.read_as_here(spark):
        source = SparkSource(on_spark(spark, orders), "the frame of orders")
        rows = parsed_rows(source, {}, ORDERS, DataConfig()).rows()
        found = collected(rows.select("order_id", "order_date"))
    table = ReceivedTable("the frame of orders", orders.lazy(), "")
    here = parse_rows(table, {}, ORDERS, DataConfig()).rows.collect()
    assert_frame_equal(
        found.sort("order_date"), here.select(found.columns).sort("order_date")
    )
    assert found["order_date"].dt.hour().unique().to_list() == [2]
    sold = {"shop_id": ["S1", "s1"] * 13, "date": months, "sales_qty": [1.0] * n}
    sales = on_spark(spark, pl.DataFrame({"product_id": ["P1"] * n, **sold}))
    with prepared_on_spark(Config(), sales) as prepared:
        intake = prepared.intake
    assert (intake.oldest_month, intake.newest_month) == ("2021-12", "2024-01")


def test_results_go_to_a_folder_or_to_tables(spark, tmp_path):
    df = spark.createDataFrame(pl.DataFrame({"shop_id": ["S1"]}).to_arrow())
    folder = write(df, str(tmp_path / "a folder"), "features")
    write(df, str(tmp_path / "a folder"), "features")
    files = list((tmp_path / "a folder" / "features").glob("*.parquet"))
    assert pl.read_parquet(files).rows() == [("S1",)]
    assert spark.read.parquet(folder).count() == 1
    assert write(df, "everyone_", "features") == "everyone_features"
    assert collected(read(spark, "everyone_", "features")).rows() == [("S1",)]
    source = read_source(spark, "everyone_features", DataConfig())
    assert (source.df.count(), source.name) == (1, "everyone_features")
    with pytest.raises(SourceError, match="finds nothing there"):
        read_source(spark, str(tmp_path / "none"), DataConfig())


def test_a_session_without_pyspark_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(SourceError, match=r"pip install .*spark"):
        sessions.session(SparkConfig())


def test_spark_is_told_by_its_frames_and_not_imported(spark):
    assert sessions.is_spark(spark.range(1))
    assert not sessions.is_spark(pl.DataFrame())
    code = (
        "import sys, core.spark.session, core.spark.tables, core.retailers.pipelines\n"
        "sys.exit('pyspark' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def told_of_everyone(lines: list[str]) -> list[str]:
    """Return what a run on Spark says of the rows of everyone."""
    said = "Everyone: "
    return [line.removeprefix(said) for line in lines if line.startswith(said)]


@pytest.fixture
def in_parts(monkeypatch):
    """Let few rows be several parts."""
    monkeypatch.setattr(tables, "ROWS_OF_PARTITION", 2_500)


def test_axes_of_a_sample_give_everyone_on_spark_what_one_machine_gives(
    spark, in_parts, tmp_path
):
    made = generate_shoppers(140, 5)
    rows = untidy(made.orders, made.items)
    config = Config(
        artifacts=str(tmp_path),
        axes=AxesConfig(max_segments=2),
        spark=SparkConfig(fit_customers=100),
    )
    done = run_axes(config, *(on_spark(spark, table) for table in rows))
    here = purchases_from_frames(*rows, config, tmp_path / "work")
    assigner = AxesAssigner.load(tmp_path / "axes")
    assert assigner.reference_date == here.reference_date
    features = assigner.features(here)
    assert_frame_equal(everyone(tmp_path, "axes_features"), features)
    profiles = everyone(tmp_path, "axes_profiles")
    assert_frame_equal(profiles, assigner.profiles(features))
    # Learnt from the smallest hashes; who shares the id of an order counts as one.
    sharing = rows[0].filter(order_id="1")["customer_id"].drop_nulls().unique().sort()
    one = pl.col("customer_id").replace(
        sharing, sharing.new_from_index(0, len(sharing))
    )
    known = rows[0].drop_nulls("customer_id").select(one.unique()).to_series()
    drawn = known.filter(drawn_by_hash(known, 100))
    sample = pl.read_parquet(tmp_path / "axes" / "customer_profiles.parquet")
    expected = profiles.filter(one.is_in(drawn.implode()))
    assert_frame_equal(sample.sort("customer_id"), expected)
    said = f"learnt from 100 of {len(known)} customers, those"
    assert any(said in line for line in done.lines)
    # Rows have other numbers there.
    cells = ["table", "reason", "customer_id", "order_id", "total_price", "price"]
    aside = everyone(tmp_path, "axes_rejected").select(cells)
    assert_frame_equal(aside.sort(cells), here.rejected.select(cells).sort(cells))
    assert set(", ".join(here.rejected["reason"]).split(", ")) >= {
        "refund", "repeated_order", "unknown_order", "ambiguous_order",
        "missing_customer", "order_set_aside", "impossible_date",
    }  # fmt: skip
    told, said = told_of_everyone(done.lines), intake_lines(here.intake)
    assert told[0] == said[0]
    assert {line for line in told if "set aside" in line} <= {*said}


def test_order_lines_on_spark_are_the_orders_of_one_machine(
    spark, monkeypatch, tmp_path
):
    monkeypatch.setattr(tables, "ROWS_OF_PARTITION", 700)
    untidy_lines(order_lines(generate_shoppers(60, 5)), tmp_path / "lines.csv")
    axes = AxesConfig(max_segments=2, lines=str(tmp_path / "lines.csv"))
    config = Config(artifacts=str(tmp_path), axes=axes)
    there = config.model_copy(
        update={"features": config.features.model_copy(update={"engine": "spark"})}
    )
    done = run_axes(there)
    here = read_purchases(config, tmp_path / "work")
    assigner = AxesAssigner.load(tmp_path / "axes")
    assert assigner.reference_date == here.reference_date
    features = assigner.features(here)
    assert_frame_equal(everyone(tmp_path, "axes_features"), features)
    aside = pl.read_parquet(tmp_path / "spark" / "axes_rejected" / "*.parquet")
    cells = [n for n in here.rejected.columns if n != "source_row"]
    assert_frame_equal(
        aside.select(cells).sort(cells), here.rejected[cells].sort(cells)
    )
    # Of those set aside, the lines that they were made of.
    assert not aside["source_row"].has_nulls()
    assert set(", ".join(here.rejected["reason"]).split(", ")) >= {
        "missing_customer", "impossible_date", "ragged_line",
    }  # fmt: skip
    said = intake_lines(here.intake)
    told = {line.replace(f"{tmp_path}/", "") for line in told_of_everyone(done.lines)}
    assert told >= {*said[:3]}
    once, before = (line for line in said if line.startswith(MONEY))
    assert once.endswith("by value. In 1 order it differs: the largest counts.")
    assert before.endswith("is before discounts: they were taken off.")
    assert told >= {once, before}


def test_untidy_baskets_on_spark_have_the_features_of_one_machine(
    spark, in_parts, tmp_path
):
    # A folder of CSV, Parquet in parts, and the items of newest orders.
    folder = tmp_path / "a shop [1]"
    write_sample(folder, 150, 3, "parquet")
    paths = {path.stem: path for path in folder.iterdir()}
    shop = {name: pl.read_parquet(path, glob=False) for name, path in paths.items()}
    orders, items = untidy_baskets(shop["orders"], shop["order_products__prior"])
    orders.write_csv(folder / "orders.csv")
    items[:9].write_parquet(folder / "order_products__train.parquet")
    parts = folder / "order_products__prior"
    parts.mkdir()
    items[:500].write_parquet(parts / "part-0.parquet")
    items[500:].write_parquet(parts / "part-1.parquet")
    for name in ("orders", "order_products__prior"):
        paths[name].unlink()
    options = BasketsConfig(source=str(folder), study=False)
    config = Config(artifacts=str(tmp_path), baskets=options)
    there = config.model_copy(
        update={"features": config.features.model_copy(update={"engine": "spark"})}
    )
    said = " ".join(run_baskets(there).lines)
    assert "`order_products__train` was not read" in said
    data = read_baskets(config, tmp_path / "work")
    assigner = BasketsAssigner.load(tmp_path / "baskets")
    rows = rows_of(data, assigner.model.rules, options.min_orders)
    # Spark has no unsigned numbers.
    features = everyone(tmp_path, "baskets_features")
    assert_frame_equal(features, rows.everyone, check_dtypes=False)
    profiles, expected = (
        everyone(tmp_path, "baskets_profiles"),
        assigner.profiles(rows.features),
    )
    assert_frame_equal(profiles, expected, check_dtypes=False)
    cells = ["table", "reason", "order_id", "product_id"]
    expected = pl.read_parquet(data.rejected).select(cells).sort(cells)
    aside = pl.read_parquet(tmp_path / "spark" / "baskets_rejected" / "*.parquet")
    assert_frame_equal(aside.select(cells).sort(cells), expected)
    assert set(expected["reason"]) >= {"repeated_order", "unknown_order"}


def test_baskets_handed_in_are_those_that_are_read(spark):
    rows = pl.DataFrame({"order_id": ["1", "2"], "user_id": ["a", "b"]})
    config = Config(baskets=BasketsConfig(aisles="aisles.csv"))
    lines = given_tables(spark, config, on_spark(spark, rows), None)
    assert (lines.items, lines.catalogue) == (None, {"aisles": ["aisles.csv"]})
    both = given_tables(spark, config, *[on_spark(spark, rows)] * 2)
    assert both.items is not None
    assert collected(both.items.df).equals(rows)
    with pytest.raises(ConfigError, match="expected a folder"):
        given_tables(spark, config, None, None)


def test_untidy_channels_on_spark_have_the_features_of_one_machine(
    spark, in_parts, tmp_path
):
    small = Config(
        artifacts=str(tmp_path), channels=ChannelsConfig(sample_customers=100)
    )
    config = with_sample(small, tmp_path)
    # A map of customers, and one of orders.
    del config.channels.sources["aggregator"]
    for source in config.channels.sources.values():
        untidy_channel(source)
    there = config.model_copy(
        update={"features": config.features.model_copy(update={"engine": "spark"})}
    )
    run_channels(there)
    rows = rows_of_channels(config, tmp_path / "work")
    assigner = ChannelsAssigner.load(tmp_path / "channels")
    assert assigner.reference_date == rows.reference_date
    view = assigner.model.naming.view(rows.with_figures(), assigner.model.rules)
    assert_frame_equal(everyone(tmp_path, "channels_features"), rows.features)
    profiles = everyone(tmp_path, "channels_profiles")
    assert_frame_equal(profiles, assigner.profiles(view), check_dtypes=False)
    for name, path in rows.orders.items():
        key = ["customer_id", "order_id"]
        orders = everyone(tmp_path, f"channels_order_features_{name}").sort(key)
        assert_frame_equal(orders, pl.read_parquet(path).sort(key))
    cells = ["channel", "table", "reason", "order_id", "customer_id"]
    expected = pl.read_parquet(rows.rejected).filter(pl.col("channel").is_not_null())
    aside = pl.read_parquet(tmp_path / "spark" / "channels_rejected" / "*.parquet")
    assert_frame_equal(
        aside.select(cells).sort(cells), expected.select(cells).sort(cells)
    )
    left_out = everyone(tmp_path, "channels_left_out")
    assert_frame_equal(left_out, rows.left_out.select("customer_id", "reason"))


def shops_config(folder: Path, engine: str) -> Config:
    return Config.model_validate(
        {
            "artifacts": str(folder / engine),
            "data": {
                "input": str(folder / "sales.csv"),
                "policies": {"scientific_id": "drop"},
            },
            "features": {"engine": engine},
            "clustering": {"fit_shops": 100, "min_cluster_size": 10, "min_samples": 5},
            "autoencoder": {"epochs": 2},
        }
    )


@pytest.fixture(scope="module")
def shops(spark, tmp_path_factory) -> tuple[Path, dict[str, list[Any]]]:
    """Return a folder of untidy shops by engine, and what was said of them."""
    folder = tmp_path_factory.mktemp("shops")
    made = generate_sales(SampleConfig(n_shops=200, n_months=26), 5)
    untidy_sales(made.rows, folder / "sales.csv")
    said = {
        engine: [prepare_features(shops_config(folder, engine))]
        for engine in ("polars", "duckdb")
    }
    return folder, said | {"spark": run_all(shops_config(folder, "spark"))}


def read_folder(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "*.parquet").sort(pl.first())


def test_untidy_sales_give_the_features_on_spark_that_one_machine_gives(shops):
    folder, said = shops
    one = pl.read_parquet(folder / "polars" / "features.parquet")
    other = pl.read_parquet(folder / "duckdb" / "features.parquet")
    assert_frame_equal(other, one)
    there = folder / "spark" / "spark"
    assert_frame_equal(read_folder(there / "features"), one, rel_tol=1e-9)
    for name in ("exclusions", "shop_states"):
        here = pl.read_csv(folder / "polars" / f"{name}.csv").sort("shop_id")
        found = read_folder(there / name).select(here.columns)
        assert_frame_equal(found, here, check_dtypes=False)
    aside = pl.read_parquet(folder / "polars" / "rejected_rows.parquet")
    cells = [name for name in aside.columns if name != "source_row"]
    found = read_folder(there / "rejected_rows").select(cells).sort(cells)
    assert_frame_equal(found, aside.select(cells).sort(cells))
    intake, expected = (said[e][0].facts["intake"] for e in ("spark", "polars"))
    assert intake | {"notes": []} == expected | {"notes": []}
    alike = [line for line in expected["notes"] if "shop ids" in line]
    assert [line for line in intake["notes"] if "shop ids" in line] == alike
    assert [line.split()[0] for line in alike] == ["3", "1", "2"]
    assert {name for name, fault in intake["faults"].items() if fault["found"]} == {
        "ragged_line", "missing_id", "impossible_month", "invalid_quantity",
        "negative_quantity", "zero_quantity", "exact_duplicate", "repeated_key",
        "total_row", "scientific_id",
    }  # fmt: skip


def test_a_model_is_learnt_from_the_smallest_hashes_and_labels_everyone(shops):
    folder, said = shops
    there = folder / "spark" / "spark"
    features = read_folder(there / "features")
    drawn = features.filter(drawn_by_hash(features["shop_id"], 100))
    sample = pl.read_parquet(folder / "spark" / "features.parquet")
    assert_frame_equal(drawn, sample, rel_tol=1e-9)
    labels = read_folder(there / "predictions")
    own = pl.read_csv(folder / "spark" / "cluster_predictions.csv").sort("shop_id")
    columns = ["shop_id", "latent_cluster", "segment", "state", "reason"]
    assert_frame_equal(
        labels.join(own, on="shop_id", how="semi").select(columns),
        own.select(columns),
        check_dtypes=False,
    )
    assert labels.height == 200 > own.height > 100
    assert "100 are eligible" in " ".join(said["spark"][0].lines)
    assert "of 200 shops have labels" in " ".join(said["spark"][3].lines)
    with pytest.raises(ArtifactError, match="sample of the shops"):
        run_refresh(shops_config(folder, "spark"))


def test_a_partition_without_an_eligible_shop_has_no_features():
    sold = {"product_id": "P1", "year": 2024, "month": 12, "sales_qty": 1.0}
    kept = pl.DataFrame([{"shop_id": "S1", **sold}], schema=KEPT)
    known = Known(Config(), month_index("2024-12"), 24_264, LifeCycle.unknown())
    found = shops_part(kept, known).select(list(shops_schema(Config())))
    assert found["shop: reason"].to_list() == ["sold in fewer than 12 months"]
    assert found["sales_trend_per_year"].null_count() == 1


def test_labels_of_everyone_on_spark_are_those_of_one_machine(spark, trained, tmp_path):
    model = Model.load(trained)
    rows = generate_sales(SampleConfig(n_shops=80), 8).rows
    expected = model.assign_sales(rows)
    df = spark.createDataFrame(rows.to_arrow())
    found = collected(model.assign_sales(df)).sort("shop_id")
    assert_frame_equal(found, expected, rel_tol=1e-9)
    assert expected["latent_cluster"].n_unique() > 3
    assert 0 < expected["reason"].null_count() < expected.height


def test_spark_runs_the_sql_that_is_written_for_it(spark):
    rules, guests = (
        read_rules("order-bands"),
        random_guests(np.random.default_rng(0), 300),
    )
    spark.createDataFrame(guests.to_arrow()).createOrReplaceTempView("guests")
    found = spark.sql(to_sql(rules, "spark", "guests")).toArrow()
    expected = assign_rules(rules, guests, "customer_id").table
    assert pl.from_arrow(found).sort("customer_id").equals(expected)
    members = pl.DataFrame(
        {
            "id": ["007", "it's", "back\\slash", "two\nlines"],
            "n": [1.5, None, 1e-300, 2.0],
        }
    )
    for statement in to_statements(members, "spark", "members"):
        spark.sql(statement.rstrip().removesuffix(";"))
    assert (
        pl.from_arrow(spark.table("members").toArrow())
        .sort("id")
        .equals(members.sort("id"))
    )
