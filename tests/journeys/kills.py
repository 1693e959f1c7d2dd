"""Kill commands that write at random moments, and see what is left.

    python tests/journeys/kills.py [KILLS] [SEED]

Every command runs on a copy of one small model, is killed (SIGKILL; on Windows ended)
after a random part of the time that it takes, and then the set has to be whole and one
that was published before or after it. A command of the next run must leave nothing in
the folder of temporary files. Prints a line per kill, and exits with 1 for a finding.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = [
    *("--set", "sample.n_shops=200", "--set", "autoencoder.epochs=1"),
    *("--set", "autoencoder.hidden_size=8", "--set", "clustering.min_cluster_size=20"),
    *("--set", "clustering.min_samples=5"),
]


def commands(folder: Path, rows: Path, month: Path) -> dict[str, list[str]]:
    """Return the commands that write to a folder of artifacts, by name."""
    into = ["--artifacts", str(folder)]
    return {
        "run": ["run", *into, "--seed", "7", *SMALL],
        "prepare": ["prepare", *into, "--seed", "7", *SMALL],
        "infer": ["infer", *into],
        "score": ["infer", *into, "--input", str(rows)],
        "rename": ["rename", "0", "Seaside shops", *into],
        "profile": ["profile", *into],
        "refresh": ["refresh", *into, "--input", str(month), "--retrain", "never"],
        "axes": ["axes", *into, "--no-store"],
        "stability": ["stability", *into, "--refits", "2"],
    }


def called(arguments: list[str], temporary: Path, seconds: float | None = None) -> int:
    """Run a command; kill it after some seconds. Return its exit code."""
    places = {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
    environment = {**os.environ, **places, "PYTHONPATH": str(REPOSITORY)}
    silent = subprocess.DEVNULL
    command = [sys.executable, "-m", "core", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=silent, stderr=silent)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def finding(folder: Path, temporary: Path) -> str | None:
    """Return what is wrong with a folder after a kill, if anything is."""
    if called(["verify", "--artifacts", str(folder)], temporary):
        return "the published set is not whole"
    code = called(["profile", "--artifacts", str(folder)], temporary)
    if code:
        return f"the next command ends with {code}"
    left = sorted(path.name for path in temporary.iterdir())
    return f"left in the temporary folder: {left}" if left else None


def main(n_kills: int, seed: int) -> int:
    """Kill `n_kills` commands; return 1 if one left something wrong."""
    chance = random.Random(seed)
    failures = 0
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        model, temporary = root / "model", root / "temporary"
        temporary.mkdir()
        if called(["run", "--artifacts", str(model), *SMALL], temporary):
            raise SystemExit("the first run failed")
        rows, month = root / "rows.csv", root / "month.csv"
        sales = pl.read_parquet(model / "sales.parquet")
        sales.write_csv(rows)
        newest = sales.filter(pl.col("year") == pl.col("year").max())
        newest = newest.filter(pl.col("month") == pl.col("month").max())
        after = pl.col("year") * 12 + pl.col("month")
        newest.with_columns(year=after // 12, month=after % 12 + 1).write_csv(month)
        takes: dict[str, float] = {}
        for kill in range(n_kills):
            folder = Path(shutil.copytree(model, root / f"kill-{kill}"))
            name, arguments = chance.choice(
                sorted(commands(folder, rows, month).items())
            )
            if name not in takes:
                spare = Path(shutil.copytree(model, root / f"whole-{name}"))
                began = time.monotonic()
                code = called(commands(spare, rows, month)[name], temporary)
                takes[name] = time.monotonic() - began
                print(f"{name} takes {takes[name]:.1f} s and ends with {code}")
            seconds = chance.uniform(0.0, takes[name])
            code = called(arguments, temporary, seconds)
            found = finding(folder, temporary)
            failures += found is not None
            print(f"{kill + 1}: {name} after {seconds:.2f} s ({code}): {found or 'ok'}")
            sys.stdout.flush()
            shutil.rmtree(folder)
    print(f"{n_kills} kills, {failures} findings")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(
        main(*(int(a) for a in (sys.argv[1:] + ["100", "1"][len(sys.argv) - 1 :])))
    )
