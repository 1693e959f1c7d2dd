"""Memory and time of scoring many retailers with a saved model.

Trains on the built-in sample once, then scores files of growing size with
``clustering-inference-pipeline.py --input FILE``. Memory must not grow with the number
of shops beyond the columns that a result has by its nature (ids, reasons):
``python benchmarks/inference.py``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from pipelines import ROOT, STEPS, machine, measure

SHOPS_PER_PART = 50_000
MAKE_PART = """
import sys
import polars as pl
from core.config import SampleConfig
from core.retailers.sample import generate_sales
shops, months, part, path = sys.argv[1:]
sample = SampleConfig(n_shops=int(shops), n_months=int(months), products_per_month=2)
rows = generate_sales(sample, seed=int(part)).rows
rows.with_columns(shop_id=f"{part}-" + pl.col("shop_id")).write_parquet(path)
"""


def make_rows(work: Path, n_shops: int, n_months: int) -> Path:
    """Return a folder of Parquet files, one per 50,000 shops, made if need be."""
    folder = work / f"score-{n_shops}-{n_months}"
    folder.mkdir(parents=True, exist_ok=True)
    for part in range(-(-n_shops // SHOPS_PER_PART)):
        path = folder / f"part-{part:03d}.parquet"
        shops = min(SHOPS_PER_PART, n_shops - part * SHOPS_PER_PART)
        if not path.exists():
            numbers = [str(shops), str(n_months), str(part), str(path)]
            measure([sys.executable, "-c", MAKE_PART, *numbers], work / "make.log")
    return folder


def main() -> None:
    """Train, score every size, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shops", type=int, nargs="+", default=[100_000, 300_000, 1_000_000]
    )
    parser.add_argument("--months", type=int, default=15, help="months per shop")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "benchmarks")
    chosen = parser.parse_args()
    work = chosen.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    print(machine())
    artifacts = work / "model"
    shutil.rmtree(artifacts, ignore_errors=True)
    *training, inference = (ROOT / script for script in STEPS)
    for script in (*training, inference):
        command = [sys.executable, str(script), "--artifacts", str(artifacts)]
        measure(command, work / "model.log")
    print("\n| shops | rows' MB on disk | seconds | shops per second | peak MB |")
    print("|---:|---:|---:|---:|---:|")
    for n_shops in chosen.shops:
        folder = make_rows(work, n_shops, chosen.months)
        command = [sys.executable, str(inference), "--artifacts", str(artifacts)]
        cost = measure([*command, "--input", str(folder)], work / "score.log")
        on_disk = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        print(
            f"| {n_shops:,} | {on_disk:,.0f} | {cost.seconds:.1f} | "
            f"{n_shops / cost.seconds:,.0f} | {cost.peak_mb:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
