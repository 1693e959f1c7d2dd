"""Files of shops: every shop in one of them, under names that every system takes."""

from __future__ import annotations

import openpyxl
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from core.artifacts.folder import Artifacts
from core.artifacts.manifest import read_manifest, verify
from core.retailers import shop_files
from core.retailers.files import RETAILERS
from core.retailers.model import published_segments
from core.retailers.publish import rename_segment
from core.retailers.shop_files import (
    SHOPS,
    WORKBOOK,
    segment_file,
    write_shop_table,
    write_shops,
)

TEXTS = {"shop_id": pl.String, "sub_segment": pl.String}
HOSTILE = ["=1+1", "@SUM(A1)", "+1", "-1", "007", "http://a.b", "1e5", "a\nb", "{=A1}"]


def read_folder(folder):
    """Return the CSV files of shops by name."""
    return {
        path.name: pl.read_csv(path, schema_overrides=TEXTS, glob=False)
        for path in sorted((folder / "segments").iterdir())
    }


def read_workbook(folder):
    """Return the cells of every sheet, below its header."""
    book = openpyxl.load_workbook(folder / WORKBOOK)
    return {sheet.title: list(sheet.iter_rows(min_row=2)) for sheet in book}


def test_every_shop_is_in_one_file_the_largest_first(trained):
    published, files = (
        published_segments(Artifacts(trained, RETAILERS).complete()),
        read_folder(trained),
    )
    names = [segment_file(s.id, s.name) for s in published.segments]
    assert {f"segments/{name}" for name in files} == {
        *names,
        "segments/not-segmented.csv",
    }
    labels = pl.read_csv(trained / "cluster_predictions.csv", schema_overrides=TEXTS)
    left_out = files.pop("not-segmented.csv")
    assert_frame_equal(
        left_out,
        labels.filter(pl.col("reason").is_not_null()).select(left_out.columns),
        check_row_order=False,
    )
    shops = pl.concat(files.values(), how="diagonal")
    assert shops.height + left_out.height == labels.height
    assert shops["shop_id"].n_unique() == shops.height
    told = ["shop_id", "segment", "segment_name", "state"]
    told += ["sub_segment"] if "sub_segment" in shops.columns else []
    segmented = labels.filter(pl.col("reason").is_null())
    assert_frame_equal(
        shops.select(told), segmented.select(told), check_row_order=False
    )
    assert shops["share_of_sales"].sum() == pytest.approx(1)
    tree = pl.read_csv(trained / "segment_tree.csv", schema_overrides={"id": pl.String})
    for name, own in files.items():
        assert own["sales_qty_last_12_months"].is_sorted(descending=True)
        assert own["segment"].n_unique() == 1, name
        row = tree.filter(id=str(own["segment"][0])).row(0, named=True)
        assert row["n_shops"] == own.height
        assert row["sales_share"] == pytest.approx(own["share_of_sales"].sum())


def test_the_workbook_holds_the_same_shops_and_sums_that_agree(trained):
    files, sheets = read_folder(trained), read_workbook(trained)
    overview = [[cell.value for cell in row] for row in sheets.pop("Segments")]
    files = {name.removesuffix(".csv"): table for name, table in files.items()}
    ids = {name.split("-")[0]: name for name in files}
    assert len(sheets) == len(files)
    assert overview[-1][1:4] == ["not segmented", None, files["not-segmented"].height]
    for title, rows in sheets.items():
        own = files[ids.get(title.split(" ")[0], title.replace(" ", "-"))]
        assert [row[0].value for row in rows] == own["shop_id"].to_list()
        if "share_of_sales" in own.columns:
            (line,) = [row for row in overview if row[0] == str(own["segment"][0])]
            assert line[1] == own["segment_name"][0]
            assert line[3] == own.height
            assert line[6] == pytest.approx(own["share_of_sales"].sum())


@pytest.fixture
def hostile(trained, tmp_path):
    """Write files of shops whose ids and segments' names are as bad as they come."""
    base = Artifacts(trained, RETAILERS).complete()
    published = published_segments(base)
    names = [
        "=HYPERLINK(1)",
        "a/b\\c:d*e?[f]",
        "'quoted'",
        "ШIRTS",
        "x" * 80,
        "CON",
        "History",
    ]
    segments = tuple(
        s.model_copy(update={"name": n}) if s.id >= 0 else s
        for s, n in zip(published.segments, [*names, "last", "unassigned"], strict=True)
    )
    published = published.model_copy(update={"segments": segments})
    n_shops = len(HOSTILE)
    table = pl.DataFrame(
        {
            "shop_id": HOSTILE,
            "segment": pl.Series([0] * n_shops, dtype=pl.Int32),
            "sub_segment": pl.Series([None] * n_shops, dtype=pl.String),
            "state": "active",
            "sales_qty_last_12_months": float(n_shops),
            "latent_cluster_strength": 0.5,
            "nearest_segment": pl.Series([1] * n_shops, dtype=pl.Int32),
            "changing": pl.Series([None] * n_shops, dtype=pl.String),
            "changing_to": pl.Series([None] * n_shops, dtype=pl.Int32),
            "changing_since": pl.Series([None] * n_shops, dtype=pl.String),
        }
    )
    table.write_parquet(tmp_path / "scored.parquet")
    rest = pl.DataFrame({"shop_id": ["=2"], "state": ["new"], "reason": ["too young"]})
    return base, published, tmp_path / "scored.parquet", rest


def write(artifacts, hostile):
    _, published, table, rest = hostile
    with Artifacts(artifacts, RETAILERS).stage(
        "inference", read_manifest(artifacts, RETAILERS).config, is_serving=True
    ) as out:
        write_shops(out, table, rest.lazy(), published)
    return published


def test_no_id_and_no_name_runs_as_a_formula_or_breaks_a_file_name(artifacts, hostile):
    published = write(artifacts, hostile)
    verify(artifacts, read_manifest(artifacts, RETAILERS))
    for name in read_folder(artifacts):
        stem = name.removesuffix(".csv")
        assert stem.replace("-", "").isascii()
        assert stem.replace("-", "").isalnum()
        assert len(name) < 60
    sheets = read_workbook(artifacts)
    assert len(sheets) == len(published.segments) + 2
    cells = [cell for rows in sheets.values() for row in rows for cell in row]
    assert {cell.data_type for cell in cells} <= {"s", "n"}, "no formula"
    assert not any(cell.hyperlink for cell in cells)
    assert [row[0].value for row in sheets["0 =HYPERLINK(1)"]] == sorted(HOSTILE)
    csv = (artifacts / segment_file(0, "=HYPERLINK(1)")).read_text("utf-8")
    assert ",'=HYPERLINK(1)," in csv, "names are defused, as in every CSV file"


def test_a_workbook_of_more_shops_than_excel_has_rows_holds_the_largest_and_says_so(
    artifacts, hostile, monkeypatch
):
    monkeypatch.setattr(shop_files, "MOST_ROWS", 5)
    write(artifacts, hostile)
    sheets = read_workbook(artifacts)
    kept = [row[0].value for row in sheets["0 =HYPERLINK(1)"]]
    assert kept == sorted(HOSTILE)[:4]
    cells = [[cell.value for cell in row] for row in sheets["Segments"]]
    assert cells[0][3] == len(HOSTILE), "counts are of all shops"
    assert "largest of 10 shops" in cells[-1][1]
    assert read_folder(artifacts)["0-hyperlink-1.csv"].height == len(HOSTILE)


def test_a_new_name_renames_the_file_and_changes_no_shop(artifacts):
    before, manifest = read_folder(artifacts), read_manifest(artifacts, RETAILERS)
    old = next(name for name in before if name.startswith("2-"))
    rename_segment(artifacts, 2, "Seaside shops")
    after = read_folder(artifacts)
    assert {*after} == {*before} - {old} | {"2-seaside-shops.csv"}
    now = read_manifest(artifacts, RETAILERS)
    verify(artifacts, now)
    assert now.files[SHOPS] == manifest.files[SHOPS]
    renamed = after.pop("2-seaside-shops.csv")
    assert set(renamed["segment_name"]) == {"Seaside shops"}
    names = ["segment_name", "nearest_segment_name"]
    assert_frame_equal(renamed.drop(names), before.pop(old).drop(names))
    for name, table in after.items():
        assert_frame_equal(
            table.drop(names, strict=False), before[name].drop(names, strict=False)
        )
    assert "2 Seaside shops" in read_workbook(artifacts)


def test_no_shop_at_all_still_gives_files(artifacts, hostile, tmp_path):
    base, published, _, rest = hostile
    write(artifacts, (base, published, tmp_path / "nothing.parquet", rest))
    files = read_folder(artifacts)
    assert len(files) == len(published.segments) + 1
    assert [table.height for table in files.values()].count(1) == 1
    assert files["not-segmented.csv"].row(0) == ("=2", "new", "too young")


def test_many_shops_are_ordered_in_parts_as_they_are_at_once(
    hostile, tmp_path, monkeypatch
):
    _, published, scored, rest = hostile
    table = pl.concat([pl.read_parquet(scored)] * 5).with_row_index("n")
    table.with_columns(
        shop_id=pl.format("{}-{}", "shop_id", pl.col("n").reverse()),
        sales_qty_last_12_months=(pl.col("n") % 7).cast(pl.Float64),
    ).write_parquet(scored)
    whole, parts = tmp_path / "whole.parquet", tmp_path / "parts.parquet"
    write_shop_table(scored, rest.lazy(), published, whole)
    monkeypatch.setattr("core.tables.parts.ROWS_AT_ONCE", 10)
    write_shop_table(scored, rest.lazy(), published, parts)
    shops = pl.read_parquet(whole)
    assert_frame_equal(pl.read_parquet(parts), shops)
    in_order = ["sales_qty_last_12_months", "shop_id"]
    segmented = shops.drop_nulls("segment")
    assert segmented.equals(segmented.sort(in_order, descending=[True, False]))
    assert shops.height == table.height + rest.height
