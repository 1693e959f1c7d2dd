"""The three verdicts and the figures that decide between them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from core.errors import ModelError
from core.evaluation.certificate import derive_verdict
from core.retailers.features import SHOP
from core.segments.published import Verdict


def derived(**figures):
    usual = {
        "is_structured": False,
        "n_clusters": 5,
        "partition_ari": None,
        "is_certified": True,
    }
    return derive_verdict(**(usual | figures))


@pytest.mark.parametrize(
    ("figures", "kind"),
    [
        ({"is_structured": True}, "natural"),
        ({"is_structured": True, "cluster_jaccard": 0.51}, "natural"),
        ({"is_structured": True, "cluster_jaccard": 0.5}, "constructive"),
        (
            {"is_structured": True, "cluster_jaccard": 0.3, "partition_ari": 0.9},
            "reproducible",
        ),
        ({"is_structured": True, "n_clusters": 1}, "constructive"),
        ({"partition_ari": 0.8}, "reproducible"),
        ({"partition_ari": 0.79}, "constructive"),
        ({}, "constructive"),
        ({"cluster_jaccard": 0.99}, "constructive"),  # stability alone proves nothing
    ],
)
def test_figures_decide_the_verdict(figures, kind):
    assert derived(**figures).kind == kind


def test_a_verdict_keeps_what_it_rests_on_and_survives_json():
    verdict = derived(partition_ari=0.93, p_value=0.4, is_certified=False)
    assert verdict.basis["p_value"] == 0.4
    assert verdict.basis["partition_ari"] == 0.93
    assert verdict.basis["reproducible_ari"] == 0.8
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert verdict.meaning(SHOP).startswith("no separate groups")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "certain", "is_certified": True, "basis": {}},
        {"kind": "natural", "is_certified": 1, "basis": {}},
        {"kind": "natural", "is_certified": True, "basis": None},
    ],
)
def test_a_damaged_verdict_is_refused(values):
    with pytest.raises(ValidationError):
        Verdict.model_validate(values)


def test_impossible_figures_are_refused():
    with pytest.raises(ModelError, match="the ari is 93"):
        derived(partition_ari=93)
