"""Who is changing: entities whose months follow another segment from some month on."""

import numpy as np
import polars as pl
import pytest

from core.months import month_index
from core.segments.changing import MIN_MONTHS, RECENT_MONTHS, Months, find_changing

START = month_index("2021-01")


def shops(
    n: int, n_months: int, changes: int = 0, noise: float = 0.3, seed: int = 0
) -> tuple[Months, np.ndarray, np.ndarray]:
    """Return shops of three kinds; the first `changes` take up the next one's curve.

    Half a year before the end. Returns months, segments before, segments after.
    """
    rng = np.random.default_rng(seed)
    month = np.arange(12)
    season = np.stack(
        [np.zeros(12), 1.5 * np.cos((month - 6) / 6 * np.pi), np.eye(12)[11] * 2.0]
    )
    share, breadth = np.array([0.99, 0.95, 0.6]), np.log([20.0, 5.0, 12.0])
    kind = np.arange(n) % 3
    later = np.where(np.arange(n) < changes, (kind + 1) % 3, kind)
    is_after = np.arange(n_months) >= n_months - RECENT_MONTHS
    now = np.where(is_after[None], later[:, None], kind[:, None])
    level = rng.normal(6.0, 1.3, (n, 1))
    own = rng.normal(0, 0.1, (n, 12))
    t = START + np.arange(n_months)
    logs = level + season[now, t % 12] + own[:, t % 12]
    logs += noise * rng.standard_normal(logs.shape)
    is_active = rng.random(logs.shape) < share[now]
    products = np.maximum(1, rng.poisson(np.exp(breadth[now])))
    quantity = np.where(is_active, np.exp(logs), 0.0)
    return Months.of(t, quantity, np.where(is_active, products, 0.0)), kind, later


def test_those_who_change_are_found_with_month_and_kind():
    months, kind, later = shops(600, 42, changes=60)
    found = find_changing(months, kind)
    is_changing = found["changing"].is_not_null().to_numpy()
    assert is_changing[:60].mean() > 0.8
    assert is_changing[60:].mean() < 0.02
    told = found[:60].filter(pl.col("changing").is_not_null())
    right = told["candidate"].to_numpy() == later[:60][is_changing[:60]]
    assert right.mean() > 0.9
    assert told["since_t"].median() == months.t[-RECENT_MONTHS]
    assert found[60:]["candidate"].null_count() > 500
    clear = found["is_clear"].to_numpy()
    assert clear[:60].mean() > 0.5
    assert not clear[60:].any()


@pytest.mark.parametrize(("step", "direction"), [(0.9, "up"), (-0.9, "down")])
def test_those_who_sell_lastingly_more_or_less_are_told_apart(step, direction):
    months, kind, _ = shops(600, 42)
    months.log_quantity[:60, -5:] += step
    found = find_changing(months, kind)
    told = found[:60]["changing"].fill_null("")
    assert (told == direction).mean() > 0.7
    assert found[:60].filter(changing=direction)["candidate"].null_count() == sum(
        told == direction
    )
    assert found[60:]["changing"].is_not_null().mean() < 0.02
    assert not found.filter(changing=direction)["is_clear"].any()
    ratio = found[:60].filter(changing=direction)["against_past"].median()
    assert abs(np.log(ratio) - step) < 0.2


def test_few_are_named_where_nobody_changes():
    named = []
    for seed in range(8):
        months, kind, _ = shops(400, 40, noise=0.5, seed=seed)
        named.append(find_changing(months, kind)["changing"].is_not_null().mean())
    assert np.mean(named) < 0.01


@pytest.mark.parametrize("step", [0.3, 2.0])
def test_what_moves_everyone_moves_nobody(step):
    months, kind, _ = shops(400, 40)
    log_quantity = months.log_quantity.copy()
    log_quantity[:, -3:] += np.log(step)
    noise = np.random.default_rng(1).standard_normal((400, 3))
    log_quantity[:, -3:] += 0.6 * noise
    shocked = Months(months.t, log_quantity, months.log_breadth)
    assert find_changing(shocked, kind)["changing"].is_not_null().mean() < 0.02


def test_ids_of_segments_may_be_any():
    months, kind, _ = shops(300, 36, changes=30)
    ids = np.array([4, 17, 9])
    plain, renamed = find_changing(months, kind), find_changing(months, ids[kind])
    assert plain["evidence"].equals(renamed["evidence"])
    told = renamed.filter(changing="segment")["candidate"]
    assert set(told) <= {4, 9, 17}


@pytest.mark.parametrize(
    ("n", "n_months", "segment"),
    [(300, MIN_MONTHS - 1, 0), (40, 40, None), (300, 40, 0), (300, 40, -1)],
)
def test_nothing_is_said_where_nothing_can_be_known(n, n_months, segment):
    months, kind, _ = shops(n, n_months)
    known = kind if segment is None else np.full(n, segment)
    found = find_changing(months, known)
    assert found["evidence"].is_null().all()
    assert found["changing"].null_count() == n
    assert not found["is_clear"].any()


def test_gaps_unknown_products_and_silence_are_no_fault():
    months, kind, _ = shops(300, 36)
    log_quantity = months.log_quantity.copy()
    log_quantity[0] = np.nan
    log_quantity[1, :33] = np.nan
    log_quantity[2, -6:] = np.nan
    kind = np.where(np.arange(300) == 3, -1, kind)
    nothing = np.full(log_quantity.shape, np.nan)
    found = find_changing(Months(months.t, log_quantity, nothing), kind)
    assert found["evidence"][[0, 1, 3]].is_null().all()
    assert found["evidence"].null_count() == 3
    assert np.isfinite(found["evidence"].drop_nulls().to_numpy()).all()
