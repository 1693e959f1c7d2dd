"""Time and memory of channel segments against the recipe in pandas on a tenth.

Writes the sample's orders and items once, then runs ``./run.sh channels`` (read, order
features, customer features, rules, micro-segments, files, page) on all of them and on a
tenth, and `channels_reference.py` on the tenth, as processes of their own:
``python benchmarks/channels.py``. Both features and segments are compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import polars as pl
from pipelines import ROOT, Cost, machine, make_rows, measure

WORK = ROOT / "build" / "benchmarks" / "channels"
# About 23 orders each.
CUSTOMERS = 92_500
PART = 10
LIMIT_S, LIMIT_MB = 45, 3000


def count_rows(made: Path) -> str:
    """Return how many orders and items there are, in words."""
    rows = json.loads((made / "rows.json").read_text(encoding="utf-8"))
    n = {
        table: sum(k for name, k in rows.items() if name.endswith(f"_{table}.parquet"))
        for table in ("orders", "items")
    }
    return f"{n['orders']:,} orders, {n['items']:,} items"


def run_ours(made: Path) -> Cost:
    """Run the command on the rows in a folder."""
    artifacts = made / "ours"
    shutil.rmtree(artifacts, ignore_errors=True)
    command = [sys.executable, "-m", "core", "channels", "--no-store"]
    command += ["--config", str(made / "channels.yaml"), "--artifacts", str(artifacts)]
    return measure(command, made / "ours.log")


def run_reference(made: Path) -> Cost:
    """Run the recipe on the rows in a folder."""
    target = made / "reference"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    script = Path(__file__).with_name("channels_reference.py")
    command = [sys.executable, str(script), str(made), str(target)]
    return measure(command, made / "reference.log")


def differences(made: Path) -> list[str]:
    """Return the features, and perhaps the segment, in which both sides differ."""
    ours = made / "ours" / "channels"
    segments = pl.read_parquet(ours / "segments.parquet")
    features = pl.read_parquet(ours / "customer_features.parquet")
    found = features.join(
        segments.rename({"Segment": "segment"}), on="customer_id", how="left"
    ).sort("customer_id")
    recipe = pl.read_parquet(made / "reference" / "customer_features.parquet")
    expected = recipe.select(found.columns).sort("customer_id").fill_nan(None)
    if found.height != expected.height:
        return [f"{found.height:,} customers instead of {expected.height:,}"]
    return [
        name
        for name, dtype in found.schema.items()
        if not _is_equal(found[name], expected[name], is_number=dtype.is_numeric())
    ]


def _is_equal(found: pl.Series, expected: pl.Series, *, is_number: bool) -> bool:
    if not is_number:
        return found.eq_missing(expected.cast(found.dtype)).all()
    one, other = found.cast(pl.Float64), expected.cast(pl.Float64)
    is_near = (one - other).abs() <= 1e-9 * other.abs().clip(1)
    return bool((is_near.fill_null(one.is_null() & other.is_null())).all())


def main() -> None:
    """Run both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--seed", type=int, default=42, help="of the rows")
    parser.add_argument("--only", choices=("ours",), help="leave the recipe out")
    parser.add_argument("--work", type=Path, default=WORK)
    chosen = parser.parse_args()
    print(machine())
    work = chosen.work.resolve()
    whole = make_rows(work, "channels", chosen.customers, chosen.seed)
    ours = run_ours(whole)
    rows = [("ours", count_rows(whole), ours)]
    if not chosen.only:
        tenth = make_rows(work, "channels", chosen.customers // PART, chosen.seed)
        rows += [
            ("ours", count_rows(tenth), run_ours(tenth)),
            ("recipe", count_rows(tenth), run_reference(tenth)),
        ]
    print("\n| side | rows | seconds | MB at the peak | CPU s |")
    print("|---|---|---:|---:|---:|")
    for side, n_rows, cost in rows:
        print(
            f"| {side} | {n_rows} | {cost.seconds:.1f} | {cost.peak_mb:,.0f} "
            f"| {cost.cpu_s:.1f} |"
        )
    if not chosen.only:
        ratio = ours.seconds / rows[2][2].seconds
        print(f"\nOurs on all rows by the recipe on a tenth: {ratio:.2f}")
        found = ", ".join(differences(tenth)) or "none"
        print(f"Features and segments that differ on the tenth: {found}")
    is_met = ours.seconds <= LIMIT_S and ours.peak_mb <= LIMIT_MB
    print(f"At most {LIMIT_S} s and {LIMIT_MB:,} MB: {'met' if is_met else 'not met'}")


if __name__ == "__main__":
    main()
