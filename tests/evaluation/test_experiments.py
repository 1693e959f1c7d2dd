"""Experiments on segments: planned, drawn, and read out."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from core.errors import ConfigError, SchemaError
from core.evaluation.experiment_plan import (
    CONTROL,
    TREATED,
    Experiment,
    Guardrail,
    Metric,
    assign_arms,
    guardrail_sizes,
    parse_experiment,
    plan_sizes,
    smallest_total_effect,
)
from core.evaluation.experiment_readout import (
    TOTAL,
    ArmMean,
    balance_table,
    fieller,
    guardrail_state,
    read_out,
)
from core.evaluation.multiple import holm

BOUGHT = Experiment(
    name="voucher", metric=Metric(name="bought", kind="proportion"), effect=0.1
)


def users(n_each=500, shares=(0.2,)):
    """Users of segments a, b, ... of whom these shares have bought."""
    segments = [chr(97 + i) for i in range(len(shares)) for _ in range(n_each)]
    bought = [k < round(share * n_each) for share in shares for k in range(n_each)]
    return pl.DataFrame(
        {"id": range(len(segments)), "segment": segments, "bought": bought}
    )


def finished(n_each, lift, seed=0, shares=(0.2, 0.3), **more):
    """Users of a finished experiment, whose treatment changes shares by a factor."""
    rng = np.random.default_rng(seed)
    n = n_each * len(shares)
    segment = np.repeat(np.arange(len(shares)), n_each)
    treated = rng.random(n) < 0.5
    past = rng.gamma(2.0, 10.0, n)
    share = np.asarray(shares)[segment] * np.where(treated, 1 + lift, 1.0)
    return pl.DataFrame(
        {
            "id": np.arange(n),
            "segment": [f"s{k}" for k in segment],
            "arm": np.where(treated, TREATED, CONTROL),
            "bought": rng.random(n) < share,
            "past": past,
            "spent": past * (1 + more.get("spending", 0.0) * treated)
            + rng.normal(0, 4, n),
            "orders": rng.poisson(3, n),
        }
    )


# Sample sizes


@pytest.mark.parametrize(("n_segments", "arm"), [(1, 6_510), (4, 9_249)])
def test_sizes_of_a_share_are_those_of_the_textbook(n_segments, arm):
    # 20% to 22% at 5% and 80%: 6,509.5 an arm; with a fourth of the error rate 9,248.4.
    plan = plan_sizes(users(50, (0.2,) * n_segments), BOUGHT, "id", "segment")
    assert plan["needed_treated"].to_list() == [arm] * n_segments
    assert plan["needed"].to_list() == [2 * arm] * n_segments
    assert not plan["can_be_tested"].any()
    assert "has 50" in plan["reason"][0]


def test_each_segment_is_sized_by_its_own_variance():
    rng = np.random.default_rng(1)
    table = pl.DataFrame(
        {
            "id": range(4_000),
            "segment": ["calm", "wild"] * 2_000,
            "spent": rng.normal(100, np.tile([10.0, 50.0], 2_000)),
        }
    )
    design = Experiment(name="x", metric=Metric(name="spent"), effect=0.05)
    plan = plan_sizes(table, design, "id", "segment")
    sizes = dict(plan.select("segment", "needed").iter_rows())
    assert sizes["wild"] / sizes["calm"] == pytest.approx(25, rel=0.1)
    z = stats.norm.ppf(1 - 0.05 / 4) + stats.norm.ppf(0.8)
    own = table.filter(pl.col("segment") == "wild")["spent"]
    by_hand = 2 * z**2 * own.var() / (0.05 * own.mean()) ** 2
    assert sizes["wild"] == pytest.approx(2 * by_hand, rel=0.01)


@pytest.mark.parametrize("effect", [0.5, 5.0, 9.0])
def test_a_huge_effect_needs_hardly_anybody(effect):
    spent = np.random.default_rng(1).normal(100, 10, 40)
    table = pl.DataFrame({"id": range(40), "segment": "all", "spent": spent})
    design = Experiment(name="x", metric=Metric(name="spent"), effect=effect)
    plan = plan_sizes(table, design, "id", "segment")
    assert plan["needed"].to_list() == [4]


def test_the_smallest_effect_is_what_all_users_could_show():
    plan = plan_sizes(users(13_020), BOUGHT, "id", "segment")
    assert plan["can_be_tested"].to_list() == [True]
    assert plan["smallest_effect"][0] == pytest.approx(0.098, abs=0.001)


def test_all_users_together_show_less_noise_than_one_segment():
    table = users(2_000, (0.1, 0.5))
    total = smallest_total_effect(table, BOUGHT, "id", "segment")
    variance = np.mean([0.1 * 0.9, 0.5 * 0.5])  # differences of segments left out
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert total == pytest.approx(z * np.sqrt(variance * 4 / 4_000) / 0.3, rel=1e-3)
    assert total < plan_sizes(table, BOUGHT, "id", "segment")["smallest_effect"].min()


def test_a_segment_may_decide_by_a_metric_of_its_own():
    own = {"metric": {"name": "spent"}, "guardrails": []}
    tree = {
        "name": "x",
        "metric": {"name": "bought", "kind": "proportion"},
        "effect": 0.1,
        "guardrails": [{"name": "orders", "margin": 0.5}],
        "segments": {"s1": own},
    }
    design = parse_experiment(tree, "design")
    table = finished(4_000, 0.0, spending=0.2)
    plan = plan_sizes(table.drop("arm"), design, "id", "segment")
    assert plan["metric"].to_list() == ["bought", "spent"]
    margins = guardrail_sizes(table.drop("arm"), design, "id", "segment")
    assert margins["segment"].to_list() == ["s0"]
    readout = read_out(table, design, "id", "segment")
    decided = dict(readout.decisions.select("segment", "decision").iter_rows())
    assert decided == {"s0": "iterate", "s1": "launch"}
    rows = {(r["segment"], r["metric"]): r for r in readout.changes.to_dicts()}
    assert ("s0", "spent") not in rows
    assert ("all segments", "spent") not in rows
    deciding = [rows["s0", "bought"], rows["s1", "spent"]]
    adjusted = holm([row["p_value"] for row in deciding])
    assert [row["adjusted_p"] for row in deciding] == pytest.approx(list(adjusted))
    # What is only looked at in s1 is no part of that decision.
    assert rows["s1", "bought"]["adjusted_p"] == rows["s1", "bought"]["p_value"]
    low, high = (lift[1] for lift in readout.lifts(design, "2024-05")["low", "high"])
    assert low < 0.2 < high


def test_one_name_for_two_metrics_is_refused():
    tree = {
        "name": "x",
        "metric": {"name": "bought"},
        "effect": 0.1,
        "segments": {"s1": {"metric": {"name": "bought", "kind": "proportion"}}},
    }
    with pytest.raises(ConfigError, match="`bought` is described in two ways"):
        parse_experiment(tree, "design")


def test_weeks_are_those_until_the_needed_users_have_come():
    table = users(20_000)
    came = pl.DataFrame({"id": range(20_000)}).with_columns(
        date=pl.date(2024, 1, 1) + pl.duration(days=pl.col("id") // 700)
    )
    plan = plan_sizes(table, BOUGHT, "id", "segment", came)
    assert plan["weeks"].to_list() == [3]  # 4,900 a week, 13,020 needed
    few = came.filter(pl.col("id") < 9_800)
    plan = plan_sizes(table, BOUGHT, "id", "segment", few)
    assert plan["weeks"].to_list() == [None]
    assert "9,800 came in 2 weeks" in plan["reason"][0]


@pytest.mark.parametrize(
    ("shares", "reason"),
    [((0.0,), "metric is 0"), ((1.0,), "same for every"), ((0.95,), "95%")],
)
def test_what_cannot_be_sized_is_said(shares, reason):
    plan = plan_sizes(users(100, shares), BOUGHT, "id", "segment")
    assert plan["needed"].to_list() == [None]
    assert reason in plan["reason"][0]


# Assignment


def test_arms_are_balanced_in_every_stratum_and_the_same_in_any_order():
    table = users(501, (0.2, 0.4)).with_columns(band=pl.col("id") % 3)
    design = BOUGHT.model_copy(update={"strata": ("band",)})
    drawn = assign_arms(table, design, "id", "segment")
    counts = drawn.group_by("segment", "band").agg(
        ((pl.col("arm") == TREATED).sum() - pl.len() / 2).abs().alias("off")
    )
    assert counts["off"].max() <= 0.5
    again = assign_arms(table.reverse(), design, "id", "segment")
    assert again.sort("id").equals(drawn.sort("id"))
    other = design.model_copy(update={"name": "another"})
    assert not assign_arms(table, other, "id", "segment").equals(drawn)


def test_users_keep_their_arms_when_others_join():
    table = users(300)
    drawn = assign_arms(table.head(200), BOUGHT, "id", "segment")
    later = assign_arms(table, BOUGHT, "id", "segment", earlier=drawn)
    assert later.head(200)["arm"].equals(drawn["arm"])
    assert (later["arm"] == TREATED).sum() == pytest.approx(150, abs=1)


def test_a_share_of_the_users_is_treated():
    design = BOUGHT.model_copy(update={"treated_share": 0.1})
    drawn = assign_arms(users(1_000), design, "id", "segment")
    assert (drawn["arm"] == TREATED).sum() == pytest.approx(100, abs=1)


def test_unlike_arms_show_in_the_balance_table():
    table = finished(2_000, 0.0).with_columns(
        skewed=pl.col("past") + 10 * (pl.col("arm") == TREATED), same=1.0
    )
    balance = balance_table(table, ["past", "skewed", "same"])
    found = dict(balance.select("column", "difference").iter_rows())
    assert abs(found["past"]) < 0.1
    assert found["skewed"] > 0.5
    assert found["same"] is None


# Readout


def test_a_lift_is_found_where_it_is_and_launched():
    found = read_out(finished(8_000, 0.2), BOUGHT, "id", "segment")
    assert found.decisions["decision"].to_list() == ["launch", "launch"]
    total = found.changes.filter(pl.col("segment") == TOTAL).row(0, named=True)
    assert total["relative_low"] < 0.2 < total["relative_high"]
    assert total["change"] == pytest.approx(0.05, abs=0.02)


def test_a_loss_stops():
    found = read_out(finished(8_000, -0.2), BOUGHT, "id", "segment")
    assert found.decisions["decision"].to_list() == ["stop", "stop"]


def test_arms_that_do_not_fit_the_plan_end_the_readout():
    table = finished(8_000, 0.2)
    lost = table.filter((pl.col("arm") == CONTROL) | (pl.col("id") % 10 > 0))
    found = read_out(lost, BOUGHT, "id", "segment")
    assert set(found.decisions["decision"]) == {"no readout"}
    assert found.mismatch_p < 0.001


def test_the_total_is_not_moved_by_the_mix_of_segments():
    # The treated arm holds more of the better segment; nothing else differs.
    rows = [("a", CONTROL, 0.1, 4_000), ("a", TREATED, 0.1, 3_900),
            ("b", CONTROL, 0.5, 3_900), ("b", TREATED, 0.5, 4_000)]  # fmt: skip
    table = pl.concat(
        users(n, (share,)).with_columns(segment=pl.lit(segment), arm=pl.lit(arm))
        for segment, arm, share, n in rows
    ).with_columns(id=pl.int_range(pl.len()))
    total = read_out(table, BOUGHT, "id", "segment").changes.filter(
        pl.col("segment") == TOTAL
    )
    assert total["change"][0] == pytest.approx(0.0, abs=1e-9)


def test_the_past_narrows_the_interval_and_moves_nothing():
    table = finished(4_000, 0.0, spending=0.1)
    widths = []
    for pre in (None, "past"):
        design = Experiment(name="x", metric=Metric(name="spent", pre=pre), effect=0.1)
        total = read_out(table, design, "id", "segment").changes.row(-1, named=True)
        assert total["relative_low"] < 0.1 < total["relative_high"]
        widths.append(total["relative_high"] - total["relative_low"])
    assert widths[1] < 0.5 * widths[0]


def test_a_ratio_counts_sums_not_users():
    metric = Metric(name="spent", kind="ratio", denominator="orders")
    design = Experiment(name="x", metric=metric, effect=0.1)
    table = finished(4_000, 0.0)
    found = read_out(table, design, "id", "segment").changes.row(0, named=True)
    own = table.filter((pl.col("segment") == "s0") & (pl.col("arm") == CONTROL))
    assert found["control"] == pytest.approx(own["spent"].sum() / own["orders"].sum())
    assert found["relative_low"] < 0 < found["relative_high"]


@pytest.mark.parametrize(
    ("better", "low", "high", "state"),
    [
        ("higher", -0.01, 0.01, "safe"),
        ("higher", -0.015, -0.001, "safe"),
        ("higher", -0.03, 0.01, "not shown"),
        ("higher", -0.03, -0.01, "harmed"),
        ("lower", -0.01, 0.01, "safe"),
        ("lower", 0.01, 0.03, "harmed"),
        ("higher", None, None, "not shown"),
    ],
)
def test_a_guardrail_is_safe_only_if_it_is_shown(better, low, high, state):
    guardrail = Guardrail(name="margin", margin=0.02, better=better)
    row = {"relative_low": low, "relative_high": high}
    assert guardrail_state(row, guardrail) == state


def test_a_harmed_guardrail_stops_a_success():
    design = BOUGHT.model_copy(
        update={"guardrails": (Guardrail(name="spent", margin=0.01, pre="past"),)}
    )
    table = finished(8_000, 0.2, spending=-0.2)
    found = read_out(table, design, "id", "segment").decisions
    assert found["decision"].to_list() == ["stop", "stop"]
    assert "`spent` became worse" in found["reason"][0]


def test_fieller_covers_where_the_base_is_rare_and_says_where_it_cannot():
    rng = np.random.default_rng(3)
    n, share, hits = 300, 0.05, 0
    for _ in range(2_000):
        arms = []
        for _ in range(2):
            mean = rng.binomial(n, share) / n
            arms.append(ArmMean(mean, mean * (1 - mean) / (n - 1), n))
        low, high = fieller(*arms, critical=1.96)
        hits += low is None or low <= 0 <= high
    assert hits / 2_000 >= 0.93
    unknown = ArmMean(0.01, 0.01**2, 30)
    assert fieller(unknown, unknown, 1.96) == (None, None)
    assert fieller(ArmMean(-1.0, 0.1, 30), unknown, 1.96) == (None, None)


def test_too_few_users_are_not_judged():
    found = read_out(finished(40, 0.9), BOUGHT, "id", "segment")
    assert set(found.decisions["decision"]) == {"iterate"}
    assert "fewer than 30" in found.decisions["reason"][0]


# What is refused


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"metrik": {}}, "unknown key `metrik`. Did you mean `metric`"),
        ({"effect": -1}, "`effect`"),
        ({"metric": {"name": "x", "kind": "ratio"}}, "denominator"),
        ("text", "the file"),
    ],
)
def test_a_design_that_cannot_be_meant_is_one_line(tree, said):
    whole = {"name": "x", "metric": {"name": "y"}, "effect": 0.1}
    given = {**whole, **tree} if isinstance(tree, dict) else tree
    with pytest.raises(ConfigError) as error:
        parse_experiment(given, "design `d.yaml`")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop("bought"), "column `bought` is not in the table"),
        (lambda t: t.with_columns(bought=2), "other values than 0 and 1"),
        (lambda t: t.with_columns(bought=pl.lit("yes")), "holds String"),
        (lambda t: t.with_columns(id=1), "twice"),
        (lambda t: t.with_columns(arm=pl.lit("A")), "holds `A`"),
        (lambda t: t.with_columns(segment=pl.lit(None, pl.String)), "is empty for"),
        (lambda t: t.head(0), "no rows"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(change, said):
    with pytest.raises(SchemaError, match=said):
        read_out(change(finished(50, 0.0)), BOUGHT, "id", "segment")
