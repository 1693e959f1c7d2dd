"""False alarms and missed shifts of the monitoring of basket segments.

Years of twelve months are drawn: the customers of every month anew, which differ more
than the same customers a month later do, so the rates are upper bounds. Then the days
between orders shrink from one month on and stay so, by a part of their standard
deviation (of the logarithm): how many such shifts are recommended to be learnt within
two months.

    python benchmarks/basket_monitoring.py             # 100 years, 100 shifts of each
    python benchmarks/basket_monitoring.py --years 5   # a smoke test, not a result
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
import polars as pl

from core.baskets.monitoring import Monitoring, Shares, monitor
from core.evaluation.axes_drift import AxesDrift
from core.rules.grammar import read_rules
from core.segments.axes import Labels
from core.segments.rule_axis import SEGMENT, RuleModel, rule_axis, segment_names

SCORES = ["freq_score", "loyalty_score"]
SIZES = (300, 2_000)
SHIFTS = (0.1, 0.3, 0.5, 1.0)


def customers(rng: np.random.Generator, n: int, shift: float = 0.0) -> pl.DataFrame:
    """Return the scores of n customers."""
    days = rng.lognormal(2.5 - 0.5 * shift, 0.5, n)
    return pl.DataFrame(
        {
            "customer_id": np.arange(n).astype(str),
            "freq_score": 1 / (1 + days),
            "loyalty_score": rng.beta(3, 4, n),
        }
    )


def months(rng: np.random.Generator, n: int, shifts: list[float]) -> list[Monitoring]:
    """Monitor months with these shifts after one in which the rules were learnt."""
    table = customers(rng, n)
    rules = read_rules("basket-quadrants").settle(table)
    axis = rule_axis(rules, segment_names(rules, table), None, None)
    model = RuleModel([axis], {"rules": rules.to_yaml()})
    names = model.names[SEGMENT]
    labels = {SEGMENT: model.assign(table)[SEGMENT].labels}
    reference = AxesDrift.of(table, SCORES, labels, seed=0)
    none, _ = reference.measure(table, labels, model.names, seed=0)
    before = _shares(labels, names)
    found = [monitor(none.clear(), "2024-01", before, is_learnt=True)]
    for place, shift in enumerate(shifts):
        table = customers(rng, n, shift)
        labels = {SEGMENT: model.assign(table)[SEGMENT].labels}
        drift, _ = reference.measure(table, labels, model.names, seed=place)
        now = _shares(labels, names)
        month = f"{2024 + (place + 1) // 12}-{(place + 1) % 12 + 1:02}"
        known = found[-1].facts
        found.append(monitor(drift, month, now, before, known, names=names))
        before = now
    return found[1:]


def _shares(labels: Labels, names: Mapping[int, str]) -> Shares:
    ids, counts = np.unique(labels[SEGMENT], return_counts=True)
    n = int(counts.sum())
    return Shares({names[i]: c / n for i, c in zip(ids, counts, strict=True)}, n)


def _is_alert(month: Monitoring) -> bool:
    return bool(month.state.months_running)


def main() -> None:
    """Draw years and shifts, and print what was said of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=100)
    n_years = parser.parse_args().years
    for n in SIZES:
        rng = np.random.default_rng(n)
        years = [months(rng, n, [0.0] * 12) for _ in range(n_years)]
        alerts = np.mean([_is_alert(month) for year in years for month in year])
        due = np.mean([any(m.state.is_due for m in year) for year in years])
        print(
            f"{n:,} customers, nothing changed: {alerts:.1%} of months alert, "
            f"{due:.1%} of years recommend to learn"
        )
        for shift in SHIFTS:
            runs = [months(rng, n, [shift] * 2) for _ in range(n_years)]
            alerts = np.mean([_is_alert(run[0]) for run in runs])
            due = np.mean([run[1].state.is_due for run in runs])
            print(
                f"{n:,} customers, shift of {shift} deviations: {alerts:.0%} alert in "
                f"the first month, {due:.0%} recommend to learn in the second"
            )


if __name__ == "__main__":
    main()
