"""What sets segments apart in words, and what the playbook says of them."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
import yaml

from core.config import Config
from core.errors import ConfigError
from core.retailers.apart import apart, months_text, trend_words
from core.retailers.names import AVERAGE, RULES, first_words
from core.retailers.pipelines import run_inference, stage_config
from core.retailers.playbook import shop_playbook
from core.retailers.publish import rename_segment


def rows_of(months=(1.0,) * 12, rest=(1.0,) * 12, **others):
    """Contrasts of a segment by the levels of its months, and other features."""
    rows = [
        {
            "feature": f"log_season_month_{place + 1}",
            "median": np.log(own),
            "rest_median": np.log(other),
            "effect": 4 * np.log(own / other),
        }
        for place, (own, other) in enumerate(zip(months, rest, strict=True))
    ]
    return rows + [
        {"feature": name, "median": own, "rest_median": other, "effect": effect}
        for name, (own, other, effect) in others.items()
    ]


SUMMER = (0.7, 0.7, 0.7, 0.8, 0.9, 1.8, 2.4, 1.8, 0.8, 0.7, 0.7, 0.7)
STEADY = {
    "sales_trend_per_year": (0.01, 0.0, 0.1),
    "assortment_breadth": (1.8, 1.8, 0.0),
}
NARROW = {
    "product_concentration": (0.53, 0.19, 3.0),
    "assortment_breadth": (np.log(2.3), np.log(6.2), -2.0),
}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            rows_of(SUMMER, **STEADY),
            ["sells twice its average in June to August",
             "sells 28% below its average in September to April"],
        ),
        (rows_of(**STEADY), ["no season", "no trend, usual assortment"]),
        (
            rows_of(**NARROW),
            ["one product makes about half of its sales",
             "sells 2.3 different products a month (others 6.2)"],
        ),
        (
            rows_of(sales_trend_per_year=(np.log(0.65), 0.0, -2.0),
                    yoy_12=(np.log(0.7), 0.0, -1.9),
                    inactive_month_share=(0.29, 0.0, 1.0)),
            ["sales fall 35% a year", "no sales in 29% of its months"],
        ),
        ([], ["like the other shops in all that was measured"]),
    ],
)  # fmt: skip
def test_two_things_set_a_segment_apart_as_a_category_manager_says_them(rows, said):
    assert apart(rows) == said


def test_the_levels_of_a_large_shop_are_size_and_not_season():
    rows = [
        {
            "feature": f"avg_sales_qty_month_{month}",
            "median": 300.0 if month == 12 else 200.0,
            "rest_median": 100.0,
            "effect": 3.0 if month == 12 else 2.0,
        }
        for month in range(1, 13)
    ]
    assert apart(rows) == [
        "sells 2.1 times as much as others",
        "sells 44% above its average in December",
    ]


def test_the_trend_is_the_clearest_and_else_the_first():
    slow = {"sales_trend_per_year": (-0.03, 0.07, -0.4)}
    fading = {"yoy_6": (np.log(0.8), 0.0, -1.5), "yoy_12": (np.log(0.84), 0.0, -1.2)}
    assert trend_words(rows_of(**slow)) == "steady"
    assert trend_words(rows_of(**slow, **fading)) == "down 20% in the last 6 months"
    assert trend_words(rows_of()) == ""
    said = apart(rows_of(**slow, **fading))
    assert said[0] == "sold 20% less in the last 6 months than a year before"
    assert not any("year before" in words for words in said[1:]), "a trend is told once"


def test_many_scattered_months_are_counted():
    assert months_text([0, 2, 4, 6, 8]) == "5 other months"
    assert months_text([11, 0]) == "December and January"


def test_every_name_that_rules_give_has_suggestions_of_its_own():
    book = shop_playbook(Config())
    season = ("Summer", "Winter", "Spring", "Autumn", "Year-end")
    names = [rule.words for rule in RULES] + [
        AVERAGE, "Even year", "Two peaks: Apr-May, Oct", "Several peaks",
        "Several low times", "large volume", "small volume", "broad assortment",
        "narrow assortment", "unassigned",
        *(f"{one} {what} (Jun-Aug)" for one in season for what in ("peak", "low")),
    ]  # fmt: skip
    sets = resources.files("core.rules").joinpath("sets")
    for built_in in ("momentum", "momentum-season"):
        text = sets.joinpath(f"{built_in}.yaml").read_text("utf-8")
        names += [segment["name"] for segment in yaml.safe_load(text)["segments"]]
    assert [name for name in names if book.play(name) == book.general] == []
    assert {*book.states} == {"new", "active", "reviving", "slowing", "lapsed"}
    assert {*book.changes} == {"up", "down"}


def test_a_longer_name_is_looked_up_by_its_parts_and_a_given_one_by_its_rule():
    book = shop_playbook(Config())
    growing = book.play("Growing sales")
    assert book.play("Average, growing sales") == growing
    assert book.play("Growing sales 2") == growing
    assert book.play("Our stars") == book.general
    rows = rows_of(sales_trend_per_year=(0.4, 0.0, 2.0))
    assert book.play("Our stars", first_words(rows)) == growing


def test_an_own_playbook_is_read_and_a_wrong_one_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("general: {actions: [Call them]}\n", encoding="utf-8")
    config = Config(report={"playbook": str(path)})
    assert shop_playbook(config).play("Growing sales").actions == ("Call them",)
    path.write_text("general: {action: [Call them]}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"report\.playbook.*Did you mean `actions`"):
        shop_playbook(config)
    path.unlink()
    with pytest.raises(ConfigError, match=r"not exist\. Copy `core/retailers/play"):
        shop_playbook(config)


def test_the_report_keeps_the_playbook_that_it_was_written_with(artifacts, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("general: {actions: [Call <them>]}\n", encoding="utf-8")
    flags = {"artifacts": str(artifacts), "report.playbook": str(path)}
    run_inference(stage_config("inference", flags=flags))
    path.unlink()
    rename_segment(artifacts, 0, "Our stars")
    report = (artifacts / "report.html").read_text(encoding="utf-8")
    assert "Call &lt;them&gt;" in report
    assert "Keep the standard range" not in report
    with pytest.raises(ConfigError, match="does not exist"):
        run_inference(stage_config("inference", flags=flags))
