"""How far axes learnt from a draw by value tiers agree with those learnt from everyone.

Learns the axes of the built-in sample from all customers, and again from draws of
several sizes (`axes.fit_customers`), without knowledge of each other, and compares
where all customers are placed: ``python benchmarks/axes_tiers.py``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sklearn.metrics import adjusted_rand_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.axes.features.catalog import AXES, features_available
from core.axes.features.compute import customer_features, known_channels
from core.axes.fit import AxesOptions, fit_axes
from core.axes.sample import generate_shoppers


def n_segments(names: dict[int, str]) -> str:
    """Return how many segments an axis has, without those who are not placed."""
    return str(sum(number >= 0 for number in names))


def main() -> None:
    """Print a row per axis."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=93_564)
    parser.add_argument("--draws", type=int, nargs="+", default=[5000, 20_000])
    parser.add_argument("--seed", type=int, default=42)
    chosen = parser.parse_args()
    made = generate_shoppers(chosen.customers, chosen.seed)
    channels = known_channels(made.orders)
    features = customer_features(
        made.orders,
        made.items,
        reference_date=made.orders["order_date"].max(),
        absent=(),
        channels=channels,
    )
    available = features_available((), channels)
    models = {
        size: fit_axes(features, available, AxesOptions(fit_customers=size))
        for size in (None, *chosen.draws)
    }
    placed = {size: model.assign(features) for size, model in models.items()}
    head = [f"ARI, {size:,} drawn | segments" for size in chosen.draws]
    print(f"| axis | segments | {' | '.join(head)} |")
    print(f"|---|---:|{'---:|' * 2 * len(head)}")
    for axis in AXES:
        full = placed[None][axis.name].labels
        cells = [axis.name, n_segments(models[None].names[axis.name])]
        for size in chosen.draws:
            labels = placed[size][axis.name].labels
            cells.append(f"{adjusted_rand_score(full, labels):.2f}")
            cells.append(n_segments(models[size].names[axis.name]))
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
