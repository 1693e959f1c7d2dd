"""What `scale.py` measures: rows of any size, and commands as a user runs them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import polars as pl
import psutil
from axes import make_orders
from pipelines import ROOT, STEPS, make_rows, measure
from results import Row
from sklearn.metrics import adjusted_rand_score

from core.config import SampleConfig
from core.retailers.sample import generate_sales

PREPARE, *LEARN, INFER = (ROOT / script for script in STEPS)
MODEL_SHOPS = 10_000
FIT_SHOPS = (100_000, 50_000, 25_000, 10_000, 5_000)
SEED = 42
LABELS = ("shop_id", "segment", "latent_cluster", "latent_cluster_strength", "reason")
# What Spark is told: all cores that the page speaks of, and enough for its driver.
SUBMITTED = (
    "--master local[2] --driver-memory 3g --conf spark.ui.enabled=false "
    "--conf spark.ui.showConsoleProgress=false pyspark-shell"
)


class Kind(NamedTuple):
    """What is generated of each shop."""

    n_months: int
    products_per_month: float
    shops_per_part: int


# Some 134 and 25 rows of a shop; a part has about 1.3 million rows.
KINDS = {"three-years": Kind(36, 4.2, 10_000), "short": Kind(15, 2.0, 50_000)}


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


def command(script: Path, artifacts: Path, *options: str | Path) -> list[str]:
    """Return a pipeline's command line."""
    line = [sys.executable, script, "--artifacts", artifacts, *options]
    return [str(part) for part in line]


def figures(work: Path, tables: Sequence[Path], steps: Mapping[str, list[str]]) -> Row:
    """Run commands one after the other; return what they took, and count the rows."""
    costs, load = {}, psutil.getloadavg()[0]
    for step, line in steps.items():
        cost = measure(line, work / "step.log")
        print(
            f"  {step:8} {cost.seconds:7.1f} s {cost.peak_mb:7,.0f} MB "
            f"{cost.cpu_s:7.1f} CPU s",
            flush=True,
        )
        costs[step] = cost._asdict()
    rows = sum(pl.scan_parquet(t).select(pl.len()).collect().item() for t in tables)
    on_disk = sum(map(_size, tables)) / 1e6
    return {"rows": rows, "disk_mb": on_disk, "steps": costs, "load": load}


def _size(path: Path) -> int:
    """Return the bytes of a file, or of the files of a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def judge_pipelines(work: Path, kind: str, n_shops: int) -> Row:
    """Run the four pipelines."""
    sales, artifacts = sales_of(work, kind, n_shops), work / "artifacts"
    shutil.rmtree(artifacts, ignore_errors=True)
    commands = {
        step: command(ROOT / script, artifacts, "--input", sales)
        for script, step in STEPS.items()
    }
    found = figures(work, [sales], commands)
    shutil.rmtree(artifacts)
    return found


def trained(work: Path) -> Path:
    """Return the artifacts of a model of the smallest size, trained if need be."""
    artifacts = work / "model"
    if not (artifacts / "report.html").is_file():
        sales = sales_of(work, "three-years", MODEL_SHOPS)
        for script in (PREPARE, *LEARN, INFER):
            line = command(script, artifacts, "--input", sales)
            measure(line, work / "model.log")
    return artifacts


def judge_score(work: Path, kind: str, n_shops: int) -> Row:
    """Score all shops of a kind with the saved model."""
    sales, output = sales_of(work, kind, n_shops), work / "scored.parquet"
    line = command(INFER, trained(work), "--input", sales, "--output", output)
    found = figures(work, [sales], {"score": line})
    found["labels"] = _digest(output)
    output.unlink()
    return found


def judge_spark(work: Path, n_shops: int) -> Row:
    """Prepare sales on Spark, and score them there with the saved model."""
    sales, artifacts = sales_of(work, "three-years", n_shops), work / "artifacts"
    scored = work / "scored"
    shutil.rmtree(artifacts, ignore_errors=True)
    os.environ["PYSPARK_SUBMIT_ARGS"] = SUBMITTED
    options = ["--engine", "spark", "--input", sales]
    commands = {
        "prepare": command(PREPARE, artifacts, *options),
        "score": command(INFER, trained(work), *options, "--output", scored),
    }
    found = figures(work, [sales], commands)
    found["labels"] = _digest(scored / "scored_predictions")
    for folder in (artifacts, scored):
        shutil.rmtree(folder)
    return found


def _digest(labels: Path) -> int:
    """Return a number that is the same for the same labels, in whatever order."""
    files = labels / "*.parquet" if labels.is_dir() else labels
    table = pl.scan_parquet(files).select(LABELS).collect()
    return int(table.hash_rows(seed=0).sum())


def judge_customers(work: Path, system: str, n_customers: int) -> Row:
    """Run a system of customers, from rows to its published files."""
    artifacts = work / "artifacts"
    shutil.rmtree(artifacts, ignore_errors=True)
    if system == "axes":
        made = make_orders(work / system, n_customers, SEED)
    else:
        made = make_rows(work / system, system, n_customers, SEED)
    items = "order_products__prior" if system == "baskets" else "items"
    tables = sorted(made.glob("*orders.parquet")) + sorted(
        made.glob(f"*{items}.parquet")
    )
    line = [sys.executable, "-m", "core", system, "--no-store"]
    line += ["--artifacts", str(artifacts)]
    if system == "channels":
        line += ["--config", str(made / "channels.yaml")]
    else:
        line += ["--orders", str(tables[0]), "--items", str(tables[1])]
    if system == "baskets":
        for name in ("products", "aisles"):
            line += [f"--{name}", str(made / f"{name}.parquet")]
    found = figures(work, tables, {"run": line})
    shutil.rmtree(artifacts)
    return found


def judge_sample(work: Path, n_shops: int, seed: int) -> Row:
    """Learn from all shops and from ever fewer, and compare everybody's labels."""
    prepared = work / "sample"
    shutil.rmtree(prepared, ignore_errors=True)
    products = KINDS["three-years"].products_per_month
    options = ["--set", f"sample.n_shops={n_shops}", "--seed", str(seed)]
    options += ["--set", f"sample.products_per_month={products}"]
    measure(command(PREPARE, prepared, *options), work / "sample.log")
    truth = pl.read_csv(prepared / "sample_truth.csv", infer_schema=False)
    truth = truth.filter(kind="archetype").select("shop_id", "archetype")
    found: Row = {}
    everyone, cost = labels_learnt_from(work, prepared, None)
    for fit_shops in (n_shops, *(n for n in FIT_SHOPS if n < n_shops)):
        labels = everyone
        if fit_shops < n_shops:
            labels, cost = labels_learnt_from(work, prepared, fit_shops)
        known = labels.join(truth, on="shop_id")
        both = labels.join(everyone, on="shop_id")
        found[str(fit_shops)] = cost | {
            "planted_ari": _agreement(known, "cluster", "archetype"),
            "clusters_ari": _agreement(both, "cluster", "cluster_right"),
            "segments_ari": _agreement(both, "segment", "segment_right"),
            "n_clusters": len(set(labels["cluster"]) - {"-1"}),
            "noise": float((labels["cluster"] == "-1").mean()),
        }
        print(f"  learnt from {fit_shops:,}: {found[str(fit_shops)]}", flush=True)
    shutil.rmtree(prepared)
    return {"learnt_from": found}


def labels_learnt_from(
    work: Path, prepared: Path, fit_shops: int | None
) -> tuple[pl.DataFrame, Row]:
    """Run stages 2 to 4 on a copy; return everybody's labels, and the cost of 2 and 3.

    Labels are text: ``segment``, the published one, and ``cluster``, of the latent
    space; ``-1`` for none.
    """
    artifacts = work / "learnt"
    shutil.rmtree(artifacts, ignore_errors=True)
    shutil.copytree(prepared, artifacts)
    option = f"clustering.fit_shops={fit_shops or 'null'}"
    costs = [
        measure(command(script, artifacts, "--set", option), work / "sample.log")
        for script in LEARN
    ]
    measure(command(INFER, artifacts), work / "sample.log")
    table = pl.read_csv(artifacts / "cluster_predictions.csv", infer_schema=False)
    shutil.rmtree(artifacts)
    labels = table.drop_nulls("latent_cluster").select(  # others are not eligible
        "shop_id", pl.col("segment").fill_null("-1"), cluster="latent_cluster"
    )
    return labels, {
        "seconds": sum(cost.seconds for cost in costs),
        "cpu_s": sum(cost.cpu_s for cost in costs),
        "peak_mb": max(cost.peak_mb for cost in costs),
    }


def _agreement(table: pl.DataFrame, one: str, other: str) -> float:
    """Return the adjusted Rand index of two columns of labels."""
    return float(adjusted_rand_score(table[one].to_numpy(), table[other].to_numpy()))


JUDGES = {
    "pipelines": judge_pipelines,
    "score": judge_score,
    "spark": judge_spark,
    "customers": judge_customers,
    "sample": judge_sample,
}
