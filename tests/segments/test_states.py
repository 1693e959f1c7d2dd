"""The state of an entity's life follows from its own rhythm, and tells what comes."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest

from core.errors import ConfigError
from core.months import month_index
from core.segments.states import (
    STATES,
    ActiveMonths,
    Counts,
    LifeCycle,
    Rhythm,
    _Lives,
    _log_likelihood,
    life_counts,
    month_counts,
)

RHYTHM = Rhythm(active=(1.2, 0.75), stopping=(0.66, 8.0))
NOW = month_index("2024-12")


def histories(n, n_months, rhythm=RHYTHM, seed=0):
    """Return months with sales, the first of them certain, and who goes on."""
    rng = np.random.default_rng(seed)
    active = rng.beta(*rhythm.active, size=(n, 1))
    stops = rng.geometric(rng.beta(*rhythm.stopping, size=n))
    month = np.arange(n_months)
    is_active = (rng.random((n, n_months)) < active) & (month < stops[:, None])
    is_active[:, 0] = True
    return is_active, stops >= n_months


def counts_of(is_active):
    """Return the counts of histories whose last month is now."""
    entity, t = np.nonzero(is_active)
    months = ActiveMonths(entity, t, np.ones(len(t)))
    return _Lives.of(months).counts(is_active.shape[1] - 1)


def monthly(**months):
    """Return rows of shops from what they sold, the last of it this month."""
    rows = [
        (shop, NOW + 1 - len(sold) + place, float(quantity))
        for shop, sold in months.items()
        for place, quantity in enumerate(sold)
        if quantity
    ]
    return pl.DataFrame(rows, ["shop_id", "t", "quantity"], orient="row")


def market(n_months=36, **months):
    """Return these shops among 600 others, some of which stop, and their states."""
    is_active, _ = histories(600, n_months, Rhythm((8.0, 1.0), (1.0, 30.0)), seed=3)
    others = {f"other {i:03}": own.astype(int) for i, own in enumerate(is_active)}
    rows = monthly(**months, **others)
    states = LifeCycle.learn(rows, NOW).states(rows, NOW)
    return {row["shop_id"]: row for row in states.iter_rows(named=True)}


def test_the_likelihoods_of_all_possible_histories_add_up_to_1():
    every = np.array([(1, *rest) for rest in product((0, 1), repeat=7)], dtype=bool)
    parameters = np.array([*RHYTHM.active, *RHYTHM.stopping])
    whole, going_on = _log_likelihood(parameters, counts_of(every))
    assert np.exp(whole).sum() == pytest.approx(1.0)
    assert (going_on <= whole + 1e-12).all()


def test_the_chance_of_going_on_is_the_share_that_does():
    is_active, goes_on = histories(200_000, 9)
    kinds, kind, times = counts_of(is_active).kinds()
    share = np.bincount(kind, weights=goes_on) / times
    chance = RHYTHM.chance_active(kinds)
    error = np.sqrt(chance * (1 - chance) / times)
    assert (np.abs(share - chance) <= 4.5 * error + 1e-9).all()


def test_what_is_learnt_gives_the_chances_of_what_was_planted():
    counts = counts_of(histories(20_000, 30)[0])
    kinds, _, times = counts.kinds()
    found, planted = (
        rhythm.chance_active(counts) for rhythm in (Rhythm.learn(kinds, times), RHYTHM)
    )
    assert np.abs(found - planted).max() < 0.05


def test_the_same_silence_is_likelier_the_end_for_who_seldom_paused():
    last, silence = np.full(3, 24), 6
    counts = Counts(np.array([24, 12, 6]), last, last + silence)
    chances = RHYTHM.chance_active(counts)
    assert list(chances) == sorted(chances)


STEADY = [20] * 36
PLANTED = {
    "active": [
        STEADY,
        [20, 0, 0, 0] * 9,  # a quarterly buyer
        [0, 0, 0, 20, 20, 20, 20, 20, 20, 0, 0, 0] * 3,  # asleep each winter
        ([20] * 6 + [0] * 6) * 3,
    ],
    "new": [[0] * 32 + [5] * 4],
    "lapsed": [[20] * 26 + [0] * 10, [0] * 24 + [5] + [0] * 11, [20] * 32 + [0] * 4],
    "reviving": [[20] * 22 + [0] * 11 + [20] * 3],
    "slowing": [[20] * 30 + [9] * 6, [20] * 31 + [0, 20, 0, 20, 0], [20] * 35 + [0]],
}


def test_planted_states_are_found():
    shops = {
        f"{state} {i}": m for state, own in PLANTED.items() for i, m in enumerate(own)
    }
    found = market(**shops)
    told = {shop: found[shop]["state"] for shop in shops}
    assert told == {shop: shop.split()[0] for shop in shops}
    assert found["new 0"]["tenure_months"] == 4
    assert found["active 0"]["tenure_months"] is None, "the data begin with it"
    assert found["active 0"]["chance_before_return"] is None
    assert found["slowing 0"]["sales_ratio"] == pytest.approx(9 / 20)
    assert found["active 2"]["beyond_habit_months"] == -3


def test_later_months_the_order_of_rows_and_other_shops_do_not_matter():
    shops = {f"s{i}": own * 3 for i, own in enumerate(histories(200, 36, seed=5)[0])}
    rows = monthly(**shops)
    cut = NOW - 6
    known = rows.filter(pl.col("t") <= cut)
    learnt = LifeCycle.learn(rows.sample(fraction=1.0, shuffle=True, seed=1), cut)
    assert learnt == LifeCycle.learn(known, cut)
    is_first = pl.col("shop_id") < "s150"
    parts = [rows.filter(is_first), rows.filter(~is_first)]
    added_up = LifeCycle.from_counts(
        pl.concat(month_counts(part, cut) for part in parts),
        pl.concat(life_counts(part, cut) for part in parts),
        cut,
    )
    assert added_up == learnt
    states = learnt.states(rows, cut)
    assert states.equals(learnt.states(known.reverse().lazy(), cut))
    assert states["state"].null_count() == 0
    saved = LifeCycle.from_json(learnt.to_json())
    for shop in ("s0", "s1", "s199"):
        alone = saved.states(rows.filter(shop_id=shop), cut)
        assert alone.equals(states.filter(shop_id=shop))


def test_one_shop_no_shop_and_a_stray_month_have_answers():
    one = monthly(only=[1])
    assert LifeCycle.learn(one, NOW).states(one, NOW)["state"].to_list() == ["active"]
    nobody = LifeCycle.learn(one.clear(), NOW)
    assert nobody.states(one, NOW)["state"].to_list() == [None]
    # A row of a mistyped year does not make everyone new.
    shops = {f"s{i:02}": [1] * 5 for i in range(60)}
    rows = pl.concat([monthly(**shops), monthly(old=[1] + [0] * 90)])
    states = LifeCycle.learn(rows, NOW).states(rows, NOW)
    assert set(states.filter(pl.col("shop_id") != "old")["state"]) == {"active"}


def test_thresholds_are_given_by_name_and_odd_rules_refused(tmp_path):
    rows = monthly(**{f"s{i}": [1] * 36 for i in range(9)}, late=[0] * 27 + [1] * 9)
    for months, state in ((6, "active"), (9, "new")):
        learnt = LifeCycle.learn(rows, NOW, thresholds={"new_months": months})
        assert (
            dict(learnt.states(rows, NOW)["shop_id", "state"].rows())["late"] == state
        )
    with pytest.raises(ConfigError, match="Did you mean `lapsed_below`"):
        LifeCycle.learn(rows, NOW, thresholds={"lapsed_bellow": 0.4})
    path = tmp_path / "own.yaml"
    path.write_text(
        "features: {chance_active: {type: number, from: 0, to: 1}}\n"
        "segments: [{name: asleep, when: chance_active >= 0}]\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match="`asleep`"):
        LifeCycle.learn(rows, NOW, rules=str(path))


# --- living shops are not buried ----------------------------------------------------


def shops_with_habits(seed, n=900, n_months=36):
    """Return months of shops with habits of their own, who has stopped, and the habit.

    A third sells in nearly all months, a third in few, a third sleeps some months of
    every year; a quarter of each stops for good, at a time of its own.
    """
    rng = np.random.default_rng(seed)
    habit = np.repeat(["steady", "seldom", "seasonal"], n // 3)
    share = np.select(
        [habit == "steady", habit == "seldom"],
        [rng.beta(40, 2, n), rng.uniform(0.2, 0.6, n)],
        0.97,
    )
    month = np.arange(n_months)
    asleep, sleep = rng.integers(0, 12, n), rng.integers(4, 8, n)
    is_asleep = ((month - asleep[:, None]) % 12 < sleep[:, None]) & (
        habit == "seasonal"
    )[:, None]
    stops = np.where(rng.random(n) < 0.25, rng.integers(6, n_months, n), n_months)
    sold = (rng.random((n, n_months)) < share[:, None]) & ~is_asleep
    sold &= month < stops[:, None]
    return sold, stops, habit, share, is_asleep


def oracle(sold, stops, share, is_asleep):
    """Return the chance of going on of who knows each shop's habit, not its end."""
    n_months = sold.shape[1]
    last = n_months - 1 - sold[:, ::-1].argmax(axis=1)
    month = np.arange(n_months)
    awake = np.where(is_asleep, 0.0, share[:, None])
    silent = np.where(month > last[:, None], np.log1p(-np.minimum(awake, 0.999)), 0.0)
    # Before a silence of k months it stopped at any of them with the same chance.
    after = np.cumsum(silent, axis=1)
    may_stop = (month > last[:, None]) & (month >= 6)
    before = np.where(may_stop, np.exp(after - silent), 0.0).sum(axis=1)
    hazard = 0.25 / (n_months - 6)
    going_on = 0.75 * np.exp(after[:, -1])
    return going_on / (going_on + hazard * before)


@pytest.mark.parametrize("seed", [0, 1])
def test_pauses_of_ones_own_rhythm_are_no_end_and_ends_are_found(seed):
    sold, stops, habit, share, is_asleep = shops_with_habits(seed)
    is_known = sold.any(axis=1)
    sold, stops, habit, share, is_asleep = (
        values[is_known] for values in (sold, stops, habit, share, is_asleep)
    )
    rows = monthly(**{f"s{i:04}": own * 7 for i, own in enumerate(sold)})
    states = LifeCycle.learn(rows, NOW).states(rows, NOW)
    is_lapsed = (states["state"] == "lapsed").to_numpy()
    is_living = stops == sold.shape[1]
    for kind in ("steady", "seldom", "seasonal"):
        own = is_living & (habit == kind)
        assert is_lapsed[own].mean() <= 0.02, kind
    best = oracle(sold, stops, share, is_asleep) < 0.5
    wrong, best_wrong = (told[is_living].mean() for told in (is_lapsed, best))
    assert wrong <= max(0.01, 2 * best_wrong)
    # Of the ends that one could know who knew each shop's habit.
    assert is_lapsed[best & ~is_living].mean() > 0.6


# --- real shops ---------------------------------------------------------------------


def real_months(*paths):
    t = pl.col("year").cast(pl.Int64) * 12 + pl.col("month").cast(pl.Int64) - 1
    parts = [
        pl.read_parquet(path)
        .group_by(pl.col("shop_id").cast(pl.String), t=t)
        .agg(quantity=pl.col("sales_qty").sum())
        for path in paths
    ]
    return pl.concat(parts).filter(pl.col("quantity") > 0)


@pytest.mark.shared_data
def test_states_of_real_stores_tell_the_next_half_year(shared_data):
    months = real_months(shared_data / "iowa_dev" / "more_stores.parquet")
    cut = month_index("2021-06")
    states = LifeCycle.learn(months, cut).states(months, cut)
    after = months.filter(pl.col("t") > cut).group_by("shop_id").agg(n=pl.len() / 6)
    table = states.join(after, on="shop_id", how="left").fill_null(0)
    share = dict(table.group_by("state").agg(pl.col("n").mean()).iter_rows())
    assert set(share) == set(STATES)
    assert share["lapsed"] < 0.05
    assert 0.3 < share["slowing"] < 0.8 < share["active"]
    own = table.join(table.group_by("state").agg(mean=pl.col("n").mean()), on="state")
    left = ((own["n"] - own["mean"]) ** 2).mean() / own["n"].var()
    assert 1 - left > 0.6


@pytest.mark.shared_data
def test_half_a_year_tells_neither_an_end_nor_who_is_new(shared_data):
    months = real_months(shared_data / "online_retail" / "monthly.parquet")
    cut = month_index("2011-05")
    states = LifeCycle.learn(months, cut).states(months, cut)
    assert not set(states["state"]) & {"new", "lapsed"}
