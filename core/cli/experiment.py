"""The verbs of experiments: how large, who is treated, what was shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli import app
from core.errors import ConfigError
from core.yaml_text import read_yaml

if TYPE_CHECKING:
    import polars as pl

    from core.evaluation.experiment_plan import Experiment

experiment_app = typer.Typer(
    name="experiment",
    help="Plan an experiment on segments, draw who is treated, and read it out.",
    no_args_is_help=True,
)
app.app.add_typer(experiment_app)

Design = Annotated[
    Path, typer.Argument(help="YAML file with the design; see docs/experiments.md.")
]


@experiment_app.command("plan")
def plan(
    design: Design,
    table: app.CustomerTable,
    id_: app.IdColumn = "customer_id",
    segment: app.SegmentColumn = "segment",
    arrivals: Annotated[
        str | None,
        app.option(
            "When users came by: ids and `date`, such as their orders of some weeks. "
            "Tells how long the experiment takes."
        ),
    ] = None,
    output: Annotated[Path | None, app.option("CSV file to write the plan to.")] = None,
) -> None:
    """Tell how many users each segment needs, how long that takes, and what cannot be.

    The table holds the metric as it is now: its mean and variance in every segment
    decide the sizes. The error rate is divided by the number of segments.
    """
    from core.evaluation.experiment_plan import plan_sizes, smallest_total_effect
    from core.tables.plain import read_table

    chosen = _design(design)
    visits = None if arrivals is None else read_table(arrivals, [id_])
    users = read_table(table, [id_, segment])
    sizes = plan_sizes(users, chosen, id_, segment, visits)
    app.print_table(
        (
            "segment",
            "metric",
            "users",
            "baseline",
            "needed",
            "smallest effect",
            "weeks",
            "alone?",
        ),
        [
            (
                row["segment"],
                row["metric"],
                _count(row["n_users"]),
                figure(row["baseline"]),
                _count(row["needed"]),
                _change(row["smallest_effect"]),
                _count(row["weeks"]),
                "yes" if row["can_be_tested"] else f"no: {row['reason']}",
            )
            for row in sizes.iter_rows(named=True)
        ],
        f"{chosen.name}: a change of {chosen.effect:.0%}, error rate "
        f"{chosen.alpha:g} over {sizes.height} segments, power {chosen.power:.0%}",
        to_the_right={"users", "baseline", "needed", "smallest effect", "weeks"},
    )
    total = smallest_total_effect(users, chosen, id_, segment)
    said = f"All segments together could show {_change(total)} of {chosen.metric.label}"
    app.print_lines([said])
    app.write_table(sizes, output)


@experiment_app.command("assign")
def assign(
    design: Design,
    table: app.CustomerTable,
    output: Annotated[Path, app.option("CSV or Parquet file to write to.")],
    id_: app.IdColumn = "customer_id",
    segment: app.SegmentColumn = "segment",
    earlier: Annotated[
        str | None,
        app.option("An assignment of before, whose users keep their arms."),
    ] = None,
) -> None:
    """Draw who is treated: the same for the same ids, balanced in every segment.

    Prints how alike the arms are in every numeric column of the table.
    """
    from core.evaluation.experiment_plan import UNLIKE, assign_arms
    from core.evaluation.experiment_readout import TOTAL, balance_table
    from core.tables.plain import read_table

    chosen = _design(design)
    users = read_table(table, [id_, segment])
    before = None if earlier is None else read_table(earlier, [id_, "arm"])
    drawn = assign_arms(users, chosen, id_, segment, before)
    columns = [
        name
        for name, dtype in users.schema.items()
        if dtype.is_numeric() and name not in {id_, segment, "arm"}
    ]
    arms = users.drop("arm", strict=False).with_columns(drawn["arm"])
    balance = balance_table(arms, columns, segment)
    counts = dict(drawn["arm"].value_counts().iter_rows())
    app.print_lines(
        [", ".join(f"{arm}: {n:,} users" for arm, n in sorted(counts.items()))]
    )
    app.print_table(
        ("segment", "column", "control", "treatment", "difference"),
        [
            (
                row["segment"],
                row["column"],
                figure(row["control"]),
                figure(row["treated"]),
                figure(row["difference"]),
            )
            for row in balance.iter_rows(named=True)
            if row["segment"] == TOTAL or abs(row["difference"] or 0) > UNLIKE
        ],
        f"Balance, in standard deviations; segments where they differ by over {UNLIKE}",
        to_the_right={"control", "treatment", "difference"},
    )
    app.write_table(drawn, output)


@experiment_app.command("readout")
def readout(
    design: Design,
    table: app.CustomerTable,
    id_: app.IdColumn = "customer_id",
    segment: app.SegmentColumn = "segment",
    arms: Annotated[
        str | None,
        app.option(
            "Who was treated, as `assign` or a run wrote it: joined to the table by id."
        ),
    ] = None,
    output: Annotated[
        Path | None, app.option("CSV file to write every figure to.")
    ] = None,
    lifts: Annotated[
        Path | None,
        app.option("CSV file to add each segment's lift to; needs `--cycle`."),
    ] = None,
    cycle: Annotated[
        str | None, app.option("Month of this readout, such as 2024-05.")
    ] = None,
) -> None:
    """Read a finished experiment out: lift, guardrails, and launch, iterate or stop.

    The table, or `--arms`, holds `arm` (`control` or `treatment`) and every metric of
    the design. Nothing is read where the numbers of users in the arms do not fit the
    plan.
    """
    from core.evaluation.experiment_readout import read_lifts, read_out
    from core.segments.ledger import is_month
    from core.tables.plain import read_table

    if (lifts is None) != (cycle is None) or not is_month(cycle or "2024-05"):
        raise ConfigError(
            f"`--lifts` is {lifts}, `--cycle` is {cycle}; expected both or neither, "
            "and a month such as 2024-05."
        )
    chosen = _design(design)
    if arms is None:
        users = read_table(table, [id_, segment, "arm"])
    else:
        users = _with_results(
            read_table(arms, [id_, segment, "arm"]), read_table(table, [id_]), id_
        )
    found = read_out(users, chosen, id_, segment)
    app.print_table(
        ("segment", "metric", "control", "treatment", "change", "interval", "p"),
        [
            (
                row["segment"],
                row["metric"],
                figure(row["control"]),
                figure(row["treated"]),
                _change(row["relative"]),
                _interval(row["relative_low"], row["relative_high"]),
                figure(row["adjusted_p"]),
            )
            for row in found.changes.iter_rows(named=True)
        ],
        f"{chosen.name}: relative changes with intervals at {1 - chosen.alpha:.0%}",
        to_the_right={"control", "treatment", "change", "p"},
    )
    app.print_table(
        ("segment", "decision", "reason"), found.decisions.iter_rows(), "What to do"
    )
    app.write_table(found.changes, output)
    if lifts is not None and cycle is not None:
        own = found.lifts(chosen, cycle)
        if lifts.exists():
            earlier = read_lifts(lifts).join(own, ["cycle", "segment"], "anti")
            own = earlier.vstack(own)
        app.write_table(own, lifts)


def _with_results(arms: pl.DataFrame, results: pl.DataFrame, id_: str) -> pl.DataFrame:
    """Return everyone who has an arm; users without results have gaps."""
    strange = results.join(arms, on=id_, how="anti").height
    if strange:
        app.print_lines([f"{strange:,} users of the table have no arm: left out"])
    own = results.drop(set(arms.columns) - {id_}, strict=False)
    return arms.join(own, on=id_, how="left", maintain_order="left")


def _design(path: Path) -> Experiment:
    from core.evaluation.experiment_plan import parse_experiment

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8"
        raise ConfigError(f"design `{path}` cannot be read ({reason}).") from None
    try:
        return parse_experiment(read_yaml(text), f"design `{path}`")
    except ValueError as error:
        raise ConfigError(f"design `{path}` is not YAML: {error}.") from None


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def figure(value: float | None) -> str:
    """Return a figure with three digits; empty for none."""
    return "" if value is None else f"{value:,.3g}"


def _change(value: float | None) -> str:
    return "cannot be estimated" if value is None else _percent(value)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_percent(low)} to {_percent(high)}"


def _percent(value: float) -> str:
    return f"{value:+.1%}".replace("-0.0%", "+0.0%")
