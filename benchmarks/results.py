"""Results of long benchmarks: one line of JSON each, so that a stopped run goes on.

What is in the file is not measured again. Delete the file, or name another one, after a
change of what is measured.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
Task = tuple[str, dict[str, Any]]
Row = dict[str, Any]


def result_id(judge: str, arguments: Mapping[str, Any]) -> str:
    """Return what tells one result from another."""
    return json.dumps([judge, arguments], sort_keys=True)


def read_cache(path: Path) -> dict[str, Row]:
    """Return the results so far; a line that was cut off by a kill is passed over."""
    results = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        results[result_id(row["judge"], row["arguments"])] = row
    return results


def still_to_measure(tasks: Iterable[Task], cache: Path) -> list[Task]:
    """Return the tasks that have no result yet, and say how many they are."""
    done = read_cache(cache)
    wanted = [task for task in tasks if result_id(*task) not in done]
    cache.parent.mkdir(parents=True, exist_ok=True)
    print(f"{len(wanted)} results to measure, into {cache}", flush=True)
    return wanted


def measure_in_turn(
    tasks: Iterable[Task], judges: Mapping[str, Callable[..., Row]], cache: Path
) -> None:
    """Measure what is not in the cache yet, one after the other, and append it."""
    wanted = still_to_measure(tasks, cache)
    version = measured_version()
    for n, (judge, arguments) in enumerate(wanted, start=1):
        started = time.perf_counter()
        result = judges[judge](**arguments)
        seconds = time.perf_counter() - started
        row = {"judge": judge, "arguments": arguments, "version": version}
        row |= {"result": result | {"seconds": seconds}}
        with cache.open("a", encoding="utf-8") as file:
            # A line that a kill has cut off is closed by the one before this.
            file.write(("\n" if file.tell() else "") + json.dumps(row))
        print(f"{n}/{len(wanted)} {judge} {arguments}: {seconds:.0f} s", flush=True)


def measured_version() -> str:
    """Return the commit that is measured, marked where files differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"
