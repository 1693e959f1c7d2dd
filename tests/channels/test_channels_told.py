"""Channel segments in words: suggestions of a rule, a band, a micro-segment."""

from __future__ import annotations

import pytest
from guest_runs import ITEM, config, guests, published, run

from core.channels.model import ChannelsAssigner
from core.channels.run import Channels
from core.channels.told import told_axes
from core.errors import ConfigError
from core.lifecycle.playbook import system_playbook
from core.lifecycle.versions import rename_segment
from core.segments.rule_axis import SEGMENT

RULES = """
name: bands
features:
  ownapp_order_count: {type: integer, from: 0}
  Weekend_flag: {type: flag}
bands:
  - {name: "1_5", when: ownapp_order_count <= 5, description: 1 to 5 orders}
  - {name: steady, when: ownapp_order_count > 5}
segments:
  - {name: few, band: "1_5", when: not Weekend_flag, description: Few orders}
  - {name: some, band: "1_5", when: Weekend_flag, action: Call them}
  - {name: workday, band: steady, when: not Weekend_flag}
  - {name: weekend, band: steady, when: Weekend_flag}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told") / "artifacts"
    folder.mkdir(parents=True)
    (folder / "rules.yaml").write_text(RULES, encoding="utf-8")
    run(folder, guests())
    return folder


def test_a_rule_a_band_and_a_part_of_a_name_have_suggestions(folder):
    base = published(folder)
    assigner = ChannelsAssigner.of_set(base)
    book = system_playbook(None, "channels")
    profiles = base.table("customer_profiles.parquet")
    rules, item = told_axes(assigner.model, profiles, book)
    assert (rules.name, item.name) == (SEGMENT, ITEM)
    segments = {segment.name: segment for segment in rules.segments}
    assert segments["some"].actions == ["Call them"]
    assert segments["few"].actions == list(book.segments["1_5"].actions)
    assert segments["workday"].actions == list(book.general.actions)
    assert segments["few"].apart[0] == "Few orders"
    assert segments["some"].apart[0] == "at most 5 ownapp orders and weekend orders"
    assert {segment.how_sure for segment in rules.segments} == {"by rule"}
    assert sum(segment.share for segment in rules.segments) == pytest.approx(1)
    assert sum(segment.value_share or 0 for segment in rules.segments) in {0, 1}
    breakfast = next(s for s in item.segments if "many breakfast orders" in s.name)
    assert breakfast.actions == list(book.segments["many breakfast orders"].actions)
    assert "(the others: " in breakfast.apart[0]


def test_the_page_shows_a_bands_suggestion_once(folder):
    page = published(folder).path("channels.html").read_text("utf-8")
    first = system_playbook(None, "channels").segments["1_5"].actions[0]
    assert page.count(first) == 1
    assert "1_5: 1 to 5 orders" in page


@pytest.mark.parametrize("system", ["axes", "channels"])
def test_a_faulty_playbook_is_named_with_its_option(system, tmp_path):
    missing = f"`{system}.playbook`: the file .* does not exist"
    with pytest.raises(ConfigError, match=missing):
        system_playbook(tmp_path / "none.yaml", system)
    file = tmp_path / "play.yaml"
    file.write_text("general: {action: [Write]}", encoding="utf-8")
    with pytest.raises(ConfigError, match="Did you mean `actions`"):
        system_playbook(file, system)


def test_a_users_playbook_is_kept_for_later_names(tmp_path):
    folder, file = tmp_path / "artifacts", tmp_path / "play.yaml"
    file.write_text(
        "general: {actions: [Send a postcard]}\nsegments: {}\n", encoding="utf-8"
    )
    run(folder, guests(), playbook=str(file))
    file.unlink()
    rename_segment(Channels(config(folder, playbook=str(file))), SEGMENT, 0, "New")
    page = published(folder).path("channels.html").read_text("utf-8")
    assert page.count("Send a postcard") > 2
