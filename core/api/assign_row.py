"""Segment of one row of a feature table from a request, the way a batch is placed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import ValidationError

from core.api.middleware import field_error, from_validation
from core.api.schemas import AssignRow
from core.axes.features.catalog import PROFILE
from core.errors import SegmentsError
from core.models.centroids import NOWHERE
from core.tabular.files import AXIS
from core.tabular.rows import ID

if TYPE_CHECKING:
    from core.tabular.assign import TableAssigner

NOTHING_KNOWN = "every column that counts is null"


def read_row(body: bytes) -> AssignRow:
    """Return the request in a body of JSON.

    Raises
    ------
    FieldError
        Naming each field that is not as it should be.
    """
    try:
        return AssignRow.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error) from None


def assign_row(assigner: TableAssigner, request: AssignRow) -> dict[str, Any]:
    """Return the answer to a request: `core.api.schemas.AssignedSegments`, JSON-able.

    Columns that the segments were not learnt from are passed over, as those of a file
    are.

    Raises
    ------
    FieldError
        If a column that counts is left out, or holds another type.
    """
    row = pl.DataFrame({name: [value] for name, value in request.features.items()})
    try:
        encoded = assigner.encoding.encode(row)
    except SegmentsError as error:
        raise field_error(("body", "features"), str(error).removesuffix(".")) from None
    encoded = encoded.insert_column(0, pl.Series(ID, [request.customer_id]))
    placed = assigner.model.assign(encoded)
    own = assigner.profiles(encoded, placed).row(0, named=True)
    is_nowhere = int(placed[AXIS].labels[0]) == NOWHERE
    runners_up = own["runner_up_segments"]
    return {
        "customer_id": request.customer_id,
        "segment_memberships": own["segment_memberships"],
        "dominant_segments": own["segment_memberships"],
        "membership_strengths": own["membership_strengths"],
        "confidence": own["confidence"],
        "runner_up_segments": {axis: name for axis, name in runners_up.items() if name},
        "model_version": assigner.version,
        **dict.fromkeys(PROFILE),
        "last_updated": None,
        "reference_date": f"{assigner.reference_date.isoformat()}Z",
        "set_aside": {"orders": {}, "items": {}},
        "not_placed": {AXIS: NOTHING_KNOWN} if is_nowhere else {},
    }
