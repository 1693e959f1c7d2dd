"""How good the segments are: against planted truth, refits, nothing, and real data.

::

    python benchmarks/quality.py                   # everything; goes on where it was
    python benchmarks/quality.py --parts planted --difficulties medium --sizes 5000
    python benchmarks/quality.py --render          # docs/quality.md from the results

Every result is one line of JSON in the cache file, written as soon as it is there; what
is in it is not measured again. Delete the file, or name another one, after a change of
what is measured. Seeds and settings are fixed in `quality_data.py`; the options are the
defaults everywhere. `benchmarks/README.md` says what each part takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import continuum
import quality_data as data
from quality_judges import JUDGES, METHODS
from quality_page import render
from results import Task, measured_version, read_cache, still_to_measure

from core.evaluation.workers import Workers

REPOSITORY = Path(__file__).resolve().parents[1]
CACHE = REPOSITORY / "build" / "benchmarks" / "quality.jsonl"
PAGE = REPOSITORY / "docs" / "quality.md"


def plan_planted(chosen: argparse.Namespace) -> Iterator[Task]:
    """Yield every method on every planted data set, one data set after the other."""
    for n_shops in chosen.sizes:
        for difficulty in chosen.difficulties:
            for seed in data.SEEDS[: chosen.seeds]:
                shops = {"difficulty": difficulty, "n_shops": n_shops, "seed": seed}
                for method in METHODS:
                    yield "planted", shops | {"family": chosen.family, "method": method}


def plan_stability(chosen: argparse.Namespace) -> Iterator[Task]:
    """Yield refits of medium difficulty, at the smallest size."""
    shops = {"family": chosen.family, "difficulty": "medium"}
    shops |= {"n_shops": min(chosen.sizes)}
    for seed in data.SEEDS[: chosen.seeds]:
        yield "stability", shops | {"seed": seed}


def plan_structureless(chosen: argparse.Namespace) -> Iterator[Task]:
    """Yield data without structure, and planted data that the checks have to see."""
    for kind, number in data.structureless_sets():
        if number < chosen.sets:
            yield "structureless", {"kind": kind, "number": number}
    for difficulty in chosen.difficulties:
        for seed in data.SEEDS[: chosen.seeds]:
            shops = {"family": chosen.family, "difficulty": difficulty}
            yield "natural", shops | {"seed": seed}


def plan_inside(chosen: argparse.Namespace) -> Iterator[Task]:
    """Yield the same data without structure, to be looked into."""
    for kind, number in data.structureless_sets():
        if number < chosen.sets:
            yield "inside", {"kind": kind, "number": number}


def plan_continuum(chosen: argparse.Namespace) -> Iterator[Task]:
    """Yield shops on a continuum of trends."""
    for seed in continuum.SEEDS[: chosen.seeds]:
        yield "continuum", {"n_shops": continuum.N_SHOPS, "seed": seed}


def plan_real(chosen: argparse.Namespace) -> Iterator[Task]:
    """Yield the real data sets, where they are."""
    groups = dict(text.split("=", 1) for text in chosen.groups)
    for name in data.REAL if data.SHARED.is_dir() else ():
        yield "real", {"name": name, "groups": groups.get(name)}


PARTS = {
    "planted": plan_planted,
    "stability": plan_stability,
    "structureless": plan_structureless,
    "inside": plan_inside,
    "continuum": plan_continuum,
    "real": plan_real,
}


def measure(chosen: argparse.Namespace) -> None:
    """Measure what is not in the cache yet, and append it."""
    tasks = (task for part in chosen.parts for task in PARTS[part](chosen))
    wanted = still_to_measure(tasks, chosen.cache)
    version = measured_version()
    started = time.perf_counter()
    with (
        Workers(chosen.workers) as workers,
        chosen.cache.open("a", encoding="utf-8") as cache,
    ):
        cache.write("\n" if cache.tell() else "")
        calls = (partial(JUDGES[judge], **arguments) for judge, arguments in wanted)
        for n, (number, result) in enumerate(workers.run(calls), start=1):
            judge, arguments = wanted[number]
            row = {"judge": judge, "arguments": arguments, "version": version}
            cache.write(json.dumps(row | {"result": result}) + "\n")
            cache.flush()
            left = (time.perf_counter() - started) / n * (len(wanted) - n) / 60
            print(f"{n}/{len(wanted)} {judge} {arguments}; {left:.0f} min", flush=True)


def main() -> None:
    """Measure, or render the page of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    listed = partial(str.split, sep=",")
    parser.add_argument("--parts", type=listed, default=list(PARTS))
    parser.add_argument("--difficulties", type=listed, default=list(data.DIFFICULTIES))
    parser.add_argument(
        "--sizes",
        type=lambda text: [int(n) for n in text.split(",")],
        default=list(data.SIZES),
    )
    parser.add_argument("--seeds", type=int, default=len(data.SEEDS), help="how many")
    parser.add_argument(
        "--sets", type=int, default=data.N_PER_KIND, help="structureless sets per kind"
    )
    parser.add_argument("--family", default="fmcg", help="table of archetypes")
    parser.add_argument(
        "--groups", action="append", default=[], help="NAME=CSV with shop_id,group"
    )
    parser.add_argument("--workers", type=int, default=2, help="0: this process alone")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if not chosen.render:
        measure(chosen)
        return
    page = render(list(read_cache(chosen.cache).values()))
    chosen.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
