"""Eligibility as the reference states it, and an error that shows the distance."""

from __future__ import annotations

import polars as pl
import pytest

from core.config import EligibilityConfig
from core.errors import EligibilityError
from core.retailers.prepare import (
    NO_SALES,
    TOO_SHORT,
    TOO_SPARSE,
    judge,
    require_eligible,
)

ACTIVITY = pl.DataFrame(
    {
        "shop_id": ["corner", "kiosk", "market", "new", "silent"],
        "active_months": [12, 15, 36, 5, 0],
        "active_years": [2, 3, 3, 1, 0],
    }
)


def test_both_rules_hold_at_their_exact_thresholds():
    judged = judge(ACTIVITY, EligibilityConfig())
    assert dict(judged.select("shop_id", "reason").iter_rows()) == {
        "corner": None,  # 12 months, 6.0 a year: exactly enough
        "kiosk": TOO_SPARSE.format(6),  # 15 months, but 5.0 a year
        "market": None,
        "new": TOO_SHORT.format(12),
        "silent": NO_SALES,
    }


def test_fractional_tenure_lowers_the_number_of_months():
    judged = judge(ACTIVITY, EligibilityConfig(min_tenure_years=0.25))
    assert judged.filter(pl.col("shop_id") == "new")[
        "reason"
    ].item() == TOO_SPARSE.format(6)


def test_nobody_eligible_shows_how_far_the_shops_are():
    rule = EligibilityConfig(min_tenure_years=4)
    with pytest.raises(EligibilityError) as refused:
        require_eligible(judge(ACTIVITY, rule), rule, needed=1)
    message = str(refused.value)
    assert "0 of 5 shops" in message
    assert f"4 {TOO_SHORT.format(48)}" in message
    assert "most 36 (rule: at least 48)" in message
    assert "eligibility.min_tenure_years" in message


def test_fewer_shops_than_a_cluster_needs_is_said_before_any_training():
    rule = EligibilityConfig()
    with pytest.raises(EligibilityError, match=r"2 of 5 shops .* at least 50"):
        require_eligible(judge(ACTIVITY, rule), rule, needed=50)
    require_eligible(judge(ACTIVITY, rule), rule, needed=2)
