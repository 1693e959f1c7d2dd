"""Answers out of what the store and the model hold."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

from core.axes.assign import AxesAssigner
from core.axes.features.catalog import AXES
from core.store import StoredProfile


def profile_text(profile: StoredProfile) -> str:
    """Return `core.api.schemas.CustomerSegments`; stored JSON is passed through."""
    updated = profile.last_updated.astimezone(UTC).isoformat()
    return (
        f'{{"customer_id": {json.dumps(profile.customer_id)}, '
        f'"segment_memberships": {profile.segment_memberships}, '
        f'"dominant_segments": {profile.dominant_segments}, '
        f'"membership_strengths": {profile.membership_strengths}, '
        f'"confidence": {json.dumps(profile.confidence)}, '
        f'"runner_up_segments": {profile.runner_up_segments}, '
        f'"model_version": {profile.model_version}, '
        f'"lifetime_value": {json.dumps(profile.lifetime_value)}, '
        f'"total_orders": {json.dumps(profile.total_orders)}, '
        f'"avg_order_value": {json.dumps(profile.avg_order_value)}, '
        '"days_since_last_purchase": '
        f"{json.dumps(profile.days_since_last_purchase)}, "
        f'"customer_tenure_days": {json.dumps(profile.customer_tenure_days)}, '
        f'"churn_risk_score": {json.dumps(profile.churn_risk_score)}, '
        f'"last_updated": "{updated}"}}'
    )


def axes_of(assigner: AxesAssigner | None) -> list[dict[str, Any]]:
    """Return `core.api.schemas.AxisOut` of every axis."""
    rows = []
    for axis in AXES:
        fitted = assigner.model.axes.get(axis.name) if assigner else None
        rows.append(
            {
                "name": axis.name,
                "group": axis.group,
                "description": axis.description,
                "features": list(fitted.features if fitted else axis.features),
                "skipped_features": dict(fitted.skipped) if fitted else {},
                "segments": [
                    {"id": own.id, "name": own.name, "share": own.share}
                    for own in (fitted.segments if fitted else ())
                ],
            }
        )
    return rows
