"""States of shops in a run: told everywhere, and done without where none were saved."""

from __future__ import annotations

import polars as pl
import pytest
from once import SMALL_RUN

from core.artifacts.manifest import digest, read_manifest
from core.config import SampleConfig
from core.retailers.files import RETAILERS
from core.retailers.history import HISTORY, STATE_HISTORY
from core.retailers.model import LIFE_CYCLE, SHOP_STATES, Model
from core.retailers.pipelines import run_inference
from core.retailers.prepare import HAS_LAPSED
from core.retailers.sample import generate_sales
from core.segments.states import STATES

ROWS = generate_sales(SampleConfig.model_validate(SMALL_RUN["sample"]), seed=42).rows


def test_every_shop_has_a_state_and_who_has_lapsed_no_segment(trained):
    shops = pl.read_csv(trained / SHOP_STATES).select("shop_id", "state")
    labels = pl.read_csv(trained / "cluster_predictions.csv")
    assert labels.select("shop_id", "state").sort("shop_id").equals(shops)
    assert set(shops["state"]) <= set(STATES)
    lapsed = labels.filter(state="lapsed")
    assert lapsed.height >= 5
    assert lapsed["segment"].null_count() == lapsed.height
    assert labels.filter(reason=HAS_LAPSED).height >= 5
    insights = pl.read_csv(trained / "segment_insights.csv")
    assert insights["share_lapsed"].sum() == 0
    shares = insights.select(pl.sum_horizontal(r"^share_.*$")).to_series()
    assert shares.to_list() == pytest.approx([1.0] * insights.height)
    assert "States of shops" in (trained / "report.html").read_text(encoding="utf-8")


def test_states_of_the_past_are_those_of_the_shops_judged_there(trained):
    past = pl.read_parquet(trained / STATE_HISTORY)
    eligible = pl.read_parquet(trained / HISTORY).select("shop_id", "as_of")
    both = eligible.join(past, on=["shop_id", "as_of"], how="left")
    assert both["state"].null_count() == 0
    assert "lapsed" not in both["state"]
    others = past.join(eligible, on=["shop_id", "as_of"], how="anti")
    assert set(others["state"]) == {"lapsed"}


def test_a_model_that_was_saved_without_states_scores_without_them(artifacts):
    manifest = read_manifest(artifacts, RETAILERS)
    for name in (LIFE_CYCLE, SHOP_STATES, STATE_HISTORY):
        del manifest.files[name]
        (artifacts / name).unlink()
    del manifest.stages["prepare"].facts["states"]
    path = artifacts / "exclusions.csv"
    pl.read_csv(path, infer_schema=False).drop("state").write_csv(path)
    known = {"sha256": digest(path), "size": path.stat().st_size}
    manifest.files[path.name] = manifest.files[path.name].model_copy(update=known)
    text = manifest.model_dump_json()
    (artifacts / "manifest.json").write_text(text, encoding="utf-8")
    scored = Model.load(artifacts).assign_sales(ROWS)
    assert scored["state"].null_count() == scored.height
    assert HAS_LAPSED not in scored["reason"]
    config = manifest.config.model_copy(update={"artifacts": str(artifacts)})
    run_inference(config)
    labels = pl.read_csv(artifacts / "cluster_predictions.csv")
    assert labels["state"].null_count() == labels.height
    page = (artifacts / "report.html").read_text(encoding="utf-8")
    assert "States of shops" not in page
