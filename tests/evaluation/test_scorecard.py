"""The out-of-time scorecard: honest about luck, and fair to what is there."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from core.artifacts.folder import Artifacts
from core.artifacts.manifest import read_manifest, verify
from core.config import Config
from core.errors import ArtifactError, EligibilityError, ModelError
from core.evaluation.n_segments import partition_recipe
from core.evaluation.out_of_time import (
    Cut,
    backtest_cuts,
    entity_codes,
    labels_over_time,
    out_of_time,
)
from core.evaluation.scorecard import Scorer, answer
from core.months import month_index
from core.retailers.features import SHOP, feature_set
from core.retailers.files import RETAILERS
from core.retailers.history import HISTORY, MONTHLY, STATE_HISTORY, write_history
from core.retailers.pipelines import prepare_features
from core.retailers.prepare import prepare
from core.retailers.report.plots import plot_scorecard
from core.retailers.report.scorecard_words import (
    month_count,
    scorecard_answers,
    scorecard_lines,
    scorecard_rows,
)
from core.retailers.research import measure_scorecard
from core.retailers.scorecard import past_of

FEATURES = feature_set("behaviour").names


def past(structure: str, n_shops: int) -> list[Cut]:
    """Return the cuts of a built-in sample."""
    sample = {"n_shops": n_shops, "structure": structure}
    config = Config.model_validate({"sample": sample, "evaluation": {"n_cuts": 2}})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "work").mkdir()
        write_history(prepare(config, folder / "work"), folder)
        tables = [
            pl.read_parquet(folder / name, memory_map=False)
            for name in (HISTORY, MONTHLY)
        ]
    return backtest_cuts(*tables, FEATURES, horizon_months=6, entity=SHOP)


@pytest.fixture(scope="module")
def structureless() -> list[Cut]:
    return past("none", 300)


@pytest.fixture(scope="module")
def planted() -> list[Cut]:
    return past("archetypes", 800)


def by_lot(cuts: list[Cut], seed: int) -> list[np.ndarray]:
    """Return labels dealt out at random, the same for a shop at every cut."""
    codes, n_entities = entity_codes(cuts)
    labels = np.random.default_rng(seed).integers(-1, 4, n_entities)
    return [labels[code] for code in codes]


def average(scorer: Scorer, labels: list[np.ndarray]) -> dict[str, float]:
    return scorer.score(labels).row(-1, named=True)


def test_cuts_come_oldest_first_with_what_was_known_and_what_followed(planted):
    assert [cut.as_of for cut in planted] == ["2024-03", "2024-06"]
    for cut in planted:
        n = len(cut.ids)
        assert cut.X.shape == (n, len(FEATURES))
        assert cut.outcomes["shop_id"].equals(cut.ids)
        assert cut.by_month.width == 1 + 2 * 6
        followed = cut.outcomes["volume"].is_not_null()
        assert 0.9 * n < followed.sum() < n


def test_cuts_with_too_few_shops_are_left_out(planted):
    cut = planted[0]
    history = pl.DataFrame(cut.X, schema=FEATURES).with_columns(
        shop_id=cut.ids,
        as_of=pl.Series(["2024-03"] * 49 + ["2024-06"] * (len(cut.X) - 49)),
        sales_qty_last_12_months=pl.Series(cut.size),
    )
    monthly = pl.DataFrame({"shop_id": ["x"], "t": [24290], "quantity": [1.0]})
    found = backtest_cuts(history, monthly, FEATURES, 6, SHOP)
    assert [cut.as_of for cut in found] == ["2024-06"]


def test_a_model_is_learnt_at_the_oldest_cut_only_and_labels_all(planted):
    learnt = []

    def recipe(X, seed):
        learnt.append((X, seed))
        return lambda table: np.full(len(table), len(learnt))

    labels = labels_over_time(planted, recipe, 7)
    assert len(learnt) == 1
    assert learnt[0][0] is planted[0].X
    assert [len(own) for own in labels] == [len(cut.X) for cut in planted]


def test_shops_that_are_nothing_but_noise_do_not_grow_by_returning_to_their_level():
    """What was low by luck is told by year-on-year change; it says nothing new."""
    rng = np.random.default_rng(0)
    t = np.arange(month_index("2022-01"), month_index("2024-12") + 1)
    sold = rng.lognormal(4, 1, (400, 1)) * rng.lognormal(0, 0.5, (400, len(t)))
    ids = pl.Series("shop_id", [f"S{i:03}" for i in range(400)])
    monthly = pl.DataFrame(
        {
            "shop_id": ids.gather(np.repeat(np.arange(400), len(t))),
            "t": np.tile(t, 400).astype(np.int32),
            "quantity": sold.ravel(),
        }
    )
    cut = month_index("2024-06") - t[0] + 1
    last, before = sold[:, cut - 12 : cut], sold[:, cut - 24 : cut - 12]
    history = pl.DataFrame(
        {
            "shop_id": ids,
            "as_of": "2024-06",
            SHOP.size_column: last.sum(axis=1),
            "yoy_12": np.log(last.sum(axis=1) / before.sum(axis=1)),
        }
    )
    (known,) = backtest_cuts(history, monthly, ["yoy_12"], 6, SHOP)
    labels = [
        np.digitize(known.X[:, 0], np.quantile(known.X[:, 0], [0.2, 0.4, 0.6, 0.8]))
    ]

    def said(cut: Cut) -> str:
        found = Scorer([cut], 0).score(labels).filter(cut="all", outcome="growth")
        return answer(found.row(0, named=True))

    assert said(replace(known, level=None, season=None)) == "yes"
    assert said(known) == "no"


def test_labels_dealt_by_lot_look_like_what_they_are(structureless):
    """On data without structure: centred near 0, and significant as often as luck."""
    scorer = Scorer(structureless, 0, n_permutations=19, n_resamples=20)
    rows = [average(scorer, by_lot(structureless, seed)) for seed in range(20)]
    beyond = np.array([row["beyond"] for row in rows])
    p = np.array([row["p_value"] for row in rows])
    assert abs(beyond.mean()) < 0.004
    assert (p <= 0.1).sum() <= 6, "2 expected; 7 or more twice in 1,000"
    assert 0.3 < p.mean() < 0.8


def test_a_partition_of_planted_archetypes_tells_of_the_months_after(planted):
    recipe = partition_recipe(Config(), "kmeans", 6)
    labels = labels_over_time(planted, recipe, 0)
    card = Scorer(planted, 0, n_permutations=19, n_resamples=100).score(labels)
    row = card.row(-1, named=True)
    assert (row["cut"], row["outcome"], row["n_groups"]) == ("all", "all", 6)
    assert row["p_value"] == 0.05
    assert row["beyond_low"] > 0.02
    assert row["permuted_95"] < row["beyond_low"]
    growth = card.filter(cut="all", outcome="growth").row(0, named=True)
    assert growth["beyond_low"] > 0.02
    volume = card.filter(cut="all", outcome="volume").row(0, named=True)
    assert volume["size"] > 0.7, "what a shop has sold tells most of what it will sell"
    assert volume["both"] == pytest.approx(volume["size"] + volume["beyond"])


def test_the_score_of_a_comparison_is_that_of_the_scorecard(planted):
    labels = labels_over_time(planted, partition_recipe(Config(), "kmeans", 4), 0)
    found = out_of_time(planted, labels, 3)
    row = average(Scorer(planted, 3, 0, 400), labels)
    assert found.mean == pytest.approx(row["beyond"])
    width = row["beyond_high"] - row["beyond_low"]
    assert width == pytest.approx(2 * 1.96 * found.standard_error, rel=0.25)
    assert list(found.by_cut) == [cut.as_of for cut in planted]


def test_decay_has_every_month_with_its_interval(planted):
    labels = labels_over_time(planted, partition_recipe(Config(), "kmeans", 6), 0)
    decay = Scorer(planted, 0, n_resamples=100).decay(labels)
    for outcome in ("volume", "activity"):
        months = decay.filter(outcome=outcome)
        assert months["month"].to_list() == [1, 2, 3, 4, 5, 6]
        assert (months["beyond_low"] <= months["beyond"]).all()
        assert (months["beyond"] <= months["beyond_high"]).all()
    followed = sum(cut.outcomes["volume"].is_not_null().sum() for cut in planted)
    assert set(decay["n_entities"]) == {followed}


def test_one_label_for_all_adds_exactly_nothing(structureless):
    scorer = Scorer(structureless, 0, 19, 20)
    row = average(scorer, [np.full(len(cut.X), -1) for cut in structureless])
    assert (row["beyond"], row["p_value"], row["n_groups"]) == (0.0, 1.0, 1)


def test_the_same_seed_gives_the_same_card(structureless):
    labels = by_lot(structureless, 0)
    first, again = (Scorer(structureless, 5, 19, 20).score(labels) for _ in range(2))
    assert first.equals(again)


def test_too_few_permutations_and_no_cut_are_refused(structureless):
    with pytest.raises(ModelError, match="`n_permutations` is 18"):
        Scorer(structureless, 0, n_permutations=18)
    with pytest.raises(ModelError, match="no past date"):
        Scorer([], 0)


def test_without_permutations_there_is_no_p_and_the_same_interval(planted):
    labels = labels_over_time(planted, partition_recipe(Config(), "kmeans", 4), 0)
    plain, deep = (Scorer(planted, 0, n, 100).score(labels) for n in (0, 19))
    absent = ["permuted_mean", "permuted_95", "p_value"]
    assert plain.select(absent).null_count().row(0) == (plain.height,) * 3
    assert plain.drop(absent).equals(deep.drop(absent))


def row_of(outcome: str, **figures: float | str | None) -> dict[str, object]:
    plain = {
        "labels": "segments", "population": "all", "cut": "all", "outcome": outcome,
        "n_shops": 900, "n_groups": 5, "size": 0.71, "both": 0.78, "beyond": 0.07,
        "beyond_low": 0.06, "beyond_high": 0.08, "permuted_mean": 0.0,
        "permuted_95": 0.001, "p_value": 0.005,
    }  # fmt: skip
    row = plain | figures
    return row | {"answer": answer(row)}


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, "yes"),
        ({"beyond": 0.05}, "yes"),
        ({"beyond": 0.0499, "p_value": None}, "slightly"),
        ({"beyond": 0.0099, "beyond_low": 0.009}, "no"),
        ({"beyond_low": 0.0}, "no"),
        ({"p_value": 0.06}, "no"),
    ],
)
def test_an_answer_takes_an_interval_above_nothing_and_a_share_that_counts(
    figures, said
):
    assert row_of("growth", **figures)["answer"] == said


def facts_of(*rows: dict[str, object]) -> dict[str, object]:
    return {
        "kind": "partition", "why_not": None, "labels": "segments", "outcomes": rows,
        "horizon_months": 6, "cuts": ["2024-03", "2024-06"],
    }  # fmt: skip


def test_lines_are_sentences_for_a_category_manager():
    luck = row_of("growth", size=-0.01, both=-0.01, beyond=-0.0001, p_value=0.4)
    selling = row_of("volume", population="still selling", beyond=0.02)
    facts = facts_of(row_of("volume"), luck, selling, row_of("all"))
    assert scorecard_answers(facts) == [
        "Do segments tell what shops do in the six months after, beyond their "
        "usual sales? Yes for volume, no for growth, unknown for activity and churn. "
        "Of shops that sold in both months before: slightly for volume, unknown for "
        "growth, activity and churn."
    ]
    lines = scorecard_lines(facts)
    assert lines[1] == (
        "Volume, sales in the six months after: yes. Segments add 7 points to "
        "71% by usual sales alone (95% interval 6 to 8); of shops that sold in "
        "both months before: slightly, 2 points (6 to 8)."
    )
    assert "no. Segments add 0 points to 0% by usual sales alone" in lines[2]
    assert lines[4] == (
        "Churn, no sale in any of them: not known, as too few shops differ."
    )
    assert [month_count(n) for n in (1, 3, 18)] == [
        "one month",
        "three months",
        "18 months",
    ]


def test_a_past_too_short_says_so_in_one_sentence():
    facts = {"kind": "partition", "why_not": "13 months of sales are too few."}
    (line,) = scorecard_answers(facts)
    assert line.endswith("is not known: 13 months of sales are too few.")
    assert scorecard_lines(facts) == ["Not known: 13 months of sales are too few."]


def test_a_picture_is_drawn_even_of_one_group_or_of_nothing(tmp_path, structureless):
    scorer = Scorer(structureless, 0, n_resamples=20)
    labels = [np.zeros(len(cut.X), dtype=int) for cut in structureless]
    first = pl.lit("segments").alias("labels"), pl.lit("all").alias("population")
    tables = [
        table.select(*first, pl.all())
        for table in (scorer.score(labels), scorer.decay(labels))
    ]
    for name, parts in {"one": tables, "none": [t.clear() for t in tables]}.items():
        plot_scorecard(*parts, facts_of(), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert "p" not in scorecard_rows(tables[0])[0]


def config_of(folder: Path, **sample: int) -> Config:
    options = {
        "artifacts": str(folder),
        "autoencoder": {"architecture": "denoising", "epochs": 3},
        "evaluation": {"n_cuts": 2},
        "sample": sample,
    }
    return Config.model_validate(options)


def test_the_verb_publishes_tables_and_a_picture_beside_the_model(artifacts):
    cuts = ["2023-12", "2024-03", "2024-06"]
    before = read_manifest(artifacts, RETAILERS)
    result = measure_scorecard(artifacts, n_permutations=19)
    after = read_manifest(artifacts, RETAILERS)
    verify(artifacts, after)
    assert after.model_id == before.model_id
    assert "scorecard.csv" in before.files, "every run has one"
    assert set(before.files) < set(after.files)
    table = pl.read_csv(artifacts / "scorecard.csv")
    published = {"segments", "states", "segments and states"}
    assert {"latent", "partition", "raw"} | published <= set(table["labels"])
    lapsed = table.filter(
        labels="states", population="all", cut="all", outcome="growth"
    )
    assert lapsed["beyond"].item() > 0.1, "who has lapsed has shrunk"
    assert set(table["population"]) == {"all", "still selling"}
    assert set(table["cut"]) == {*cuts, "all"}
    assert pl.read_csv(artifacts / "scorecard-decay.csv")["month"].max() == 6
    assert (artifacts / "scorecard.png").stat().st_size > 10_000
    facts = after.facts("inference")
    assert facts["labelled"] == before.facts("inference")["labelled"]
    assert facts["scorecard"]["cuts"] == cuts
    assert json.dumps(facts["scorecard"])
    assert any("by usual sales alone" in line for line in result.lines)


def test_shops_that_had_lapsed_at_a_cut_are_followed_under_their_state(artifacts):
    base = Artifacts(artifacts, RETAILERS).published()
    past = past_of(base)
    states, monthly = base.table(STATE_HISTORY), base.table(MONTHLY)
    for place, cut in enumerate(past.cuts["all"]):
        known = set(past.table.filter(as_of=cut.as_of)["shop_id"])
        gone = states.filter(as_of=cut.as_of, state="lapsed")["shop_id"]
        assert set(cut.ids) == known | set(gone)
        assert not known & set(gone)
        labels = past.everyone(past.table["state"])[place]
        is_gone = cut.ids.is_in(gone.implode()).to_numpy()
        assert len(np.unique(labels[is_gone])) == 1
        assert not set(labels[is_gone]) & set(labels[~is_gone])
        last = month_index(cut.as_of)
        months = monthly.filter(shop_id=gone.sort()[0])
        sold = months.filter(pl.col("t").is_between(last - 23, last))["quantity"].sum()
        tenure = min(last - months["t"].min() + 1, 24)
        place_of = cut.ids.index_of(gone.sort()[0])
        assert cut.level[place_of] == pytest.approx(sold / tenure)
        followed = cut.outcomes["churn"].is_not_null()
        selling = past.cuts["still selling"][place].outcomes["churn"].is_not_null()
        assert followed.all()
        assert 0 < selling.sum() < followed.sum()
        assert not selling.filter(pl.Series(is_gone)).any()


def test_history_too_short_says_how_many_months_it_takes(tmp_path):
    prepare_features(config_of(tmp_path, n_shops=100, n_months=15))
    found = Artifacts(tmp_path, RETAILERS).published()
    with pytest.raises(EligibilityError, match=r"15 months .*2023-03.*18 months"):
        past_of(found)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no complete run"):
        measure_scorecard(tmp_path)
