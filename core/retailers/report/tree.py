"""Segments and their sub-segments in one table, and the part of the report on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from core.reporting.page import Part, Table
from core.reporting.text import MISSING, count, share
from core.retailers.features import MOMENTUM, SHOP
from core.retailers.report.differences import differences
from core.retailers.report.evidence import report_line
from core.segments.profiles import cluster_contrasts
from core.segments.published import UNASSIGNED, PublishedSegments, Segment

TREE: Final = "segment_tree.csv"
TREE_SCHEMA: Final = pl.Schema(
    {
        "level": pl.Int64,
        "id": pl.String,
        "name": pl.String,
        "parent": pl.String,
        "kind": pl.String,
        "is_leaf": pl.Boolean,
        "n_shops": pl.Int64,
        "share": pl.Float64,
        "sales_share": pl.Float64,
        "differences": pl.String,
        "evidence": pl.String,
    }
)
"""Columns of `segment_tree`.

``level``, ``parent``
    1 and null of a segment, 2 and its segment's id of a sub-segment.
``is_leaf``
    Whether it is not divided further: these rows together are the flat view.
``n_shops``, ``share``, ``sales_share``
    Shops; their share of all in the table, and of the sales of the last 12 months.
``differences``
    What sets it apart: a segment from all other shops, a sub-segment from the others
    in its segment.
``evidence``
    What it rests on, as a sentence.
"""


_SHOWN = 3
"""Differences in the report's table; the file has them all."""


Contrasts = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows of `core.segments.profiles.cluster_contrasts` by id, of sub-segments too."""


def contrasts_by_id(
    table: Path, published: PublishedSegments, features: Sequence[str]
) -> Contrasts:
    """Return how far each segment lies from the others, and each part from the rest.

    Parameters
    ----------
    table : Path
        Features beside labels, as `core.retailers.scored.write_scored` leaves
        them; not there if no shop was labelled.
    published : PublishedSegments
    features : sequence of str
        Those that tell the segments; parts of a segment are looked at by momentum, too.
    """
    if not table.exists():
        return {}
    shops = pl.scan_parquet(table, glob=False)
    found = cluster_contrasts(shops, "segment", features)
    rows = {
        str(s.id): found.filter(cluster=s.id).to_dicts() for s in published.segments
    }
    told = [*dict.fromkeys([*features, *MOMENTUM])]
    for segment in published.segments:
        place = {part.id: number for number, part in enumerate(segment.parts)}
        if not place:
            continue
        own = shops.filter(pl.col("segment") == segment.id).with_columns(
            part=pl.col("sub_segment").replace_strict(place, return_dtype=pl.Int64)
        )
        found = cluster_contrasts(own, "part", told)
        rows |= {i: found.filter(cluster=n).to_dicts() for i, n in place.items()}
    return rows


def segment_tree(
    table: Path, published: PublishedSegments, contrasts: Contrasts
) -> pl.DataFrame:
    """Return a row per published segment, and after it one per sub-segment.

    Parameters
    ----------
    table : Path
        As for `contrasts_by_id`.
    published : PublishedSegments
    contrasts : mapping of str to sequence of mapping
        `contrasts_by_id` of them.

    Returns
    -------
    DataFrame
        `TREE_SCHEMA`; segments by id, the unassigned last.
    """
    shops = pl.scan_parquet(table, glob=False) if table.exists() else None
    sizes = {} if shops is None else _sizes(shops)
    n_shops, sales = (
        sum(n for i, n in column.items() if i.lstrip("-").isdigit())
        for column in ({i: s[place] for i, s in sizes.items()} for place in (0, 1))
    )
    rows = [
        row
        | {
            "n_shops": sizes.get(row["id"], (0, 0.0))[0],
            "share": sizes.get(row["id"], (0, 0.0))[0] / max(n_shops, 1),
            "sales_share": sizes.get(row["id"], (0, 0.0))[1] / sales if sales else None,
            "differences": "; ".join(
                told.text for told in differences(contrasts.get(row["id"], ()))
            ),
        }
        for segment in published.segments
        for row in _rows(segment, published)
    ]
    return pl.DataFrame(rows, schema=TREE_SCHEMA)


def _rows(segment: Segment, published: PublishedSegments) -> Iterator[dict[str, Any]]:
    """Yield what is published of a segment and of its sub-segments."""
    division, verdict = segment.division, published.verdict
    standing = "certified" if verdict.is_certified else "provisional"
    told = f"{verdict.kind} ({standing}): {verdict.meaning(SHOP)}"
    if division is not None and division.reason and not segment.parts:
        told += f"; not divided: {division.reason}"
    yield {
        "level": 1,
        "id": str(segment.id),
        "name": segment.name,
        "parent": None,
        "kind": segment.kind,
        "is_leaf": not segment.parts,
        "evidence": f"{told}.",
    }
    for part in segment.parts:
        assert division is not None  # it has parts
        yield {
            "level": 2,
            "id": part.id,
            "name": part.name,
            "parent": str(segment.id),
            "kind": part.kind,
            "is_leaf": True,
            "evidence": f"{report_line('division_kind', kind=part.kind)}: "
            f"{division.reason}.",
        }


def _sizes(shops: pl.LazyFrame) -> dict[str, tuple[int, float]]:
    """Return shops and sales by id, of segments and of sub-segments."""
    sales = pl.col(SHOP.size_column).sum().cast(pl.Float64)
    found: dict[str, tuple[int, float]] = {}
    for column in ("segment", "sub_segment"):
        sizes = (
            shops.filter(pl.col(column).is_not_null())
            .group_by(pl.col(column).cast(pl.String).alias("id"))
            .agg(pl.len(), sales)
            .collect()
        )
        found |= {i: (n, total) for i, n, total in sizes.iter_rows()}
    return found


def segment_rows(tree: pl.DataFrame, sure: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the segments as the closing table and the model card show them.

    Parameters
    ----------
    tree : DataFrame
        `segment_tree`.
    sure : mapping of str to str
        How sure each is, by id.
    """
    return [
        {
            "segment": f"{row['id']} {row['name']}".removeprefix(f"{UNASSIGNED} "),
            "shops": count(row["n_shops"]),
            "share": share(row["share"]),
            "share of sales": share(row["sales_share"]),
            "how sure": sure[row["id"]] or MISSING,
        }
        for row in tree.to_dicts()
    ]


def inside_sentences(published: PublishedSegments) -> list[str]:
    """Say of every large segment what it is divided into, or why it is left whole."""
    return [
        report_line("division", segment=segment, division=segment.division)
        for segment in published.segments
        if segment.division is not None and segment.division.reason
    ]


def inside_part(published: PublishedSegments, tree: pl.DataFrame) -> Part | None:
    """Return the part on segments within segments; None where none is large.

    Parameters
    ----------
    published : PublishedSegments
    tree : DataFrame
        `segment_tree` of the same.
    """
    sentences = inside_sentences(published)
    if not sentences:
        return None
    divided = tree.filter(~pl.col("is_leaf"))["id"]
    shown = tree.filter(
        pl.col("id").is_in(divided.implode())
        | pl.col("parent").is_in(divided.implode())
    )
    rows = [_row(row) for row in shown.to_dicts()]
    words = frozenset({"segment", "what it is", "what sets it apart"})
    caption = report_line("division_table")
    tables = [Table(caption, rows, words)] if rows else []
    return Part("Segments within segments", sentences, tables=tables)


def _row(row: dict[str, Any]) -> dict[str, str]:
    """Return a line of the report's table as text."""
    is_part = row["level"] > 1
    kind = report_line("division_kind", kind=row["kind"]) if is_part else "a segment"
    return {
        "segment": f"{row['id']} {row['name']}",
        "what it is": kind,
        "shops": count(row["n_shops"]),
        "share": share(row["share"]),
        "share of sales": share(row["sales_share"]),
        "what sets it apart": "; ".join(row["differences"].split("; ")[:_SHOWN]),
    }
