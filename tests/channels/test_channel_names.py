"""Customer features under the names that rules have for them."""

from __future__ import annotations

import polars as pl
import pytest

from core.channels.model import Naming
from core.config import ChannelsConfig
from core.errors import ConfigError, FeatureMismatchError
from core.rules.grammar import read_rules

FEATURES = pl.DataFrame(
    {
        "customer_id": ["a", "b"],
        "web_order_count": [3, 4],
        "omnichannel_Lunch_order_count": [2, 0],
        "omnichannel_average_order_value": [9.5, 8.0],
        "unique_category_base_products_count": [1, 5],
    }
)


def rules(*features: str):
    asked = "".join(f"  {name}: {{type: number}}\n" for name in features)
    return read_rules(
        f"features:\n{asked}segments:\n  - {{name: all, when: everyone}}\n"
    )


def view(*asked: str, **options: object) -> pl.DataFrame:
    chosen = ChannelsConfig.model_validate(options)
    return Naming.of(chosen, "web").view(FEATURES, rules(*asked))


def test_rules_find_flags_counts_and_the_home_channel_under_their_own_names():
    found = view("ownapp_order_count", "Lunch_flag", "unique_cat_base_count")
    assert found["ownapp_order_count"].to_list() == [3, 4], "the home channel's"
    assert found["Lunch_flag"].to_list() == [1, 0]
    assert found["Lunch_order_count"].to_list() == [2, 0]
    assert found["unique_cat_base_count"].to_list() == [1, 5]
    assert "average_order_value" in found.columns


def test_a_flag_that_is_asked_for_replaces_its_count():
    found = view("Lunch_flag", flags=["omnichannel_Lunch_order_count"])
    assert found["Lunch_flag"].to_list() == [1, 0]
    assert "Lunch_order_count" not in found.columns


def test_features_are_renamed_for_rules_and_again_for_micro_segments():
    rename = {"average_order_value": "worth"}
    found = view("worth", rename=rename, micro_rename={"worth": "value"})
    assert found["worth"].to_list() == found["value"].to_list() == [9.5, 8.0]


@pytest.mark.parametrize(
    ("asked", "options", "error", "said"),
    [
        ("Lunch_flags", {}, FeatureMismatchError, "Did you mean `Lunch_flag`"),
        ("Dinner_flag", {}, FeatureMismatchError, "ask for `Dinner_flag`"),
        ("worth", {"flags": ["worth"]}, ConfigError, "`channels.flags` names `worth`"),
        (
            "worth",
            {"rename": {"average_order_value": "web_order_count"}},
            ConfigError,
            "two features would be called `web_order_count`",
        ),
    ],
)
def test_a_feature_that_cannot_be_meant_is_named(asked, options, error, said):
    with pytest.raises(error, match=said):
        view("Lunch_flag", asked, **options)
