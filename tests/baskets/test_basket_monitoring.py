"""Months one after another: what alerts, what holds, when to learn anew."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from core.baskets.monitoring import Shares, monitor, month_of
from core.baskets.run import Baskets, is_recalibration_due, run_baskets
from core.config import Config
from core.errors import SchemaError
from core.evaluation.axes_drift import AxesDrift
from core.evaluation.experiment_readout import read_lifts
from core.lifecycle.versions import rename_segment
from core.rules.grammar import read_rules
from core.segments.rule_axis import SEGMENT, RuleModel, rule_axis, segment_names

MONTHS = [f"2024-{month:02}" for month in range(1, 13)]


def customers(seed, n=2_000, shift=0.0):
    """Customers whose days between orders shrink with `shift` (in deviations)."""
    rng = np.random.default_rng(seed)
    days = rng.lognormal(2.5 - 0.5 * shift, 0.5, n)
    return pl.DataFrame(
        {
            "customer_id": np.arange(n).astype(str),
            "freq_score": 1 / (1 + days),
            "loyalty_score": rng.beta(3, 4, n),
        }
    )


@pytest.fixture(scope="module")
def learnt():
    """The rule segments of some customers, and what their drift is measured from."""
    table = customers(0)
    rules = read_rules("basket-quadrants").settle(table)
    axis = rule_axis(rules, segment_names(rules, table), None, None)
    model = RuleModel([axis], {"rules": rules.to_yaml()})
    labels = {SEGMENT: model.assign(table)[SEGMENT].labels}
    drift = AxesDrift.of(table, ["freq_score", "loyalty_score"], labels, seed=0)
    return model, drift


def drift_of(learnt, seed, shift):
    """Return the drift and the shares of a month's customers."""
    model, reference = learnt
    table = customers(seed, shift=shift)
    labels = {SEGMENT: model.assign(table)[SEGMENT].labels}
    drift, _ = reference.measure(table, labels, model.names, seed=0)
    ids, counts = np.unique(labels[SEGMENT], return_counts=True)
    names = model.names[SEGMENT]
    shares = {names[i]: n / table.height for i, n in zip(ids, counts, strict=True)}
    return drift, Shares(shares, table.height)


def walk(learnt, months, lifts=None):
    """Monitor months of (month, seed, shift) by the model that the first has learnt."""
    names = learnt[0].names[SEGMENT]
    found, before, known = [], None, None
    for place, (month, seed, shift) in enumerate(months):
        drift, now = drift_of(learnt, seed, shift)
        drift = drift if place else drift.clear()
        given = (before, known, lifts, names)
        found.append(monitor(drift, month, now, *given, is_learnt=not place))
        before, known = now, found[-1].facts
    return found


def statuses(found):
    return dict(found.table.select("trigger", "status").iter_rows())


def test_a_first_month_knows_nothing_and_says_so(learnt):
    first = walk(learnt, [("2024-01", 0, 0.0)])[0]
    assert first.state.state == "steady"
    assert set(statuses(first).values()) == {"not known", "steady"}
    assert first.lines[0].startswith("Nothing to compare with yet")


def test_stationary_months_are_kept(learnt):
    found = walk(learnt, [(month, place, 0.0) for place, month in enumerate(MONTHS)])
    assert not any(month.state.is_due for month in found)
    assert sum("alert" in statuses(month).values() for month in found) <= 1
    assert found[1].lines[0] == "Keep the thresholds: no alert."


def test_a_shift_that_holds_for_two_months_asks_for_new_thresholds(learnt):
    months = [("2024-01", 0, 0.0), ("2024-02", 1, 0.6), ("2024-03", 2, 0.6)]
    _, second, third = walk(learnt, months)
    assert (second.state.state, third.state.state) == ("watching", "recalibrate")
    assert statuses(second)["PSI of freq_score"] == "alert"
    assert statuses(second)["share of a segment, month over month"] == "alert"
    assert statuses(third)["PSI of freq_score"] == "recalibrate"
    assert statuses(third)["PSI of loyalty_score"] == "steady"
    # The step was in February; what it led to is still off in March.
    assert statuses(third)["share of a segment, month over month"] == "steady"
    assert statuses(third)["share of a segment, since learning"] == "recalibrate"
    assert third.state.months_running == {"drift": 2, "share": 2}
    assert third.lines[0].startswith("Learn the thresholds again: ")
    assert "2 months running" in third.lines[0]


def test_a_month_without_data_or_without_an_alert_ends_the_run(learnt):
    gap = [("2024-01", 0, 0.0), ("2024-02", 1, 0.6), ("2024-04", 2, 0.6)]
    assert walk(learnt, gap)[-1].state.state == "watching"
    back = [("2024-01", 0, 0.0), ("2024-02", 1, 0.6), ("2024-03", 2, 0.0)]
    # Going back moves the shares as much, and is no alert.
    assert walk(learnt, back)[-1].lines[0] == "Keep the thresholds: no alert."


def test_the_same_month_again_changes_nothing_and_an_earlier_one_starts_anew(learnt):
    again = [("2024-01", 0, 0.0), ("2024-02", 1, 0.6), ("2024-02", 2, 0.6)]
    assert walk(learnt, again)[-1].state.months_running == {"drift": 1, "share": 1}
    earlier = [("2024-03", 0, 0.0), ("2024-02", 1, 0.6)]
    told = walk(learnt, earlier)[-1]
    assert told.state.month == "2024-02"
    assert "2024-02 is earlier than the run before: nothing runs on." in told.lines


def lifts_of(tmp_path, *rows):
    path = tmp_path / "lifts.csv"
    pl.DataFrame(
        rows, ["cycle", "segment", "lift", "low", "high"], orient="row"
    ).write_csv(path)
    return path


def test_lift_that_two_segments_lose_in_two_cycles_asks_for_new_thresholds(
    learnt, tmp_path
):
    lost, kept = (0.01, -0.02, 0.04), (0.05, 0.01, 0.09)
    lifts = read_lifts(
        lifts_of(
            tmp_path,
            ("2023-12", "Champions", *lost),  # before the thresholds were learnt
            ("2024-01", "Champions", *lost),
            ("2024-01", "At Risk", *lost),
            ("2024-01", "Loyal Occasionals", *lost),
            ("2024-02", "Champions", *lost),
            ("2024-02", "At Risk", *lost),
            ("2024-02", "Loyal Occasionals", *kept),
        )
    )
    months = [(month, place, 0.0) for place, month in enumerate(MONTHS[:3])]
    _, second, third = walk(learnt, months, lifts)
    assert second.state.is_due
    assert "the lift of segments Champions, At Risk was lost" in second.lines[0]
    assert third.state.is_due, "no readout, no news"
    other = lifts.with_columns(segment=pl.lit("Stars"))
    told = walk(learnt, months, other)[-1]
    assert not told.state.lift_cycles
    assert (
        "The lifts of `Stars` are not counted: no segment is called so." in told.lines
    )
    alone = lifts.filter(pl.col("segment") == "Champions")
    assert walk(learnt, months, alone)[-1].state.state == "watching"


def test_lifts_of_no_month_or_without_a_column_are_refused(tmp_path):
    with pytest.raises(SchemaError, match="`May` is no month; expected YYYY-MM"):
        read_lifts(lifts_of(tmp_path, ("May", "Champions", 0.1, 0.0, 0.2)))
    path = tmp_path / "few.csv"
    path.write_text("cycle,segment,lift\n2024-01,Champions,.1\n", encoding="utf-8")
    with pytest.raises(SchemaError, match="has no column `low`"):
        read_lifts(path)


def test_the_month_is_the_one_that_ends_with_the_newest_order():
    assert month_of(datetime(2024, 4, 1)) == "2024-03"
    assert month_of(datetime(2024, 4, 2)) == "2024-04"


def delivered(folder, month, gap):
    """Write the orders of 200 customers up to a month, every `gap` days or so."""
    rng = np.random.default_rng(month)
    last = datetime(2024, month, 28)
    before = np.cumsum(rng.gamma(4.0, gap / 4, (200, 12)) + 1, axis=1)
    rows = [("newest", "c000", last)] + [
        (f"{user}-{place}", f"c{user:03}", last - timedelta(days=float(day)))
        for user, own in enumerate(before)
        for place, day in enumerate(own)
    ]
    names = ["order_id", "customer_id", "order_time"]
    orders = pl.DataFrame(rows, names, orient="row")
    products = pl.Series("product_id", rng.integers(15, size=3 * len(rows)))
    items = pl.concat([orders.select("order_id")] * 3).with_columns(products)
    for name, table in {"orders": orders, "items": items.unique()}.items():
        table.write_parquet(folder / f"{name}.parquet")


def test_runs_go_on_from_each_other_and_learn_where_the_policy_says_so(tmp_path):
    files = {name: str(tmp_path / f"{name}.parquet") for name in ("orders", "items")}
    config = Config.model_validate(
        {
            "artifacts": str(tmp_path / "artifacts"),
            "baskets": {**files, "study": False, "cuts": 0},
        }
    )
    verdicts = []
    for month, gap in ((2, 14), (3, 8), (4, 8)):
        delivered(tmp_path, month, gap)
        run = run_baskets(config, refit=is_recalibration_due(config))
        verdicts.append(run.facts["told"]["monitoring"]["lines"][0].split(":")[0])
        assert run.facts["is_learnt"] == (month == 2)
        if month == 3:
            # A name that is given does not make another segment of it.
            rename_segment(Baskets(config), SEGMENT, 0, "Regulars")
    assert is_recalibration_due(config)
    assert verdicts == [
        "Nothing to compare with yet",
        "Keep the thresholds",
        "Learn the thresholds again",
    ]
    assert run.facts["monitoring"]["learnt"] == "2024-02"
    history = pl.read_csv(run.folder / "monitoring_history.csv")
    rows = history.select("month", "trigger", "status").rows()
    assert ("2024-03", "PSI of freq_score", "alert") in rows
    assert ("2024-04", "PSI of freq_score", "recalibrate") in rows
    assert ("2024-04", "share of a segment, month over month", "steady") in rows
    plan = (run.folder / "monitoring_plan.md").read_text("utf-8")
    assert "| PSI of frequency score |" in plan


def test_a_run_that_learns_by_the_policy_starts_again(learnt):
    due = walk(learnt, [("2024-01", 0, 0.0), ("2024-02", 1, 0.6), ("2024-03", 2, 0.6)])
    drift, now = drift_of(learnt, 3, 0.6)
    found = monitor(drift, "2024-04", now, now, due[-1].facts, is_learnt=True)
    assert found.lines[0].startswith("The thresholds were learnt again in this run: ")
    assert (found.learnt, found.state.state) == ("2024-04", "steady")
    assert not found.state.months_running
