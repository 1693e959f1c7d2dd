"""Month after month: events found, ids kept, drift seen, and nothing else reported.

::

    python benchmarks/refresh.py                   # everything; goes on where it was
    python benchmarks/refresh.py --parts scenario --seeds 1
    python benchmarks/refresh.py --parts real --months 3
    python benchmarks/refresh.py --render          # docs/refresh.md

Every result is one line of JSON in the cache file, written as soon as it is there; what
is in it is not measured again. Months that were rolled stay in ``build/benchmarks``,
so that an interrupted year goes on as well. Delete both after a change of what is
measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from refresh_judges import IOWA, JUDGES
from refresh_page import render
from results import Task, measure_in_turn, read_cache

REPOSITORY = Path(__file__).resolve().parents[1]
CACHE = REPOSITORY / "build" / "benchmarks" / "refresh.jsonl"
PAGE = REPOSITORY / "docs" / "refresh.md"
SEEDS = (701, 702, 703)
# 701, 702, 711 and 712 were looked at when `refresh.confirm_strength` was chosen.
SCENARIO_SEEDS = (721, 722, 723)
N_REPEATS = 20
REPEATED = (("rolling", "anew"), ("medium", "anew"), ("medium", "refit"))
SHIFTS = ("level", "noise", "pauses", "mix")


def plan_scenario(chosen: argparse.Namespace) -> Iterator[Task]:
    """Yield years with the four planted events."""
    for seed in SCENARIO_SEEDS[: chosen.seeds]:
        yield "scenario", {"seed": seed, "difficulty": "easy"}


def plan_repeat(chosen: argparse.Namespace) -> Iterator[Task]:
    """Yield runs on the same data with other seeds and in another order."""
    for data, way in REPEATED:
        for number in range(chosen.repeats):
            yield "repeat", {"data": data, "way": way, "number": number}


def plan_real(chosen: argparse.Namespace) -> Iterator[Task]:
    """Yield the real stores, where they are."""
    if IOWA.is_file():
        yield "real", {"n_months": chosen.months}


def plan_drift(chosen: argparse.Namespace) -> Iterator[Task]:
    """Yield years in which nothing happens, and planted shifts."""
    for seed in SEEDS[: chosen.seeds]:
        for shift in (None, *SHIFTS):
            yield "drift", {"seed": seed, "shift": shift}


PARTS = {
    "scenario": plan_scenario,
    "repeat": plan_repeat,
    "real": plan_real,
    "drift": plan_drift,
}


def main() -> None:
    """Measure, or render the page of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    listed = partial(str.split, sep=",")
    parser.add_argument("--parts", type=listed, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    parser.add_argument("--repeats", type=int, default=N_REPEATS, help="per data set")
    parser.add_argument("--months", type=int, default=12, help="of the real stores")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if not chosen.render:
        tasks = (task for part in chosen.parts for task in PARTS[part](chosen))
        measure_in_turn(tasks, JUDGES, chosen.cache)
        return
    page = render(list(read_cache(chosen.cache).values()))
    chosen.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
