"""An artifacts folder is what lies in it: under any name, moved, opened in Excel."""

from __future__ import annotations

import json
import shutil
import tempfile

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from core.artifacts.arrays import load_arrays, pack_arrays
from core.artifacts.folder import Artifacts
from core.artifacts.manifest import MANIFEST, digest
from core.cli.retailers import verify_artifacts
from core.config import Config, SampleConfig
from core.errors import ArtifactError
from core.resolve import resolve_config
from core.retailers.explain import explain_shop
from core.retailers.files import RETAILERS
from core.retailers.model import Model, exclusions_of
from core.retailers.monthly import archived_months
from core.retailers.pipelines import prepare_features, run_inference, stage_config
from core.retailers.profile import profile_segments
from core.retailers.publish import rename_segment
from core.retailers.refresh.month import refresh_config
from core.retailers.refresh.output import version_rows
from core.retailers.sample import generate_sales


def content(folder):
    """Return the bytes of every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def labels(folder):
    return pl.read_csv(folder / "cluster_predictions.csv", glob=False)


def test_a_folder_whose_name_is_a_pattern_labels_its_own_shops(trained, tmp_path):
    own = shutil.copytree(trained, tmp_path / "a[1]")
    sibling = tmp_path / "a1"
    sibling.mkdir()
    table = pl.read_parquet(trained / "features.parquet")
    decoy = table.head(7).with_columns(shop_id="decoy-" + pl.col("shop_id"))
    decoy.write_parquet(sibling / "features.parquet")
    config = stage_config("inference", flags={"artifacts": str(own)})
    assert run_inference(config).facts["labelled"] == table.height
    assert_frame_equal(labels(own), labels(trained))


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_working_folders_may_be_called_like_patterns(tmp_path, monkeypatch, engine):
    rows = generate_sales(SampleConfig(n_shops=60), seed=3).rows
    rows.write_parquet(tmp_path / "rows.parquet")
    found = []
    for name in ("plain", "year=1[0]"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
        config = Config.model_validate(
            {
                "artifacts": str(tmp_path / name / "out"),
                "data": {"source": "input", "input": str(tmp_path / "rows.parquet")},
                "features": {"engine": engine},
                "clustering": {"min_cluster_size": 5},
            }
        )
        prepare_features(config)
        path = tmp_path / name / "out" / "features.parquet"
        found.append(pl.read_parquet(path, glob=False))
    assert_frame_equal(*found)


def test_a_copied_folder_is_worked_on_where_it_lies(artifacts, tmp_path, monkeypatch):
    copy = shutil.copytree(artifacts, tmp_path / "elsewhere" / "artifacts")
    manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    manifest["config"]["artifacts"] = str(artifacts)  # as a run saved it
    (copy / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    before = content(artifacts)
    monkeypatch.chdir(copy.parent)
    for flags, file in (
        ({}, None),
        ({"artifacts": str(copy)}, artifacts / "config.yaml"),
        ({}, copy / "config.yaml"),
    ):
        config = stage_config("inference", file, flags)
        assert config.artifacts in {str(copy), "artifacts"}
        (copy / "report.html").unlink()
        run_inference(config)
        assert (copy / "report.html").is_file()
    assert content(artifacts) == before
    given = refresh_config(str(copy), artifacts / "config.yaml")
    assert given.artifacts == str(copy)


@pytest.mark.parametrize("place", ["", "pending", "versions/v001-abc"])
def test_a_saved_configuration_means_the_folder_it_lies_in(tmp_path, place):
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("artifacts: /gone\nseed: 7\n", "utf-8")
    for stage, expected in (("prepare", tmp_path), ("axes", tmp_path.parent)):
        (folder / MANIFEST).write_text(json.dumps({"stages": {stage: {}}}), "utf-8")
        config = resolve_config(folder / "config.yaml")
        assert (config.artifacts, config.seed) == (str(expected), 7)
    flags = {"artifacts": "named"}
    assert resolve_config(folder / "config.yaml", flags).artifacts == "named"
    (folder / MANIFEST).unlink()
    assert resolve_config(folder / "config.yaml").artifacts == "/gone"


def test_predictions_saved_in_excel_stop_no_verb(artifacts, caplog):
    path = artifacts / "cluster_predictions.csv"
    shop = labels(artifacts)["shop_id"][0]
    path.unlink()
    path.write_text("shop_id;segment\n1;2\n", encoding="utf-8")
    assert Model.load(artifacts) is not None
    assert explain_shop(artifacts, shop) is not None
    assert len(version_rows(artifacts)) == 1
    rename_segment(artifacts, 0, "Seaside")
    assert "has changed since it was written" in caplog.text
    with pytest.raises(ArtifactError, match=r"cluster_predictions\.csv` has changed"):
        verify_artifacts(str(artifacts))
    assert path.read_text(encoding="utf-8").startswith("shop_id;"), "not read either"
    run_inference(stage_config("inference", flags={"artifacts": str(artifacts)}))
    assert "Seaside" in labels(artifacts)["segment_name"]
    (kept,) = artifacts.glob("cluster_predictions-changed-*.csv")
    assert kept.read_text(encoding="utf-8") == "shop_id;segment\n1;2\n"


def seal(folder, name, content):
    """Put other bytes in a set's file, under a manifest that lists their digest."""
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    entry = {"sha256": digest(folder / name), "size": len(content)}
    manifest["files"][name] |= entry
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


STATES = ("encoder-state", "cluster-state", "segment-state")


@pytest.mark.parametrize("name", STATES)
def test_half_shaped_state_is_a_message(artifacts, name):
    file = f"{name}.safetensors"
    arrays, meta = load_arrays(artifacts / file)
    changed = [(arrays, {k: v for k, v in meta.items() if k != part}) for part in meta]
    for key, array in arrays.items():
        others = {k: v for k, v in arrays.items() if k != key}
        changed += [(others, meta), ({**others, key: array[..., None]}, meta)]
        if array.size > 1:
            changed.append(({**others, key: array[: len(array) // 2]}, meta))
    for state in changed:
        seal(artifacts, file, pack_arrays(*state))
        with pytest.raises(ArtifactError):
            Model.load(artifacts)
    seal(artifacts, file, pack_arrays(arrays, meta))
    assert Model.load(artifacts) is not None


def test_sealed_features_that_are_none_are_a_message(artifacts):
    table = pl.read_parquet(artifacts / "features.parquet")
    name = table.columns[1]
    config = stage_config("inference", flags={"artifacts": str(artifacts)})
    for other, finding in (
        (table.drop(name), name),
        (table.drop("shop_id"), "column `shop_id` is missing; expected text"),
        (table.head(0), "holds no row"),
        (table.with_columns(pl.col(name).cast(pl.String)), "should hold numbers"),
    ):
        other.write_parquet(artifacts.parent / "other.parquet")
        content = (artifacts.parent / "other.parquet").read_bytes()
        seal(artifacts, "features.parquet", content)
        with pytest.raises(ArtifactError, match=f"cannot be used.*{finding}"):
            explain_shop(artifacts, table["shop_id"][0])
        with pytest.raises(ArtifactError, match=f"cannot be used.*{finding}"):
            run_inference(config)


def test_a_sealed_archive_that_is_none_is_a_message(artifacts):
    path = artifacts / "sales.parquet"
    whole = path.read_bytes()
    table = pl.read_parquet(path)
    contents = [whole[: len(whole) // 2]]
    for other in (table.drop("sales_qty"), table.head(0)):
        other.write_parquet(artifacts.parent / "other")
        contents.append((artifacts.parent / "other").read_bytes())
    for content in contents:
        seal(artifacts, path.name, content)
        with pytest.raises(ArtifactError, match=r"sales\.parquet` cannot be used"):
            Artifacts(artifacts, RETAILERS).published().path(path.name)


def test_a_damaged_page_of_a_sealed_archive_is_a_message(artifacts):
    """Its footer is whole, so that only who reads the rows can tell."""
    path = artifacts / "sales.parquet"
    content = bytearray(path.read_bytes())
    quarter = len(content) // 4
    content[2 * quarter : 3 * quarter] = b"\xff" * quarter
    seal(artifacts, path.name, content)
    archive = Artifacts(artifacts, RETAILERS).published().path(path.name)
    with pytest.raises(ArtifactError, match=r"sales\.parquet` cannot be used"):
        archived_months(archive)


def test_a_sealed_table_of_months_without_a_row_is_a_message(artifacts):
    pl.read_parquet(artifacts / "monthly.parquet").head(0).write_parquet(
        artifacts.parent / "other"
    )
    content = (artifacts.parent / "other").read_bytes()
    seal(artifacts, "monthly.parquet", content)
    with pytest.raises(
        ArtifactError, match=r"monthly\.parquet` cannot be used.*no row"
    ):
        profile_segments(artifacts)


def formulas(folder):
    """Return the cells that a spreadsheet would run, of names and of ids."""
    found = {"names": set(), "ids": set()}
    for path in folder.glob("*.csv"):
        table = pl.read_csv(path, infer_schema=False)
        for column, kind in (("segment_name", "names"), ("shop_id", "ids")):
            if column in table.columns:
                cells = table[column].drop_nulls()
                found[kind] |= set(cells.filter(cells.str.contains("^[=+@-]")))
    return found


def test_names_are_no_formulas_in_a_spreadsheet_and_ids_only_where_asked(
    artifacts, tmp_path
):
    rename_segment(artifacts, 0, '=HYPERLINK("http://x")')
    config = stage_config("inference", flags={"artifacts": str(artifacts)})
    run_inference(config)
    assert formulas(artifacts) == {"names": set(), "ids": set()}
    assert "'=HYPERLINK" in (artifacts / "cluster_predictions.csv").read_text("utf-8")
    assert Model.load(artifacts).segments.published.names[0].startswith("=HYPER")
    rows = generate_sales(SampleConfig(n_shops=40), seed=8).rows
    rows = rows.with_columns(shop_id="=" + pl.col("shop_id"))
    run_inference(config, rows)
    assert len(formulas(artifacts)["ids"]) == 40, "ids are what systems join by"
    safe = config.model_copy(update={"csv_safety": "all"})
    run_inference(safe, rows)
    assert formulas(artifacts) == {"names": set(), "ids": set()}
    run_inference(safe, rows, tmp_path / "new.parquet")
    assert (
        pl.read_parquet(tmp_path / "new.parquet")["shop_id"].str.starts_with("=").all()
    )


def test_excluded_ids_that_were_defused_are_known_again(tmp_path):
    rows = generate_sales(SampleConfig(n_shops=60), seed=3).rows
    rows = rows.with_columns(shop_id="=" + pl.col("shop_id"))
    short = rows.filter(pl.col("shop_id") == rows["shop_id"][0]).head(1)
    rest = rows.filter(pl.col("shop_id") != rows["shop_id"][0])
    options = {"csv_safety": "all", "clustering": {"min_cluster_size": 5}}
    config = Config.model_validate({"artifacts": str(tmp_path), **options})
    prepare_features(config, pl.concat([rest, short]))
    assert formulas(tmp_path)["ids"] == set()
    published = Artifacts(tmp_path, RETAILERS).published()
    assert short["shop_id"][0] in exclusions_of(published)["shop_id"]
