"""What can be wrong with a row of orders or items, as the bits of one number."""

from __future__ import annotations

ROW = "__row__"
MARKS = "__marks__"

# Faults set a row aside, first those of the row itself, then those that other rows
# show; repairs are cells that were put right on the way. In the order of the reasons.
OWN_FAULTS = {
    "orders": (
        "ragged_line",
        "missing_customer",
        "missing_order",
        "impossible_date",
        "invalid_total",
    ),
    "items": (
        "ragged_line",
        "missing_order",
        "missing_product",
        "invalid_quantity",
        "invalid_price",
    ),
}
LATER_FAULTS = {
    "orders": ("refund", "negative", "repeated_order", "after_reference"),
    "items": (
        "refund",
        "negative",
        "ambiguous_order",
        "unknown_order",
        "order_set_aside",
    ),
}
REPAIRS = {
    "orders": (
        "float_id",
        "with_offset",
        "unusable_discount",
        "negative_discount",
        "empty_discount",
        "unknown_source",
    ),
    "items": (
        "float_id",
        "unusable_refund",
        "negative_refund",
        "empty_refund",
        "unknown_category",
    ),
}
BITS = {
    table: {
        name: 1 << i
        for i, name in enumerate(
            (*OWN_FAULTS[table], *LATER_FAULTS[table], *REPAIRS[table])
        )
    }
    for table in ("orders", "items")
}
OWN_BITS = {
    table: sum(BITS[table][name] for name in names)
    for table, names in OWN_FAULTS.items()
}
