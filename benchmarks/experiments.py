"""Simulated experiments: false launches, intervals and power against the plan.

Four segments of unequal size, rate and spread; a deciding share, a guardrail with a
past. Every experiment is planned by `plan_sizes`, drawn by `assign_arms` and read by
`read_out`, as a user would. In the A/A runs nothing is different; in the A/B runs every
segment has exactly the effect that was planned for.

    python benchmarks/experiments.py             # 1,000 of each
    python benchmarks/experiments.py --runs 100  # a smoke test, not a result
"""

from __future__ import annotations

import argparse

import numpy as np
import polars as pl

from core.evaluation.experiment_plan import (
    TREATED,
    Experiment,
    Guardrail,
    Metric,
    assign_arms,
    plan_sizes,
)
from core.evaluation.experiment_readout import TOTAL, read_out

RATES = {"rare": 0.05, "seldom": 0.15, "often": 0.3, "always": 0.6}
DESIGN = Experiment(
    name="simulated",
    metric=Metric(name="bought", kind="proportion"),
    effect=0.15,
    guardrails=(Guardrail(name="spent", margin=0.05, pre="past"),),
)


def drawn_users(seed: int, sizes: dict[str, int], effect: float) -> pl.DataFrame:
    """Return the users of one finished experiment."""
    rng = np.random.default_rng(seed)
    segments = np.repeat(list(sizes), list(sizes.values()))
    n = len(segments)
    past = rng.gamma(2.0, 10.0, n)
    users = pl.DataFrame({"id": np.arange(n), "segment": segments, "past": past})
    design = DESIGN.model_copy(update={"name": f"simulated {seed}"})
    arms = assign_arms(users, design, "id", "segment")["arm"]
    rates = np.array([RATES[s] for s in segments])
    rates = rates * np.where((arms == TREATED).to_numpy(), 1 + effect, 1.0)
    return users.with_columns(
        arm=arms,
        bought=pl.Series((rng.random(n) < rates).astype(int)),
        spent=pl.Series(past + rng.normal(0, 5, n)),
    )


def needed_sizes() -> dict[str, int]:
    """Return what the plan asks for: so many users have every segment's power."""
    now = pl.DataFrame(
        [
            {"id": f"{segment} {k}", "segment": segment, "past": 1.0, "spent": 1.0,
             "bought": int(k < round(rate * 2_000))}
            for segment, rate in RATES.items()
            for k in range(2_000)
        ]
    )  # fmt: skip
    plan = plan_sizes(now, DESIGN, "id", "segment")
    return dict(plan.select("segment", "needed").iter_rows())


def main() -> None:
    """Run the simulations and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    runs = parser.parse_args().runs
    sizes = needed_sizes()
    print("users planned:", ", ".join(f"{s} {n:,}" for s, n in sizes.items()))
    for title, effect in (("A/A", 0.0), ("A/B", DESIGN.effect)):
        launched, decided, covered = 0, [], []
        for run in range(runs):
            users = drawn_users(run, sizes, effect)
            found = read_out(users, DESIGN, "id", "segment")
            is_launched = (found.decisions["decision"] == "launch").to_list()
            launched += any(is_launched)
            main_rows = found.changes.filter(pl.col("metric") == "bought")
            own = main_rows.filter(pl.col("segment") != TOTAL)
            # The plan divides the error rate; the readout's Holm never needs more.
            alone = (own["p_value"] < DESIGN.alpha / own.height) & (own["change"] > 0)
            decided.append([alone.to_list(), is_launched])
            covered += main_rows.select(
                (pl.col("relative_low") <= effect) & (pl.col("relative_high") >= effect)
            ).to_series().to_list()  # fmt: skip
        alone, by_holm = np.array(decided).transpose(1, 0, 2).mean(axis=(1, 2))
        print(
            f"{title}: {runs:,} experiments; with any launch {launched / runs:.1%}; "
            f"segments shown at the planned error rate {alone:.1%}, launched by Holm "
            f"{by_holm:.1%}; intervals that hold the truth {np.mean(covered):.1%}"
        )


if __name__ == "__main__":
    main()
