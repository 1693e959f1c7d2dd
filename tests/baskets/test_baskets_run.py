"""A run of the baskets: thresholds that stay, moves, names, going back, scoring."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from core.artifacts.folder import Artifacts
from core.baskets.files import BASKET_SEGMENTS, baskets_folder
from core.baskets.model import BasketsAssigner
from core.baskets.run import Baskets, run_baskets
from core.baskets.sample import write_sample
from core.cli import app
from core.config import Config
from core.errors import ContractError, EligibilityError, FeatureMismatchError
from core.lifecycle.versions import rename_segment, roll_back
from core.segments.rule_axis import SEGMENT

FOUR = ["Champions", "Frequent Explorers", "Loyal Occasionals", "At Risk"]
RULES = """
name: spending
features: {spend: {type: number}}
segments: [{name: much, when: spend > 1}, {name: little, when: spend <= 1}]
"""
ORDERS, ITEMS = "orders.parquet", "order_products__prior.parquet"


def config(folder: Path, rows: Path, **baskets: object) -> Config:
    chosen = {"source": str(rows), "study": False, "cuts": 0, **baskets}
    return Config.model_validate({"artifacts": str(folder), "baskets": chosen})


def published(folder: Path):
    return Artifacts(baskets_folder(folder), BASKET_SEGMENTS).published()


def table(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(published(folder).path(name))


def rules_of(folder: Path):
    return BasketsAssigner.load(baskets_folder(folder)).model.rules


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    write_sample(folder, 150, 3, "parquet")
    return folder


@pytest.fixture(scope="module")
def later(rows, tmp_path_factory) -> Path:
    """The same shop, of which some customers have ordered less often."""
    folder = Path(shutil.copytree(rows, tmp_path_factory.mktemp("later") / "rows"))
    orders = pl.read_parquet(folder / ORDERS)
    slower = pl.when(pl.col("user_id") % 3 == 0).then(4.0).otherwise(1.0)
    orders.with_columns(pl.col("days_since_prior_order") * slower).write_parquet(
        folder / ORDERS
    )
    return folder


@pytest.fixture(scope="module")
def learnt(rows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("baskets") / "artifacts"
    run_baskets(config(folder, rows))
    return folder


@pytest.fixture
def folder(learnt, tmp_path) -> Path:
    return Path(shutil.copytree(learnt, tmp_path / "artifacts"))


def test_everyone_is_in_one_of_four_segments_or_left_out_with_a_reason(learnt, rows):
    orders = pl.read_parquet(rows / ORDERS).filter(pl.col("eval_set") == "prior")
    counts = orders["user_id"].value_counts()["count"]
    segments, left = (
        table(learnt, f"{n}.parquet") for n in ("segments", "customers_left_out")
    )
    assert set(segments["segment"]) == set(FOUR)
    assert segments.height == (counts >= 5).sum()
    assert left.height == (counts < 5).sum()
    assert set(left["reason"]) == {"fewer than 5 orders"}
    often, loyal = (t.value for t in rules_of(learnt).thresholds)
    is_often, is_loyal = pl.col("freq_score") >= often, pl.col("loyalty_score") >= loyal
    expected = (
        pl.when(is_often & is_loyal)
        .then(pl.lit(FOUR[0]))
        .when(is_often)
        .then(pl.lit(FOUR[1]))
        .when(is_loyal)
        .then(pl.lit(FOUR[2]))
        .otherwise(pl.lit(FOUR[3]))
    )
    assert segments.select((expected == pl.col("segment")).all()).item()
    quantiles = pl.read_csv(published(learnt).path("score_quantiles.csv"))
    assert quantiles.columns == ["feature", "p20", "p50", "p80"]
    assert quantiles["p50"].to_list() == pytest.approx([often, loyal])


def test_the_same_rows_change_nothing(folder, rows):
    again = run_baskets(config(folder, rows))
    assert not again.facts["is_changed"]
    assert again.lines[0].startswith("Nothing changed")


def test_thresholds_are_learnt_again_or_kept_and_moves_are_told(folder, later):
    before = rules_of(folder)
    placed = run_baskets(config(folder, later), refit=False)
    assert rules_of(folder) == before
    block = table(folder, "ledger-0002.parquet")
    assert set(block["cause"]) == {"behaviour"}
    assert set(block["new_name"]) <= {"Loyal Occasionals", "At Risk"}
    assert placed.facts["n_moved"] == {SEGMENT: {"behaviour": block.height}}
    watched = pl.read_csv(published(folder).path("monitoring.csv"))
    assert "alert" in watched["status"].to_list(), "a third orders less often"
    assert placed.facts["told"]["monitoring"]["lines"][0] in placed.lines
    ids = {
        s.name: s.id
        for s in BasketsAssigner.load(placed.folder).model.axes[SEGMENT].segments
    }
    again = run_baskets(config(folder, later))
    assert again.facts["version"] == 2
    assert rules_of(folder) != before
    after = BasketsAssigner.load(placed.folder).model.axes[SEGMENT].segments
    assert {s.name: s.id for s in after} == ids
    assert any("Moved because the model is new" in line for line in again.lines)


def test_a_given_name_is_in_every_file_and_outlives_a_run(folder, rows, later):
    rename_segment(Baskets(config(folder, rows)), SEGMENT, 0, "At the top")
    said, code = rename_segment(Baskets(config(folder, rows)), SEGMENT, 0, "Stars")
    assert (said, code) == (["segment: `At the top` is called `Stars` now."], 0)
    kept = published(folder)
    assert "Stars" in table(folder, "segments.parquet")["segment"].to_list()
    # These two say beside the name what the rules call the segment.
    tells_both = {"axis_sizes.csv", "baskets_report.csv"}
    for name in {*kept.manifest.files} - tells_both:
        if name.endswith((".md", ".html", ".csv")):
            text = kept.path(name).read_text("utf-8")
            assert not {w for w in ("Champions", "At the top") if w in text}, name
    run_baskets(config(folder, later))
    assert "Stars" in set(table(folder, "segments.parquet")["segment"])


def test_going_back_brings_the_thresholds_back(folder, rows, later):
    before = rules_of(folder)
    run_baskets(config(folder, later))
    lines, _ = roll_back(Baskets(config(folder, rows)))
    assert "Version 1 is in use again" in lines[0]
    assert rules_of(folder) == before


def test_new_customers_get_what_the_run_gave_the_same_ones(learnt, rows, tmp_path):
    some = pl.read_parquet(rows / ORDERS).filter(pl.col("user_id") <= 40)
    some.write_parquet(tmp_path / "orders.parquet")
    bought = pl.read_parquet(rows / ITEMS).join(some, on="order_id", how="semi")
    bought.write_parquet(tmp_path / "items.parquet")
    arguments = ["--orders", str(tmp_path / "orders.parquet")]
    arguments += ["--items", str(tmp_path / "items.parquet")]
    arguments += ["--artifacts", str(learnt), "--to", str(tmp_path / "to.parquet")]
    before = published(learnt).manifest.sha256
    done = CliRunner().invoke(app, ["baskets", "score", *arguments])
    assert done.exit_code == 0, done.output
    assert "placed by version 1" in done.output
    scored = pl.read_parquet(tmp_path / "to.parquet")
    assert scored["customer_id"].n_unique() == scored.height == 40
    own = table(learnt, "segments.parquet").join(scored, on="customer_id", how="semi")
    placed = scored.filter(pl.col("reason").is_null())
    assert (
        placed.select(own.columns).sort("customer_id").equals(own.sort("customer_id"))
    )
    left = scored.filter(pl.col("reason").is_not_null())
    assert set(left["reason"]) == {"fewer than 5 orders"}
    assert left["segment"].null_count() == left.height > 0
    assert published(learnt).manifest.sha256 == before, "nothing is published"


NUMBERED = """
name: numbered
features: {freq_score: {type: number}}
thresholds: {often: {of: freq_score, quantile: 0.5}}
segments:
  - {name: "1", when: freq_score >= often}
  - {name: "2", when: freq_score < often or freq_score is missing}
"""


@pytest.mark.parametrize("n_customers", [1, 2])
def test_hardly_any_customers_have_a_page_like_everyone(tmp_path, rows, n_customers):
    orders = pl.read_parquet(rows / ORDERS)
    few = orders.filter(pl.len().over("user_id") >= 5)["user_id"].unique(
        maintain_order=True
    )[:n_customers]
    own = orders.filter(pl.col("user_id").is_in(few.implode()))
    own.write_parquet(tmp_path / ORDERS)
    items = pl.read_parquet(rows / ITEMS)
    items.join(own, on="order_id", how="semi").write_parquet(tmp_path / ITEMS)
    given = {"orders": str(tmp_path / ORDERS), "items": str(tmp_path / ITEMS)}
    done = run_baskets(config(tmp_path / "artifacts", rows, **given))
    assert done.facts["n_customers"] == n_customers
    assert (done.folder / "baskets.html").is_file()


def test_segments_may_be_called_by_numbers(tmp_path, rows):
    (tmp_path / "rules.yaml").write_text(NUMBERED, encoding="utf-8")
    given = config(tmp_path / "artifacts", rows, rules=str(tmp_path / "rules.yaml"))
    run_baskets(given)
    rename_segment(Baskets(given), SEGMENT, 0, "7")
    assert table(tmp_path / "artifacts", "segments.parquet")["segment"].unique().sort(
    ).to_list() == ["2", "7"]  # fmt: skip


def test_a_broken_contract_publishes_nothing(tmp_path, rows):
    contract = tmp_path / "contract.yaml"
    contract.write_text(
        "owner: Ana\nexpires: 2999-01-01\nsegments: [{id: 9}]\n", encoding="utf-8"
    )
    with pytest.raises(ContractError, match="segments of this run break their"):
        run_baskets(config(tmp_path / "a", rows, contract=str(contract)))
    assert published(tmp_path / "a") is None


def test_who_cannot_be_segmented_ends_in_one_message(tmp_path, rows):
    with pytest.raises(EligibilityError, match="none of 150 customers"):
        run_baskets(config(tmp_path, rows, min_orders=500))
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES, encoding="utf-8")
    with pytest.raises(FeatureMismatchError, match="ask for `spend`"):
        run_baskets(config(tmp_path, rows, rules=str(rules)))
    rules.write_text(RULES.replace("<= 1", "<= 0"), encoding="utf-8")
    with pytest.raises(ContractError, match="For example: spend"):
        run_baskets(config(tmp_path, rows, rules=str(rules)))


def test_malformed_input_ends_in_one_line(tmp_path, rows):
    bad = tmp_path / "orders.csv"
    bad.write_text("a,b\n1,2\n", encoding="utf-8")
    arguments = ["--orders", str(bad), "--items", str(rows / ITEMS), "--no-store"]
    done = CliRunner().invoke(
        app, ["baskets", *arguments, "--artifacts", str(tmp_path / "artifacts")]
    )
    assert done.exit_code != 0
    assert "order_time=NAME" in str(done.exception)
    assert "found `a`, `b`. Map" in str(done.exception)
    assert "\n" not in str(done.exception).strip()
