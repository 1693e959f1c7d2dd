"""What large segments are divided into, from the look inside to the predictions.

Six of the trained model's eight planted groups, taken for one segment, stand for one
that is too large.
"""

import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from core.artifacts.arrays import load_arrays, save_arrays
from core.artifacts.manifest import digest, read_manifest
from core.errors import ArtifactError, ConfigError, FeatureMismatchError
from core.models.scaling import feature_matrix
from core.retailers.features import MOMENTUM
from core.retailers.files import RETAILERS
from core.retailers.inside import Past, continued_divisions, look_inside, part_names
from core.retailers.model import SEGMENT_STATE, SEGMENTS, Model, saved_splits
from core.retailers.pipelines import run_inference
from core.retailers.publish import rename_segment
from core.retailers.refresh.month import ScoredMonth
from core.rules.grammar import read_rules
from core.segments.changing import Months
from core.segments.identity import Identity
from core.segments.ledger import serving_block
from core.segments.published import PublishedSegments, first_version, segment_table
from core.segments.split import Split

VERDICT = {"kind": "natural", "is_certified": False, "basis": {}}
PLANTED = {old: min(old, 2) for old in range(-1, 99)}
"""Clusters 0 and 1 as they are, all others one large segment."""


@pytest.fixture(scope="module")
def parts(trained):
    """Return the model, its shops, coarse clusters, and what is found inside."""
    model, shops = Model.load(trained), pl.read_parquet(trained / "features.parquet")
    coarse = np.vectorize(PLANTED.get)

    def clusters(table):
        X = feature_matrix(table, model.features)
        return coarse(model.latent_labels(X))

    labels = clusters(shops)
    table = segment_table("density", labels, {0: "One", 1: "Two", 2: "All else"})
    history, monthly = (
        pl.read_parquet(trained / name)
        for name in ("history.parquet", "monthly.parquet")
    )
    past = Past(history, monthly, clusters)
    found = look_inside(table, labels, shops, model.features, past, model.config)
    return model, shops, labels, *found


def test_groups_within_a_large_segment_are_found_and_called_natural(parts):
    _, shops, labels, table, splits = parts
    assert [s.id for s in table.segments if s.parts] == [2]
    large = table.segments[2]
    assert large.division.kind == "density"
    sizes = [part.size for part in large.parts]
    assert list(table.parts) == [f"2{letter}" for letter in "abcdef"[: len(sizes)]]
    assert len(sizes) > 1
    assert sum(sizes) == large.size
    assert sizes == sorted(sizes, reverse=True)
    own = splits[2].assign(shops.filter(pl.Series(labels == 2)))
    assert np.bincount(own).tolist() == sizes


def test_the_next_model_keeps_letters_and_names_of_what_stays(parts):
    model, shops, labels, table, splits = parts
    own = labels == 2
    ids = np.full(len(labels), None, dtype=object)
    ids[own] = [f"2{'abcdef'[part]}" for part in splits[2].assign(shops.filter(own))]
    placed = pl.DataFrame({"sub_segment": pl.Series(ids, dtype=pl.String)})
    division = table.segments[2].division
    ours = division.segments[0].model_copy(update={"name": "Ours", "is_edited": True})
    division = division.model_copy(update={"segments": (ours, *division.segments[1:])})
    segments = [*table.segments]
    segments[2] = segments[2].model_copy(update={"division": division})
    before = first_version(
        table.model_copy(update={"segments": tuple(segments)}), VERDICT, "0123456789ab"
    )
    same = Identity({0: 0, 1: 1, 2: 2}, (), 3)
    given = labels, splits, shops, model.features, model.config.refresh
    again = continued_divisions(before, placed, table, same, *given)
    assert again[2].segments == division.segments
    # Under another id nothing is known of it: letters and names are its own.
    other = Identity({0: 0, 1: 1, 2: 7}, (), 8)
    new = continued_divisions(before, placed, table, other, *given)
    assert [part.id for part in new[2].segments] == [
        part.id.replace("2", "7") for part in division.segments
    ]
    assert "Ours" not in {part.name for part in new[2].segments}


@pytest.fixture(scope="module")
def assigner(parts):
    """Return the published model's segments, the largest of them divided."""
    model, *_, table, splits = parts
    published = model.segments.published
    first = published.segments[0]
    division = table.segments[2].division
    own = tuple(
        part.model_copy(update={"id": part.id.replace("2", str(first.id))})
        for part in division.segments
    )
    division = division.model_copy(update={"segments": own})
    first = first.model_copy(update={"division": division})
    update = {"segments": (first, *published.segments[1:])}
    return replace(
        model.segments,
        published=published.model_copy(update=update),
        splits={"density": {first.cluster: splits[2]}},
    )


def test_predictions_tell_the_sub_segment_and_a_saved_model_the_same(
    parts, assigner, tmp_path
):
    model, shops = parts[:2]
    placed = replace(model, segments=assigner).assign(shops)
    inside = placed.filter(pl.col("segment") == 0)
    names = {part.id: part.name for part in assigner.published.parts.values()}
    assert set(inside["sub_segment"]) <= {*names}
    told = [names[part] for part in inside["sub_segment"]]
    assert inside["sub_segment_name"].to_list() == told
    outside = placed.filter(pl.col("segment") != 0)
    assert outside["sub_segment"].null_count() == outside.height
    one = replace(model, segments=assigner).assign(shops[5:6])
    assert one.row(0) == placed.row(5)
    save_arrays(tmp_path / SEGMENT_STATE, *assigner.get_state())
    arrays, meta = load_arrays(tmp_path / SEGMENT_STATE)
    back = replace(assigner, splits=saved_splits(arrays, meta))
    assert replace(model, segments=back).assign(shops).equals(placed)
    ((cluster, split),) = assigner.splits["density"].items()
    asks = {"density": {cluster: replace(split, features=MOMENTUM)}}
    asking = replace(model, segments=replace(assigner, splits=asks))
    with pytest.raises(FeatureMismatchError, match="by which segment 0 is divided"):
        asking.assign(shops.drop(*MOMENTUM))
    lost = replace(assigner, splits={})
    with pytest.raises(ArtifactError, match="does not divide segment 0"):
        replace(model, segments=lost).assign(shops)


@pytest.fixture(scope="module")
def divided_run(trained, assigner, tmp_path_factory):
    """Return a complete run that publishes a divided segment, to be read."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("divided") / "artifacts")
    save_arrays(folder / SEGMENT_STATE, *assigner.get_state())
    assigner.published.write(folder / SEGMENTS)
    manifest = read_manifest(folder, RETAILERS)
    for name in (SEGMENT_STATE, SEGMENTS):
        manifest.files[name].sha256 = digest(folder / name)
        manifest.files[name].size = (folder / name).stat().st_size
    text = manifest.model_dump_json()
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    config = manifest.config.model_copy(update={"artifacts": str(folder)})
    run_inference(config)
    return folder


@pytest.fixture
def divided(divided_run, tmp_path):
    return shutil.copytree(divided_run, tmp_path / "artifacts")


def test_one_table_has_the_nested_view_and_the_flat_one(divided_run):
    tree = pl.read_csv(divided_run / "segment_tree.csv", infer_schema_length=None)
    placed = pl.read_csv(divided_run / "cluster_predictions.csv").drop_nulls("segment")
    whole = tree.filter(pl.col("level") == 1)
    assert whole["n_shops"].sum() == placed.height
    assert whole["sales_share"].sum() == pytest.approx(1.0)
    flat = tree.filter("is_leaf")
    assert flat["n_shops"].sum() == placed.height
    assert flat["share"].sum() == pytest.approx(1.0)
    inside = tree.filter(pl.col("parent") == 0)
    assert set(inside["kind"]) == {"density"}
    counts = dict(placed.drop_nulls("sub_segment")["sub_segment"].value_counts().rows())
    told = {i: n for i, n in inside.select("id", "n_shops").iter_rows() if n}
    assert told == counts
    assert inside["evidence"].str.starts_with("a natural group: ").all()


def test_report_and_card_show_sub_segments_under_their_segment(divided_run):
    report = (divided_run / "report.html").read_text(encoding="utf-8")
    assert "Segments within segments" in report
    assert "natural groups. Chosen: " in report
    card = (divided_run / "model-card.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split()[1] for line in card if line.startswith("| ")]
    assert rows.index("0a") == rows.index("0") + 1


def test_a_sub_segment_is_renamed_wherever_it_is_told(divided):
    before = PublishedSegments.read(divided / SEGMENTS).parts
    result = rename_segment(divided, "0b", "=Rising, stars")
    assert result.lines[0].startswith("Segment 0b is now called =Rising, stars (it was")
    found = PublishedSegments.read(divided / SEGMENTS).parts
    assert (found["0b"].name, found["0b"].is_edited) == ("=Rising, stars", True)
    assert found["0a"] == before["0a"]
    placed = pl.read_csv(divided / "cluster_predictions.csv")
    own = placed.filter(pl.col("sub_segment") == "0b")["sub_segment_name"].unique()
    tree = pl.read_csv(divided / "segment_tree.csv", infer_schema_length=None)
    assert tree.filter(pl.col("id") == "0b")["name"].to_list() == ["'=Rising, stars"]
    assert own.to_list() in ([], ["'=Rising, stars"])
    assert "=Rising, stars" in (divided / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("segment", "name", "message"),
    [
        ("0z", "Any", r"no segment has the id `0z`; expected one of"),
        ("first", "Any", r"no segment has the id `first`"),
        ("0b", "", "is no name for a segment"),
    ],
)
def test_a_rename_that_cannot_be_is_refused(divided_run, segment, name, message):
    with pytest.raises(ConfigError, match=message):
        rename_segment(divided_run, segment, name)


def test_the_ledger_takes_the_sub_segment_of_the_month(parts, assigner):
    model, shops = parts[:2]
    labels = replace(model, segments=assigner).assign(shops)
    none, months = pl.DataFrame(), Months.of(np.arange(1), *[np.zeros((0, 1))] * 2)
    month = ScoredMonth("2024-12", shops, labels, none, none, none, months, none)
    block = serving_block(month.assigned, "2024-12", 1, None, 2)
    assert dict(block.select("entity", "sub_segment").iter_rows()) == dict(
        labels.select("shop_id", "sub_segment").iter_rows()
    )


def test_parts_by_a_rule_set_have_the_names_of_its_rules(parts):
    model, shops = parts[:2]
    rules = read_rules("momentum")
    n = len(rules.segments)
    split = Split("rules", "momentum", n, ("yoy_6",), rules=rules)
    members = np.arange(shops.height) % n
    given = shops, members, split, model.features
    names = [segment.name for segment in rules.segments]
    assert [*part_names(*given).values()] == names
    # A name that was kept is nobody else's.
    kept = part_names(*given, {0: names[1]})
    assert kept[0] == names[1]
    assert len({*kept.values()}) == n
    learnt = replace(split, method="tree")
    assert names[0] not in part_names(shops, members, learnt, model.features).values()
