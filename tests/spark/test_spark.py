"""Spark: the same results as one machine, from DataFrames that nobody collects.

All tests are in one file, since each process that runs some starts a JVM.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from untidy import everyone, on_spark, untidy

from core.axes import run_axes
from core.axes.sample import generate_shoppers
from core.config import Config, SparkConfig
from core.errors import SourceError
from core.spark import session as sessions
from core.spark import tables
from core.spark.tables import by_entity, collected, map_tables, write
from core.tables.ids import drawn_by_hash

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


def test_results_go_to_a_folder_or_to_tables(spark, tmp_path):
    df = spark.createDataFrame(pl.DataFrame({"shop_id": ["S1"]}).to_arrow())
    folder = write(df, str(tmp_path / "a folder"), "features")
    write(df, str(tmp_path / "a folder"), "features")
    files = list((tmp_path / "a folder" / "features").glob("*.parquet"))
    assert pl.read_parquet(files).rows() == [("S1",)]
    assert spark.read.parquet(folder).count() == 1


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


def test_untidy_orders_get_the_axes_on_spark_that_one_machine_gives(spark, tmp_path):
    made = generate_shoppers(120, 5)
    rows = untidy(made.orders, made.items)
    here, there = tmp_path / "here", tmp_path / "there"
    alone = run_axes(Config(artifacts=str(here)), *rows)
    done = run_axes(
        Config(artifacts=str(there)), *(on_spark(spark, table) for table in rows)
    )
    profiles, rejected = (
        pl.read_parquet(here / "axes" / f"{name}.parquet")
        for name in ("customer_profiles", "rejected_rows")
    )
    assert_frame_equal(everyone(there, "axes_profiles"), profiles.sort("customer_id"))
    # Rows have other numbers there.
    cells = ["table", "reason", "customer_id", "order_id", "total_price", "price"]
    aside = everyone(there, "axes_rejected").select(cells)
    assert_frame_equal(aside.sort(cells), rejected.select(cells).sort(cells))
    assert set(" ".join(rejected["reason"]).split()) >= {
        "refund", "repeated_order", "unknown_order", "ambiguous_order",
        "missing_customer", "order_set_aside", "impossible_date",
    }  # fmt: skip
    told = told_of_everyone(done.lines)
    assert told[0] == alone.lines[1]
    assert {line for line in told[2:] if "set aside" in line} <= set(alone.lines)


def test_the_axes_are_learnt_from_the_smallest_hashes_and_assign_everyone(
    spark, tmp_path
):
    made = generate_shoppers(150, 6)
    config = Config(artifacts=str(tmp_path), spark=SparkConfig(fit_customers=100))
    run_axes(config, *(on_spark(spark, rows) for rows in (made.orders, made.items)))
    sample = pl.read_parquet(tmp_path / "axes" / "customer_profiles.parquet")
    whole = everyone(tmp_path, "axes_profiles")
    drawn = whole.filter(drawn_by_hash(whole["customer_id"], 100))
    assert whole.height == made.orders["customer_id"].n_unique() > sample.height
    assert_frame_equal(drawn, sample.sort("customer_id"))
