"""The verbs of rule sets."""

from __future__ import annotations

import polars as pl
import pytest
from typer.testing import CliRunner

from core.cli import app
from core.errors import ConfigError


def run(*arguments):
    return CliRunner().invoke(app, ["rules", *map(str, arguments)])


FAULTY = """
features:
  orders: {type: integer, from: 1}
segments:
  - {name: few, when: orders < 5}
  - {name: many, when: orders > 5}
"""


def test_check_exits_with_8_and_shows_the_customer(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(FAULTY, encoding="utf-8")
    assert run("check", "order-bands", "basket-quadrants").exit_code == 0
    done = run("check", "order-bands", rules)
    assert done.exit_code == 8
    assert "in no segment: every customer with orders = 5" in done.output
    assert "Change `few`: `orders < 5` to `orders <= 5`." in done.output


def test_a_shipped_rule_set_is_a_start_for_your_own(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(run("show", "order-bands").output, encoding="utf-8")
    assert run("check", mine).exit_code == 0


def test_thresholds_are_settled_once_and_used_from_then_on(tmp_path):
    table, settled = tmp_path / "scores.csv", tmp_path / "settled.yaml"
    scores = {"freq_score": [0.1, 0.2, 0.3], "loyalty_score": [0.9, 0.9, 0.1]}
    pl.DataFrame({"customer_id": ["01", "02", "03"], **scores}).write_csv(table)
    where = ("--table", table, "--output")
    assert run("settle", "basket-quadrants", *where, settled).exit_code == 0
    done = run("assign", settled, *where, tmp_path / "out.csv")
    assert "threshold often: 0.2" in done.output
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines() == [
        "customer_id,segment",
        "01,Loyal Occasionals",
        "02,Champions",
        "03,Frequent Explorers",
    ]
    assert ">= 0.2 AND" in run("sql", settled, "--dialect", "postgres").output
    with pytest.raises(ConfigError, match="has no number yet"):
        CliRunner().invoke(
            app, ["rules", "sql", "basket-quadrants"], catch_exceptions=False
        )
