"""The page of axes and features says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.axes.features.catalog import AXES, FEATURES
from core.docs import axes_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "axes-features.md"


def test_the_page_is_the_one_the_code_prints():
    """Renew with `Path.write_text` of `core.docs.axes_page()`."""
    assert PAGE.read_text(encoding="utf-8") == axes_page()


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.name)
def test_every_axis_is_made_of_documented_features(axis):
    assert len(set(axis.features)) == len(axis.features)
    assert all(name in FEATURES for name in axis.features)
    assert f"## `{axis.name}`" in axes_page()


def test_every_feature_is_of_an_axis_and_has_one_row():
    used = {name for axis in AXES for name in axis.features}
    assert used == set(FEATURES)
    for name in FEATURES:
        assert axes_page().count(f"\n| `{name}` |") == 1
