"""New customers assigned by published rules, with the thresholds that these have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from core.artifacts.folder import Artifacts
from core.artifacts.reading import ArtifactSet
from core.baskets.files import FILES, baskets_folder
from core.baskets.intake import account_lines, read_baskets
from core.baskets.model import BasketsAssigner
from core.baskets.rows import N_ORDERS, REASON, rows_of
from core.baskets.schema import ID
from core.config import Config
from core.logging import get_logger
from core.reporting.text import plural, share
from core.scratch import temporary_folder
from core.segments.memberships import nothing_published


@dataclass(frozen=True)
class Scored:
    """Customers with their segments.

    Attributes
    ----------
    table : DataFrame
        A row per customer: ``customer_id``, ``segment_id``, ``segment``, the features
        of the rules, ``total_orders`` and ``reason`` (null for who is in a segment);
        the segments as those of a run, null where the reason stands.
    version : int
        Of the model.
    account : dict
        Rows read, kept and set aside; see `core.baskets.intake.account_lines`.
    """

    table: pl.DataFrame
    version: int
    account: dict[str, Any]

    def lines(self) -> Iterator[str]:
        """Yield what became of the rows and of the customers."""
        yield from account_lines(self.account)
        placed = self.table.drop_nulls("segment_id")
        yield (
            f"{placed.height:,} of {plural(self.table.height, 'customer')} placed by "
            f"version {self.version}, with its thresholds."
        )
        for name, n in placed["segment"].value_counts(sort=True).iter_rows():
            yield f"{name}: {n:,} ({share(n / placed.height)})."
        for reason, n in self.table[REASON].value_counts(sort=True).iter_rows():
            if reason is not None:
                yield f"Not segmented: {plural(n, 'customer')}, {reason}."


def published_set(config: Config) -> ArtifactSet:
    """Return the published set of the store of a configuration.

    Raises
    ------
    ArtifactError
        If there is none, or its files have changed.
    """
    folder = baskets_folder(config.artifacts, config.baskets.store)
    published = Artifacts(folder, FILES.system).published()
    if published is None:
        raise nothing_published(FILES, folder)
    return published


def options_of(published: ArtifactSet) -> Config:
    """Return the options of a run, without its rows, to score others by."""
    config = published.manifest.config
    other = dict.fromkeys(("orders", "items", "products", "aisles"))
    return config.model_copy(
        update={"baskets": config.baskets.model_copy(update=other)}
    )


def score_customers(config: Config, published: ArtifactSet) -> Scored:
    """Assign the customers of some orders by a published model.

    Rows are read and features computed as in a run, and nothing is learnt: a customer
    alone gets the segment that it has among a million.

    Parameters
    ----------
    config : Config
        Sources, columns and fewest orders of ``baskets``.
    published : ArtifactSet

    Raises
    ------
    SourceError, SchemaError
        If the rows cannot be had or used.
    FeatureMismatchError
        If the rules ask for a feature that is not computed from them.
    """
    assigner = BasketsAssigner.of_set(published)
    get_logger().info("Reading orders and items")
    with temporary_folder() as work:
        data = read_baskets(config, work)
        rows = rows_of(data, assigner.model.rules, config.baskets.min_orders)
    orders = rows.features.select(pl.col(N_ORDERS), pl.lit(None).alias(REASON))
    placed = assigner.segments(rows.features).hstack(orders)
    kept = [name for name in placed.columns if name in rows.left_out.columns]
    parts = [placed, rows.left_out.select(kept)]
    table = pl.concat(parts, how="diagonal_relaxed").select(placed.columns).sort(ID)
    return Scored(table, assigner.version, data.account)
