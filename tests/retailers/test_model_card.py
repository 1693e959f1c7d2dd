"""The model card tells what a version is, and shows users' names as they typed them."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
import yaml

from core.artifacts.folder import Artifacts
from core.config import Config
from core.retailers.files import RETAILERS
from core.retailers.model import SEGMENTS
from core.retailers.publish import published_opening
from core.retailers.report.model_card import ModelCardContent, model_card
from core.retailers.report.tree import TREE, TREE_SCHEMA, segment_rows
from core.segments.identity import IdentityEvent
from core.segments.published import PublishedSegments

GATE = {
    "is_passed": False,
    "reason": "The new model fails the gate on 280 shops: contract.",
    "rows": [
        {
            "check": "contract",
            "champion": "-",
            "challenger": "1 breach: segment 0 `A | B` has 41 members.",
            "needed": "kept",
            "is_passed": False,
        }
    ],
}


@pytest.fixture(scope="module")
def content(trained):
    complete = Artifacts(trained, RETAILERS).published()
    published = PublishedSegments.read(complete.path(SEGMENTS))
    tree = pl.read_csv(complete.path(TREE), schema_overrides=TREE_SCHEMA)
    rows = segment_rows(tree, dict.fromkeys(tree["id"], "looks clear"))
    return ModelCardContent(
        complete.manifest,
        published,
        published_opening(published, complete.manifest),
        rows,
        {},
        {},
    )


def section(card, title):
    return card.split(f"## {title}\n")[1].split("\n## ")[0]


def test_a_first_version_says_what_it_is_and_what_is_not_known(content):
    card = model_card(content)
    published, manifest = content.published, content.manifest
    assert card.startswith(f"# Segments, version {published.version}\n")
    for segment in published.segments:
        title = published.titles.get(segment.id, "unassigned")
        assert f"| {title} | {segment.size} | " in section(card, "Segments")
    assert "first version" in section(card, "What changed")
    assert "2022-01 to 2024-12" in section(card, "Data and features")
    assert "`sales_trend_per_year`" in section(card, "Data and features")
    assert "No model served before" in section(card, "The gate")
    assert "stability`" in section(card, "What it does not say")
    made = section(card, "How it was made")
    assert manifest.model_id in made
    assert f"| hdbscan | {manifest.stages['clustering'].versions['hdbscan']} |" in made


def test_the_configuration_in_the_card_is_the_one_that_made_it(content):
    block = model_card(content).split("```yaml\n")[1].split("\n```")[0]
    assert Config.model_validate(yaml.safe_load(block)) == content.manifest.config


def test_gate_events_and_stability_are_told(content):
    first = content.published.segments[0]
    event = IdentityEvent(
        kind="died", old=(9,), new=(first.id,), n_old=30, n_new=50, n_shared=20
    )
    told = replace(
        content,
        published=content.published.model_copy(update={"events": (event,)}),
        stability={first.id: 0.875},
        names_before={9: "Ice cream"},
        gate=GATE,
    )
    card = model_card(told)
    assert "9 Ice cream" in section(card, "What changed")
    assert "| 0.88 |" in section(card, "Segments")
    assert "stability`" not in section(card, "What it does not say")
    gate = section(card, "The gate")
    assert "A \\| B" in gate
    assert "**no**" in gate


def test_names_are_shown_as_typed_and_change_no_markup(content):
    first, *others = content.published.segments
    bold = first.model_copy(update={"name": "**A** | <b>\n# B"})
    published = content.published.model_copy(update={"segments": (bold, *others)})
    rows = [{**content.segments[0], "segment": bold.name}, *content.segments[1:]]
    card = model_card(replace(content, published=published, segments=rows))
    assert "| \\*\\*A\\*\\* \\| \\<b\\> \\# B | " in card
    lines = section(card, "Segments").splitlines()
    assert sum(line.startswith("|") for line in lines) == 2 + len(others) + 1


def test_the_same_version_gives_the_same_card(content):
    assert model_card(content) == model_card(content)
