"""From one model to the next: ids, names and versions of real refits."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest
from once import SMALL_RUN
from polars.testing import assert_frame_equal
from typer.testing import CliRunner
from verdicts import NATURAL, REPRODUCIBLE, publish, published_in

from core.artifacts.arrays import load_arrays, save_arrays
from core.artifacts.folder import Artifacts
from core.artifacts.manifest import digest, read_manifest, verify
from core.cli import app
from core.config import Config
from core.errors import ArtifactError, ConfigError
from core.retailers.files import RETAILERS
from core.retailers.model import Model
from core.retailers.pipelines import (
    prepare_features,
    run_all,
    run_inference,
    stage_config,
    train_autoencoder,
)
from core.retailers.publish import rename_segment
from core.retailers.sample import generate_sales
from core.retailers.shop_files import segment_file
from core.retailers.training import found_predecessor, named_table, publish_successor
from core.segments.published import reserve_ids

pytestmark = pytest.mark.slow

SEASIDE = "Our seaside shops"


def config_of(folder, **options):
    return Config.model_validate({**SMALL_RUN, "artifacts": str(folder), **options})


@pytest.fixture(scope="module")
def rows():
    """The sales of `trained`, which do not change with the seed of a run."""
    return generate_sales(config_of("unused").sample, seed=42).rows


@pytest.fixture
def artifacts(profiled, tmp_path):
    return shutil.copytree(profiled, tmp_path / "artifacts")


def segments_of_shops(folder):
    table = pl.read_csv(folder / "cluster_predictions.csv", infer_schema_length=None)
    known = table.drop_nulls("segment")
    return dict(known.select("shop_id", "segment").iter_rows())


def test_the_first_model_of_a_lineage_counts_from_0(trained):
    published = published_in(trained)
    assert (published.version, published.latest, published.events) == (1, 1, ())
    assert published.next_id == published.n_segments
    assert all(s.cluster == s.id for s in published.segments)
    manifest = read_manifest(trained, RETAILERS)
    assert (manifest.lineage, manifest.version) == (published.lineage, 1)


@pytest.fixture(scope="module")
def refitted(trained, rows, tmp_path_factory):
    """The same shops with another seed, in another order, after a name was given."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("again") / "artifacts")
    rename_segment(folder, 1, SEASIDE)
    run_all(config_of(folder, seed=7), rows.sample(fraction=1.0, shuffle=True, seed=7))
    return folder


def test_another_seed_and_order_of_rows_rename_nothing(trained, refitted):
    first, second = published_in(trained), published_in(refitted)
    assert (second.lineage, second.version) == (first.lineage, 2)
    assert second.names == {**first.names, 1: SEASIDE}
    assert [s.id for s in second.segments if s.is_edited] == [1]
    assert {event.kind for event in second.events} == {"survived"}
    assert second.next_id == first.next_id
    before, after = segments_of_shops(trained), segments_of_shops(refitted)
    kept = sum(after[shop] == segment for shop, segment in before.items())
    assert kept >= 0.9 * len(before)
    assert list(Artifacts(refitted, RETAILERS).versions()) == [f"v001-{first.lineage}"]


def test_the_manifest_tells_what_became_of_the_segments(refitted):
    facts = read_manifest(refitted, RETAILERS).facts("clustering")
    published = published_in(refitted)
    assert (facts["version"], facts["lineage"]) == (2, published.lineage)
    assert facts["events"] == [e.model_dump(mode="json") for e in published.events]
    sizes = {s.id: s.size for s in published.segments}
    assert all(e["n_new"] == sizes[e["new"][0]] for e in facts["events"])


def test_after_going_back_neither_versions_nor_ids_are_given_out_twice(
    refitted, rows, tmp_path
):
    folder = shutil.copytree(refitted, tmp_path / "artifacts")
    Artifacts(folder, RETAILERS).roll_back()
    assert published_in(folder).version == 1
    shops = pl.read_parquet(folder / "features.parquet")
    features = Model.load(folder).features
    before = found_predecessor(Artifacts(folder, RETAILERS), shops, features)
    followed = before.segments.published
    assert (followed.version, followed.latest) == (1, 2)
    options = {"autoencoder": {"epochs": 1}, "evaluation": {"n_cuts": 1}}
    run_all(config_of(folder, **options), rows)
    assert published_in(folder).version == 3


def test_a_segment_whose_shops_have_closed_died_whoever_holds_the_rest(trained):
    model, shops = Model.load(trained), pl.read_parquet(trained / "features.parquet")
    segment = model.assign(shops)["segment"].to_numpy()
    closed = np.flatnonzero(segment == 1)[2:]
    left = np.setdiff1d(np.arange(shops.height), closed)
    shops, labels = shops[left], segment[left].astype(np.int64)
    # The two that go on look like shops of another segment, and numbers have no gap.
    labels[labels == 1] = 0
    labels[labels > 1] -= 1
    table = named_table(shops, "density", labels, model.features)
    verdict, options = NATURAL, model.config.refresh
    after = publish_successor(
        model, shops, model.features, labels, table, verdict, options
    )
    assert {e.kind for e in after.events} == {"survived", "died"}
    died = next(e for e in after.events if e.kind == "died")
    assert (died.old, died.new, died.n_shared) == ((1,), (0,), 2)
    assert 1 not in after.names


def test_half_of_the_smaller_population_has_to_be_the_same(artifacts):
    shops = pl.read_parquet(artifacts / "features.parquet")
    folder, features = Artifacts(artifacts, RETAILERS), Model.load(artifacts).features
    n = shops.height
    some = shops.head(100)
    new = pl.lit("new ") + pl.col("shop_id")
    half = pl.concat([some.head(50), some.tail(50).with_columns(shop_id=new)])
    fewer = pl.concat([some.head(49), some.tail(51).with_columns(shop_id=new)])
    assert found_predecessor(folder, half, features) is not None
    assert found_predecessor(folder, fewer, features) is None
    more = pl.concat([shops, shops.with_columns(shop_id=new)])
    assert more.height == 2 * n
    assert found_predecessor(folder, more, features) is not None
    assert found_predecessor(folder, shops, features[::-1]) is None


def test_a_predecessor_that_cannot_be_read_is_not_followed(artifacts, caplog):
    (artifacts / "cluster-state.safetensors").write_bytes(b"changed")
    shops = pl.read_parquet(artifacts / "features.parquet")
    assert found_predecessor(Artifacts(artifacts, RETAILERS), shops, ["any"]) is None
    assert "Ids and names start from scratch" in caplog.text
    with pytest.raises(ArtifactError, match="has changed"):
        Model.load(artifacts)


def test_a_model_with_segments_added_later_names_the_cure(artifacts, caplog):
    path = artifacts / "cluster-state.safetensors"
    arrays, meta = load_arrays(path)
    save_arrays(path, arrays, meta | {"extension_1": {"format": 1, "level": 0.5}})
    manifest = read_manifest(artifacts, RETAILERS)
    manifest.files[path.name].sha256 = digest(path)
    manifest.files[path.name].size = path.stat().st_size
    (artifacts / "manifest.json").write_text(
        manifest.model_dump_json(), encoding="utf-8"
    )
    with pytest.raises(ArtifactError, match=r"Train it again with `\./run.sh run`"):
        Model.load(artifacts)
    shops = pl.read_parquet(artifacts / "features.parquet")
    assert found_predecessor(Artifacts(artifacts, RETAILERS), shops, ["any"]) is None
    assert "Ids and names start from scratch" in caplog.text


def test_a_refit_starts_from_the_model_or_says_why_it_cannot(trained, rows, tmp_path):
    model, options = Model.load(trained), {"epochs": 1}
    config = config_of(tmp_path, autoencoder=options)
    prepare_features(config, rows)
    warm = train_autoencoder(config, model).facts
    assert warm["is_warm"]
    assert "cold_reason" not in warm
    other = config_of(tmp_path, autoencoder=options | {"latent_size": 3})
    cold = train_autoencoder(other, model).facts
    assert not cold["is_warm"]
    assert "(18, 64, 5), expected (18, 64, 3)" in cold["cold_reason"]


def test_ids_that_a_later_version_used_stay_used(trained):
    published = published_in(trained)
    later = published.model_copy(update={"version": 4, "latest": 4, "next_id": 31})
    stranger = later.model_copy(update={"lineage": "0" * 12, "next_id": 99})
    marked = reserve_ids(published, [later, stranger])
    assert (marked.version, marked.latest, marked.next_id) == (1, 4, 31)


def test_a_verdict_that_flips_keeps_the_ids_of_groups_that_stay(artifacts):
    first, before = published_in(artifacts), segments_of_shops(artifacts)
    rename_segment(artifacts, 0, SEASIDE)
    partition = publish(artifacts, REPRODUCIBLE)
    assert partition.kind == "partition"
    assert (partition.lineage, partition.version) == (first.lineage, first.version)
    assert partition.withdrawn.names == {**first.names, 0: SEASIDE}
    survived = {e.old[0] for e in partition.events if e.kind == "survived"}
    ended = {i for e in partition.events if e.kind == "died" for i in e.old}
    ids = {segment.id for segment in partition.segments}
    assert survived <= ids
    assert not ended & ids
    assert all(i in first.names or i >= first.next_id for i in ids)
    for segment in partition.segments:
        if segment.id in first.names:
            name = SEASIDE if segment.id == 0 else first.names[segment.id]
            assert segment.name == name
    assert len(set(partition.names.values())) == len(ids)

    again = publish(artifacts, NATURAL)
    assert again.names == {**first.names, 0: SEASIDE}
    assert again.ids == first.ids
    assert again.segments[0].is_edited
    assert again.version == first.version
    assert again.next_id == partition.next_id
    assert segments_of_shops(artifacts) == before
    assert publish(artifacts, REPRODUCIBLE).ids == partition.ids


def test_the_same_kind_under_another_verdict_changes_no_id(artifacts):
    first = published_in(artifacts)
    second = publish(artifacts, NATURAL)
    assert second == first.model_copy(update={"verdict": NATURAL})


def test_a_new_name_is_told_everywhere_and_changes_nothing_else(artifacts):
    old, before = published_in(artifacts), read_manifest(artifacts, RETAILERS)
    tables = {
        path.name: pl.read_csv(path, infer_schema=False)
        for path in artifacts.glob("*.csv")
    }
    result = rename_segment(artifacts, 2, f"  {SEASIDE} ")
    assert result.lines == [
        f"Segment 2 is now called {SEASIDE} (it was {old.names[2]})."
    ]
    after = read_manifest(artifacts, RETAILERS)
    verify(artifacts, after)
    assert (after.model_id, after.version) == (before.model_id, before.version)
    own = {segment_file(2, name) for name in (old.names[2], SEASIDE)}
    assert set(after.files) ^ set(before.files) == own
    published = published_in(artifacts)
    assert published.names == {**old.names, 2: SEASIDE}
    n_named = 0
    for name, table in tables.items():
        found = pl.read_csv(artifacts / name, infer_schema=False)
        if name == "segment_tree.csv":
            assert found.filter(pl.col("id") == "2")["name"].item() == SEASIDE
            found = found.with_columns(table["name"])
        if "segment_name" not in table.columns:
            assert_frame_equal(found, table)
            continue
        n_named += 1
        is_own = table["segment"] == "2"
        assert set(found.filter(is_own)["segment_name"]) == {SEASIDE}
        assert_frame_equal(
            found.with_columns(segment_name=table["segment_name"]), table
        )
    assert n_named >= 5
    for name in ("report.html", "segment_rules.txt"):
        text = (artifacts / name).read_text(encoding="utf-8")
        assert SEASIDE in text
        assert f"-> {old.names[2]}, " not in text
    rules = after.facts("inference")["profiles"]["rules"]
    assert any(f"-> {SEASIDE}, " in rule for rule in rules)
    assert Model.load(artifacts).segments.published == published


def test_a_new_name_leaves_predictions_of_other_shops_in_place(artifacts):
    config = stage_config("inference", flags={"artifacts": str(artifacts)})
    few = generate_sales(config.sample.model_copy(update={"n_shops": 40}), seed=9).rows
    run_inference(config, few)
    before = segments_of_shops(artifacts)
    rename_segment(artifacts, 0, SEASIDE)
    assert segments_of_shops(artifacts) == before


@pytest.mark.parametrize(
    ("segment", "name", "message"),
    [
        (77, "A", r"no segment has the id 77; the published ones are 0, 1, 2"),
        (-1, "A", "no segment has the id -1"),
        (0, " ", "is no name for a segment"),
        (0, "two\nlines", "is no name for a segment"),
        (0, "next\x85line", r"character 5 is U\+0085 \(a control character\)"),
        (0, "x" * 81, "1 to 80 characters"),
        (0, "Unassigned", "what shops without a segment are called"),
    ],
)
def test_names_and_ids_that_cannot_be_are_refused(artifacts, segment, name, message):
    before = digest(artifacts / "segments.json")
    with pytest.raises(ConfigError, match=message):
        rename_segment(artifacts, segment, name)
    assert digest(artifacts / "segments.json") == before


def test_a_name_belongs_to_one_segment(artifacts, partitioned, tmp_path):
    taken = published_in(artifacts).names[1]
    with pytest.raises(ConfigError, match="segment 1 is called"):
        rename_segment(artifacts, 0, taken.upper())
    other_kind = shutil.copytree(partitioned, tmp_path / "partition")
    own = next(s.id for s in published_in(other_kind).segments if s.id != 1)
    with pytest.raises(ConfigError, match="segment 1 is called"):
        rename_segment(other_kind, own, taken)


def test_the_verb_renames_and_says_what_is_wrong(artifacts):
    runner = CliRunner()
    folder = ["--artifacts", str(artifacts)]
    said = runner.invoke(app, ["rename", "0", SEASIDE, *folder])
    assert said.exit_code == 0, said.output
    assert f"Segment 0 is now called {SEASIDE}" in said.output
    assert published_in(artifacts).names[0] == SEASIDE
    failed = runner.invoke(app, ["rename", "99", "A", *folder])
    assert isinstance(failed.exception, ConfigError)


def test_renaming_needs_a_complete_run(tmp_path):
    with pytest.raises(ArtifactError, match="holds no complete run"):
        rename_segment(tmp_path, 0, "A")


def test_a_folder_from_before_ids_were_permanent_is_read_as_a_first_model(artifacts):
    new = published_in(artifacts)
    old = {
        "format": 1,
        "kind": new.kind,
        "segments": [
            s.model_dump(exclude={"cluster", "is_edited"}) for s in new.segments
        ],
        "verdict": new.verdict.model_dump(),
    }
    path = artifacts / "segments.json"
    path.write_text(json.dumps(old), encoding="utf-8")
    manifest = read_manifest(artifacts, RETAILERS)
    manifest.files["segments.json"].sha256 = digest(path)
    manifest.files["segments.json"].size = path.stat().st_size
    for key in ("lineage", "version", "events"):
        del manifest.stages["clustering"].facts[key]
    (artifacts / "manifest.json").write_text(
        manifest.model_dump_json(), encoding="utf-8"
    )
    read = Model.load(artifacts).segments.published
    assert read == new.model_copy(update={"lineage": manifest.model_id})
    rename_segment(artifacts, 0, SEASIDE)
    assert published_in(artifacts).lineage == manifest.model_id
