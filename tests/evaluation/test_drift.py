"""Drift beyond chance, and the state machine that says when to retrain."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from core.config import Config, SampleConfig
from core.errors import ArtifactError, ModelError
from core.evaluation.drift import DRIFT_ROWS, DriftOptions, DriftReport, measure_drift
from core.evaluation.drift_reference import (
    DriftReference,
    MonthRows,
    ReferenceColumn,
    population_stability,
    segment_shares,
    usual_months,
)
from core.evaluation.retrain_policy import TriggerState, after_publishing, step
from core.retailers.prepare import prepare
from core.retailers.sample import generate_sales

NAMES = ["season", "season_again", "trend", "inactive_month_share", "breadth", "flat"]
SEGMENTS = [-1, 0, 2, 5]


def a_month(n, rng):
    """Draw shops of one population: dependent, tied, unknown and constant features."""
    X = rng.normal(size=(n, len(NAMES)))
    X[:, 1] = X[:, 0] + 0.1 * X[:, 1]
    X[:, 3] = np.where(rng.random(n) < 0.6, 0.0, np.abs(X[:, 3]).round(1))
    X[rng.random(n) < 0.1, 4] = np.nan
    X[:, 5] = 3.0
    segments = rng.choice(SEGMENTS, n, p=[0.2, 0.4, 0.3, 0.1])
    return MonthRows(X, segments, rng.gamma(2.0, size=n))


def reference_of(month, **kwargs):
    return DriftReference.of(month.X, NAMES, month.segments, month.errors, **kwargs)


@pytest.fixture(scope="module")
def reference():
    return reference_of(a_month(1500, np.random.default_rng(1)))


@pytest.fixture
def month():
    return a_month(1200, np.random.default_rng(2))


# Distances


def test_psi_of_two_bins_is_worked_out_by_hand():
    # (0.5 - 0.8) * ln(0.5 / 0.8) + (0.5 - 0.2) * ln(0.5 / 0.2)
    psi = population_stability(np.array([5e6, 5e6]), np.array([8e6, 2e6]))
    assert psi == pytest.approx(0.3 * np.log(0.8 / 0.5) + 0.3 * np.log(0.5 / 0.2))


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 7.0, np.nan]), min_size=3, max_size=40),
    st.lists(st.sampled_from([0.0, 0.5, 2.0, 7.0, np.nan]), min_size=3, max_size=40),
)
def test_distances_agree_with_scipy_and_vanish_for_the_same_rows(before, now):
    before, now = np.array(before), np.array(now)
    column = ReferenceColumn.of(before)
    psi, ks = column.compare(now)
    sides = (np.nan_to_num(x, nan=-1.0) for x in (before, now))
    found = ks_2samp(*sides, method="asymp")
    assert ks == pytest.approx(found.statistic)
    assert psi >= 0
    assert column.compare(before[::-1]) == (0.0, 0.0)


def test_a_large_normal_shift_has_the_divergence_of_two_normals():
    rng = np.random.default_rng(0)
    column = ReferenceColumn.of(rng.normal(size=200_000))
    psi, ks = column.compare(rng.normal(0.2, 1.0, 200_000))
    assert psi == pytest.approx(0.04, abs=0.004), "a little is lost within the bins"
    assert ks == pytest.approx(0.0797, abs=0.006)


def test_zeros_and_unknown_values_are_bins_of_their_own():
    known = np.random.default_rng(0).uniform(1.0, 2.0, 400)
    before = np.concatenate([np.zeros(600), known])
    column = ReferenceColumn.of(before)
    half_as_many = np.concatenate([np.zeros(300), np.tile(known, 2)[:700]])
    unknown = np.where(np.arange(1000) % 10 == 0, np.nan, before)
    assert column.compare(half_as_many)[0] > 0.3
    assert column.compare(unknown)[0] > 0.3
    assert column.compare(unknown)[1] == pytest.approx(0.1)
    assert column.n_bins == 5  # the zeros, and the four deciles above them


def test_rounding_and_a_finer_lattice_are_no_shift():
    # Months without sales of 24, then of 25: the same shops a month later.
    before = np.repeat(np.arange(5) / 24, 200)
    column = ReferenceColumn.of(before)
    assert column.compare(before + 1e-13) == (0.0, 0.0)
    assert column.compare(np.repeat(np.arange(5) / 25, 200))[0] == 0.0


def test_samples_of_a_column_are_compared_as_their_rows_would_be():
    rng = np.random.default_rng(3)
    values = np.where(rng.random(300) < 0.3, 0.0, rng.normal(size=300))
    values[:20] = np.nan
    column = ReferenceColumn.of(values)
    counts = rng.multinomial(300, np.full(300, 1 / 300), size=4).T.astype(np.float32)
    psi, ks = column.compare_samples(np.ones_like(counts), counts)
    for i in range(4):
        expected = column.compare(np.repeat(values, counts[:, i].astype(int)))
        assert (psi[i], ks[i] - 1 / 300) == pytest.approx(expected)


# Reports


@pytest.mark.parametrize(("n", "n_month"), [(120, 90), (1500, 1200)])
def test_stationary_months_do_not_alert_in_more_than_5_of_100(n, n_month):
    rng = np.random.default_rng(7)
    n_months, n_alerts = 100 if n < 1000 else 20, 0
    for seed in range(n_months):
        reference = reference_of(a_month(n, rng))
        month, before = a_month(n_month, rng), a_month(n_month, rng)
        shares = segment_shares(before.segments)
        report = measure_drift(reference, *month, previous_shares=shares, seed=seed)
        n_alerts += bool(report.alerts)
    # Of 100 with a true rate of 5%, up to 9 are within two standard errors.
    assert n_alerts <= (9 if n_months == 100 else 3)


def shifted(month, what):
    """Plant one shift."""
    X, segments, errors = month.X.copy(), month.segments.copy(), month.errors.copy()
    if what == "location":
        X[:, 2] += 0.5
    elif what == "scale":
        X[:, 2] *= 1.7
    elif what == "zeros":
        X[::2, 3] = 0.0
    elif what == "unknown":
        X[::8, 2] = np.nan
    elif what == "constant":
        X[::8, 5] = 4.0
    elif what == "noise":
        errors *= 1.5
    elif what == "share":
        segments[np.flatnonzero(segments == 0)[:120]] = 5
    elif what == "unassigned":
        segments[np.flatnonzero(segments == 0)[:120]] = -1
    return MonthRows(X, segments, errors)


@pytest.mark.parametrize("thresholds", ["calibrated", "fixed"])
@pytest.mark.parametrize(
    ("what", "kind", "name"),
    [
        ("location", "feature", "trend"),
        ("scale", "feature", "trend"),
        ("zeros", "feature", "inactive_month_share"),
        ("unknown", "feature", "trend"),
        ("constant", "feature", "flat"),
        ("noise", "reconstruction", "reconstruction error"),
        ("share", "share", "5"),
        ("unassigned", "unassigned", "unassigned"),
    ],
)
def test_a_planted_shift_alerts_at_once(reference, month, what, kind, name, thresholds):
    options = DriftOptions(thresholds=thresholds)
    report = measure_drift(reference, *shifted(month, what), options=options)
    found = report.rows.filter("is_alert").select("kind", "name").unique().rows()
    assert (kind, name) in found
    assert all(row[0] in {kind, "share"} for row in found)


def test_alerts_say_what_moved_how_far_and_beyond_which_limit(reference, month):
    moved = shifted(shifted(month, "location"), "unassigned")
    before = {-1: 0.29, 0: 0.31, 2: 0.3, 5: 0.1}
    report = measure_drift(reference, *moved, previous_shares=before)
    assert report.alerts[0].startswith("`trend` differs from training: PSI 0.")
    assert "limit 0.0" in report.alerts[0]
    said = "the unassigned are 30%; it was 22% in training (changed by 8.8 points, "
    assert said in report.alerts[1]
    assert "month before" not in report.alerts[1]
    assert report.alert_kinds[:2] == ["feature", "unassigned"]
    json.dumps(report.as_dict())


def test_a_jump_since_the_month_before_alerts_by_itself(reference, month):
    shares = segment_shares(month.segments)
    before = {**shares, 0: shares[0] - 0.2, 2: shares[2] + 0.2}
    report = measure_drift(reference, *month, previous_shares=before)
    found = report.rows.filter("is_alert").select("name", "statistic").rows()
    assert found == [("0", "step"), ("2", "step")]
    assert len(report.alerts) == 2
    assert "the month before (changed by 20 points" in report.alerts[0]


def test_an_alert_names_the_segment_where_its_name_is_known(reference, month):
    shares = segment_shares(month.segments)
    before = {**shares, 0: shares[0] - 0.2, 2: shares[2] + 0.2}
    names = {0: "Winter peak"}
    report = measure_drift(reference, *month, previous_shares=before, names=names)
    beginnings = {alert.partition(" holds ")[0] for alert in report.alerts}
    assert beginnings == {'segment 0 "Winter peak"', "segment 2"}


def test_every_statistic_has_one_row_and_a_limit(reference, month):
    report = measure_drift(reference, *month, previous_shares={7: 0.01})
    assert dict(report.rows.schema) == DRIFT_ROWS
    keys = report.rows.select("kind", "name", "statistic")
    assert keys.n_unique() == keys.height == 2 * (len(NAMES) + 1) + 4 + 5
    assert (report.rows["threshold"] > 0).all()
    assert (report.rows["value"] >= 0).all()
    assert report.shares == segment_shares(month.segments)


def test_row_order_changes_nothing_and_large_references_are_sampled(month):
    rows = a_month(3000, np.random.default_rng(4))
    order = np.random.default_rng(5).permutation(3000)
    turned = MonthRows(*(part[order] for part in rows))
    backwards = MonthRows(*(part[::-1] for part in month))
    one = reference_of(rows, max_rows=500)
    other = reference_of(turned, max_rows=500)
    assert len(one.X) == 500
    assert one.n_rows == 3000
    assert one.shares == segment_shares(rows.segments)
    first, second = measure_drift(one, *month), measure_drift(other, *backwards)
    assert first.rows.equals(second.rows)


def test_small_samples_have_wider_limits_and_large_ones_the_floors():
    rng = np.random.default_rng(6)
    limits = []
    for n in (60, 12_000):
        report = measure_drift(reference_of(a_month(n, rng)), *a_month(n, rng))
        rows = report.rows.filter(pl.col("name").is_in(["trend", "0"]))
        limits.append(dict(zip(rows["statistic"], rows["threshold"], strict=True)))
    assert limits[1] == {"psi": 0.04, "ks": 0.08, "difference": 0.05}
    assert all(limits[0][name] > 3 * limits[1][name] for name in limits[1])


def test_what_was_usual_before_training_does_not_alert_after():
    rng = np.random.default_rng(8)
    training = a_month(1500, rng)
    past = [shifted(a_month(1400, rng), "location") for _ in range(3)]
    usual = reference_of(training, past=past)
    later = shifted(a_month(1400, rng), "location")
    assert measure_drift(reference_of(training), *later).alerts
    assert measure_drift(usual, *later).alerts == []
    later.X[:, 0] += 0.5
    later.X[:, 2] += 1.0
    found = measure_drift(usual, *later).rows.filter("is_alert")
    assert set(found["name"]) == {"season", "trend"}


def test_months_before_the_window_was_full_tell_what_is_usual_only_until_it_is():
    months = ["2024-06", "2023-12"]
    assert usual_months(months, "2022-01", "2024-12", 30) == ["2024-06"]
    assert usual_months(months, "2022-01", "2024-12", 36) == []
    assert usual_months(months, "2022-02", "2024-12", 36) == months[::-1]


def test_a_reference_comes_back_from_its_state_as_it_was(reference, month):
    with_past = reference_of(
        a_month(400, np.random.default_rng(9)), past=[shifted(month, "scale")]
    )
    for original in (reference, with_past):
        arrays, meta = original.get_state()
        restored = DriftReference.from_state(arrays, json.loads(json.dumps(meta)))
        first, second = measure_drift(original, *month), measure_drift(restored, *month)
        assert first.rows.equals(second.rows)
        assert first.shares == second.shares


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda a, m: a.pop("X"), "lacks `X`"),
        (lambda a, m: m.pop("names"), "lacks `names`"),
        (lambda a, m: a.update(errors=a["errors"][1:]), "errors"),
        (lambda a, m: a.update(share_ids=a["share_ids"][1:]), "shares have"),
        (lambda a, m: m.update(names=["season"]), "1 features"),
        (lambda a, m: m.update(n_rows=3), "`n_rows` is 3"),
        (lambda a, m: m.update(usual_keys=[["feature"]]), "usual differences"),
    ],
)
def test_an_altered_state_is_refused(reference, change, finding):
    arrays, meta = reference.get_state()
    change(arrays, meta)
    with pytest.raises(ArtifactError, match=finding):
        DriftReference.from_state(arrays, meta)


def test_what_cannot_be_compared_is_refused_in_words(reference, month):
    X, segments, errors = month
    with pytest.raises(ModelError, match="6 features"):
        measure_drift(reference, X[:, :5], segments, errors)
    with pytest.raises(ModelError, match="at least one row"):
        measure_drift(reference, X[:0], segments[:0])
    with pytest.raises(ModelError, match="infinite"):
        measure_drift(reference, np.where(X > 2, np.inf, X), segments)
    with pytest.raises(ModelError, match="`segments` has the shape"):
        measure_drift(reference, X, segments[1:])
    with pytest.raises(ModelError, match="`errors` has the shape"):
        measure_drift(reference, X, segments, errors * np.nan)


def test_without_errors_on_one_side_reconstruction_is_not_compared(reference, month):
    report = measure_drift(reference, month.X, month.segments)
    assert "reconstruction" not in report.rows["kind"]


# Triggers


def report_of(*kinds):
    """Return a report that alerts in these kinds."""
    rows = [(kind, "x", "psi", 0.3, 0.1, True) for kind in kinds]
    table = pl.DataFrame(rows, schema=DRIFT_ROWS, orient="row")
    return DriftReport(table, [f"{kind} moved" for kind in kinds], {0: 1.0}, 100)


def walk(*months, state=None, months_running=2):
    """Step through (month, kinds) and return the states."""
    state, states = state or TriggerState(), []
    for month, *kinds in months:
        state = step(state, month, report_of(*kinds), months_running)
        states.append(state)
    return states


def test_the_same_kind_two_months_running_recommends_retraining():
    first, second, third = walk(
        ("2024-01", "feature"), ("2024-02", "unassigned"), ("2024-03",)
    )
    assert (first.state, first.since) == ("watching", "2024-01")
    assert second.state == "recalibrate"
    assert second.is_due
    assert second.months_running == {"drift": 2}
    assert second.reasons == (
        "the data has moved away from the training month: 2 months running",
    )
    assert (third.state, third.since) == ("steady", "2024-03")
    assert [found.month for found in third.history] == ["2024-01", "2024-02"]


def test_kinds_that_take_turns_are_only_watched():
    states = walk(("2024-01", "feature"), ("2024-02", "share"), ("2024-03", "feature"))
    assert [state.state for state in states] == ["watching"] * 3
    assert states[-1].since == "2024-01"


def test_the_same_month_twice_does_not_count_twice():
    first, again = walk(("2024-01", "share"), ("2024-01", "share"))
    assert again == first


def test_a_gap_of_months_breaks_a_run_and_a_new_year_does_not():
    assert walk(("2023-12", "share"), ("2024-01", "share"))[-1].is_due
    broken = walk(("2023-12", "share"), ("2024-02", "share"))[-1]
    assert broken.state == "watching"
    assert broken.months_running == {"share": 1}


def test_one_month_is_enough_where_the_options_say_so():
    assert walk(("2024-01", "share"), months_running=1)[0].is_due


def test_publishing_starts_again_and_keeps_the_history():
    due = walk(("2024-01", "feature"), ("2024-02", "feature"))[-1]
    fresh = after_publishing(due, "2024-02")
    assert (fresh.state, fresh.since) == ("steady", "2024-02")
    assert fresh.history == due.history
    assert walk(("2024-02", "feature"), state=fresh)[0] == fresh
    assert walk(("2024-03", "feature"), state=fresh)[0].state == "watching"


def test_lift_lost_twice_in_two_segments_recommends_retraining():
    state = step(TriggerState(), "2024-01", report_of(), lift_lost={0: True, 3: True})
    assert state.state == "watching"
    state = step(state, "2024-02", report_of())
    assert state.lift_cycles == {0: 1, 3: 1}, "no readout, no news"
    one = step(state, "2024-04", report_of(), lift_lost={0: True, 3: False})
    assert (one.state, one.lift_cycles) == ("watching", {0: 2})
    both = step(state, "2024-04", report_of(), lift_lost={0: True, 3: True})
    assert both.is_due
    assert "segments 0, 3" in both.reasons[0]


def test_months_must_ascend_and_be_months():
    state = walk(("2024-05",))[-1]
    with pytest.raises(ModelError, match="2024-04 comes after 2024-05"):
        step(state, "2024-04", report_of())
    with pytest.raises(ModelError, match="2024-04 comes after 2024-05"):
        after_publishing(state, "2024-04")
    with pytest.raises(ModelError, match="expected YYYY-MM"):
        step(state, "May 2024", report_of())


def test_the_state_is_json_and_comes_back():
    state = walk(("2024-01", "feature", "share"), ("2024-02", "feature"))[-1]
    state = step(state, "2024-03", report_of(), lift_lost={4: True})
    assert TriggerState.model_validate_json(state.model_dump_json()) == state


# Sales


def test_stationary_months_of_generated_sales_do_not_alert(tmp_path):
    sales = generate_sales(SampleConfig(n_shops=400, n_months=42), seed=3)
    base = Config()
    months = {}
    for as_of in ("2024-12", "2025-02", "2025-04", "2025-06"):
        features = base.features.model_copy(update={"as_of": as_of})
        config = base.model_copy(update={"features": features})
        table = pl.concat(prepare(config, tmp_path / as_of, sales.rows).batches(10_000))
        names = [name for name in table.columns if name != "shop_id"][:18]
        months[as_of] = table.select(names).cast(pl.Float64).to_numpy()
    training, *later = months.values()
    is_narrow = np.median(training[:, 17])
    reference = DriftReference.of(
        training, names, (training[:, 17] > is_narrow).astype(int)
    )
    for X in later:
        report = measure_drift(reference, X, (X[:, 17] > is_narrow).astype(int))
        assert report.alerts == []
