"""The contract: what is agreed on is checked, and a fault in the file is named."""

from __future__ import annotations

import sys
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.artifacts.folder import Artifacts
from core.cli import run as command
from core.errors import ArtifactError, ConfigError, ContractError
from core.retailers.files import RETAILERS
from core.retailers.profile import breaches_of, draft_for
from core.segments.contract import (
    Contract,
    SegmentFacts,
    check_contract,
    contract_facts,
    contract_text,
    draft_contract,
    read_contract,
)
from core.segments.published import Segment, SegmentTable

TODAY = date(2026, 3, 31)
SUMMER = SegmentFacts(0, "Summer sellers", 400, 0.4, 0.9)
CHRISTMAS = SegmentFacts(3, "Christmas sellers", 100, 0.1, 0.5)
STEADY = SegmentFacts(7, "Steady sellers", 300, 0.3, None)
SHOPS = [SUMMER, CHRISTMAS, STEADY]
UNASSIGNED = 0.2


def agreed(**terms) -> Contract:
    return Contract.model_validate({"owner": "Ana", "expires": TODAY, **terms})


def broken(contract, facts=SHOPS, unassigned=UNASSIGNED, today=TODAY):
    found = check_contract(contract, facts, unassigned, today)
    return [(breach.rule, breach.segment) for breach in found]


def test_a_contract_without_terms_is_kept():
    assert broken(agreed()) == []


def test_defaults_hold_for_segments_that_are_not_listed():
    contract = agreed(defaults={"min_size": 200, "share": [0.2, 0.35]})
    assert broken(contract) == [("share", 0), ("size", 3), ("share", 3)]


def test_a_segments_own_terms_go_before_the_defaults():
    contract = agreed(
        defaults={"min_size": 200, "min_stability": 0.8},
        segments=[{"id": 3, "min_size": 50, "min_stability": 0.5}, {"id": 7}],
    )
    assert broken(contract) == [("stability", 7)]  # never measured, so not kept


def test_both_ends_of_a_band_and_every_floor_are_included():
    contract = agreed(
        unassigned={"share": [0.2, 0.2]},
        segments=[
            {"id": 0, "min_size": 400, "min_stability": 0.9, "share": [0.4, 0.4]}
        ],
    )
    assert broken(contract) == []


def test_a_listed_segment_that_is_gone_is_a_breach_unless_it_need_not_survive():
    listed = [{"id": 5, "name": "Ice cream", "owner": "Raj"}, {"id": 0}]
    found = check_contract(agreed(segments=listed), SHOPS, UNASSIGNED, TODAY)
    assert [(b.rule, b.segment, b.owner) for b in found] == [("survival", 5, "Raj")]
    assert "segment 5 `Ice cream` is gone" in found[0].message
    assert broken(agreed(segments=listed, must_survive=False)) == []


def test_another_name_is_a_breach():
    contract = agreed(segments=[{"id": 3, "name": "Easter sellers"}])
    assert broken(contract) == [("name", 3)]


def test_too_many_unassigned_are_a_breach():
    assert broken(agreed(unassigned={"share": [0, 0.1]})) == [("unassigned", None)]


def test_an_expired_contract_names_its_owner_and_is_checked_all_the_same():
    contract = agreed(
        defaults={"min_size": 200},
        segments=[{"id": 7, "owner": "Raj", "expires": TODAY - timedelta(days=1)}],
    )
    assert broken(contract) == [("size", 3), ("expiry", 7)]
    tomorrow = TODAY + timedelta(days=1)
    found = check_contract(contract, SHOPS, UNASSIGNED, tomorrow)
    assert (found[0].rule, found[0].segment) == ("expiry", None)
    assert [b.owner for b in found if b.rule == "expiry"] == ["Ana", "Raj"]
    assert "Ask Ana, who owns it" in found[0].message


def test_facts_leave_the_unassigned_out():
    segments = [
        Segment(id=2, name="A", kind="density", size=3, share=0.75, cluster=0),
        Segment(id=-1, name="unassigned", kind="density", size=1, share=0.25),
    ]
    table = SegmentTable(kind="density", segments=tuple(segments))
    assert contract_facts(table, {2: 0.7}) == [SegmentFacts(2, "A", 3, 0.75, 0.7)]


def test_sub_segments_are_held_to_their_own_terms_alone(tmp_path):
    part = SegmentFacts("7a", "Growing", 120, 0.12)
    path = tmp_path / "contract.yaml"
    path.write_text(
        "owner: Ana\nexpires: 2030-01-01\ndefaults: {min_stability: 0.6}\nsegments:\n"
        "  - {id: 10, min_size: 1}\n  - {id: 7b}\n  - {id: 7a, min_size: 200}\n",
        encoding="utf-8",
    )
    contract = read_contract(path)
    facts = [SegmentFacts(7, "Steady", 300, 0.3, 0.9), part]
    found = check_contract(contract, facts, 0.0, TODAY)
    assert [(b.rule, b.segment) for b in found] == [
        ("size", "7a"), ("survival", "7b"), ("survival", 10),
    ]  # fmt: skip
    silent = contract.model_copy(update={"segments": ()})
    assert check_contract(silent, facts, 0.0, TODAY) == []
    drafted = draft_contract(facts, 0.0, "Ana", TODAY)
    assert [terms.id for terms in drafted.segments] == [7]


names = st.text(
    st.characters().filter(lambda c: c.isprintable() or c in "\u200c\u200d"),
    min_size=1,
    max_size=20,
)


@st.composite
def populations(draw):
    """Return segments with any names and sizes, and the share in none of them."""
    sizes = draw(st.lists(st.integers(0, 5000), min_size=1, max_size=6))
    left = draw(st.integers(0, 5000))
    n = max(sum(sizes) + left, 1)
    stability = st.none() | st.floats(0, 1)
    facts = [
        SegmentFacts(2 * i, draw(names), size, size / n, draw(stability))
        for i, size in enumerate(sizes)
    ]
    return facts, left / n


@given(populations(), names, st.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_a_draft_is_kept_by_what_it_was_drafted_from_up_to_its_last_day(
    population, owner, expires
):
    facts, unassigned = population
    contract = draft_contract(facts, unassigned, owner, expires)
    assert check_contract(contract, facts, unassigned, expires) == []
    found = check_contract(contract, [], unassigned, expires + timedelta(days=1))
    assert len(found) == 1 + len(facts)


@given(population=populations(), owner=st.text(min_size=1, max_size=20))
def test_a_draft_is_read_back_as_it_was_written(population, owner, tmp_path_factory):
    contract = draft_contract(*population, owner, TODAY)
    path = tmp_path_factory.mktemp("contract") / "contract.yaml"
    path.write_text(contract_text(contract), encoding="utf-8", newline="")
    assert read_contract(path) == contract


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no keys"),
        ("- owner: Ana", "holds no keys"),
        ("owner: [", "is not YAML"),
        ("owner: Ana\nexpires: 2026-02-30", "is not YAML"),
        ("owner: !!python/object:os.system {}", "is not YAML"),
        ("owner: Ana", "line 1: `expires` is missing"),
        (
            "owner: Ana\nexpires: 2026-03-31\nsegments:\n- id: 1\n  min_sise: 3",
            "line 5: unknown key `segments.0.min_sise`. Did you mean `min_size`?",
        ),
        (
            "owner: Ana\nexpires: 2026-03-31\ndefaults:\n  share: [0.5, 0.1]",
            "line 4: `defaults.share` is [0.5, 0.1]: the lower end comes first",
        ),
        (
            "owner: Ana\nexpires: 2026-03-31\ndefaults:\n  share: [0, 5]",
            "line 4: `defaults.share.1` is 5: input should be less than or equal to 1",
        ),
        ("owner: Ana\nexpires: 2026-03-31\nowner: Raj", "line 3: key `owner` is also"),
        (
            "owner: Ana\nexpires: 2026-03-31\nsegments: [{id: 1}, {id: 1}]",
            "segment `1` is listed more than once",
        ),
        (
            "owner: Ana\nexpires: 2026-03-31\nsegments:\n- id: 1\n"
            '  name: "Next\\Nline"',
            "line 5: `segments.0.name` is 'Next\\x85line': character 5 is U+0085",
        ),
    ],
)
def test_a_faulty_file_is_refused_with_file_line_and_key(tmp_path, text, said):
    path = tmp_path / "contract.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_contract(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_or_unreadable_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read_contract(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("owner: José".encode("cp1252"))
    with pytest.raises(ConfigError, match=r"latin\.yaml"):
        read_contract(tmp_path / "latin.yaml")


@pytest.fixture
def segments(monkeypatch, capsys):
    """Run a command as a user does; return its exit code and what it said."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["segments", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command()
        return ended.value.code, capsys.readouterr()

    return run


def test_draft_and_check_from_the_command_line(profiled, segments, tmp_path):
    path = tmp_path / "contract.yaml"
    where = ("--artifacts", profiled)
    draft = ("contract", "draft", "--owner", "Ana", "--expires", "2030-01-01", *where)
    assert segments(*draft, "--output", path)[0] == 0
    contract = read_contract(path)
    assert all(terms.min_stability is not None for terms in contract.segments)
    assert segments(*draft)[1].out == path.read_text(encoding="utf-8")
    code, said = segments(*draft, "--output", path)
    assert code == ConfigError.exit_code
    assert "exists" in said.err

    check = ("contract", "check", path, *where)
    code, said = segments(*check, "--today", "2030-01-01")
    assert (code, said.err) == (0, "")
    code, said = segments(*check, "--today", "2030-01-02")
    assert code == ContractError.exit_code
    assert "Ask Ana" in said.err


def test_check_takes_the_contract_that_the_model_names(trained):
    with pytest.raises(ConfigError, match=r"refresh\.contract"):
        breaches_of(trained, None, TODAY)


def test_without_a_complete_run_there_is_nothing_to_contract(tmp_path):
    assert Artifacts(tmp_path, RETAILERS).published() is None
    with pytest.raises(ArtifactError, match="no complete run"):
        draft_for(tmp_path, "Ana", TODAY)
