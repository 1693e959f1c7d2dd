"""Schemes of labels against one another on what came after."""

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from core.evaluation.outcomes import FoldSums
from core.evaluation.random_effects import out_of_fold_errors
from core.evaluation.schemes import ALL, COMPARED, LabelledCut, compare_schemes

REFERENCE = "tenths"


def labelled_cut(n, seed, cut="2024-05-01", effect=0.0, tenths_effect=0.0):
    """Outcomes that four segments, and ten tenths, move by so many deviations."""
    rng = np.random.default_rng(seed)
    segment, tenth = rng.integers(0, 4, n), rng.integers(0, 10, n)
    spread = effect * (segment - 1.5) + tenths_effect * (tenth - 4.5) / 3
    return LabelledCut(
        cut,
        pl.Series("customer_id", np.arange(n).astype(str)).sort(),
        pl.DataFrame({"orders": spread + rng.normal(0, 1, n), "same": np.ones(n)}),
        {
            "segments": [pl.Series([f"s{k}" for k in segment])],
            REFERENCE: [pl.Series(tenth)],
        },
    )


def figure(table, scheme, over=None, cut=ALL):
    own = pl.col("over").is_null() if over is None else pl.col("over") == over
    return table.filter(
        (pl.col("cut") == cut) & (pl.col("scheme") == scheme) & own
    ).row(0, named=True)


def test_one_set_of_labels_is_fitted_as_the_months_are():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 5, 400)
    Y = rng.normal(0.2 * label[:, None], 1, (400, 2))
    Y -= Y.mean(axis=0)
    folds = np.stack([rng.permutation(400) % 5 for _ in range(2)])
    Z = sparse.csr_array((np.ones(400), (np.arange(400), label)))
    none = np.zeros(400, dtype=np.int64)
    sums = FoldSums(["a", "b"], np.arange(400), Y, none, none.astype(float), folds)
    assert out_of_fold_errors(Y, Z, folds) == pytest.approx(sums.errors_with(label))


def test_what_a_scheme_explains_is_the_share_that_was_planted():
    # Four equal groups a deviation apart: 1.25 of 2.25.
    table = compare_schemes([labelled_cut(4_000, 1, effect=1.0)], REFERENCE, 7)
    assert table.schema == pl.Schema(COMPARED)
    assert set(table["outcome"]) == {"orders"}
    own = figure(table, "segments")
    assert own["r2"] == pytest.approx(1.25 / 2.25, abs=0.03)
    assert own["low"] < own["r2"] < own["high"]
    assert own["n"] == 4_000
    assert abs(figure(table, REFERENCE)["r2"]) < 0.01
    assert figure(table, "segments", REFERENCE)["low"] > 0.5
    assert figure(table, "segments", "permuted labels")["low"] > 0.5


def test_a_lead_is_the_difference_of_two_shares():
    cuts = [
        labelled_cut(600, k, str(k), effect=0.3, tenths_effect=1.0) for k in range(2)
    ]
    table = compare_schemes(cuts, REFERENCE, 7)
    lead = figure(table, "segments", REFERENCE)
    both = figure(table, "segments and tenths", REFERENCE)
    tenths = figure(table, REFERENCE)["r2"]
    assert lead["r2"] == pytest.approx(figure(table, "segments")["r2"] - tenths)
    assert lead["high"] < 0 < both["low"]
    each = [figure(table, REFERENCE, cut=str(k))["r2"] for k in range(2)]
    assert tenths == pytest.approx(np.mean(each))


def test_an_entity_at_several_cuts_is_one():
    one = labelled_cut(500, 3, "a", effect=0.5)
    again = LabelledCut("b", one.ids, one.outcomes, one.schemes)
    single = figure(compare_schemes([one], REFERENCE, 7), "segments")
    double = figure(compare_schemes([one, again], REFERENCE, 7), "segments")
    wide = [row["high"] - row["low"] for row in (single, double)]
    assert wide[1] == pytest.approx(wide[0], rel=0.1)


def test_nothing_is_claimed_of_labels_that_tell_nothing():
    claims = 0
    for seed in range(12):
        table = compare_schemes([labelled_cut(200, seed)], REFERENCE, seed)
        claims += table.filter(pl.col("cut") == ALL, pl.col("low") > 0).height
    assert claims <= 2  # of 84


def test_without_a_cut_there_is_no_row():
    assert compare_schemes([], REFERENCE, 1).schema == pl.Schema(COMPARED)
