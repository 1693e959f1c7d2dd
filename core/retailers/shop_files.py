"""Files of shops: a CSV file per segment and one Excel workbook, to act on.

``segments/0-average.csv`` and its like hold the shops of one segment, largest sales
first; ``unassigned.csv`` those in none, and ``not-segmented.csv`` those that were not
eligible, with the reason. ``segments.xlsx`` holds the same, a sheet each; of more shops
than a sheet can hold, the largest of every segment.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.reading import ArtifactSet
from core.retailers.features import SHOP
from core.scratch import temporary_folder
from core.segments.published import UNASSIGNED, PublishedSegments
from core.tables.parts import split_by

if TYPE_CHECKING:
    from xlsxturbo.types import ColumnFormat, SheetOptions

FOLDER: Final = "segments"
WORKBOOK: Final = "segments.xlsx"
NOT_SEGMENTED: Final = "not-segmented"
SHOPS: Final = "shops.parquet"
SHOPS_SCHEMA: Final = pl.Schema(
    {
        "shop_id": pl.String,
        "segment": pl.Int32,
        "sub_segment": pl.String,
        "state": pl.String,
        SHOP.size_column: pl.Float64,
        "share_of_sales": pl.Float64,
        "strength": pl.Float64,
        "nearest_segment": pl.Int32,
        "changing": pl.String,
        "changing_to": pl.Int32,
        "changing_since": pl.String,
        "reason": pl.String,
    }
)
"""Columns of ``shops.parquet``, which the files are made from.

A row per shop: those of a segment first, largest sales first, then those that were not
eligible, of which only ``state`` and ``reason`` are known. ``share_of_sales`` is of all
segmented shops; ``strength`` is null where segments are not of kind ``density``.
"""
MOST_ROWS: Final = 1_048_575
"""Shops in a workbook: the rows of a sheet below its header, by Excel's limit."""
_LONGEST_CELL = 32_767
_LONGEST_SHEET = 31
_TITLES = {
    "shop_id": "Shop",
    "segment": "Segment id",
    "segment_name": "Segment",
    "sub_segment": "Sub-segment id",
    "sub_segment_name": "Sub-segment",
    "state": "State",
    SHOP.size_column: "Sales, last 12 months",
    "share_of_sales": "Share of sales",
    "strength": "Strength",
    "nearest_segment_name": "Nearest other segment",
    "changing": "Changing",
    "changing_to_name": "Changing to",
    "changing_since": "Changing since",
    "reason": "Reason",
}
# Left out of the files where no shop has one.
_OPTIONAL = {
    *("sub_segment", "sub_segment_name", "strength", "nearest_segment_name"),
    *("changing", "changing_to_name", "changing_since"),
}
_FORMATS: dict[str, ColumnFormat] = {
    "Sales, last 12 months": {"num_format": "#,##0"},
    "Share of sales": {"num_format": "0.0000%"},
    "Share of shops": {"num_format": "0.00%"},
    "Strength": {"num_format": "0.00"},
}


def segment_file(segment: int, name: str) -> str:
    """Return the name of a segment's file: safe on every system, unique by the id.

    >>> segment_file(0, "Spring peak, no trend"), segment_file(3, "Läden <Süd>")
    ('segments/0-spring-peak-no-trend.csv', 'segments/3-laden-sud.csv')
    >>> segment_file(-1, "unassigned"), segment_file(2, "Магазины")
    ('segments/unassigned.csv', 'segments/2.csv')
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:40].rstrip("-")
    number = [] if segment == UNASSIGNED else [str(segment)]
    return f"{FOLDER}/{'-'.join([*number, *([slug] if slug else [])])}.csv"


def write_shops(
    out: StageWriter,
    table: Path,
    exclusions: pl.LazyFrame,
    published: PublishedSegments,
) -> None:
    """Write ``shops.parquet`` and the files made from it.

    Parameters
    ----------
    out : StageWriter
        Of ``inference`` or ``refresh``.
    table : Path
        Features beside labels, as `core.retailers.scored.write_scored` leaves them; not
        there if no shop was labelled.
    exclusions : LazyFrame
        ``shop_id``, ``state`` and ``reason`` of the shops that are not eligible, by
        ascending id.
    published : PublishedSegments
    """
    path = out.path(SHOPS)
    write_shop_table(table, exclusions, published, path)
    _write_files(out, pl.scan_parquet(path, glob=False), published)


def write_shop_table(
    table: Path, exclusions: pl.LazyFrame, published: PublishedSegments, path: Path
) -> None:
    """Write all shops as `SHOPS_SCHEMA`; the others as for `write_shops`."""
    with temporary_folder() as work:
        parts = [exclusions.select("shop_id", "state", "reason")]
        if table.exists():
            has_strength = published.kind == "density"
            parts[:0] = _by_sales(_segmented(table, has_strength), work)
        empty = pl.LazyFrame(schema=SHOPS_SCHEMA)
        found = pl.concat([empty, *parts], how="diagonal_relaxed")
        found.select(*SHOPS_SCHEMA).sink_parquet(path)


def exported_shops(shops: pl.DataFrame, published: PublishedSegments) -> pl.DataFrame:
    """Return the shops of `SHOPS` as `core.segments.export` takes them."""
    parts = {i: part.name for i, part in published.parts.items()}
    return shops.select(
        "shop_id",
        pl.lit("segment").alias("axis"),
        "segment",
        _said("segment", published.names).fill_null("not segmented"),
        "sub_segment",
        _said("sub_segment", parts),
        "strength",
    )


def rewrite_files(
    out: StageWriter, base: ArtifactSet, published: PublishedSegments
) -> None:
    """Write the files of shops anew under the names of `published`.

    Nothing is written of a set by an earlier version, which has none.
    """
    if SHOPS in base.manifest.files:
        _write_files(out, base.table(SHOPS).lazy(), published)


def _by_sales(shops: pl.LazyFrame, work: Path) -> list[pl.LazyFrame]:
    """Return shops in parts, the largest sales first; `work` takes interim files."""
    n_shops = shops.select(pl.len()).collect().item()
    files = split_by(shops, SHOP.size_column, n_shops, work / "parts")
    parts = [pl.scan_parquet(file, glob=False) for file in reversed(files)] or [shops]
    in_order = [SHOP.size_column, "shop_id"]
    if len(parts) == 1:
        return [parts[0].sort(in_order, descending=[True, False])]
    for number, part in enumerate(parts):
        path = work / f"{number}.parquet"
        part.sort(in_order, descending=[True, False]).collect().write_parquet(path)
        parts[number] = pl.scan_parquet(path, glob=False)
    return parts


def _segmented(table: Path, has_strength: bool) -> pl.LazyFrame:
    """Return the labelled shops."""
    shops, sales = pl.scan_parquet(table, glob=False), pl.col(SHOP.size_column)
    total = shops.select(sales.cast(pl.Float64).sum()).collect().item()
    sales = sales.cast(pl.Float64)
    # Where nothing was sold, no shop has a share.
    share = sales / total if total else pl.lit(None, pl.Float64)
    strength = pl.col("latent_cluster_strength") if has_strength else pl.lit(None)
    return shops.select(
        *("shop_id", "segment", "sub_segment", "state"),
        sales,
        share_of_sales=share,
        strength=strength.cast(pl.Float64),
        nearest_segment="nearest_segment",
        changing="changing",
        changing_to="changing_to",
        changing_since="changing_since",
    )


def _write_files(
    out: StageWriter, shops: pl.LazyFrame, published: PublishedSegments
) -> None:
    """Write the CSV files and the workbook."""
    named = _named(shops, published)
    tables: dict[str, tuple[str, pl.LazyFrame]] = {}
    for segment in published.segments:
        mark = "" if segment.id == UNASSIGNED else f"{segment.id} "
        own = named.filter(segment=segment.id)
        file = segment_file(segment.id, segment.name)
        tables[file] = f"{mark}{segment.name}", own
    rest = shops.filter(pl.col("segment").is_null())
    others = rest.select("shop_id", "state", "reason")
    tables[f"{FOLDER}/{NOT_SEGMENTED}.csv"] = "not segmented", others
    n_shops = shops.select(pl.len()).collect().item()
    shown = min(MOST_ROWS / n_shops, 1.0) if n_shops else 1.0
    sheets = {}
    for file, (title, table) in tables.items():
        out.write_csv(file, table)
        n_own = table.select(pl.len()).collect().item()
        sheets[title] = table.head(int(n_own * shown)).collect()
    overview = _overview(shops, published)
    if shown < 1:
        note = f"Sheets hold the largest of {n_shops:,} shops, CSV files all of them"
        overview = pl.concat(
            [overview, pl.DataFrame({"Segment": [note]})], how="diagonal"
        )
    _write_workbook(out.path(WORKBOOK), {"Segments": overview} | sheets)


def _named(shops: pl.LazyFrame, published: PublishedSegments) -> pl.LazyFrame:
    """Return the columns that hold something, with names beside or instead of ids."""
    parts = {i: part.name for i, part in published.parts.items()}
    named = shops.select(
        *("shop_id", "segment"),
        _said("segment", published.names),
        "sub_segment",
        _said("sub_segment", parts),
        *("state", SHOP.size_column, "share_of_sales", "strength"),
        _said("nearest_segment", published.names),
        "changing",
        _said("changing_to", published.names),
        "changing_since",
    )
    n_known = named.select(pl.all().count()).collect().row(0, named=True)
    return named.drop(name for name in _OPTIONAL if not n_known[name])


def _said(column: str, names: Mapping[Any, str]) -> pl.Expr:
    """Return the names of a column's ids, as a column of its own."""
    said = pl.col(column).replace_strict(names, default=None, return_dtype=pl.String)
    return said.alias(f"{column}_name")


def _overview(shops: pl.LazyFrame, published: PublishedSegments) -> pl.DataFrame:
    """Return the first sheet: shops and sales of every segment and sub-segment."""
    used = ("segment", "sub_segment", SHOP.size_column, "share_of_sales")
    known = shops.select(used).collect()
    n_segmented = int(known["segment"].count())

    def row(
        key: str, name: str, column: str, part_of: str | None = None
    ) -> tuple[object, ...]:
        own = known.filter(pl.col(column).cast(pl.String) == key)
        sales, share = own[SHOP.size_column].sum(), own["share_of_sales"].sum()
        n_shops = own.height
        return key, name, part_of, n_shops, n_shops / max(n_segmented, 1), sales, share

    rows = []
    for segment in published.segments:
        rows.append(row(str(segment.id), segment.name, "segment"))
        rows += [
            row(part.id, part.name, "sub_segment", segment.name)
            for part in segment.parts
        ]
    n_others = known.height - n_segmented
    rows.append((None, "not segmented", None, n_others, None, None, None))
    columns = ["Segment id", "Segment", "Part of", "Shops", "Share of shops"]
    columns += [_TITLES[SHOP.size_column], _TITLES["share_of_sales"]]
    return pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)


def _write_workbook(path: Path, tables: Mapping[str, pl.DataFrame]) -> None:
    """Write a workbook with a sheet per table.

    Text is written as text: what begins like a formula is none.
    """
    from xlsxturbo import dfs_to_xlsx

    sheets = []
    for title, table in tables.items():
        shown = table.rename(_TITLES, strict=False).with_columns(
            pl.col(pl.String).str.head(_LONGEST_CELL)
        )
        formats = {
            name: form for name, form in _FORMATS.items() if name in shown.columns
        }
        widths = {place: _width(name) for place, name in enumerate(shown.columns)}
        options: SheetOptions = {"column_formats": formats, "column_widths": widths}
        sheets.append((shown, _sheet_name(title), options))
    dfs_to_xlsx(
        sheets,
        path,
        freeze_panes=True,
        autofilter=True,
        header_format={"bold": True},
        constant_memory=True,
        compression_level=3,
    )


def _width(title: str) -> float:
    """Return a column's width in characters."""
    return (
        30.0 if title in {"Segment", "Reason", "Part of"} else max(12.0, len(title) + 4)
    )


def _sheet_name(title: str) -> str:
    """Return a name that Excel takes, unique as titles begin with the segment's id.

    >>> _sheet_name("0 Steady: all year / average size")
    '0 Steady  all year   average si'
    """
    plain = re.sub(r"[\[\]:*?/\\\\]", " ", title)
    # Excel counts in units of UTF-16.
    units = plain.encode("utf-16-le")[: 2 * _LONGEST_SHEET]
    return units.decode("utf-16-le", "ignore").strip("' ")
