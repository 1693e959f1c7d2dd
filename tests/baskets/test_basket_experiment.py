"""A run's experiment: planned from its own customers, drawn, and read out."""

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from core.artifacts.folder import Artifacts
from core.artifacts.runs import run_system
from core.baskets import files
from core.baskets.experiment import outcomes, plan_experiment, timeline
from core.cli import app
from core.config import Config, ExperimentOptions
from core.errors import ConfigError
from core.evaluation.experiment_plan import TREATED, Guardrail, Metric
from core.evaluation.experiment_readout import read_lifts

ORDERS = Metric(name="orders")
ITEMS = Guardrail(name="items", margin=0.05)
BASKET = Metric(name="items", kind="ratio", denominator="orders")


def history(*orders):
    """Orders of (customer, day) in their order, an item reordered and one not each."""
    table = pl.DataFrame(orders, ["customer_id", "order_day"], orient="row")
    gap = pl.col("order_day").diff().over("customer_id")
    return table.with_columns(
        pl.int_range(pl.len()).alias("order_id"),
        pl.int_range(1, pl.len() + 1).over("customer_id").alias("order_number"),
        gap.alias("days_since_prior_order"),
    )


def items_of(orders):
    return pl.DataFrame(
        {"order_id": orders["order_id"].to_list() * 2, "reordered": 0}
    ).with_columns(reordered=pl.int_range(pl.len()) // (pl.len() // 2))


def test_outcomes_are_those_of_the_last_days():
    orders = history((7, 100), (7, 150), (7, 200), (8, 90), (8, 130), (8, 140))
    days = timeline(orders.lazy(), 0)
    assert days["day"].to_list() == [-100, -50, 0, -110, -70, -60]
    found = outcomes(days, items_of(orders).lazy(), 60)
    assert found.rows() == [(7, 2, 1, 4, 2, 2), (8, 0, 0, 0, 0, 0)]


def test_days_without_dates_end_with_the_last_order_of_each():
    dated = history((7, 100), (7, 150), (7, 200), (8, 90), (8, 130), (8, 140))
    orders = dated.with_columns(order_day=pl.lit(None, pl.Int32))
    days = timeline(orders.lazy(), 0)
    assert days["order_id"].to_list() == [0, 1, 3, 4]
    assert days["day"].to_list() == [-100, -50, -50, -10]
    assert days["start"].is_between(-100, 0).all()


@pytest.fixture(scope="module")
def shop():
    """Two segments of 600 customers: one orders weekly, the other by the month."""
    rng = np.random.default_rng(3)
    rows = [
        (user, day)
        for user in range(1_200)
        for day in sorted(
            set(
                rng.integers(0, 365, rng.poisson(52 if user < 600 else 12) + 1).tolist()
            )
        )
    ]
    orders = history(*rows)
    features = pl.DataFrame(
        {
            "customer_id": range(1_200),
            "freq_score": rng.random(1_200),
            "loyalty_score": rng.random(1_200),
        }
    )
    segment = pl.Series(["often"] * 600 + ["seldom"] * 600)
    return features, segment, orders.lazy(), items_of(orders).lazy()


def planned(shop, plays=None, **options):
    plays = plays or {"often": (BASKET, ITEMS), "seldom": (ORDERS, ITEMS)}
    if options.get("metric"):
        plays = dict.fromkeys(plays, (ORDERS, ITEMS))
    given = ExperimentOptions(**options)
    return plan_experiment(*shop, plays, given, name="spring", horizon_days=60)


@pytest.fixture(scope="module")
def plan(shop):
    return planned(shop, {"often": (ORDERS, ITEMS), "seldom": (ORDERS, ITEMS)})


def test_sizes_are_those_of_each_segments_own_kpi(plan):
    rows = {row["segment"]: row for row in plan.table.iter_rows(named=True)}
    assert rows["often"]["baseline"] == pytest.approx(52 / 365 * 60, rel=0.1)
    assert rows["seldom"]["needed"] == pytest.approx(
        4 * rows["often"]["needed"], rel=0.4
    )
    assert rows["often"]["can_be_tested"]
    # All come within three weeks; the last is looked at for nine.
    assert rows["often"]["weeks_in_all"] == rows["often"]["weeks"] + 9
    assert not rows["seldom"]["can_be_tested"]
    assert any(
        line.startswith("`seldom` cannot be tested alone: it needs")
        for line in plan.lines
    )


def test_arms_are_drawn_within_segment_and_activity_band(plan):
    off = plan.arms.group_by("segment", "activity_band").agg(
        ((pl.col("arm") == TREATED).sum() - pl.len() / 2).abs().alias("off")
    )
    assert off["off"].max() <= 0.5
    assert plan.balance["difference"].abs().max() < 0.25


def test_the_same_customers_get_the_same_arms(shop, plan):
    features, segment, *rest = shop
    again = planned(
        (features.reverse(), segment.reverse(), *rest), None, metric="orders"
    )
    assert again.arms.sort("customer_id")["arm"].equals(plan.arms["arm"])


def test_a_metric_that_nobody_computes_is_refused(shop):
    with pytest.raises(ConfigError, match=r"`order` is not computed\. Did you mean"):
        planned(shop, metric="order")


def test_a_plan_is_written_and_read_out_as_it_is(shop, tmp_path):
    plan = planned(shop)
    system = run_system("test", "trial")
    with Artifacts(tmp_path, system).stage("trial", Config()) as out:
        plan.write(out)
    arms = pl.read_parquet(tmp_path / files.ARMS)
    treated = (arms["arm"] == TREATED).to_numpy()
    rng = np.random.default_rng(0)
    lift = 1 + 0.6 * treated * (arms["segment"] == "seldom").to_numpy()
    orders = rng.poisson(arms["orders_before"].to_numpy() * lift + 0.3)
    results = arms.select(
        "customer_id",
        orders=pl.Series(orders),
        items=pl.Series(rng.poisson(2.0 * orders)),
    )
    results.write_parquet(tmp_path / "results.parquet")
    read = ["experiment", "readout", str(tmp_path / files.DESIGN)]
    table = ["--table", str(tmp_path / "results.parquet")]
    table += ["--arms", str(tmp_path / files.ARMS)]
    lifts = ["--lifts", str(tmp_path / "lifts.csv"), "--cycle", "2024-05"]
    output = ["--output", str(tmp_path / "readout.csv")]
    done = CliRunner().invoke(app, [*read, *table, *output, *lifts])
    assert done.exit_code == 0, done.output
    readout = pl.read_csv(tmp_path / "readout.csv")
    seldom = readout.filter(segment="seldom", metric="orders").row(0, named=True)
    assert seldom["relative_low"] < 0.6 < seldom["relative_high"]
    decisions = {line.split()[1]: line.split()[3] for line in lines_of(done.output)}
    # What it ordered more is shown, and so is that its items are not fewer.
    assert decisions == {"often": "iterate", "seldom": "launch"}
    assert set(readout.filter(segment="all segments")["metric"]) == {"orders", "items"}
    again = CliRunner().invoke(app, [*read, *table, *lifts[:-1], "2024-06"])
    assert again.exit_code == 0, again.output
    gained = read_lifts(tmp_path / "lifts.csv")
    assert gained["cycle"].to_list() == ["2024-05"] * 2 + ["2024-06"] * 2
    assert gained["low"][1] == pytest.approx(seldom["relative_low"])
    wrong = CliRunner().invoke(app, [*read, *table, *lifts[:2]])
    assert "expected both or neither" in str(wrong.exception)
    results.head(1_000).write_parquet(tmp_path / "results.parquet")
    done = CliRunner().invoke(app, [*read, *table])
    assert "empty for 200 of 1,200 users" in str(done.exception)


def lines_of(output):
    """Rows of the decisions, which are the last table."""
    return [line for line in output.split("What to do")[1].splitlines() if "│" in line]
