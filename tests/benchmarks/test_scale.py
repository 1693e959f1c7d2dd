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


def cost(seconds, peak_mb=500.0):
    return {"seconds": seconds, "peak_mb": peak_mb, "cpu_s": 2 * seconds}


def pipelines(n_shops, seconds):
    steps = dict.fromkeys(("prepare", "train", "cluster", "infer"), cost(seconds))
    return {
        "judge": "pipelines",
        "arguments": {"n_shops": n_shops},
        "version": "abc1234",
        "result": {"rows": 100 * n_shops, "disk_mb": 50.0, "steps": steps},
    }


def test_parts_are_generated_once_and_their_shops_differ(scale, tmp_path, monkeypatch):
    monkeypatch.setitem(scale.KINDS, "short", scale.Kind(15, 2.0, 20))
    small = scale.sales_of(tmp_path, "short", 20)
    large = scale.sales_of(tmp_path, "short", 40)
    assert len(list((tmp_path / "short").glob("*.parquet"))) == 2
    assert pl.read_parquet(small)["shop_id"].n_unique() == 20
    assert pl.read_parquet(large)["shop_id"].n_unique() == 40


def test_growth_is_one_where_costs_are_linear_in_shops(scale):
    page = scale.render([pipelines(10_000, 3.0), pipelines(40_000, 12.0)])
    lines = [line.split(" | ") for line in page.splitlines() if "40,000" in line]
    assert "1.00" in lines[0]
    assert "96.0" not in lines[0]
    assert "2.40" in lines[0]  # CPU s per 1,000 shops: 4 steps x 24 s / 40
    assert "Commits measured: `abc1234`" in page


def test_what_was_not_measured_is_said(scale):
    assert scale.render([]).count("Not measured.") == len(scale.PARTS)


def test_every_task_has_a_judge_that_takes_its_arguments(scale):
    tasks = scale.tasks_of(list(scale.PARTS), most=240_000)
    assert tasks
    assert all(given["n_shops"] <= 240_000 for _, given in tasks)
    for judge, arguments in tasks:
        inspect.signature(scale.JUDGES[judge]).bind(Path(), **arguments)
