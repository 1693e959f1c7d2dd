"""Time and memory of 13 customer axes, whole population, against the published recipe.

Makes customers, orders and items once, then runs ``./run.sh axes`` (read, features, 13
axes, names, strengths, files, page, load into PostgreSQL) and `axes_reference.py` as
processes of their own on the same files, each with an embedded PostgreSQL of its own:
``python benchmarks/axes.py``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from pipelines import ROOT, SIDES, Cost, machine, measure, median_costs

WORK = ROOT / "build" / "benchmarks" / "axes"
CUSTOMERS = 93_564
MEAN_ORDERS = 10.7
LIMIT_S, LIMIT_MB = 60, 2000
MAKE_ORDERS = """
import sys
from core.axes.sample import generate_shoppers
customers, mean, seed, folder = sys.argv[1:]
made = generate_shoppers(int(customers), int(seed), mean_orders=float(mean))
made.orders.write_parquet(folder + "/orders.parquet")
made.items.write_parquet(folder + "/items.parquet")
print(len(made.orders), len(made.items))
"""
# The reference has no command of its own: this is its script.
REFERENCE = """
import json, sys
from pathlib import Path
import pandas as pd
import psycopg
from axes_reference import run_reference
from core.store import Store
folder, work = sys.argv[1:]
orders = pd.read_parquet(folder + "/orders.parquet")
items = pd.read_parquet(folder + "/items.parquet")
with Store.open(None, Path(work) / "postgres") as store:
    with psycopg.connect(store.address) as connection:
        print(json.dumps(run_reference(orders, items, connection)))
"""


def make_orders(folder: Path, n_customers: int, seed: int) -> Path:
    """Return the folder of generated rows, made unless they are there already."""
    made = folder / f"{n_customers}-{seed}"
    if not (made / "items.parquet").is_file():
        made.mkdir(parents=True, exist_ok=True)
        numbers = [str(n_customers), str(MEAN_ORDERS), str(seed)]
        command = [sys.executable, "-c", MAKE_ORDERS, *numbers, str(made)]
        cost = measure(command, made / "generate.log")
        print(f"generated {made.name}: {cost.seconds:.1f} s, {cost.peak_mb:,.0f} MB")
    return made


def run_side(side: str, made: Path) -> Cost:
    """Run one side in a fresh folder with a fresh database."""
    work = made / side
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    if side == "ours":
        command = [sys.executable, "-m", "core", "axes"]
        command += ["--orders", str(made / "orders.parquet")]
        command += ["--items", str(made / "items.parquet")]
        command += ["--artifacts", str(work / "artifacts")]
    else:
        code = f"import sys; sys.path[:0] = {[str(ROOT / 'benchmarks'), str(ROOT)]!r}"
        command = [sys.executable, "-c", code + REFERENCE, str(made), str(work)]
    cost = measure(command, made / f"{side}.log")
    print(f"  {side}: {cost.seconds:.1f} s, {cost.peak_mb:,.0f} MB", flush=True)
    return cost


def reference_stages(made: Path) -> str:
    """Return the seconds of the reference's stages, from its log."""
    last = (made / "reference.log").read_text(encoding="utf-8").splitlines()[-1]
    return ", ".join(f"{name} {s:.0f} s" for name, s in json.loads(last).items())


def main() -> None:
    """Run both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--seed", type=int, default=42, help="of the rows")
    parser.add_argument("--repeats", type=int, default=1, help="table shows medians")
    parser.add_argument("--only", choices=SIDES, help="run one side alone")
    parser.add_argument("--work", type=Path, default=WORK)
    chosen = parser.parse_args()
    print(machine())
    made = make_orders(chosen.work.resolve(), chosen.customers, chosen.seed)
    sides = [side for side in SIDES if chosen.only in {None, side}]
    runs: dict[str, list[list[Cost]]] = {side: [] for side in sides}
    for repeat in range(chosen.repeats):
        for side in sides if repeat % 2 == 0 else reversed(sides):
            runs[side].append([run_side(side, made)])
    costs = {side: median_costs(found)[0] for side, found in runs.items()}
    print(f"\n{chosen.customers:,} customers, medians of {chosen.repeats}\n")
    print("| side | seconds | MB at the peak | CPU s |\n|---|---:|---:|---:|")
    for side, cost in costs.items():
        print(
            f"| {side} | {cost.seconds:.1f} | {cost.peak_mb:,.0f} | {cost.cpu_s:.1f} |"
        )
    if len(costs) == len(SIDES):
        ratio = costs["ours"].seconds / costs["reference"].seconds
        print(f"\nRatio of the seconds: {ratio:.3f}")
    if "reference" in costs:
        print(f"The reference: {reference_stages(made)}")
    if "ours" in costs:
        found = costs["ours"]
        is_met = found.seconds <= LIMIT_S and found.peak_mb <= LIMIT_MB
        print(
            f"At most {LIMIT_S} s and {LIMIT_MB:,} MB: {'met' if is_met else 'not met'}"
        )


if __name__ == "__main__":
    main()
