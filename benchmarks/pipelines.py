"""Time and memory of the four pipelines against the published recipe, step by step.

Makes sales of N shops once, then runs our four scripts and the four steps of
`reference_recipe.py` as processes of their own, on the same file and the same cores,
changing the order from one repeat to the next: ``python benchmarks/pipelines.py``.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[1]
RECIPE = Path(__file__).with_name("reference_recipe.py")
STEPS = {
    "feature-preparation-pipeline.py": "prepare",
    "autoencoder-training-pipeline.py": "train",
    "clustering-training-pipeline.py": "cluster",
    "clustering-inference-pipeline.py": "infer",
}
SIDES = ("ours", "reference")
FORMATS = {"seconds": ".1f", "peak_mb": ",.0f", "cpu_s": ".1f"}
SAMPLING_S = 0.05
# Of long commands less often: looking through all processes costs a tenth of a core.
SAMPLES_PER_COMMAND = 500
# Eight million rows at 60,000 shops and 36 months.
PRODUCTS_PER_MONTH = 4.2
MAKE_SALES = """
import sys
from core.config import SampleConfig
from core.retailers.sample import generate_sales
shops, products, seed, path = sys.argv[1:]
sample = SampleConfig(n_shops=int(shops), products_per_month=float(products))
generate_sales(sample, seed=int(seed)).rows.write_parquet(path)
"""


class Cost(NamedTuple):
    """What a step took."""

    seconds: float
    peak_mb: float
    cpu_s: float


def tree_usage(process: psutil.Process) -> tuple[int, float]:
    """Return resident bytes and CPU seconds of a process and of all that it started."""
    n_bytes, cpu_s = 0, 0.0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return n_bytes, cpu_s
    for member in family:
        try:
            with member.oneshot():
                n_bytes += member.memory_info().rss
                times = member.cpu_times()
        except psutil.NoSuchProcess:
            continue
        # Ended children are in their parent's account, where the system keeps one.
        cpu_s += times.user + times.system
        cpu_s += times.children_user + times.children_system
    return n_bytes, cpu_s


MAKE_ROWS = """
import json, sys
from importlib import import_module
from pathlib import Path
system, folder, customers, seed = sys.argv[1:]
write_sample = import_module(f"core.{system}.sample").write_sample
rows = write_sample(Path(folder), int(customers), int(seed), "parquet")
(Path(folder) / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
"""


def make_rows(work: Path, system: str, n_customers: int, seed: int) -> Path:
    """Return the folder of a system's sample, made unless it is there already."""
    made = work / f"{n_customers}-{seed}"
    if not (made / "rows.json").is_file():
        made.mkdir(parents=True, exist_ok=True)
        numbers = [str(n_customers), str(seed)]
        command = [sys.executable, "-c", MAKE_ROWS, system, str(made), *numbers]
        cost = measure(command, work / "generate.log")
        print(f"generated {made.name}: {cost.seconds:.1f} s, {cost.peak_mb:,.0f} MB")
    return made


def measure(command: list[str], log: Path) -> Cost:
    """Run a command to its end; stop the benchmark if it fails.

    The peak is the largest sum of resident memory over the process tree among samples
    taken `SAMPLING_S` apart, or a `SAMPLES_PER_COMMAND`-th of the time passed if that
    is more; CPU seconds are those of the last sample.
    """
    started = time.perf_counter()
    with log.open("w", encoding="utf-8") as output:
        child = psutil.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment(),
        )
        peak, cpu_s = 0, 0.0
        while child.poll() is None:
            n_bytes, spent_s = tree_usage(child)
            peak, cpu_s = max(peak, n_bytes), max(cpu_s, spent_s)
            passed = time.perf_counter() - started
            time.sleep(max(SAMPLING_S, passed / SAMPLES_PER_COMMAND))
    seconds = time.perf_counter() - started
    if child.returncode != 0:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])
        sys.exit(f"{' '.join(command)} ended with {child.returncode}:\n{tail}")
    return Cost(seconds, peak / 1e6, cpu_s)


def environment() -> dict[str, str]:
    """Return the environment of both sides: no options set, no display."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGMENTS_")}
    return {**clean, "MPLBACKEND": "Agg", "PYTHONUTF8": "1"}


def make_sales(work: Path, n_shops: int, seed: int) -> Path:
    """Return the file of generated sales, made unless it is there already."""
    path = work / f"sales-{n_shops}-{seed}.parquet"
    if not path.exists():
        building = path.with_suffix(".building")
        numbers = [str(n_shops), str(PRODUCTS_PER_MONTH), str(seed)]
        command = [sys.executable, "-c", MAKE_SALES, *numbers, str(building)]
        cost = measure(command, work / "generate.log")
        building.replace(path)
        print(f"generated {path.name}: {cost.seconds:.1f} s, {cost.peak_mb:,.0f} MB")
    return path


def run_side(side: str, sales: Path, work: Path, features: str | None) -> list[Cost]:
    """Run the four steps of one side in a fresh folder."""
    folder = work / side
    shutil.rmtree(folder, ignore_errors=True)
    costs = []
    for script, step in STEPS.items():
        if side == "ours":
            command = [sys.executable, str(ROOT / script)]
            command += ["--input", str(sales), "--artifacts", str(folder)]
            command += ["--features", features] if features else []
        else:
            command = [sys.executable, str(RECIPE), step]
            command += ["--input", str(sales), "--work", str(folder)]
        cost = measure(command, work / f"{side}-{step}.log")
        print(
            f"  {side:9} {step:8} {cost.seconds:7.1f} s {cost.peak_mb:7,.0f} MB "
            f"{cost.cpu_s:7.1f} CPU s",
            flush=True,
        )
        costs.append(cost)
    return costs


def median_costs(runs: list[list[Cost]]) -> list[Cost]:
    """Return each step's median over the repeats."""
    return [
        Cost(*(statistics.median(values) for values in zip(*step, strict=True)))
        for step in zip(*runs, strict=True)
    ]


def with_total(costs: list[Cost]) -> list[Cost]:
    """Append the total: the sum of the seconds, the largest of the peaks."""
    seconds = sum(cost.seconds for cost in costs)
    peak_mb = max(cost.peak_mb for cost in costs)
    return [*costs, Cost(seconds, peak_mb, sum(cost.cpu_s for cost in costs))]


def table(ours: list[Cost] | None, reference: list[Cost] | None) -> str:
    """Return a Markdown table; a ratio is ours divided by the reference's."""
    lines = [
        "| step | ours s | reference s | ratio | ours MB | reference MB | ratio "
        "| ours CPU s | reference CPU s | ratio |",
        f"|---|{'---:|' * 9}",
    ]
    names = [*STEPS.values(), "total (MB: peak)"]
    left = with_total(ours) if ours else [None] * len(names)
    right = with_total(reference) if reference else [None] * len(names)
    for name, one, other in zip(names, left, right, strict=True):
        cells = [name]
        for field, form in FORMATS.items():
            values = [getattr(cost, field) if cost else None for cost in (one, other)]
            cells += ["-" if value is None else f"{value:{form}}" for value in values]
            cells.append(f"{values[0] / values[1]:.2f}" if one and other else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    """Return what the figures were measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {cores or os.cpu_count()} cores, "
        f"{memory:.0f} GiB, Python {platform.python_version()}, "
        f"load at the start {psutil.getloadavg()[0]:.1f}"
    )


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shops", type=int, default=60_000, help="default 60,000")
    parser.add_argument("--seed", type=int, default=42, help="of the sales")
    parser.add_argument("--repeats", type=int, default=1, help="table shows medians")
    parser.add_argument(
        "--first", choices=SIDES, default="ours", help="who begins the first repeat"
    )
    parser.add_argument("--only", choices=SIDES, help="run one side alone")
    parser.add_argument(
        "--features", help="passed on to our scripts: `baseline` or `behaviour`"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "build" / "benchmarks",
        help="folder of the sales, both sides' files and their logs",
    )
    return parser.parse_args()


def main() -> None:
    """Run both sides and print the table."""
    chosen = parse()
    work = chosen.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    print(machine())
    sales = make_sales(work, chosen.shops, chosen.seed)
    order = [chosen.first, *(side for side in SIDES if side != chosen.first)]
    runs: dict[str, list[list[Cost]]] = {side: [] for side in SIDES}
    for repeat in range(chosen.repeats):
        print(f"repeat {repeat + 1} of {chosen.repeats}")
        for side in order if repeat % 2 == 0 else reversed(order):
            if chosen.only in {None, side}:
                runs[side].append(run_side(side, sales, work, chosen.features))
    ours, reference = (median_costs(runs[side]) or None for side in SIDES)
    print(f"\n{chosen.shops:,} shops, {sales.name}, medians of {chosen.repeats}\n")
    print(table(ours, reference))


if __name__ == "__main__":
    main()
