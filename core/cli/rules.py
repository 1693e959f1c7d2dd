"""The verbs of rule sets: proven, settled, assigned, and as SQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from core.cli import app
from core.errors import ContractError, SourceError

if TYPE_CHECKING:
    import polars as pl

    from core.rules.grammar import RuleSet

rules_app = typer.Typer(
    name="rules",
    help="Prove segments by rules, assign customers, and turn rules into SQL.",
    no_args_is_help=True,
)
app.app.add_typer(rules_app)

Rules = Annotated[
    str, typer.Argument(help="A built-in rule set or a YAML file; see docs/rules.md.")
]
Customers = Annotated[
    str,
    app.option("One row per customer: CSV, Parquet or Excel; file or s3:// address."),
]
IdColumn = Annotated[str, app.option("Column with the customer's id.", flag="--id")]


@rules_app.command("check")
def check(
    rules: Annotated[
        list[str], typer.Argument(help="Built-in rule sets or YAML files.")
    ],
) -> None:
    """Prove that every possible customer is in exactly one segment, or show who is not.

    Exits with 8 if there are customers in no segment or in two, or a segment that
    nobody can be in; each comes with an example and with what to change.
    """
    from core.rules.check import check_rules
    from core.rules.grammar import read_rules

    proofs = [check_rules(read_rules(source)) for source in rules]
    lines = [line for proof in proofs for line in proof.lines()]
    code = ContractError.exit_code if not all(p.is_sound for p in proofs) else 0
    app.report_and_exit(lines, code)


@rules_app.command("show")
def show(rules: Rules) -> None:
    """Print a rule set as YAML: a start for your own."""
    from core.rules.grammar import read_rules

    app.print_lines([read_rules(rules).to_yaml()])


@rules_app.command("settle")
def settle(
    rules: Rules,
    table: Customers,
    output: Annotated[Path, app.option("YAML file to write to.")],
) -> None:
    """Learn the thresholds of a rule set from a table, and write them as numbers.

    From then on the rules say the same of every table.
    """
    from core.rules.check import require_proven
    from core.rules.grammar import read_rules

    chosen = read_rules(rules)
    settled = require_proven(chosen.settle(_read(table, chosen)))
    _write(settled.to_yaml(), output)


@rules_app.command("assign")
def assign(
    rules: Rules,
    table: Customers,
    output: Annotated[Path, app.option("CSV or Parquet file to write to.")],
    id_: IdColumn = "customer_id",
) -> None:
    """Give every customer of a table the segment that the rules say.

    Thresholds without a number are learnt from the table; `settle` keeps them.
    """
    from core.rules.assign import assign_rules
    from core.rules.grammar import read_rules

    chosen = read_rules(rules)
    done = assign_rules(chosen, _read(table, chosen, id_), id_)
    rows = [(band, name, f"{n:,}") for band, name, n in done.counts()]
    app.print_table(("band", "segment", "customers"), rows, to_the_right={"customers"})
    app.print_lines(done.lines())
    app.write_table(done.table, output)


@rules_app.command("sql")
def sql(
    rules: Rules,
    dialect: Annotated[
        Literal["duckdb", "postgres", "spark"], app.option("Of which database.")
    ] = "duckdb",
    table: Annotated[
        str, app.option("Name of the table with a row per customer.")
    ] = "customers",
    id_: IdColumn = "customer_id",
    output: Annotated[Path | None, app.option("File to write to.", "print")] = None,
) -> None:
    """Print the query that gives every customer of a table its segment."""
    from core.rules.check import require_proven
    from core.rules.compile import to_sql
    from core.rules.grammar import read_rules

    query = to_sql(require_proven(read_rules(rules)), dialect, table, id_)
    if output is None:
        app.print_lines([query])
    else:
        _write(query, output)


def _read(address: str, rules: RuleSet, *ids: str) -> pl.DataFrame:
    from core.tables.plain import read_table

    texts = [feature.name for feature in rules.features if feature.type == "text"]
    return read_table(address, [*ids, *texts])


def _write(text: str, output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SourceError(f"`{output}` cannot be written ({error}).") from None
    app.print_lines([f"{output}: written"])
