"""Time and memory of the features of baskets against plain pandas on a tenth.

Writes the sample's orders and items once, then computes all features of all customers
and of a tenth with ours, and of the tenth with `baskets_reference.py`, as processes of
their own that read Parquet files and write one: ``python benchmarks/baskets.py``. Ours
runs twice on the tenth, to show that two runs do not differ in a bit.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import polars as pl
from pipelines import ROOT, Cost, machine, make_rows, measure

WORK = ROOT / "build" / "benchmarks" / "baskets"
# About 15 orders each.
CUSTOMERS = 226_000
PART = 10
# Where all hours are alike the plain formula, ln R at R = 1, keeps half of the digits.
TOLERANCE = {"std_order_hour": 1e-7}
LIMIT_S, LIMIT_MB = 30, 3000
OURS = """
import sys
from pathlib import Path
import polars as pl
from core.baskets.features import customer_features
folder, target = Path(sys.argv[1]), sys.argv[2]
names = ("orders", "order_products__prior", "products", "aisles")
orders, items, products, aisles = (
    pl.scan_parquet(folder / f"{name}.parquet") for name in names
)
orders = orders.rename({"user_id": "customer_id"})
made = customer_features(orders, items, products.collect(), aisles.collect())
made.write_parquet(target)
"""


def count_rows(made: Path) -> tuple[int, int]:
    """Return how many orders and items there are."""
    rows = json.loads((made / "rows.json").read_text(encoding="utf-8"))
    return rows["orders.parquet"], rows["order_products__prior.parquet"]


def run_ours(made: Path, name: str = "ours") -> Cost:
    """Compute the features of the rows in a folder with ours."""
    target = str(made / f"{name}.parquet")
    return measure([sys.executable, "-c", OURS, str(made), target], made / "ours.log")


def run_pandas(made: Path) -> Cost:
    """Compute the features of the rows in a folder with pandas."""
    script = str(Path(__file__).with_name("baskets_reference.py"))
    target = str(made / "pandas.parquet")
    return measure([sys.executable, script, str(made), target], made / "pandas.log")


def differences(made: Path) -> list[str]:
    """Return the features in which both sides differ, by more than 1e-9 in the main."""
    found = pl.read_parquet(made / "ours.parquet")
    expected = pl.read_parquet(made / "pandas.parquet").select(found.columns)
    if not found["customer_id"].equals(expected["customer_id"]):
        return ["customer_id"]
    return [
        name
        for name in found.columns[1:]
        if not _is_near(found[name], expected[name], TOLERANCE.get(name, 1e-9))
    ]


def _is_near(found: pl.Series, expected: pl.Series, tolerance: float) -> bool:
    one, other = found.cast(pl.Float64), expected.cast(pl.Float64).fill_nan(None)
    is_near = (one - other).abs() <= tolerance * other.abs().clip(1)
    return bool((is_near.fill_null(one.is_null() & other.is_null())).all())


def main() -> None:
    """Run both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--seed", type=int, default=42, help="of the rows")
    parser.add_argument("--work", type=Path, default=WORK)
    chosen = parser.parse_args()
    print(machine())
    work = chosen.work.resolve()
    whole = make_rows(work, "baskets", chosen.customers, chosen.seed)
    tenth = make_rows(work, "baskets", chosen.customers // PART, chosen.seed)
    ours, pandas = run_ours(whole), run_pandas(tenth)
    rows = [
        ("ours", whole, ours),
        ("ours", tenth, run_ours(tenth)),
        ("pandas", tenth, pandas),
    ]
    run_ours(tenth, "again")
    print("\n| side | orders | items | seconds | MB at the peak | CPU s |")
    print("|---|---:|---:|---:|---:|---:|")
    for side, made, cost in rows:
        n_orders, n_items = count_rows(made)
        print(
            f"| {side} | {n_orders:,} | {n_items:,} | {cost.seconds:.1f} "
            f"| {cost.peak_mb:,.0f} | {cost.cpu_s:.1f} |"
        )
    print("\nOurs on all rows by pandas on a tenth:", end=" ")
    print(f"seconds {ours.seconds / pandas.seconds:.2f},", end=" ")
    print(
        f"CPU s {ours.cpu_s / pandas.cpu_s:.2f}, MB {ours.peak_mb / pandas.peak_mb:.2f}"
    )
    print(
        f"Features that differ on the tenth: {', '.join(differences(tenth)) or 'none'}"
    )
    first, again = (pl.read_parquet(tenth / f"{n}.parquet") for n in ("ours", "again"))
    print(f"Two runs of ours are the same: {'yes' if first.equals(again) else 'no'}")
    is_met = ours.seconds <= LIMIT_S and ours.peak_mb <= LIMIT_MB
    print(f"At most {LIMIT_S} s and {LIMIT_MB:,} MB: {'met' if is_met else 'not met'}")


if __name__ == "__main__":
    main()
