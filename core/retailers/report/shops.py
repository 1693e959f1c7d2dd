"""Every shop in the report: a table to search, and where it lies on the map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from core.evaluation.quality import project_2d
from core.models.scaling import feature_matrix
from core.reporting.explorer import MOST_SHOWN, OUTSIDE, explorer, map_view
from core.reporting.page import Table
from core.reporting.text import count
from core.retailers.features import SHOP
from core.retailers.model import Model
from core.retailers.report.cards import Card
from core.segments.published import UNASSIGNED, UNASSIGNED_NAME, PublishedSegments
from core.segments.states import STATES

NOT_SEGMENTED: Final = "not segmented"
_GREY: Final = (UNASSIGNED_NAME, NOT_SEGMENTED)
_TITLES: Final = {
    "shop_id": "Shop",
    "segment": "Segment",
    "sub_segment": "Sub-segment",
    "state": "State",
    "sales": "Sales, last 12 months",
    "strength": "Strength",
    "nearest": "Nearest other segment",
    "reason": "Why not segmented",
}
_LARGEST: Final = 10
_FILTERS: Final = ("segment", "sub_segment", "state", "reason")


def shop_explorer(everyone: pl.LazyFrame, scored: Path, model: Model) -> dict[str, Any]:
    """Pack all shops for the page, the largest first, those without a segment last.

    Parameters
    ----------
    everyone : LazyFrame
        `core.retailers.shop_files.write_shop_table` has written it.
    scored : Path
        Features beside labels, `core.retailers.scored.write_scored` has.
    model : Model
        What labelled them.

    Returns
    -------
    dict
        See `core.reporting.explorer.explorer`.
    """
    n_all = everyone.select(pl.len()).collect().item()
    shops = everyone.head(MOST_SHOWN).collect()
    features = pl.scan_parquet(scored, glob=False).select("shop_id", *model.features)
    if n_all > shops.height:
        only = shops.lazy().select("shop_id")
        features = features.join(only, on="shop_id", how="semi", maintain_order="left")
    named = _named(shops, model.segments.published)
    segments = named.filter(pl.col("reason").is_null()).select("shop_id", "segment")
    placed = features.collect().join(segments, on="shop_id", maintain_order="left")
    points = project_2d(_space(placed, model))[0]
    places, view = map_view(points, placed["segment"], _GREY)
    whole = named.join(
        placed.select("shop_id").hstack(places),
        on="shop_id",
        how="left",
        maintain_order="left",
    ).with_columns(pl.col("x", "y").fill_null(OUTSIDE))
    shown = {
        name: title
        for name, title in _TITLES.items()
        if whole[name].null_count() < whole.height
    }
    filters = [name for name in _FILTERS if name in shown]
    table = whole.select(*shown, "x", "y")
    return explorer(table, shown, SHOP, filters, view, n_all=n_all)


def _named(shops: pl.DataFrame, published: PublishedSegments) -> pl.DataFrame:
    """Return what is shown of shops, names as types of their own."""
    ids = sorted(s.id for s in published.segments if s.id != UNASSIGNED)
    names = {i: f"{i} {published.names[i]}" for i in ids}
    segments = names | {UNASSIGNED: UNASSIGNED_NAME, None: NOT_SEGMENTED}
    parts = {part.id: f"{part.id} {part.name}" for part in published.parts.values()}

    def named(column: str, told: Mapping[Any, str]) -> pl.Expr:
        dtype = pl.Enum(told.values())
        return pl.col(column).replace_strict(told, default=None, return_dtype=dtype)

    return shops.select(
        "shop_id",
        segment=named("segment", segments),
        sub_segment=named("sub_segment", parts),
        state=pl.col("state").cast(pl.Enum(STATES), strict=False),
        sales=pl.col(SHOP.size_column).round_sig_figs(2),
        strength=pl.col("strength").round(2),
        nearest=named("nearest_segment", names),
        reason=pl.col("reason").cast(
            pl.Enum(shops["reason"].unique().drop_nulls().sort())
        ),
    )


def _space(features: pl.DataFrame, model: Model) -> np.ndarray:
    """Return the shops in the space in which their segments were found."""
    scaled = model.scaler.transform(feature_matrix(features, model.features))
    is_density = model.segments.published.kind == "density"
    return model.encoder.transform(scaled) if is_density else scaled


def largest_shops(everyone: pl.LazyFrame, cards: Sequence[Card]) -> Table:
    """Return the ten largest shops of every segment, for who sees no other table.

    Parameters
    ----------
    everyone : LazyFrame
        As for `shop_explorer`.
    cards : sequence of Card
    """
    rows = []
    for card in cards:
        if card.parent is None:
            own = everyone.filter(segment=int(card.id)).select("shop_id")
            ids = own.head(_LARGEST).collect()["shop_id"]
            rows.append(
                {
                    "segment": card.title,
                    "shops": count(card.size),
                    "largest by sales": ", ".join(ids),
                    "all of them": card.file,
                }
            )
    texts = frozenset({"segment", "largest by sales", "all of them"})
    return Table("The largest shops of each segment, and the file of all.", rows, texts)
