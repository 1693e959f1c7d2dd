"""The verbs of rule sets: proven, settled, assigned, and as SQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli import app
from core.errors import ArtifactError, ConfigError, ContractError, SourceError
from core.resolve import resolve_config
from core.rules.dialects import Dialect

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
    table: app.CustomerTable,
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
    table: app.CustomerTable,
    output: Annotated[Path, app.option("CSV or Parquet file to write to.")],
    id_: app.IdColumn = "customer_id",
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
    dialect: Annotated[Dialect, app.option("Of which database.")] = "duckdb",
    table: Annotated[
        str, app.option("Name of the table with a row per customer.")
    ] = "customers",
    id_: app.IdColumn = "customer_id",
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


@rules_app.command("explain")
def explain(
    rules: Rules,
    customer: Annotated[
        str | None, app.option("Id of a customer in `--table`.", "`--values`")
    ] = None,
    table: Annotated[
        str | None,
        app.option("Customers with their features: CSV, Parquet or Excel.", "none"),
    ] = None,
    id_: app.IdColumn = "customer_id",
    values: Annotated[
        str | None,
        app.option(
            "A customer by its values, such as `orders=3,app=yes`; what is not named "
            "is missing.",
            "`--customer`",
        ),
    ] = None,
    as_json: Annotated[
        bool, app.option("Print figures for a machine instead.", flag="--json")
    ] = False,
) -> None:
    """Say why a customer is in its segment, and what would lead to each other one.

    The change is the smallest there is: the fewest features, then the least distance.
    A feature that is `fixed: true` in the rules never has to change.
    """
    from core.rules.explain import customer_in, customer_of, explain_customer
    from core.rules.grammar import read_rules

    chosen = read_rules(rules)
    if values is not None and customer is None:
        own = customer_of(chosen, values)
    elif values is None and customer is not None and table is not None:
        rows = _read(table, chosen, id_)
        chosen = chosen.settle(rows)
        own = customer_in(rows, id_, customer)
    else:
        raise ConfigError(
            "expected one customer: `--customer ID --table PATH`, or `--values "
            "NAME=VALUE,...`."
        )
    found = explain_customer(chosen, own)
    if as_json:
        typer.echo(json.dumps(found.facts(), indent=2, ensure_ascii=False))
        return
    app.print_lines(found.lines())


@rules_app.command("learn")
def learn(
    output: Annotated[Path, app.option("YAML file to write the rules to.")],
    table: Annotated[
        str | None,
        app.option("Customers with their features: CSV, Parquet or Excel.", "`--from`"),
    ] = None,
    id_: app.IdColumn = "customer_id",
    target: Annotated[
        str | None,
        app.option("Column that the rules predict: a number, flag or text."),
    ] = None,
    feature: Annotated[
        list[str] | None,
        app.option("Column that rules may ask about; repeat for more.", "all others"),
    ] = None,
    size: Annotated[
        str | None, app.option("Column of numbers, to compare the rules with.")
    ] = None,
    published: Annotated[
        str | None,
        app.option("Folder of artifacts, to imitate its segments.", flag="--from"),
    ] = None,
    axis: Annotated[
        str | None, app.option("Which of several axes to imitate.", "the only one")
    ] = None,
    max_leaves: Annotated[
        int | None,
        app.option(
            "Most leaves of the tree.", "10, or twice the texts of the target", min=2
        ),
    ] = None,
    max_depth: Annotated[
        int | None, app.option("Most conditions on the way to a leaf.", "any", min=1)
    ] = None,
    min_customers: Annotated[
        int | None,
        app.option("Fewest customers in a leaf.", "1%, and 5 at least", min=1),
    ] = None,
    seed: app.Seed = None,
) -> None:
    """Learn rules from a table, or rules that imitate published segments.

    A small tree, cut to the size that holds on customers it was not learnt from, as a
    rule set in YAML. Towards a number or flag every leaf is a segment; towards a text
    every text is. The rules are judged on a quarter of the customers.
    """
    from core.rules.learn import learn_rules
    from core.tables.plain import read_table

    plural = "customers"
    if published is not None and table is None and target is None:
        rows, own_size, plural = _labelled(published, axis)
        target, size = "segment", size or own_size
        feature = feature or [c for c in rows.columns if c not in {target, own_size}]
    elif published is None and table is not None and target is not None:
        rows = read_table(table, [id_]).drop(id_)
    else:
        raise ConfigError(
            "expected one source: `--table PATH --target COLUMN`, or `--from FOLDER`."
        )
    learnt = learn_rules(
        rows,
        target,
        feature,
        size=size,
        plural=plural,
        max_leaves=max_leaves,
        max_depth=max_depth,
        min_leaf=min_customers,
        seed=resolve_config(flags={"seed": seed}).seed,
    )
    app.print_lines(learnt.report.lines())
    _write(learnt.rules.to_yaml(), output)


def _labelled(folder: str, axis: str | None) -> tuple[pl.DataFrame, str | None, str]:
    """Return published segments beside features, the column of sizes, and the noun."""
    from core.artifacts.reading import ArtifactSet, read_published
    from core.artifacts.runs import PROFILES
    from core.baskets.files import BASKET_SEGMENTS
    from core.channels.files import CHANNEL_SEGMENTS, CUSTOMERS
    from core.retailers.features import SHOP
    from core.retailers.files import RETAILERS
    from core.retailers.profile import labelled_shops
    from core.segments.memberships import labelled_customers

    def read(found: ArtifactSet | None) -> tuple[pl.DataFrame, str | None, str]:
        if found is None or not found.manifest.is_complete:
            raise ArtifactError(
                f"`{folder}` holds no complete run; expected a folder with published "
                "segments, such as `artifacts` or `artifacts/axes`."
            )
        if found.manifest.system is RETAILERS:
            return labelled_shops(found), SHOP.size_column, SHOP.plural
        is_known = found.manifest.system in (CHANNEL_SEGMENTS, BASKET_SEGMENTS)
        features = found.table(CUSTOMERS) if is_known else None
        rows = labelled_customers(found.table(PROFILES), axis, features)
        sizes = ("total_orders", "omnichannel_order_count")
        size = next((name for name in sizes if name in rows.columns), None)
        return rows, size, "customers"

    return read_published(Path(folder), read, *app.systems())


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
