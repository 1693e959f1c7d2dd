"""Time `DensityClusterer.assign` against `hdbscan.approximate_predict`.

Both label the same new rows with the same fitted clusters, in turns in one process;
the answers are compared, too. By default both do all rows, at `min_samples`
10 and 50: ``python benchmarks/assign.py``. The peer can be given a part of the rows
(``--peer-rows 50000``); its time is then scaled up, and the table says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.models.density import DensityClusterer

BLOCK = 100_000


class Timing(NamedTuple):
    """Seconds of both sides, and how far their answers agree."""

    own_s: float
    peer_s: float
    n_other_labels: int
    largest_difference: float


def shops(n_rows: int, n_dims: int, seed: int) -> np.ndarray:
    """Return rows of 8 groups of different density, and 30% spread between them."""
    layout = np.random.default_rng(42)
    centres = layout.normal(0.0, 4.0, (8, n_dims))
    spreads = layout.uniform(0.4, 1.2, 8)
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 8, n_rows)
    rows = centres[group] + rng.normal(size=(n_rows, n_dims)) * spreads[group, None]
    is_between = rng.random(n_rows) < 0.3
    rows[is_between] = rng.normal(0.0, 4.0, (int(is_between.sum()), n_dims))
    return rows


def compare(
    train: np.ndarray, rows: np.ndarray, min_samples: int, n_peer_rows: int
) -> Timing:
    """Fit once, then time both on `rows` (the peer on its first `n_peer_rows`)."""
    from hdbscan import approximate_predict

    clusterer = DensityClusterer(min_cluster_size=50, min_samples=min_samples)
    clusterer.fit(train)
    clusterer.hdbscan_.generate_prediction_data()

    own_s = peer_s = 0.0
    n_other_labels, largest_difference = 0, 0.0
    # In turns, so that whatever else the machine does slows both; and in blocks, which
    # costs the peer nothing and spares 1.6 GB of its neighbour lists.
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        started = time.perf_counter()
        own = clusterer.assign(block)
        own_s += time.perf_counter() - started
        block = block[: max(0, n_peer_rows - start)]
        if not len(block):
            continue
        started = time.perf_counter()
        labels, strengths = approximate_predict(clusterer.hdbscan_, block)
        peer_s += time.perf_counter() - started
        n_other_labels += int((labels != own.labels[: len(block)]).sum())
        difference = np.abs(strengths - own.strengths[: len(block)])
        largest_difference = max(largest_difference, float(difference.max()))
    peer_s *= len(rows) / n_peer_rows
    return Timing(own_s, peer_s, n_other_labels, largest_difference)


def main() -> None:
    """Print one line per `min_samples`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="new rows")
    parser.add_argument("--dims", type=int, default=5, help="columns")
    parser.add_argument("--train", type=int, default=20_000, help="rows fitted on")
    parser.add_argument("--min-samples", type=int, nargs="+", default=[10, 50])
    parser.add_argument(
        "--peer-rows", type=int, help="rows the peer does; default all of them"
    )
    options = parser.parse_args()
    n_peer_rows = min(options.peer_rows or options.rows, options.rows)

    train = shops(options.train, options.dims, seed=1)
    rows = shops(options.rows, options.dims, seed=2)
    print(
        f"{options.rows:,} new rows, {options.dims} columns, {options.train:,} rows "
        f"fitted on, {os.cpu_count()} cores"
    )
    if n_peer_rows < options.rows:
        print(f"approximate_predict timed on {n_peer_rows:,} rows and scaled up")
    print("min_samples  approximate_predict  assign   ratio  labels differ  strengths")
    for min_samples in options.min_samples:
        timing = compare(train, rows, min_samples, n_peer_rows)
        print(
            f"{min_samples:11d}  {timing.peer_s:17.1f} s  {timing.own_s:4.1f} s  "
            f"{timing.peer_s / timing.own_s:5.1f}x  {timing.n_other_labels:13,}  "
            f"within {timing.largest_difference:.0e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
