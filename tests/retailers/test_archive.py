"""Sales kept for refreshes: the same features as from the rows that went into them."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from core.config import Config, SampleConfig
from core.errors import FeatureMismatchError
from core.retailers.monthly import (
    ARCHIVE,
    add_months,
    archived_months,
    archived_sales,
    sales_as_trained,
    write_archive,
)
from core.retailers.prepare import prepare
from core.retailers.sample import generate_sales
from core.tables.sales import sales_from_frame

CONFIG = Config(sample=SampleConfig(n_shops=60, n_months=26))


@pytest.fixture(scope="module")
def rows():
    """Sales with returns, odd fractions, and months told in several rows."""
    made = generate_sales(CONFIG.sample, seed=3).rows
    third = made.with_columns(sales_qty=pl.col("sales_qty") / 3)
    returns = made.head(50).with_columns(sales_qty=-pl.col("sales_qty") * 0.7)
    return pl.concat([third, third.reverse(), returns])


def archive_of(rows, folder):
    path = folder / ARCHIVE
    write_archive(sales_from_frame(rows, CONFIG, folder / "checked"), path)
    return path


def features_of(source, folder):
    return pl.concat(list(prepare(CONFIG, folder, source).batches(1000)))


def test_features_from_the_archive_have_the_same_bits(rows, tmp_path):
    path = archive_of(rows, tmp_path)
    kept = archived_sales(path, CONFIG)
    assert kept.intake.n_shops == rows["shop_id"].n_unique()
    assert_frame_equal(
        features_of(kept, tmp_path / "a"),
        features_of(rows, tmp_path / "b"),
        check_exact=True,
    )


def test_that_there_are_no_products_is_kept_in_the_archive(rows, tmp_path):
    rows = rows.unique()  # with products, equal rows would be left out
    nameless = rows.drop("product_id")
    path = archive_of(nameless, tmp_path)
    kept = archived_sales(path, CONFIG)
    assert not kept.has_products
    features = features_of(kept, tmp_path / "a")
    assert features["product_concentration"].null_count() == features.height
    assert_frame_equal(features, features_of(nameless, tmp_path / "b"))
    trained = sales_as_trained(
        sales_from_frame(rows, CONFIG, tmp_path / "c"), False, tmp_path / "d"
    )
    again = tmp_path / "again.parquet"
    write_archive(trained, again)
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(FeatureMismatchError, match="--column product_id=NAME"):
        sales_as_trained(kept, True, tmp_path / "e")


def test_an_archive_is_the_same_file_whatever_the_order_of_the_rows(rows, tmp_path):
    one = archive_of(rows, tmp_path / "one")
    other = archive_of(rows.sample(fraction=1, shuffle=True, seed=1), tmp_path / "two")
    assert one.read_bytes() == other.read_bytes()
    again = tmp_path / "again.parquet"
    write_archive(archived_sales(one, CONFIG), again)
    assert again.read_bytes() == one.read_bytes()


def test_months_added_one_by_one_make_the_same_archive(rows, tmp_path):
    whole = archive_of(rows, tmp_path / "whole")
    last = rows.filter(year=2024, month=2)
    grown = tmp_path / "grown.parquet"
    add_months(
        archive_of(rows.filter(pl.col("year") < 2024), tmp_path / "old"),
        archive_of(rows.filter(year=2024, month=1), tmp_path / "new"),
        ["2024-01"],
        grown,
    )
    second = tmp_path / "second.parquet"
    add_months(grown, archive_of(last, tmp_path / "last"), ["2024-02"], second)
    assert archived_months(second) == archived_months(whole)
    assert_frame_equal(pl.read_parquet(second), pl.read_parquet(whole))


def test_a_month_delivered_again_replaces_its_rows_and_no_others(rows, tmp_path):
    whole = archive_of(rows, tmp_path / "whole")
    changed = rows.filter(year=2023, month=5).with_columns(pl.col("sales_qty") + 1)
    mended = tmp_path / "mended.parquet"
    add_months(whole, archive_of(changed, tmp_path / "new"), ["2023-05"], mended)
    before, after = archived_months(whole), archived_months(mended)
    assert {month for month in before if before[month] != after[month]} == {"2023-05"}
    assert list(after) == sorted(after)
