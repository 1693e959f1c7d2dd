"""Splits: what parts entities by their later behaviour is found, and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from core.artifacts.arrays import pack_arrays, unpack_arrays
from core.config import Config
from core.evaluation.splits import choose_rules, choose_split, unseen_parts
from core.months import month_index
from core.retailers.features import SHOP
from core.segments.split import Split

CUTS = ("2023-12", "2024-03", "2024-06")
SIZE = "sales_qty_last_12_months"
FEATURES = ["season", "breadth", "variability"]
MOMENTUM = ["yoy_12"]


def planted(n=400, is_told=True, seed=0):
    """Return today's shops, the same at earlier cuts, and their monthly sales.

    A quarter shrinks, a quarter grows; `yoy_12` shows it, if `is_told`, else nothing.
    """
    rng = np.random.default_rng(seed)
    first, last = month_index("2022-01"), month_index("2024-12")
    t = np.arange(first, last + 1)
    trend = 0.5 * rng.choice([-1, 0, 0, 1], n)
    level = rng.lognormal(4, 1, n)[:, None] * rng.lognormal(0, 0.3, (n, len(t)))
    quantity = level * np.exp(trend[:, None] * (t - first) / 12)
    ids = pl.Series("shop_id", [f"S{i:05d}" for i in range(n)])
    monthly = pl.DataFrame(
        {
            "shop_id": ids.gather(np.repeat(np.arange(n), len(t))),
            "t": np.tile(t, n).astype(np.int32),
            "quantity": quantity.ravel(),
        }
    )

    def known_at(month):
        upto = quantity[:, t <= month_index(month)]
        before, after = upto[:, -24:-12].sum(axis=1), upto[:, -12:].sum(axis=1)
        table = pl.DataFrame(rng.normal(size=(n, 4)), schema=[*FEATURES, *MOMENTUM])
        if is_told:
            table = table.with_columns(yoy_12=np.log(after / before))
        return table.with_columns(ids, pl.Series(SIZE, after), as_of=pl.lit(month))

    history = pl.concat([known_at(month) for month in CUTS])
    return known_at("2024-12").drop("as_of"), history, monthly, trend


def chosen(tables, seed=0, choose=choose_split, **options):
    table, history, monthly = tables
    given = (table, FEATURES, history, monthly, Config(), SHOP)
    return choose(*given, seed=seed, momentum=MOMENTUM, **options)


@pytest.fixture(scope="module")
def told():
    *tables, trend = planted()
    return tables, trend, chosen(tables)


def test_a_planted_momentum_split_is_found_as_rules(told):
    (table, _, _), trend, found = told
    split = found.split
    assert split is not None, found.reason
    assert (split.kind, split.n_segments) == ("rules", 3)
    assert [feature.name for feature in split.rules.features] == ["yoy_12"]
    labels = split.assign(table)
    crossed = [np.bincount(labels[trend == kind]) for kind in (0.0, -0.5, 0.5)]
    assert sum(counts.max() for counts in crossed) > 0.95 * table.height
    sizes = np.bincount(labels)
    assert sizes.tolist() == sorted(sizes, reverse=True)
    assert found.evidence["score"] > 2 * found.evidence["standard_error"]


def test_cuts_of_rules_are_round_numbers(told):
    _, _, found = told
    bounds = [
        bound
        for segment in found.split.rules.segments
        for leaf in segment.when.leaves()
        for bound in (getattr(leaf, "low", np.inf), getattr(leaf, "high", np.inf))
        if np.isfinite(bound)
    ]
    assert bounds
    assert all(round(bound, 2) == bound for bound in bounds)


def test_an_entity_with_nothing_known_is_in_a_part(told):
    _, _, found = told
    unknown = pl.DataFrame(
        {name: [None, float("nan")] for name in [*FEATURES, *MOMENTUM]}
    )
    assert (found.split.assign(unknown) >= 0).all()


def test_the_order_of_rows_does_not_count(told):
    tables, _, found = told
    mixed = [table.sample(fraction=1, shuffle=True, seed=7) for table in tables]
    again = chosen(mixed)
    assert again.reason == found.reason
    table = tables[0]
    np.testing.assert_array_equal(again.split.assign(table), found.split.assign(table))


def test_a_split_assigns_the_same_once_saved(told):
    (table, _, _), _, found = told
    saved = unpack_arrays(pack_arrays(*found.split.get_state()))
    loaded = Split.from_state(*saved)
    np.testing.assert_array_equal(loaded.assign(table), found.split.assign(table))
    assert loaded.reason == found.split.reason


def test_parts_at_earlier_cuts_come_from_a_tree_that_has_not_seen_the_entity(told):
    (_, history, monthly), trend, found = told
    known = history.sort("as_of", "shop_id")

    def parts(sales):
        given = (known, sales, [*FEATURES, *MOMENTUM], Config(), SHOP)
        return np.array(unseen_parts(found.split, *given, seed=0))

    labels = parts(monthly)
    newest = (known["as_of"] == CUTS[-1]).to_numpy()
    counts = [
        np.bincount(np.unique(labels[newest][trend == kind], return_inverse=True)[1])
        for kind in (0.0, -0.5, 0.5)
    ]
    assert sum(np.sort(own)[-2:].sum() for own in counts) > 0.9 * len(trend)
    of_first = np.char.startswith(labels, "0.")
    asked = known.filter(pl.Series(of_first))["shop_id"].implode()
    is_later = pl.col("t") > month_index(CUTS[0])
    gone = monthly.filter(~(is_later & pl.col("shop_id").is_in(asked)))
    np.testing.assert_array_equal(parts(gone)[of_first], labels[of_first])


@pytest.mark.parametrize("seed", range(3))
def test_what_tells_nothing_stays_undivided(seed):
    *tables, _ = planted(is_told=False, seed=seed)
    found = chosen(tables, seed)
    assert found.split is None
    assert "none of" in found.reason


def test_without_a_past_nothing_is_divided(told):
    (table, history, monthly), _, _ = told
    found = chosen((table, history.clear(), monthly))
    assert found.split is None
    assert "no earlier month has 100 shops" in found.reason


def test_shipped_rules_are_candidates_where_their_features_are_known(told):
    tables, _, found = told
    assert "momentum" not in {c["method"] for c in found.evidence["candidates"]}
    named = [table.rename({"yoy_12": "yoy_6"}, strict=False) for table in tables]
    given = (named[0], FEATURES, *named[1:], Config(), SHOP)
    found = choose_split(*given, seed=0, momentum=["yoy_6"])
    scores = {c["method"]: c["score"] for c in found.evidence["candidates"]}
    assert scores["momentum"] > 0.1
    assert "momentum-season" not in scores


def test_rules_whose_features_are_unknown_at_a_cut_are_no_candidates(told):
    tables, _, _ = told
    unknown = [
        table.with_columns(yoy_6=pl.lit(None, pl.Float64)) if n == 1 else table
        for n, table in enumerate(t.with_columns(yoy_6="yoy_12") for t in tables[:2])
    ]
    given = (unknown[0], FEATURES, unknown[1], tables[2], Config(), SHOP)
    found = choose_split(*given, seed=0, momentum=[*MOMENTUM, "yoy_6"])
    methods = {c["method"] for c in found.evidence["candidates"]}
    assert "tree" in methods
    assert "momentum" not in methods


def test_the_method_of_the_model_before_is_kept_where_as_good(told):
    tables, _, found = told
    first = found.split
    four = dataclasses.replace(first, n_segments=4)
    assert chosen(tables, before=four).split.n_segments == 4
    poor = dataclasses.replace(first, kind="partition", method="kmeans", n_segments=2)
    assert chosen(tables, before=poor).split.kind == "rules"


def test_rules_for_everyone_have_to_tell_more_than_the_partition(told):
    tables, _, _ = told
    found = chosen(tables, choose=choose_rules, partition=("kmeans", 3))
    assert found.split.kind == "rules"
    scores = {c["kind"]: c["score"] for c in found.evidence["candidates"]}
    assert scores["rules"] > scores["partition"]
    *blind, _ = planted(is_told=False)
    found = chosen(blind, choose=choose_rules, partition=("kmeans", 3))
    assert found.split is None
