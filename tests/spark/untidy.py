"""Rows with all that intake mends, spreads or sets aside, and what Spark wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from core.config import ChannelSource

OLDEST = pl.CompatLevel.oldest()


def on_spark(spark: Any, table: pl.DataFrame) -> Any:
    """Return rows in two partitions, in their order; times without a zone stay so."""
    df = spark.createDataFrame(table.to_arrow(compat_level=OLDEST))
    naive = [name for name, kind in table.schema.items() if kind == pl.Datetime("us")]
    return df.withColumns({name: df[name].cast("timestamp_ntz") for name in naive})


def untidy(orders: pl.DataFrame, items: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """Return orders as text, and items, as they come from three systems at once."""
    n = pl.int_range(pl.len())
    total = pl.col("total_price").round(2).cast(pl.String)
    total = total.str.replace(".", ",", literal=True)
    moment = pl.col("order_date").dt.truncate("1s").dt.replace_time_zone("UTC")
    # With an offset that daylight saving changes, and without.
    there = moment.dt.convert_time_zone("Europe/Berlin")
    date = (
        pl.when(n % 3 == 0)
        .then(there.dt.to_string("%Y-%m-%dT%H:%M:%S%:z"))
        .when(n % 89 == 0)
        .then(pl.lit("soon"))
        .otherwise(moment.dt.to_string("%Y-%m-%d %H:%M:%S"))
    )
    orders = orders.with_columns(
        pl.when(n % 97 > 0).then("customer_id"),
        date.alias("order_date"),
        pl.when(n % 50 == 7).then("-" + total).otherwise(total).alias("total_price"),
        pl.when(n % 4 > 0).then("discount_amount"),
        pl.when(n % 5 > 0).then("source"),
    )
    repeated = orders[10:40]
    # One id of five customers.
    shared = orders[:50:10].with_columns(order_id=pl.lit("1"))
    order = pl.when(n % 301 == 0).then(pl.lit("lost"))
    items = items.with_columns(
        customer_id=pl.when(n % 2 == 0).then("customer_id"),
        order_id=order.when(n % 401 == 0).then(pl.lit("1")).otherwise("order_id"),
        quantity=pl.when(n % 61 == 0).then(-1.0).otherwise("quantity"),
        price=pl.when(n % 211 > 0).then("price"),
        category=pl.when(n % 7 > 0).then("category"),
    )
    return pl.concat([orders, repeated, shared]), items


def untidy_lines(lines: pl.DataFrame, path: Path) -> None:
    """Write order lines as a CSV whose orders have much on one of their lines only."""
    n, place = pl.int_range(pl.len()), pl.int_range(pl.len()).over("Order_ID")
    order = pl.col("Order_ID").rank("dense")
    is_told, is_sparse = place == 0, order % 3 == 0
    total = pl.col("Sales") + pl.col("TotalDiscount")
    discount = pl.col("TotalDiscount").sum().over("Order_ID").round(2)
    moment = pl.col("Date").dt.to_string("%Y-%m-%d %H:%M:%S")
    date = pl.when(n % 89 == 0).then(pl.lit("soon")).otherwise(moment)
    lines = lines.with_columns(
        # Before discounts, and each line has that of its order.
        Sales=total.round(2),
        Price=(total / pl.col("QTY")).round(4),
        TotalDiscount=discount,
        Customer_ID=pl.when(is_told | ~is_sparse).then("Customer_ID"),
        Date=pl.when(is_told | ~is_sparse).then(date),
        QTY=pl.when(n % 61 == 0).then(-1).otherwise("QTY"),
    ).with_columns(
        pl.when(order % 97 > 0).then("Customer_ID"),
        pl.when((order % 29 > 0) | is_sparse)
        .then(
            # One id of several customers.
            pl.when(order % 50 == 7).then(pl.lit("1")).otherwise("Order_ID")
        )
        .alias("Order_ID"),
    )
    text = lines.write_csv()
    cells = text.splitlines()[5]
    path.write_text(f"{text}{cells},one cell more\n", encoding="utf-8")


def untidy_baskets(
    orders: pl.DataFrame, items: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return orders that are repeated, of two customers or nobody's, and lost items."""
    n = pl.int_range(pl.len())
    ids = pl.col("order_id").cast(pl.String)
    orders = orders.with_columns(
        pl.when(n % 83 > 0).then("user_id"),
        pl.when(n % 71 == 0).then(ids.shift(40)).otherwise(ids).alias("order_id"),
        order_hour_of_day=pl.when(n % 9 > 0).then("order_hour_of_day"),
    )
    lost = pl.when(n % 97 == 0).then(pl.lit("lost")).otherwise(ids)
    items = items.with_columns(
        lost.alias("order_id"), product_id=pl.when(n % 53 > 0).then("product_id")
    )
    return pl.concat([orders, orders[20:40]]), items


def untidy_channel(source: ChannelSource) -> None:
    """Repeat orders of a channel, give some an offset, and lose items and customers."""
    n = pl.int_range(pl.len())
    orders, items = pl.read_parquet(source.orders), pl.read_parquet(source.items)
    moment = pl.col("order_time").dt.to_string("%Y-%m-%d %H:%M:%S")
    again = pl.when(n % 73 == 0).then(pl.col("order_id").shift(30))
    orders = orders.with_columns(
        pl.when(n % 11 == 0)
        .then(moment + "+05:30")
        .otherwise(moment)
        .alias("order_time"),
        again.otherwise("order_id").alias("order_id"),
    )
    pl.concat([orders, orders[10:30]]).write_parquet(source.orders)
    lost = pl.when(n % 97 == 0).then(pl.lit("lost")).otherwise("order_id")
    items.with_columns(lost.alias("order_id")).write_parquet(source.items)
    if source.customers is not None:
        known = pl.read_parquet(source.customers)
        # Some are lost, and some have two central ids.
        two = pl.concat([known[20:], known[30:34].with_columns(known[40:44, -1])])
        two.write_parquet(source.customers)


def everyone(folder: Path, name: str) -> pl.DataFrame:
    """Return a table that Spark wrote, in the order of customers."""
    found = pl.read_parquet(folder / "spark" / name / "*.parquet")
    return found.sort("customer_id", *found.columns[:2])


def untidy_sales(rows: pl.DataFrame, path: Path) -> None:
    """Write sales as a CSV of European numbers, with all that intake sets aside.

    Some ids differ only by case or zeros. Faults are rows more, so that totals of the
    others are the sums of what is kept.
    """
    n = pl.int_range(pl.len())
    alike = {"S000002": "s000001", "S000003": "7", "S000004": "07", "S000005": "007"}
    rows = rows.with_columns(pl.col("shop_id").replace(alike))
    day = (1 + n % 28).cast(pl.String).str.zfill(2)
    month = pl.col("month").cast(pl.String).str.zfill(2)
    date = pl.concat_str(pl.col("year"), month, day, separator="-").alias("date")
    sold = rows.select("shop_id", "product_id", date, "sales_qty")
    returned = sold[::50].with_columns(pl.col("sales_qty") * -0.5)
    # A tie of whole millionths, and nothing.
    tiny = sold[1::90].with_columns(sales_qty=pl.lit(0.0000005))
    none = sold[2::300].with_columns(sales_qty=pl.lit(0.0))
    good = pl.concat([sold, returned, tiny, none])
    first = pl.col("date").str.head(8) + "01"
    totals = good.group_by("product_id", date=first).agg(pl.col("sales_qty").sum())
    whole = totals.select(shop_id=pl.lit("Total"), **{c: c for c in sold.columns[1:]})
    text = pl.concat([good, whole]).with_columns(european(pl.col("sales_qty")))
    bad = text[3::400]
    faults = [
        text[::250],  # equal rows
        bad.with_columns(shop_id=pl.lit("n/a ").str.strip_chars().replace("n/a", None)),
        bad.with_columns(date=pl.lit("soon")),
        bad.with_columns(sales_qty=pl.lit("many")),
        bad.with_columns(shop_id=pl.lit("4.00638E+12")),
    ]
    shuffled = pl.concat([text, *faults]).sample(fraction=1.0, shuffle=True, seed=3)
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(shuffled.write_csv(separator=";"))
        stream.write("S000001;P001;2024-03-05;3,0;one cell more\n")


def european(number: pl.Expr) -> pl.Expr:
    """Return `1234.0` as `1.234`, which may be thousands, and `2.5` as `2,5`."""
    text = number.cast(pl.String).str.replace(".", ",", literal=True)
    whole = number.cast(pl.Int64).cast(pl.String)
    grouped = whole.str.head(-3) + "." + whole.str.tail(3)
    is_grouped = (number == number.floor()) & number.is_between(1000, 99_999)
    tiny = pl.when(number == 0.0000005).then(pl.lit("0,0000005")).otherwise(text)
    return pl.when(is_grouped).then(grouped).otherwise(tiny).alias("sales_qty")
