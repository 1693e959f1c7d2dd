"""A model that is extended by new segments: all else stays as it was."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from core.artifacts.folder import Artifacts
from core.config import Config, SampleConfig
from core.retailers.extension import extend_model
from core.retailers.model import Model
from core.retailers.pipelines import (
    prepare_features,
    run_all,
    run_inference,
    train_autoencoder,
)
from core.retailers.sample import generate_sales

N_CLONES = 50
MONTHS = {"n_months": 26, "products_per_month": 2.0, "difficulty": "easy"}


def clones_of(shop: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the sales of shops that sell as one does, give or take some units."""
    rng = np.random.default_rng(0)
    own = rows.filter(pl.col("shop_id") == shop)
    return pl.concat(
        own.with_columns(
            shop_id=pl.lit(f"N{i:03}"),
            sales_qty=(pl.col("sales_qty") * rng.uniform(0.99, 1.01, own.height)),
        )
        for i in range(N_CLONES)
    )


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A model, the same one extended on a later table, and that table's features."""
    folder = tmp_path_factory.mktemp("extending")
    sample = SampleConfig(n_shops=700, **MONTHS)
    rows = generate_sales(sample, seed=1).rows
    config = Config(artifacts=str(folder / "first"))
    run_all(config, rows)
    before = Artifacts(folder / "first").published()
    model = Model.from_set(before)
    features = pl.read_parquet(before.path("features.parquet"))
    labels = model.assign(features)
    lonely = labels.filter(pl.col("segment") == -1).sort("distance", "shop_id")
    more = pl.concat([rows, clones_of(lonely["shop_id"][-1], rows)])
    later = Config(artifacts=str(folder / "later"))
    prepare_features(later, more)
    results = extend_model(later, before, model)
    run_inference(later)
    return model, Model.load(folder / "later"), results, folder / "later"


def features_of(folder) -> pl.DataFrame:
    return pl.read_parquet(folder / "features.parquet")


def test_every_shop_that_had_a_segment_keeps_it(grown):
    model, extended, _, folder = grown
    before, after = (m.assign(features_of(folder)) for m in (model, extended))
    held = before["segment"] >= 0
    same = ["shop_id", "latent_cluster", "latent_cluster_strength", "segment"]
    assert before.filter(held).select(same).equals(after.filter(held).select(same))
    assert before["raw_cluster"].equals(after["raw_cluster"])


def test_shops_of_a_new_kind_get_a_segment_with_an_id_of_its_own(grown):
    model, extended, _, folder = grown
    after = extended.assign(features_of(folder))
    new = after.filter(pl.col("shop_id").str.starts_with("N"))
    old, now = model.segments.published, extended.segments.published
    assert set(new["segment"].to_list()) == {old.next_id}
    assert set(new["latent_cluster"].to_list()) == {model.n_clusters}
    assert (new["latent_cluster_strength"] > 0).all()
    assert now.names.items() >= {**old.names, -1: "unassigned"}.items()
    assert now.names[old.next_id] not in old.names.values()
    assert (now.version, now.lineage) == (old.version + 1, old.lineage)
    assert now.next_id == old.next_id + 1


def test_events_say_who_stayed_and_what_was_born(grown):
    model, extended, results, folder = grown
    published = extended.segments.published
    after = extended.assign(features_of(folder))
    sizes = dict(after["segment"].value_counts().iter_rows())
    kinds = [event.kind for event in published.events]
    assert kinds == ["survived"] * model.segments.published.n_segments + ["born"]
    assert all(e.n_new == sizes.get(e.new[0], 0) for e in published.events)
    assert [result.stage for result in results] == ["autoencoder", "clustering"]
    assert "1 new segment(s)" in results[1].lines[0]


def test_an_extended_run_is_complete(grown):
    *_, folder = grown
    published = Artifacts(folder).published()
    assert published.manifest.is_complete
    assert published.manifest.facts("autoencoder")["is_kept"]
    assert "report.html" in published.manifest.files
    predictions = pl.read_csv(folder / "cluster_predictions.csv")
    extended = Model.load(folder)
    labelled = set(predictions["segment"].drop_nulls().to_list())
    assert labelled == set(extended.segments.published.names)


def test_where_nothing_is_new_nothing_is_written(grown, tmp_path):
    _, extended, _, folder = grown
    source = pl.read_parquet(folder / "sales.parquet")
    rows = source.filter(~pl.col("shop_id").str.starts_with("N"))
    config = Config(artifacts=str(tmp_path / "same"))
    prepare_features(config, rows)
    before = Artifacts(folder).published()
    assert extend_model(config, before, extended) == []
    assert "clustering" not in Artifacts(tmp_path / "same").published().manifest.stages


def test_a_refit_starts_from_the_model_or_says_why_it_cannot(grown, tmp_path):
    model, _, _, folder = grown
    rows = pl.read_parquet(folder / "sales.parquet")
    options = {"epochs": 1}
    config = Config(artifacts=str(tmp_path), autoencoder=options)
    prepare_features(config, rows)
    warm = train_autoencoder(config, model).facts
    assert warm["is_warm"]
    assert "cold_reason" not in warm
    other = Config(artifacts=str(tmp_path), autoencoder=options | {"latent_size": 3})
    cold = train_autoencoder(other, model).facts
    assert not cold["is_warm"]
    assert "(18, 64, 5), expected (18, 64, 3)" in cold["cold_reason"]
