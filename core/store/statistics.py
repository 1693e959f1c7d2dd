"""How many customers there are in each segment, counted where they are stored.

Who is not placed on an axis has a name there, too (`not_enough_orders`, `no_items`),
but strength 0; a name with which nobody has any strength is no segment.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

_COUNTS = text("""
    SELECT axis, segment, count(*),
           max((membership_strengths ->> axis)::double precision) > 0
    FROM customer_profiles, jsonb_each_text(segment_memberships) AS _ (axis, segment)
    WHERE store_id = :store_id
    GROUP BY axis, segment
    ORDER BY axis, segment
""")
_CUSTOMERS = text("""
    SELECT count(*), count(*) FILTER (
        WHERE jsonb_path_exists(membership_strengths, '$.* ? (@ > 0)')
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
        `axes_count`; `segments_per_axis`, without the names of those not placed; and
        `segment_distribution`, customers per axis and name, with them.
    """
    values = {"store_id": store_id}
    total, placed = connection.execute(_CUSTOMERS, values).one()
    distribution: dict[str, dict[str, int]] = {}
    n_segments: dict[str, int] = {}
    for axis, name, count, is_segment in connection.execute(_COUNTS, values):
        distribution.setdefault(axis, {})[name] = count
        n_segments[axis] = n_segments.get(axis, 0) + bool(is_segment)
    return {
        "total_customers": total,
        "customers_with_segments": placed,
        "axes_count": len(distribution),
        "segments_per_axis": n_segments,
        "segment_distribution": distribution,
    }


def no_statistics() -> dict[str, Any]:
    """Return the same of a store that nothing was ever loaded into."""
    return {
        "total_customers": 0,
        "customers_with_segments": 0,
        "axes_count": 0,
        "segments_per_axis": {},
        "segment_distribution": {},
    }
