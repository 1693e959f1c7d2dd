"""How many segments a partition gets, and how often it comes back."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from core.config import Config
from core.evaluation.n_segments import (
    PartitionCandidate,
    choose_partition,
    partition_recipe,
    partition_stability,
    simplest,
)
from core.models.partition import Partition
from core.months import month_index
from core.retailers.features import SHOP

FEATURES = ["a", "b", "c", "d"]
CONFIG = Config()
CUTS = ("2023-12", "2024-03", "2024-06")
KINDS = 4


def planted(n=600, is_told=True, seed=0):
    """Return features of shops of four kinds, as of three cuts, and monthly sales.

    Two of the kinds sell a third in the months after the first cut, if `is_told`.
    """
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, KINDS, n)
    centres = 8 * rng.normal(size=(KINDS, len(FEATURES)))
    level = rng.lognormal(4, 0.5, n)
    first, last = month_index("2023-01"), month_index("2024-12")
    t = np.arange(first, last + 1)
    quantity = level[:, None] * rng.lognormal(0, 0.2, (n, len(t)))
    if is_told:
        quantity[np.isin(kind, (0, 2))[:, None] & (t > month_index(CUTS[0]))] /= 3
    ids = np.array([f"S{i:05d}" for i in range(n)])
    monthly = pl.DataFrame(
        {
            "shop_id": np.repeat(ids, len(t)),
            "t": np.tile(t, n).astype(np.int32),
            "quantity": quantity.ravel(),
            "n_products": np.full(n * len(t), 3, dtype=np.int32),
        }
    )
    cuts = []
    for month in CUTS:
        X = centres[kind] + rng.normal(size=(n, len(FEATURES)))
        size = quantity[:, (t <= month_index(month))][:, -12:].sum(axis=1)
        cuts.append(
            pl.DataFrame(X, schema=FEATURES).select(
                pl.lit(month).alias("as_of"),
                pl.Series("shop_id", ids),
                pl.all(),
                pl.Series("sales_qty_last_12_months", size),
            )
        )
    return X, kind, pl.concat(cuts), monthly


@pytest.fixture(scope="module")
def choice():
    """Return how many segments planted shops get, with nothing to keep to."""
    X, _, history, monthly = planted()
    return choose_partition(X, FEATURES, history, monthly, CONFIG, SHOP)


@pytest.fixture(scope="module")
def choice_without_a_past():
    X, _, history, monthly = planted()
    given = (X, FEATURES, history.clear(), monthly.clear(), CONFIG, SHOP)
    return choose_partition(*given)


def test_the_number_is_what_later_behaviour_needs_and_no_more(choice):
    assert (choice.method, choice.n_segments) == ("kmeans", KINDS)
    assert choice.criterion == "out_of_time"
    assert choice.cuts == CUTS
    assert len(choice.candidates) == 18
    assert "beyond their usual sales" in choice.reason


def test_behaviour_that_no_segment_tells_does_not_choose():
    X, _, history, monthly = planted(is_told=False)
    choice = choose_partition(X, FEATURES, history, monthly, CONFIG, SHOP)
    assert choice.criterion == "refits"
    assert "no partition tells what shops did after 2023-12, 2024-03" in choice.reason


def test_outcomes_that_nobody_shows_do_not_choose():
    X, _, history, monthly = planted(n=60)
    still = monthly.with_columns(quantity=pl.lit(100.0))
    choice = choose_partition(X, FEATURES, history, still, CONFIG, SHOP)
    assert choice.criterion == "refits"


def test_without_a_past_the_finest_cut_that_comes_back_is_taken_and_said_so(
    choice_without_a_past,
):
    choice = choice_without_a_past
    assert choice.criterion == "refits"
    assert choice.cuts == ()
    assert "Whether they are of use is not known" in choice.reason
    scores = {c.n_segments: c.score for c in choice.candidates}
    assert scores[KINDS] > 0.99
    assert choice.n_segments == max(n for n, ari in scores.items() if ari >= 0.9)


def test_where_no_cut_comes_back_the_best_of_them_is_taken():
    X = np.random.default_rng(0).normal(size=(120, 6))
    empty = planted(n=5)[2].clear(), planted(n=5)[3].clear()
    choice = choose_partition(X, FEATURES, *empty, CONFIG, SHOP)
    best = max(choice.candidates, key=lambda candidate: candidate.score)
    assert best.score < 0.9
    assert choice.n_segments == best.n_segments
    assert "though below 0.9" in choice.reason


def test_a_choice_that_is_as_good_is_kept_and_a_worse_one_is_not(choice):
    X, _, history, monthly = planted()
    free = choice
    by_score = {(c.method, c.n_segments): c for c in free.candidates}
    best = max(free.candidates, key=lambda c: c.score)
    enough = best.score - best.standard_error
    good = [key for key, c in by_score.items() if c.score >= enough]
    bad = [key for key, c in by_score.items() if c.score < enough]
    given = (X, FEATURES, history, monthly, CONFIG, SHOP)
    as_good = choose_partition(*given, before=good[-1])
    assert (as_good.method, as_good.n_segments) == good[-1]
    assert "that of the model before" in as_good.reason
    for before in (bad[0], ("kmeans", 99)):
        chosen = choose_partition(*given, before=before)
        assert (chosen.method, chosen.n_segments) == (free.method, free.n_segments)


def test_without_a_past_a_number_that_comes_back_is_kept(choice_without_a_past):
    X, _, history, monthly = planted()
    given = (X, FEATURES, history.clear(), monthly.clear(), CONFIG, SHOP)
    free = choice_without_a_past
    fine = [c.n_segments for c in free.candidates if c.score >= 0.9]
    kept = choose_partition(*given, before=("kmeans", fine[0]))
    assert kept.n_segments == fine[0]
    assert kept.n_segments < free.n_segments


@pytest.mark.parametrize(("n_shops", "largest"), [(10, 2), (30, 3), (99, 9)])
def test_few_shops_are_cut_into_few_segments(n_shops, largest):
    X, _, history, monthly = planted(n=n_shops)
    choice = choose_partition(
        X, FEATURES, history.clear(), monthly.clear(), CONFIG, SHOP
    )
    assert [c.n_segments for c in choice.candidates] == list(range(2, largest + 1))


def test_the_simplest_within_one_standard_error_of_the_best():
    two, three = (
        PartitionCandidate("kmeans", 2, 0.10, 0.01),
        PartitionCandidate("kmeans", 3, 0.17, 0.01),
    )
    mixed = PartitionCandidate("mixture", 3, 0.20, 0.02)
    four = PartitionCandidate("kmeans", 4, 0.21, 0.03)
    assert simplest([two, three, mixed, four]) is mixed
    assert simplest([two, three]) is three


@pytest.mark.parametrize("method", ["kmeans", "mixture"])
def test_planted_groups_come_back_and_one_population_does_not(method, choice):
    X, *_ = planted()
    own = partition_recipe(CONFIG, choice.method, choice.n_segments)(X, CONFIG.seed)(X)
    found = partition_stability(X, own, choice, CONFIG)
    assert found["ari"] >= found["lowest_ari"] > 0.95
    assert found["n_entities"] == len(X)
    noise = np.random.default_rng(1).normal(size=(400, 8))
    many = partition_recipe(CONFIG, method, 9)
    cut = choice.__class__(method, 9, "refits", "", (), ())
    assert partition_stability(noise, many(noise, 42)(noise), cut, CONFIG)["ari"] < 0.6


def test_a_recipe_is_scaler_and_partition_and_can_be_sent_to_other_processes():
    import pickle

    from core.models.preprocessing import FeatureScaler

    X, *_ = planted()
    recipe = pickle.loads(pickle.dumps(partition_recipe(CONFIG, "mixture", 5)))
    scaled = FeatureScaler().fit_transform(X)
    expected = Partition("mixture", 5, seed=9).fit(scaled).labels_
    np.testing.assert_array_equal(recipe(X, 9)(X), expected)
