"""The verbs that explain a customer and learn rules, as a user runs them."""

from __future__ import annotations

import json

import pytest
from test_learn import guests
from typer.testing import CliRunner

from core.cli.app import app
from core.errors import SegmentsError
from core.rules.check import check_rules
from core.rules.grammar import read_rules


def rules(*arguments):
    """Return what `rules` prints, or raise what it raises."""
    result = CliRunner().invoke(app, ["rules", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    file = tmp_path_factory.mktemp("guests") / "guests.csv"
    rows = guests(300).drop("noise", "spend").with_row_index("guest")
    rows.with_columns(rows["guest"].cast(str).str.zfill(4)).write_csv(file)
    return file


@pytest.fixture(scope="module")
def learnt(table):
    file = table.parent / "rules.yaml"
    options = ("--id", "guest", "--target", "group", "--size", "orders")
    said = rules("learn", "--table", table, *options, "--output", file)
    return file, said


def test_rules_are_learnt_from_a_file_with_their_worth(learnt):
    file, said = learnt
    assert "Balanced accuracy on those held out: 1.00; the largest" in said
    assert "`orders` alone 0." in said
    found = read_rules(file)
    assert check_rules(found).is_proven
    assert {"guest", "guest_1"} & {f.name for f in found.features} == set()


def test_a_customer_is_explained_by_id_and_by_values(learnt, table):
    row = guests(300).row(17, named=True)
    who = ("--table", table, "--id", "guest", "--customer", "0017")
    facts = json.loads(rules("explain", learnt[0], *who, "--json"))
    assert facts["segment"] == row["group"]
    said = rules("explain", learnt[0], "--values", "orders=3, app=no, recency=")
    assert said.startswith("Segment: lost, because\n  - recency is missing")
    assert "regular: orders is 21 (now 3), recency is" in said


def test_segments_of_artifacts_are_imitated(trained, tmp_path):
    file = tmp_path / "new" / "rules.yaml"
    said = rules("learn", "--from", trained, "--output", file)
    assert "shops; " in said
    assert "`sales_qty_last_12_months` alone" in said
    assert check_rules(read_rules(file)).is_proven


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "RULES"], "expected one customer: `--customer ID"),
        (["explain", "RULES", "--values", "order=3"], "Did you mean `orders`"),
        (["explain", "RULES", "--values", "orders"], "is no `name=value`"),
        (["explain", "RULES", "--values", "app=perhaps"], r"expected yes \(1\) or no"),
        (
            [
                "explain",
                "RULES",
                "--table",
                "TABLE",
                "--id",
                "guest",
                "--customer",
                "17",
            ],
            "`17` has 0 of 300 rows by `guest`; expected one. Did you mean `0",
        ),
        (["learn", "--table", "TABLE", "--output", "x"], "expected one source"),
        (["learn", "--from", "nowhere", "--output", "x"], "holds no complete run"),
    ],
)
def test_what_cannot_be_meant_is_refused(learnt, table, arguments, message):
    given = {"RULES": learnt[0], "TABLE": table}
    with pytest.raises(SegmentsError, match=message):
        rules(*(given.get(argument, argument) for argument in arguments))
