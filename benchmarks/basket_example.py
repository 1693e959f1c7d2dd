"""Segments of baskets, joined with demographics and with coupons redeemed later.

The worked example of docs/baskets.md, on the Complete Journey: a public study of 2017,
whose files are `orders`, `items`, `products`, `demographics` and `coupon_redemptions`
(Parquet) in one folder. Households are segmented by their orders before October; what
they redeem from October on had no part in it.

    python benchmarks/basket_example.py FOLDER
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from scipy.stats.contingency import association, chi2_contingency

from core.evaluation.multiple import holm

CUT = date(2017, 10, 1)
DESIGN = """
name: coupons by post
metric: {name: redeemed, kind: proportion, pre: redeemed_before}
effect: 0.25
guardrails: [{name: orders, margin: 0.1, pre: orders_before}]
"""


def run(*arguments: str | Path) -> None:
    """Run a verb, and print what it prints."""
    print(f"\n$ {' '.join(map(str, arguments))}", flush=True)
    subprocess.run([sys.executable, "-m", "core", *map(str, arguments)], check=True)


def before_the_cut(folder: Path, work: Path) -> None:
    """Write the orders before the cut, and their items."""
    for name in ("orders", "items"):
        table = pl.read_parquet(folder / f"{name}.parquet")
        early = table.filter(pl.col("order_ts").dt.date() < CUT)
        early.write_parquet(work / f"{name}.parquet")


def households(folder: Path, segments: Path) -> pl.DataFrame:
    """Return segments and scores, with what each household did before and after."""
    coupons = pl.read_parquet(folder / "coupon_redemptions.parquet")
    orders = pl.read_parquet(folder / "orders.parquet")
    is_late = pl.col("redemption_date") >= CUT
    redeemed = coupons.group_by(pl.col("household_id").alias("customer_id")).agg(
        redeemed=is_late.any().cast(int), redeemed_before=(~is_late).any().cast(int)
    )
    is_late = pl.col("order_ts").dt.date() >= CUT
    ordered = orders.group_by(pl.col("customer_id").cast(pl.String)).agg(
        orders=is_late.sum(), orders_before=(~is_late).sum()
    )
    own = pl.read_parquet(segments)
    for table in (redeemed, ordered):
        own = own.join(table, on="customer_id", how="left", maintain_order="left")
    rank = pl.col("freq_score").rank("ordinal") - 1
    return own.with_columns(
        pl.col("redeemed", "redeemed_before", "orders", "orders_before").fill_null(0),
        frequency_tenth=rank * 10 // pl.len(),
    )


def demographics(folder: Path, table: pl.DataFrame) -> pl.DataFrame:
    """Return how far demographics go with the segments: Cramer's V and its p-value."""
    known = pl.read_parquet(folder / "demographics.parquet").join(
        table, left_on="household_id", right_on="customer_id"
    )
    rows = []
    for name in ("age", "income", "household_size", "kids_count", "home_ownership"):
        own = known.drop_nulls(name)
        counts = own.group_by(name).agg(
            (pl.col("segment") == segment).sum().alias(segment)
            for segment in sorted(set(table["segment"]))
        )
        cells = counts.drop(name).to_numpy()
        rows.append(
            (name, own.height, association(cells), chi2_contingency(cells).pvalue)
        )
    found = pl.DataFrame(rows, ["what", "households", "v", "p"], orient="row")
    return found.with_columns(pl.Series("adjusted_p", holm(found["p"].to_list())))


def main() -> None:
    """Segment, join, plan, draw and read out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with TemporaryDirectory() as place:
        work = Path(place)
        before_the_cut(folder, work)
        files: list[str | Path] = ["--orders", work / "orders.parquet"]
        files += ["--items", work / "items.parquet"]
        files += ["--products", folder / "products.parquet"]
        files += ["--product-column", "aisle=category"]
        options = ["--set", "baskets.study=false", "--set", "baskets.cuts=0"]
        run("baskets", *files, *options, "--artifacts", work / "a", "--no-store")
        table = households(folder, work / "a" / "baskets" / "segments.parquet")
        table.write_csv(work / "households.csv")
        with pl.Config(tbl_rows=-1, float_precision=4):
            means = pl.col("redeemed", "redeemed_before").mean()
            rates = table.group_by("segment").agg(pl.len().alias("households"), means)
            print(rates.sort("segment"), demographics(folder, table), sep="\n")
        given: list[str | Path] = ["--table", work / "households.csv"]
        # How much of later redemption lies between segments, and between others.
        for groups in ("segment", "frequency_tenth", "redeemed_before"):
            run("validate", *given, "--segment", groups, "--metric", "redeemed")
        design = work / "coupons.yaml"
        design.write_text(DESIGN, encoding="utf-8")
        run("experiment", "plan", design, *given)
        run("experiment", "assign", design, *given, "--output", work / "arms.csv")
        run("experiment", "readout", design, *given, "--arms", work / "arms.csv")


if __name__ == "__main__":
    main()
