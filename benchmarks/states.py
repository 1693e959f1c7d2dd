"""States of shops held against what the shops did in the months after.

::

    python benchmarks/states.py                            # the built-in samples
    python benchmarks/states.py --data ../shared/data      # and real sales

States are learnt and told at a month, of what was known then. Of every state it prints
how many shops are in it and how many of them sold again in the months after: a year of
the samples, half a year of real sales. A shop that does not sell again has gone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.config import SampleConfig
from core.months import month_index
from core.retailers.archetypes import FAMILIES
from core.retailers.sample import generate_sales
from core.segments.states import STATES, LifeCycle

N_SHOPS, AFTER = 5000, 12
HISTORIES = (36, 24, 12)
# Months at which real sales are looked at, and the files.
REAL = {
    "Iowa stores": (
        ("2020-12", "2021-03", "2021-06"),
        ("iowa_dev/monthly.parquet", "iowa_dev/more_stores.parquet"),
    ),
    "Online Retail": (("2011-05",), ("online_retail/monthly.parquet",)),
    "Complete Journey": (("2017-06",), ("complete_journey_sample/monthly.parquet",)),
}


def summed(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the active months of sales rows."""
    t = pl.col("year").cast(pl.Int64) * 12 + pl.col("month").cast(pl.Int64) - 1
    months = rows.group_by(pl.col("shop_id").cast(pl.String), t=t)
    return months.agg(quantity=pl.col("sales_qty").sum()).filter(pl.col("quantity") > 0)


def sources(data: Path | None) -> Iterator[tuple[str, pl.DataFrame, int]]:
    """Yield names, active months, and the month to look at."""
    for family in FAMILIES:
        for n_months in HISTORIES:
            options = SampleConfig(
                n_shops=N_SHOPS, family=family, n_months=n_months + AFTER
            )
            months = summed(generate_sales(options, seed=42).rows)
            cut = month_index(options.first_month) + n_months - 1
            yield f"sample `{family}`, {n_months} months", months, cut
    for name, (cuts, files) in REAL.items() if data else ():
        months = summed(
            pl.concat(
                [pl.read_parquet(data / f) for f in files], how="vertical_relaxed"
            )
        )
        for cut in cuts:
            yield f"{name}, {cut}", months, month_index(cut)


def judged(months: pl.DataFrame, cut: int) -> list[str]:
    """Return a line: who sold again and was called lapsed, who had gone and was."""
    states = LifeCycle.learn(months, cut).states(months, cut)
    after = months.filter(pl.col("t") > cut).select("shop_id").unique()
    table = states.join(after.with_columns(is_back=True), on="shop_id", how="left")
    is_back = table["is_back"].fill_null(False)
    lapsed = table["state"] == "lapsed"
    cells = [
        f"{is_back.sum():,}",
        f"{(lapsed & is_back).sum() / max(is_back.sum(), 1):.1%}",
        f"{(~is_back).sum():,}",
        f"{(lapsed & ~is_back).sum() / max((~is_back).sum(), 1):.0%}",
    ]
    for state in STATES:
        own = is_back.filter(table["state"] == state)
        cells.append(f"{own.mean():.0%} of {len(own):,}" if len(own) else "-")
    return cells


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    data = parser.parse_args().data
    heads = ["data", "sold again", "called lapsed", "gone", "found", *STATES]
    print("|".join(["", *heads, ""]))
    print("|---" * len(heads) + "|")
    for name, months, cut in sources(data):
        print("|".join(["", name, *judged(months, cut), ""]), flush=True)


if __name__ == "__main__":
    main()
