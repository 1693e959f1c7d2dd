"""How many customers there are in each segment, counted where they are stored."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

UNPLACED = "not_enough_orders"
"""Name on an axis that a customer could not be placed on."""

_COUNTS = text("""
    SELECT axis, segment, count(*)
    FROM customer_profiles, jsonb_each_text(segment_memberships) AS _ (axis, segment)
    WHERE store_id = :store_id
    GROUP BY axis, segment
    ORDER BY axis, segment
""")
_CUSTOMERS = text("""
    SELECT count(*), count(*) FILTER (
        WHERE jsonb_path_exists(
            segment_memberships, '$.* ? (@ != $unplaced)',
            jsonb_build_object('unplaced', CAST(:unplaced AS text))
        )
    )
    FROM customer_profiles
    WHERE store_id = :store_id
""")


def store_statistics(connection: Connection, store_id: str) -> dict[str, Any]:
    """Count a store's customers by axis and segment.

    Returns
    -------
    dict
        `total_customers`; `customers_with_segments`, those placed on one axis at least;
        `axes_count`; `segments_per_axis`, which leaves out `UNPLACED`; and
        `segment_distribution`, customers per axis and segment, with `UNPLACED`.
    """
    total, placed = connection.execute(
        _CUSTOMERS, {"store_id": store_id, "unplaced": UNPLACED}
    ).one()
    distribution: dict[str, dict[str, int]] = {}
    for axis, segment, count in connection.execute(_COUNTS, {"store_id": store_id}):
        distribution.setdefault(axis, {})[segment] = count
    return {
        "total_customers": total,
        "customers_with_segments": placed,
        "axes_count": len(distribution),
        "segments_per_axis": {
            axis: len(counts.keys() - {UNPLACED})
            for axis, counts in distribution.items()
        },
        "segment_distribution": distribution,
    }
