"""The page of the quality benchmark says what was measured, and met or not met."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("quality_page")


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("quality")


def planted(method, seed, ari, noise=0.04, effective=7.0):
    return {
        "judge": "planted",
        "arguments": {
            "family": "fmcg",
            "difficulty": "medium",
            "n_shops": 5000,
            "seed": seed,
            "method": method,
        },
        "version": "abc1234",
        "result": {
            "ari": ari,
            "noise": noise,
            "clusters": 8,
            "effective": effective,
            "true_effective": 7.5,
            "between_noise": 0.3,
            "n_eligible": 4750,
            "seconds": 12.0,
        },
    }


def structureless(number, *, is_natural):
    return {
        "judge": "structureless",
        "arguments": {"kind": "uniform", "number": number},
        "version": "abc1234",
        "result": {
            "n_shops": 900,
            "clusters": 3,
            "p_value": 0.5,
            "n_nulls": 2,
            "is_natural": is_natural,
            "is_quick_natural": False,
            "seconds": 9.0,
        },
    }


def lines_with(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def test_targets_are_met_by_the_median_and_by_the_worst_seed_each(page):
    rows = [planted("ours", 501, 0.95), planted("ours", 502, 0.80)]
    rows += [planted("ours", 503, 0.93), planted("KMeans, true k", 501, 0.7)]
    text = page.render(rows)
    assert lines_with(text, "| medium, 5,000 shops | ARI ") == [
        "| medium, 5,000 shops | ARI | >= 0.92 | 0.930 | met |"
    ]
    assert "|  | lowest ARI | >= 0.87 | 0.800 | **not met** |" in text
    assert "|  | noise | <= 10% | 4.0% | met |" in text
    assert "|  | effective clusters off by | <= 1 | 0.50 | met |" in text
    assert lines_with(text, "| KMeans, true k |") == [
        "| KMeans, true k | 0.70 | 0.70 | 4.0% | 8 | 7.0 | 7.5 | 30% | 12.0 | 1 |"
    ]
    assert "Commits measured: `abc1234`." in text


def test_false_alarms_are_counted_over_all_kinds(page):
    rows = [structureless(n, is_natural=n == 0) for n in range(20)]
    text = page.render(rows)
    assert lines_with(text, "| **all without**") == [
        "| **all without** | 20 | 1 | 0 | 2.0 | at most 5% | met |"
    ]
    rows += [structureless(20, is_natural=True)]
    assert "| 21 | 2 | 0 | 2.0 | at most 5% | **not met** |" in page.render(rows)


def test_held_out_shops_may_do_better_than_fitted_ones_but_not_worse(page):
    result = {
        "refit_ari": [0.95, 0.91],
        "seed_ari": [0.85],
        "fitted_ari": [0.90, 0.90],
        "held_out_ari": [0.93, 0.93],
    }
    shops = {"family": "fmcg", "difficulty": "medium", "n_shops": 5000, "seed": 501}
    row = {"judge": "stability", "arguments": shops, "version": "v", "result": result}
    text = page.render([row])
    assert "| >= 0.90 | 0.930 (lowest 0.910) | met |" in text
    assert "| >= 0.90 | 0.850 (lowest 0.850) | **not met** |" in text
    assert "| within 0.02 | 0.930 beside 0.900 | met |" in text
    result["held_out_ari"] = [0.87, 0.87]
    assert "| within 0.02 | 0.870 beside 0.900 | **not met** |" in page.render([row])


def test_sub_segments_are_held_against_segments_and_against_nothing(page):
    figures = [
        {"published": 0.5, "flat": 0.8, "largest leaf": 0.25},
        {"published": 0.6, "flat": 0.6, "largest leaf": 0.45},
    ]
    rows = [
        {
            "judge": "continuum",
            "arguments": {"seed": n},
            "version": "v",
            "result": found,
        }
        for n, found in enumerate(figures)
    ]
    inside = {"judge": "inside", "arguments": {"number": 0}, "version": "v"}
    rows += [inside | {"result": {"is_natural": True}}]
    text = page.render(rows)
    assert "| 1 | 1 | none | **not met** |" in text
    assert "| published | 0.55 | 0.5 | 0.6 |  |  |" in text
    assert "| flat | 0.7 | 0.6 | 0.8 | segments + 0.10 | met |" in text
    leaf = (
        "| largest leaf | 0.35 | 0.25 | 0.45 | at most a third, always | **not met** |"
    )
    assert leaf in text


def test_real_data_without_clusters_or_a_past_gets_dashes(page):
    result = {
        "n_eligible": 188,
        "verdict": "reproducible",
        "certified": "constructive",
        "p_value": 1.0,
        "n_clusters": 0,
        "noise_ratio": 1.0,
        "effective_clusters": 0.0,
        "largest_share": None,
        "refit_ari": 1.0,
        "partition": "3 (kmeans)",
        "partition_ari": 0.91,
        "out_of_time": None,
        "out_of_time_se": None,
        "groups": "",
        "ami": None,
        "seconds": 20.0,
    }
    arguments = {"name": "Iowa liquor stores", "groups": None}
    row = {"judge": "real", "arguments": arguments, "version": "v", "result": result}
    assert lines_with(page.render([row]), "| Iowa") == [
        "| Iowa liquor stores | 188 | reproducible | not natural | 1.00 | 0 | 100% | "
        "0.0 | - | - | 3 (kmeans) | 0.91 | - | - |"
    ]


def test_what_was_not_measured_is_said(page):
    assert page.render([]).count("Not measured.") == 6


def test_a_line_cut_off_by_a_kill_is_measured_again(runner, tmp_path):
    whole = planted("ours", 501, 0.9)
    path = tmp_path / "results.jsonl"
    text = f"{json.dumps(whole)}\n{json.dumps(planted('ours', 502, 0.9))[:50]}"
    path.write_text(text, encoding="utf-8")
    assert list(runner.read_cache(path).values()) == [whole]
    assert runner.read_cache(tmp_path / "none.jsonl") == {}


def test_what_is_in_the_cache_is_not_measured_again(
    runner, tmp_path, monkeypatch, capsys
):
    path = tmp_path / "results.jsonl"
    arguments = ["quality.py", "--parts", "planted", "--difficulties", "medium"]
    arguments += ["--sizes", "5000", "--seeds", "2", "--workers", "0"]
    arguments += ["--cache", str(path)]
    methods = runner.METHODS
    rows = [planted(method, seed, 0.9) for seed in (501, 502) for method in methods]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    monkeypatch.setattr("sys.argv", arguments)
    runner.main()
    assert capsys.readouterr().out.startswith("0 results to measure")
    assert len(runner.read_cache(path)) == 12
    page = tmp_path / "quality.md"
    monkeypatch.setattr("sys.argv", [*arguments, "--render", "--page", str(page)])
    runner.main()
    assert "**medium, 5,000 shops**" in page.read_text(encoding="utf-8")


def test_data_without_structure_is_the_same_every_time(runner):
    data = importlib.import_module("quality_data")
    for kind in ("uniform", "column shuffle"):
        again = data.structureless(kind, 1)
        assert np.array_equal(data.structureless(kind, 1), again, equal_nan=True)
        assert 500 < len(again) < 2000
    kinds = {kind for kind, _ in data.structureless_sets()}
    assert kinds >= {"one population", "column shuffle", "uniform"}


def test_every_kind_of_result_has_a_judge_that_takes_its_arguments(runner):
    chosen = runner.argparse.Namespace(
        sizes=[5000], difficulties=["easy"], seeds=1, sets=1, family="fmcg", groups=[]
    )
    for plan in runner.PARTS.values():
        for judge, arguments in plan(chosen):
            inspect.signature(runner.JUDGES[judge]).bind(**arguments)
