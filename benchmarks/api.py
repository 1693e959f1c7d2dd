"""Load on the HTTP API: a real server process, its database, and a client.

Segments the built-in sample of 100,000 customers, loads their profiles, starts
``./run.sh serve`` and asks it over loopback. Server, database and client share the
cores of this machine: ``python benchmarks/api.py``. With ``--work FOLDER`` the profiles
are kept for the next time.

Promised on 2 cores: reads at 1,000/s or more with a p99 below 25 ms, and assignments of
50 orders and 200 items at 200/s with a p99 below 40 ms at four at once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from load import Timings, as_fast_as_possible, at_a_pace, request_bytes, run_load

Load = Coroutine[None, None, Timings]
SEGMENTS = [sys.executable, "-m", "core"]
ROOT = Path(__file__).resolve().parents[1]
N_ORDERS, N_ITEMS = 50, 200
FIRST_DAY = datetime(2024, 1, 1)


def run(*arguments: str) -> str:
    """Run a command of ours and return what it printed."""
    result = subprocess.run(
        [*SEGMENTS, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return result.stdout


@contextmanager
def server(artifacts: Path, n_workers: int) -> Iterator[tuple[str, psutil.Process]]:
    """Start the API; yield its address and process."""
    log = (artifacts / "requests.log").open("w", encoding="utf-8")
    process = subprocess.Popen(
        [
            *SEGMENTS, "serve", "--artifacts", str(artifacts), "--port", "0",
            "--workers", str(n_workers),
        ],
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://\S+", line):
                break
        else:
            raise RuntimeError("the server did not start")
        wait_until_ready(found[0])
        yield found[0], psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        log.close()


def wait_until_ready(address: str) -> None:
    """Ask until the server answers."""
    for _ in range(100):
        try:
            asyncio.run(
                as_fast_as_possible(
                    address, [request_bytes("GET", "/ready", "")], 1, 0.1
                )
            )
        except OSError:
            asyncio.run(asyncio.sleep(0.1))
        else:
            return


def customer_body(rng: random.Random) -> bytes:
    """Return a request with 50 orders and 200 items."""
    orders, items = [], []
    day = FIRST_DAY
    for order in range(N_ORDERS):
        day += timedelta(days=rng.expovariate(1 / 12), seconds=rng.randrange(86_400))
        orders.append(
            {
                "order_id": f"O{order}",
                "order_date": day.isoformat(timespec="seconds"),
                "total_price": round(rng.lognormvariate(3.5, 0.6), 2),
                "discount_amount": rng.choice([0.0, 0.0, 5.0]),
                "source": rng.choice(["web", "pos", "app"]),
            }
        )
    for _ in range(N_ITEMS):
        product = int(rng.paretovariate(1.0))
        items.append(
            {
                "order_id": f"O{rng.randrange(N_ORDERS)}",
                "product_id": f"P{product}",
                "quantity": rng.randint(1, 4),
                "price": round(rng.lognormvariate(2.0, 0.5), 2),
                "category": f"K{product % 9}",
                "refund_amount": 0.0,
            }
        )
    return json.dumps({"customer_id": "new", "orders": orders, "items": items}).encode()


def tell(what: str, process: psutil.Process, *loads: Load) -> None:
    """Run loads at the same time; print a line each, and the server's own time."""
    begun = server_seconds(process)
    timings = asyncio.run(gathered(loads))
    spent = server_seconds(process) - begun
    n_answers = sum(len(each.seconds) for each in timings)
    for name, each in zip(what.split("\n"), timings, strict=True):
        print(f"{name:24s} {each}")
    print(f"{'':24s} {1000 * spent / n_answers:.2f} ms of CPU an answer", flush=True)


async def gathered(loads: Sequence[Load]) -> list[Timings]:
    """Run loads at the same time."""
    return await asyncio.gather(*loads)


def server_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds of a server and its workers, without the database."""
    own = [process, *process.children(recursive=True)]
    times = [each.cpu_times() for each in own if "postgres" not in each.name()]
    return sum(each.user + each.system for each in times)


def measure(
    address: str, process: psutil.Process, key: str, ids: list[str], seconds: float
) -> None:
    """Print a line for every load."""
    rng = random.Random(42)
    rng.shuffle(ids)
    gets = [request_bytes("GET", f"/segments/customer/{i}", key) for i in ids]
    bodies = [customer_body(rng) for _ in range(200)]
    posts = [request_bytes("POST", "/segments/assign", key, body) for body in bodies]
    # The client's own search for garbage must not be taken for a stall of the server.
    gc.collect()
    gc.freeze()
    # The first answers wait for the model and for plans.
    run_load(as_fast_as_possible(address, gets, 8, 2.0))
    run_load(as_fast_as_possible(address, posts, 2, 2.0))

    for n in (1, 8, 16, 32):
        load = as_fast_as_possible(address, gets, n, seconds)
        tell(f"GET, {n:2d} connections", process, load)
    for pace in (1000, 1200):
        load = at_a_pace(address, gets, pace, seconds)
        tell(f"GET at {pace:,}/s", process, load)
    for n in (1, 2, 4):
        load = as_fast_as_possible(address, posts, n, seconds)
        tell(f"POST, {n:2d} connections", process, load)
    for pace in (20, 100):
        tell(f"POST at {pace}/s", process, at_a_pace(address, posts, pace, seconds))
    tell(
        "GET at 500/s, beside\nPOST at 10/s",
        process,
        at_a_pace(address, gets, 500, seconds),
        at_a_pace(address, posts, 10, seconds),
    )


def main() -> None:
    """Prepare, serve, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=100_000, help="profiles")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--workers", type=int, default=1, help="server processes")
    parser.add_argument("--work", type=Path, help="folder to keep the profiles in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        artifacts = (options.work or Path(scratch)).absolute()
        size = f"axes.sample_customers={options.customers}"
        run("axes", "--artifacts", str(artifacts), "--set", size, "--retrain", "never")
        printed = run(
            "keys", "create", "--store", "default", "--artifacts", str(artifacts)
        )
        found = re.search(r"ss_[0-9a-f]{12}_[0-9a-f]{64}", printed)
        assert found is not None
        profiles = artifacts / "axes" / "customer_profiles.parquet"
        ids = pl.read_parquet(profiles, columns=["customer_id"])[
            "customer_id"
        ].to_list()
        with server(artifacts, options.workers) as (address, process):
            print(
                f"{len(ids):,} profiles, {os.cpu_count()} cores, "
                f"{options.workers} server process(es)"
            )
            measure(address, process, found[0], ids, options.seconds)


if __name__ == "__main__":
    main()
