"""How far segments differ in metrics, and whether halves say the same."""

import numpy as np
import polars as pl
import pytest
from scipy import stats
from typer.testing import CliRunner

from core.cli import app
from core.evaluation.separation import separation, split_gaps, tied_metrics


def entities(n=3_000, seed=0):
    rng = np.random.default_rng(seed)
    segment = rng.integers(0, 3, n)
    score = segment + rng.random(n)
    return pl.DataFrame(
        {
            "segment": [f"s{k}" for k in segment],
            "score": score,
            "inverse": 1 / (1 + score),
            "apart": rng.normal(0.5 * segment, 1.0),
            "noise": rng.normal(0, 1, n),
            "same": np.ones(n),
        }
    )


def test_metrics_that_follow_from_the_scores_are_found():
    tied = tied_metrics(entities(), ["score", "inverse", "apart", "noise"], ["score"])
    assert tied == {"score": "score", "inverse": "score"}


def test_figures_are_those_of_scipy_and_by_hand():
    table = entities()
    found = separation(table, "segment", ["apart"], {}).row(0, named=True)
    groups = [own["apart"].to_numpy() for _, own in table.group_by("segment")]
    f, kruskal = stats.f_oneway(*groups), stats.kruskal(*groups)
    assert found["f"] == pytest.approx(f.statistic)
    assert found["p_value"] == pytest.approx(f.pvalue)
    assert found["kruskal_p"] == pytest.approx(kruskal.pvalue)
    between = sum(len(g) * (g.mean() - table["apart"].mean()) ** 2 for g in groups)
    total = ((table["apart"] - table["apart"].mean()) ** 2).sum()
    assert found["eta_squared"] == pytest.approx(between / total)
    assert found["effect"] == "large"


def test_evidence_comes_first_and_is_corrected_for_how_much_was_tested():
    table = entities()
    metrics = ["noise", "score", "apart", "same"]
    found = separation(table, "segment", metrics, {"score": "score"})
    assert found["metric"].to_list() == ["apart", "noise", "same", "score"]
    assert found["role"].to_list() == ["evidence"] * 3 + ["definition"]
    one = found.row(1, named=True)
    assert one["effect"] == "negligible"
    assert one["adjusted_p"] == pytest.approx(one["kruskal_p"])
    assert found["adjusted_p"][0] == pytest.approx(2 * found["kruskal_p"][0])
    assert found["adjusted_p"][3] is None
    assert found["eta_squared"][2] is None


def test_the_interval_holds_the_truth():
    # Three equal groups half a deviation apart: eta squared is 1/6 over 1/6 + 1.
    truth, hits = (1 / 6) / (1 / 6 + 1), 0
    for seed in range(60):
        found = separation(entities(600, seed), "segment", ["apart"], {})
        hits += found["low"][0] <= truth <= found["high"][0]
    assert hits >= 0.9 * 60


def test_entities_without_a_value_are_left_out():
    table = entities().with_columns(
        pl.when(pl.int_range(pl.len()) % 3 > 0).then("apart").alias("apart")
    )
    assert separation(table, "segment", ["apart"], {})["n"][0] == 2_000


def test_halves_of_many_agree_and_those_of_few_do_not():
    gaps = split_gaps(entities(30_000), "segment", ["score"], seed=1)
    assert gaps["relative_gap"].max() < 0.05
    few = split_gaps(entities(30), "segment", ["score"], seed=1)
    assert few["relative_gap"].max() > gaps["relative_gap"].max()


def test_the_command_prints_evidence_and_what_is_tied(tmp_path):
    entities().write_csv(tmp_path / "users.csv")
    arguments = ["validate", "--table", str(tmp_path / "users.csv"), "--used", "score"]
    output = tmp_path / "figures.csv"
    done = CliRunner().invoke(app, [*arguments, "--output", str(output)])
    assert done.exit_code == 0
    assert "tied to" in done.output
    written = pl.read_csv(output)
    assert written.filter(pl.col("role") == "evidence")["metric"].to_list() == [
        "apart",
        "noise",
        "same",
    ]
    wrong = CliRunner().invoke(app, [*arguments, "--metric", "aparts"])
    assert "Did you mean `apart`" in str(wrong.exception)


@pytest.mark.shared_data
def test_the_published_checks_of_a_definition_are_reproduced(shared_data):
    table = pl.read_parquet(shared_data / "instacart_scores.parquet")
    scores = ["loyalty_score", "freq_score"]
    found = separation(table, "segment", scores, tied_metrics(table, scores, scores))
    etas = dict(found.select("metric", "eta_squared").iter_rows())
    assert etas["loyalty_score"] == pytest.approx(0.7094912329143651, abs=1e-6)
    assert etas["freq_score"] == pytest.approx(0.46283803161447473, abs=1e-6)
    gaps = split_gaps(table, "segment", scores, seed=42)
    medians = dict(gaps.group_by("metric").agg(pl.median("relative_gap")).iter_rows())
    assert medians["loyalty_score"] == pytest.approx(0.0007793928618689835, rel=1e-6)
    assert medians["freq_score"] == pytest.approx(0.0012830160247643022, rel=1e-6)
