"""The benchmark of refreshes counts what it says, and its page says met or not met."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path

import polars as pl
import pytest
from rolling import PlantedEvent, RollingSales

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def module(monkeypatch, name):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


@pytest.fixture
def page(monkeypatch):
    return module(monkeypatch, "refresh_page")


@pytest.fixture
def judges(monkeypatch):
    return module(monkeypatch, "refresh_judges")


@pytest.fixture
def runner(monkeypatch):
    return module(monkeypatch, "refresh")


def block(month, *, segments, settled=None):
    shops = [f"S{n}" for n in range(len(segments))]
    return pl.DataFrame(
        {
            "month": [month] * len(shops),
            "entity": shops,
            "segment": segments,
            "settled": settled or segments,
        }
    )


def truth(months, archetypes, changed=()):
    rows = [
        {
            "month": month,
            "shop_id": f"S{n}",
            "archetype": name,
            "is_changed": f"S{n}" in changed,
        }
        for month in months
        for n, name in enumerate(archetypes)
    ]
    return pl.DataFrame(rows)


def test_kept_counts_shops_that_no_event_concerns(judges):
    blocks = [
        block("2024-01", segments=[0, 0, 1, 1], settled=[0, 0, 1, 1]),
        block("2024-02", segments=[0, -1, 0, 2], settled=[0, 0, 1, 2]),
    ]
    names = ["steady", "steady + summer", "summer", "summer"]
    known = truth(["2024-01", "2024-02"], names, changed={"S3"})
    found = judges.kept_shares(blocks, known)
    assert found["n"] == 3
    assert found["settled"] == 1.0
    assert found["raw"] == pytest.approx(2 / 3)


SPLIT = PlantedEvent("split", "2024-02", ("old",), ("old", "new"))


def made_with_split(months):
    before = truth(months[:1], ["old"] * 4)
    after = truth(months[1:], ["old", "old", "new", "new"], changed={"S2", "S3"})
    return RollingSales(pl.DataFrame(), pl.concat([before, after]), [SPLIT])


def report(month, kind, old, new):
    return {"month": month, "events": [{"kind": kind, "old": old, "new": new}]}


@pytest.mark.parametrize(
    ("month", "kind", "new", "found"),
    [
        ("2024-02", "split", (0, 1), "2024-02"),
        ("2024-03", "split", (0, 1), "2024-03"),
        ("2024-04", "split", (0, 1), None),  # too late
        ("2024-02", "born", (1,), None),  # another kind
        ("2024-02", "split", (0, 2), None),  # of another archetype
    ],
)
def test_an_event_is_found_in_its_month_or_the_next_with_its_archetypes(
    judges, month, kind, new, found
):
    months = ["2024-01", "2024-02", "2024-03", "2024-04"]
    labels = [0, 0, new[-1], new[-1]] if 1 in new else [0, 2, -1, -1]
    blocks = [block("2024-01", segments=[0] * 4)]
    blocks += [block(later, segments=labels) for later in months[1:]]
    made = made_with_split(months)
    result = judges.found_events(made, blocks, [report(month, kind, (0,), new)])
    assert result["found"] == [found]
    assert result["others"] == ([] if found else [f"{month}: {kind}"])


def test_survivors_are_no_events(judges):
    made = made_with_split(["2024-01", "2024-02"])
    blocks = [block("2024-01", segments=[0] * 4)]
    survived = report("2024-02", "survived", (0,), (0,))
    found = judges.found_events(made, blocks, [survived])
    assert found == {"found": [None], "others": []}


def test_churn_and_kept_are_of_shops_in_both_months_and_in_all(judges):
    months = [{"a": 0, "b": 1}, {"a": 0, "b": 0, "c": 1}, {"a": 0, "c": 1}]
    assert judges._churn(months) == pytest.approx((1 / 2 + 0) / 2)
    assert judges._kept_throughout(months) == 1.0
    assert judges.before("2024-01") == "2023-12"


def scenario(found, others, settled):
    events = [{"kind": "split", "month": "2024-03", "old": ["a"], "new": ["a", "b"]}]
    return {
        "judge": "scenario",
        "arguments": {"seed": 721, "difficulty": "easy"},
        "version": "abc1234",
        "result": {
            "planted": events,
            "found": found,
            "others": others,
            "kept": {"n": 2000, "settled": settled, "archetype": 0.99, "raw": 0.95},
            "ari": [0.97, 0.93],
            "months": [{"decision": "published"}, {"decision": "refused"}],
        },
    }


def test_a_scenario_is_met_by_found_events_no_others_and_kept_shops(page):
    text = page.render([scenario(["2024-04"], [], 0.985)])
    assert "| 721 | split | 2024-03 | 2024-04 | met |" in text
    assert "| 721 | others |  | none | met |" in text
    row = "| 721 | 2,000 | 98.5% | 99.0% | 95.0% | 0.93 | 1 / 1 | met |"
    assert row in text
    text = page.render([scenario([None], ["2024-07: died"], 0.97)])
    assert "| 721 | split | 2024-03 | not found | **not met** |" in text
    assert "| 721 | others |  | 2024-07: died | **not met** |" in text
    assert "| 1 / 1 | **not met** |" in text


def drift(shift, n_alerts):
    return {
        "judge": "drift",
        "arguments": {"seed": 701, "shift": shift},
        "version": "abc1234",
        "result": {"n_alerts": n_alerts},
    }


def test_calm_months_and_shifts_are_counted_apart(page):
    rows = [drift(None, [0] * 19 + [1]), drift("level", [0, 0, 0, 2, 0])]
    text = page.render([*rows, drift("mix", [1, 0, 0, 0, 0])])
    assert "| calm | >= 95% | 95.0% of 20 months without alert | met |" in text
    assert "| `level` | all | 1 of 1 seen within a month | met |" in text
    assert "| `mix` | all | 0 of 1 seen within a month | **not met** |" in text


def test_what_was_not_measured_is_said(page):
    assert page.render([]).count("Not measured.") == 4


def test_what_is_in_the_cache_is_not_measured_again(
    runner, tmp_path, monkeypatch, capsys
):
    cache, target = tmp_path / "results.jsonl", tmp_path / "refresh.md"
    cache.write_text(json.dumps(scenario(["2024-03"], [], 1.0)), encoding="utf-8")
    arguments = ["refresh.py", "--parts", "scenario", "--seeds", "1"]
    arguments += ["--cache", str(cache)]
    monkeypatch.setattr("sys.argv", arguments)
    runner.main()
    assert capsys.readouterr().out.startswith("0 results to measure")
    monkeypatch.setattr("sys.argv", [*arguments, "--render", "--page", str(target)])
    runner.main()
    assert "2024-03" in target.read_text(encoding="utf-8")


def test_every_kind_of_result_has_a_judge_that_takes_its_arguments(runner):
    chosen = runner.argparse.Namespace(seeds=1, repeats=1, months=2)
    for plan in runner.PARTS.values():
        for judge, arguments in plan(chosen):
            inspect.signature(runner.JUDGES[judge]).bind(**arguments)
