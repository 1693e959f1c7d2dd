"""How much is too big: rows, seconds, gigabytes and the cost of a shop, size by size.

::

    python benchmarks/scale.py                      # everything; goes on where it was
    python benchmarks/scale.py --parts pipelines --most 240000
    python benchmarks/scale.py --render             # docs/scale.md from the results

Sales are generated part by part as a size needs them: a small size is the first parts
of a larger one. Every command runs as a user runs it, in processes of its own. Results
are lines of JSON, as `results.py` keeps them, and are not measured again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import polars as pl
from pipelines import ROOT, STEPS, measure
from results import Row, Task, measure_in_turn, read_cache
from scale_page import render

from core.config import SampleConfig
from core.retailers.sample import generate_sales

WORK = ROOT / "build" / "benchmarks" / "scale"
CACHE = ROOT / "build" / "benchmarks" / "scale.jsonl"
PAGE = ROOT / "docs" / "scale.md"
PREPARE, *LEARN, INFER = (ROOT / script for script in STEPS)


class Kind(NamedTuple):
    """What is generated of each shop."""

    n_months: int
    products_per_month: float
    shops_per_part: int


# Some 134 and 25 rows of a shop; a part has about 1.3 million rows.
KINDS = {"three-years": Kind(36, 4.2, 10_000), "short": Kind(15, 2.0, 50_000)}
SIZES = (10_000, 60_000, 240_000, 1_000_000)
SPARK_SIZES = (60_000, 1_000_000)
SHORT_SIZES = (1_000_000, 3_000_000, 10_000_000)
MODEL_SHOPS = 10_000


def make_part(path: Path, kind: Kind, part: int) -> None:
    """Write the sales of a part's shops, whose ids begin with its number."""
    sample = SampleConfig(
        n_shops=kind.shops_per_part,
        n_months=kind.n_months,
        products_per_month=kind.products_per_month,
    )
    rows = generate_sales(sample, seed=part).rows
    building = path.with_suffix(".building")
    rows.with_columns(
        shop_id=pl.format("{}-{}", pl.lit(f"{part:04d}"), "shop_id")
    ).write_parquet(building)
    building.replace(path)


def sales_of(work: Path, kind_name: str, n_shops: int) -> Path:
    """Return the folder with the sales of the first shops; its parts are shared."""
    kind = KINDS[kind_name]
    folder, store = work / f"{kind_name}-{n_shops}", work / kind_name
    for place in (folder, store):
        place.mkdir(parents=True, exist_ok=True)
    parts = {n: f"part-{n:04d}.parquet" for n in range(n_shops // kind.shops_per_part)}
    missing = {n: store / name for n, name in parts.items()}
    missing = {n: path for n, path in missing.items() if not path.is_file()}
    with ThreadPoolExecutor(2) as pool:  # NumPy lets go of the interpreter
        list(pool.map(make_part, missing.values(), repeat(kind), missing))
    for name in parts.values():
        if not (folder / name).is_file():
            os.link(store / name, folder / name)
    return folder


def command(script: Path, artifacts: Path, *options: str) -> list[str]:
    """Return a pipeline's command line."""
    return [sys.executable, str(script), "--artifacts", str(artifacts), *options]


def figures(work: Path, sales: Path, steps: dict[str, list[str]]) -> Row:
    """Run commands one after the other and return what they took, and the rows."""
    costs = {}
    for step, line in steps.items():
        cost = measure(line, work / "step.log")
        print(
            f"  {sales.name} {step:8} {cost.seconds:7.1f} s {cost.peak_mb:7,.0f} MB "
            f"{cost.cpu_s:7.1f} CPU s",
            flush=True,
        )
        costs[step] = cost._asdict()
    rows = pl.scan_parquet(sales).select(pl.len()).collect().item()
    on_disk = sum(path.stat().st_size for path in sales.iterdir()) / 1e6
    return {"rows": rows, "disk_mb": on_disk, "steps": costs}


def judge_pipelines(work: Path, n_shops: int) -> Row:
    """Run the four pipelines."""
    sales = sales_of(work, "three-years", n_shops)
    artifacts = work / "artifacts"
    shutil.rmtree(artifacts, ignore_errors=True)
    commands = {
        step: command(ROOT / script, artifacts, "--input", str(sales))
        for script, step in STEPS.items()
    }
    found = figures(work, sales, commands)
    shutil.rmtree(artifacts)
    return found


def trained(work: Path) -> Path:
    """Return the artifacts of a model of the smallest size, trained if need be."""
    artifacts = work / "model"
    if not (artifacts / "report.html").is_file():
        sales = sales_of(work, "three-years", MODEL_SHOPS)
        for script in (PREPARE, *LEARN, INFER):
            line = command(script, artifacts, "--input", str(sales))
            measure(line, work / "model.log")
    return artifacts


def judge_score(work: Path, kind: str, n_shops: int) -> Row:
    """Score all shops of a kind with the saved model."""
    sales, output = sales_of(work, kind, n_shops), work / "scored.parquet"
    line = command(INFER, trained(work), "--input", str(sales), "--output", str(output))
    found = figures(work, sales, {"score": line})
    output.unlink()
    return found


JUDGES = {"pipelines": judge_pipelines, "score": judge_score}


def plan_pipelines() -> Iterator[Task]:
    """Yield the four pipelines, size by size."""
    for n_shops in SIZES:
        yield "pipelines", {"n_shops": n_shops}


def plan_score() -> Iterator[Task]:
    """Yield scoring: the largest sales of three years, then many shops of a few."""
    yield "score", {"kind": "three-years", "n_shops": SIZES[-1]}
    for n_shops in SHORT_SIZES:
        yield "score", {"kind": "short", "n_shops": n_shops}


PARTS = {"pipelines": plan_pipelines, "score": plan_score}


def tasks_of(parts: list[str], most: int) -> list[Task]:
    """Return what is to be measured of these parts, up to so many shops."""
    planned = (task for part in parts for task in PARTS[part]())
    return [(judge, given) for judge, given in planned if given["n_shops"] <= most]


def main() -> None:
    """Measure, or render the page of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--most", type=int, default=10**9, help="shops; default: all")
    parser.add_argument("--work", type=Path, default=WORK, help="sales and artifacts")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args()
    if not chosen.render:
        judges: dict[str, Any] = {
            name: partial(judge, chosen.work.resolve())
            for name, judge in JUDGES.items()
        }
        measure_in_turn(tasks_of(chosen.parts, chosen.most), judges, chosen.cache)
        return
    page = render(list(read_cache(chosen.cache).values()))
    chosen.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
