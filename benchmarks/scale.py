"""How much is too big: rows, seconds, gigabytes and the cost of a shop, size by size.

::

    python benchmarks/scale.py                      # everything; goes on where it was
    python benchmarks/scale.py --parts pipelines --most 240000
    python benchmarks/scale.py --render             # docs/scale.md from the results

Small sizes come first. Sales are generated part by part: a small size is the first
parts of a larger one. Every command runs as a user runs it, in processes of its own.
Results are lines of JSON, as `results.py` keeps them, and are not measured again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from results import REPOSITORY, Task, measure_in_turn, read_cache
from scale_judges import JUDGES
from scale_page import render

WORK = REPOSITORY / "build" / "benchmarks" / "scale"
CACHE = REPOSITORY / "build" / "benchmarks" / "scale.jsonl"
PAGE = REPOSITORY / "docs" / "scale.md"
SIZES = (10_000, 60_000, 240_000, 1_000_000)
ENGINE_SIZES = (60_000, 240_000, 1_000_000)
SHORT_SIZES = (1_000_000, 3_000_000, 10_000_000)
CUSTOMERS = (50_000, 200_000)
SYSTEMS = ("axes", "channels", "baskets")
SAMPLED = ((60_000, 801), (60_000, 802))  # shops and seed


def plan_pipelines() -> Iterator[Task]:
    """Yield the four pipelines, size by size: long histories, then more, short ones."""
    for n_shops in SIZES:
        yield "pipelines", {"kind": "three-years", "n_shops": n_shops}
    for n_shops in SHORT_SIZES:
        yield "pipelines", {"kind": "short", "n_shops": n_shops}


def plan_score() -> Iterator[Task]:
    """Yield scoring: the sales that Spark scores, too, then many shops of few rows."""
    for n_shops in ENGINE_SIZES:
        yield "score", {"kind": "three-years", "n_shops": n_shops}
    for n_shops in SHORT_SIZES:
        yield "score", {"kind": "short", "n_shops": n_shops}


def plan_spark() -> Iterator[Task]:
    """Yield preparing and scoring on Spark, size by size."""
    for n_shops in ENGINE_SIZES:
        yield "spark", {"n_shops": n_shops}


def plan_customers() -> Iterator[Task]:
    """Yield the systems of customers, size by size."""
    for system in SYSTEMS:
        for n_customers in CUSTOMERS:
            yield "customers", {"system": system, "n_customers": n_customers}


def plan_sample() -> Iterator[Task]:
    """Yield what learning from a part of the shops costs."""
    for n_shops, seed in SAMPLED:
        yield "sample", {"n_shops": n_shops, "seed": seed}


PARTS = {
    "pipelines": plan_pipelines,
    "score": plan_score,
    "spark": plan_spark,
    "customers": plan_customers,
    "sample": plan_sample,
}


def tasks_of(parts: list[str], most: int) -> list[Task]:
    """Return what is to be measured, the smallest first, up to so many shops."""
    planned = [task for part in parts for task in PARTS[part]()]
    planned.sort(key=lambda task: size_of(task[1]))
    return [(judge, given) for judge, given in planned if size_of(given) <= most]


def size_of(arguments: dict[str, Any]) -> int:
    """Return the shops or customers of a task."""
    return int(arguments.get("n_shops") or arguments["n_customers"])


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
        work = chosen.work.resolve()
        work.mkdir(parents=True, exist_ok=True)
        judges = {name: partial(judge, work) for name, judge in JUDGES.items()}
        measure_in_turn(tasks_of(chosen.parts, chosen.most), judges, chosen.cache)
        return
    page = render(list(read_cache(chosen.cache).values()))
    chosen.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
