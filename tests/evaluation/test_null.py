"""The structure check and its nulls, on data with and without structure."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.cluster import HDBSCAN

from core.errors import ModelError
from core.evaluation.null import fit_gaussian_copula, structure_check
from core.evaluation.quality import principal_scores

N_SHOPS, N_FEATURES = 900, 12


def gaussian_copula_null(X, rng):
    return fit_gaussian_copula(X, rng).sample(rng)


def density_clusters(X):
    return HDBSCAN(min_cluster_size=40, min_samples=10, copy=True).fit(X).labels_


def scaled(X):
    low, high = np.quantile(X, [0.01, 0.99], axis=0)
    clipped = np.clip(X, low, high)
    return (clipped - clipped.mean(axis=0)) / np.maximum(clipped.std(axis=0), 1e-9)


def correlated(rng):
    common = rng.normal(size=(N_SHOPS, 3)) @ rng.normal(size=(3, N_FEATURES))
    return common + rng.normal(size=(N_SHOPS, N_FEATURES))


def planted(rng, n_groups=4):
    centres = rng.normal(size=(n_groups, N_FEATURES)) * 2
    groups = rng.integers(0, n_groups, N_SHOPS)
    return np.exp(0.4 * (centres[groups] + rng.normal(size=(N_SHOPS, N_FEATURES))))


def zero_inflated(rng):
    table = correlated(rng)
    cut = np.quantile(table, 0.5, axis=0) + rng.uniform(-0.8, 0.8, N_FEATURES)
    return np.where(table > cut, np.exp(table / 2), 0.0)


STRUCTURELESS = {
    "one population": lambda rng: rng.normal(size=(N_SHOPS, N_FEATURES)),
    "uniform": lambda rng: rng.uniform(size=(N_SHOPS, N_FEATURES)),
    "lognormal, correlated": lambda rng: np.exp(correlated(rng) / 2),
    "zero inflated": zero_inflated,
    "counts": lambda rng: rng.poisson(np.exp(correlated(rng) / 4)).astype(float),
    "copula of planted": lambda rng: gaussian_copula_null(planted(rng), rng),
    "shuffled columns": lambda rng: rng.permuted(planted(rng), axis=0),
}


def test_a_null_holds_exactly_the_values_of_every_column():
    rng = np.random.default_rng(0)
    X = zero_inflated(rng)
    null = gaussian_copula_null(X, rng)
    assert np.array_equal(np.sort(null, axis=0), np.sort(X, axis=0))
    assert not np.array_equal(null, X)


@pytest.mark.parametrize("make", [correlated, zero_inflated, planted])
def test_a_null_keeps_rank_correlations_ties_or_not(make):
    rng = np.random.default_rng(1)
    X = np.vstack([make(rng) for _ in range(4)]) if make is correlated else make(rng)
    copula = fit_gaussian_copula(X, rng)
    drawn = np.mean(
        [spearmanr(copula.sample(rng)).statistic for _ in range(20)], axis=0
    )
    # Without the correction for ties, up to 0.16 was lost on zero-inflated columns.
    assert np.abs(drawn - spearmanr(X).statistic).max() < 0.07


def short_histories(rng):
    """Two features unknown together for new shops, and a third one at random."""
    table = correlated(rng)
    is_new = table[:, 0] > np.quantile(table[:, 0], 0.8)
    table[np.ix_(is_new, [3, 4])] = np.nan
    table[rng.random(N_SHOPS) < 0.05, 7] = np.nan
    return table


def test_a_null_keeps_missing_values_together_and_with_what_they_go_with():
    rng = np.random.default_rng(3)
    X = short_histories(rng)
    copula = fit_gaussian_copula(X, rng)
    null = copula.sample(rng)
    assert np.array_equal(np.sort(null, axis=0), np.sort(X, axis=0), equal_nan=True)
    of_data, of_null = (
        np.unique(np.isnan(table), axis=0, return_counts=True) for table in (X, null)
    )
    assert np.array_equal(of_data[0], of_null[0])
    assert np.array_equal(of_data[1], of_null[1])
    drawn = [copula.sample(rng) for _ in range(20)]
    for pair in ((0, 1), (3, 4), (3, 7), (1, 4)):
        rho = np.mean(
            [spearmanr(n[:, pair], nan_policy="omit").statistic for n in drawn]
        )
        expected = spearmanr(X[:, pair], nan_policy="omit").statistic
        assert rho == pytest.approx(expected, abs=0.08)
    lacks = [spearmanr(n[:, 0], np.isnan(n).sum(axis=1)).statistic for n in drawn]
    expected = spearmanr(X[:, 0], np.isnan(X).sum(axis=1)).statistic
    assert np.mean(lacks) == pytest.approx(expected, abs=0.05)


def test_a_null_of_planted_groups_has_none():
    rng = np.random.default_rng(2)
    X = planted(rng)
    assert set(density_clusters(principal_scores(scaled(X), 5)[0])) == {-1, 0, 1, 2, 3}
    null_scores = principal_scores(scaled(gaussian_copula_null(X, rng)), 5)[0]
    null = density_clusters(null_scores)
    assert (null == -1).mean() > 0.9


@pytest.mark.parametrize(
    "X",
    [
        np.ones((20, 3)),  # nothing varies
        np.arange(20.0)[:, None],
        np.column_stack([np.arange(20.0), -np.arange(20.0), np.zeros(20)]),
        np.array([[1.0, 2.0]]),
        np.column_stack([np.full(20, np.nan), np.arange(20.0)]),  # nothing known
    ],
)
def test_degenerate_tables_have_nulls_too(X):
    null = gaussian_copula_null(X, np.random.default_rng(0))
    assert np.array_equal(np.sort(null, axis=0), np.sort(X, axis=0), equal_nan=True)


def test_planted_groups_are_called_structure():
    for seed in range(3):
        X = scaled(planted(np.random.default_rng(seed), n_groups=3 + seed))
        check = structure_check(X, density_clusters, seed=seed)
        assert check.is_structured
        assert check.p_value == 0.05
        assert check.excess >= check.required_excess
        assert check.verdict.startswith("density structure beyond")


@pytest.mark.parametrize("kind", STRUCTURELESS)
def test_structureless_data_is_hardly_ever_called_structured(kind):
    # 3 of each here; over 312 data sets of 13 kinds, 4 were called structured.
    found = []
    for seed in range(3):
        X = scaled(STRUCTURELESS[kind](np.random.default_rng(100 + seed)))
        found.append(structure_check(X, density_clusters, seed=seed).is_structured)
    assert sum(found) == 0


def test_the_margin_is_demanded_beside_p():
    X = np.random.default_rng(0).normal(size=(100, 3))

    def slightly_ordered(scores, calls=[]):  # noqa: B006  # counts its own calls
        calls.append(0)
        n_clustered = 10 if len(calls) == 1 else 0
        return np.repeat([0, 1, -1], [n_clustered // 2] * 2 + [100 - n_clustered])

    check = structure_check(X, slightly_ordered)
    assert check.p_value == 0.05
    assert check.statistic == pytest.approx(0.1 * np.log(2))
    assert not check.is_structured
    assert check.verdict.startswith("no density structure")


def test_equal_scores_are_no_evidence():
    X = np.random.default_rng(0).normal(size=(50, 3))
    check = structure_check(X, lambda scores: np.repeat([0, 1], 25))
    assert check.p_value == 1
    assert check.excess == 0


def test_large_tables_are_sampled_and_the_check_repeats_itself():
    X = scaled(planted(np.random.default_rng(0)))
    steps = []
    first = structure_check(
        X,
        density_clusters,
        seed=7,
        max_rows=500,
        on_step=lambda done, n: steps.append((done, n)),
    )
    assert first.n_rows == 500
    assert steps == [(done, 20) for done in range(1, 21)]
    again = structure_check(X, density_clusters, seed=7, max_rows=500)
    assert again == first


def test_components_or_the_features_themselves_are_handed_to_the_clusterer():
    widths = []

    def spy(table):
        widths.append(table.shape[1])
        return np.full(len(table), -1)

    X = np.random.default_rng(0).normal(size=(30, 8))
    structure_check(X, spy)
    structure_check(X, spy, n_components=None)
    assert widths == [5] * 20 + [8] * 20


def test_the_check_becomes_plain_json():
    X = np.random.default_rng(0).normal(size=(60, 3))
    check = structure_check(X, lambda scores: np.full(60, -1))
    plain = json.loads(json.dumps(check.as_dict()))
    assert plain["clusters"]["n_clusters"] == 0
    assert plain["null_statistics"] == [0.0] * 19
    assert plain["verdict"] == check.verdict


def test_missing_values_infinite_ones_and_too_few_nulls_are_refused_with_the_cure():
    holed = np.array([[1.0, np.nan], [2.0, 3.0]])
    with pytest.raises(ModelError, match="Impute and scale the features first"):
        structure_check(holed, density_clusters)
    with pytest.raises(ModelError, match="1 infinite values out of 4"):
        gaussian_copula_null(np.nan_to_num(holed, nan=np.inf), np.random.default_rng(0))
    with pytest.raises(ModelError, match="Pass 19 or more"):
        structure_check(np.ones((5, 2)), density_clusters, n_null=18)
