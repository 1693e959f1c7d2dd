"""The benchmark of scale generates shared parts, and its page says how costs grow."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import polars as pl
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("scale")


@pytest.fixture
def judges(scale):
    return importlib.import_module("scale_judges")


def cost(seconds, peak_mb=500.0):
    return {"seconds": seconds, "peak_mb": peak_mb, "cpu_s": 2 * seconds}


def pipelines(n_shops, seconds, kind="three-years"):
    steps = dict.fromkeys(("prepare", "train", "cluster", "infer"), cost(seconds))
    return {
        "judge": "pipelines",
        "arguments": {"kind": kind, "n_shops": n_shops},
        "version": "abc1234",
        "result": {
            "rows": 100 * n_shops,
            "disk_mb": 50.0,
            "steps": steps,
            "load": 0.25,
        },
    }


def test_parts_are_generated_once_and_their_shops_differ(judges, tmp_path, monkeypatch):
    monkeypatch.setitem(judges.KINDS, "short", judges.Kind(15, 2.0, 20))
    small = judges.sales_of(tmp_path, "short", 20)
    large = judges.sales_of(tmp_path, "short", 40)
    assert len(list((tmp_path / "short").glob("*.parquet"))) == 2
    assert pl.read_parquet(small)["shop_id"].n_unique() == 20
    assert pl.read_parquet(large)["shop_id"].n_unique() == 40


def test_growth_is_one_where_costs_are_linear_in_shops(scale):
    short = pipelines(30_000, 5.0, "short")
    page = scale.render([pipelines(10_000, 3.0), short, pipelines(40_000, 12.0)])
    [line] = [line.split(" | ") for line in page.splitlines() if "40,000" in line]
    assert line[8] == "1.00"
    [line] = [line.split(" | ") for line in page.splitlines() if "| 30,000" in line]
    assert line[8] == "-"  # no smaller one of its kind
    [line] = [line.split(" | ") for line in page.splitlines() if "40,000" in line]
    assert line[-1] == "2.40 |"  # CPU s per 1,000 shops: 4 steps x 24 s / 40
    assert "Load of the machine before a measurement: 0.2 to 0.2." in page
    assert "Commits measured: `abc1234`" in page


def test_cost_of_an_entity_and_the_loss_of_a_sample_are_shown(scale):
    arguments = {"kind": "short", "n_shops": 2000}
    result = {"rows": 50_000, "disk_mb": 1.0, "steps": {"score": cost(4.0)}}
    score = {"judge": "score", "arguments": arguments, "result": result}
    found = {"planted_ari": 0.912, "clusters_ari": 0.95, "segments_ari": 0.9}
    found |= {"n_clusters": 9, "noise": 0.043} | cost(30.0, peak_mb=1500.0)
    sample = {"judge": "sample", "arguments": {"n_shops": 60_000, "seed": 1}}
    sample["result"] = {"learnt_from": {"5000": found}}
    page = scale.render([row | {"version": "abc1234"} for row in (score, sample)])
    assert "| short | 2,000 | 0.1M | 0.00 | 4 | 0.50 | 8 | 4.00 | 500 |" in page
    line = "| 60,000 | 5,000 | 0.912 | 0.950 | 0.900 | 9 | 4.3% | 30 | 1.50 |"
    assert line in page


@pytest.mark.parametrize(
    ("labels", "same"), [({"labels": 7}, "yes"), ({"labels": 8}, "**no**"), ({}, "-")]
)
def test_labels_of_spark_are_held_against_those_of_polars(scale, labels, same):
    rows = {"rows": 2_000_000, "disk_mb": 1.0}
    polars = rows | labels | {"steps": {"score": cost(4.0)}}
    spark = rows | {"labels": 7, "steps": {"prepare": cost(9.0), "score": cost(8.0)}}
    shops, other = {"n_shops": 20_000}, {"labels": 9}
    results = [
        {"judge": "spark", "arguments": shops, "result": spark},
        *(
            {"judge": "score", "arguments": shops | {"kind": kind}, "result": result}
            for kind, result in (("three-years", polars), ("short", polars | other))
        ),
    ]
    page = scale.render([row | {"version": "abc1234"} for row in results])
    spark_line = f"| 20,000 | 2.0M | Spark | 9 | 0.50 | 18 | 8 | 0.50 | 16 | {same} |"
    assert spark_line in page
    assert f"| 20,000 | 2.0M | Polars | - | - | - | 4 | 0.50 | 8 | {same} |" in page


def test_what_was_not_measured_is_said(scale):
    assert scale.render([]).count("Not measured.") == len(scale.PARTS)


def test_every_task_has_a_judge_that_takes_its_arguments(scale):
    tasks = scale.tasks_of(list(scale.PARTS), most=240_000)
    assert tasks
    assert all(scale.size_of(given) <= 240_000 for _, given in tasks)
    for judge, arguments in tasks:
        inspect.signature(scale.JUDGES[judge]).bind(Path(), **arguments)
