"""The application that the verbs join: shared options, tables printed, exit codes.

Errors of the user end in one message and the exit code of their kind, never in a
traceback.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.errors import SegmentsError

if TYPE_CHECKING:
    from core.retailers.training import StageResult


app = typer.Typer(
    name="segments",
    help="Turn sales rows into retailer segments, and say so when there are none.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def guarded(command: typer.Typer) -> None:
    """Run a command; exit with the code of a user's error, after its message.

    An operating system's error, such as a full disk, is the user's to mend as well.
    """
    try:
        command()
    except KeyboardInterrupt:
        typer.echo("Interrupted; the last complete run is unchanged.", err=True)
        sys.exit(130)
    except (SegmentsError, OSError) as error:
        message = f"{type(error).__name__}: {error}"
        Console(stderr=True).print(
            message, style="bold red", soft_wrap=True, highlight=False, markup=False
        )
        sys.exit(getattr(error, "exit_code", SegmentsError.exit_code))


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file with any of the options."),
]
ArtifactsFolder = Annotated[
    str | None,
    typer.Option(
        "--artifacts", help="Folder of the artifacts.", show_default="artifacts"
    ),
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        help="Your rows: CSV (.gz), Parquet or Excel; a file, folder, glob or s3:// "
        "address. The inference script scores them if they are not the training data.",
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="`sample` (built in, offline) or `kaggle`; `--input` goes before.",
        show_default="sample",
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="`behaviour` (how a shop sells) or `baseline` (the reference's 29).",
        show_default="behaviour",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Seed of everything random.", show_default="42"),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        help="Last month looked at, YYYY-MM.",
        show_default="the newest complete month",
    ),
]
Column = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="Map a column, such as `shop_id=CustomerID`; repeat for more. Ours are "
        "shop_id, product_id, year, month (or date), sales_qty, sales_value.",
    ),
]
Assignment = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any option as `key=value`, such as `clustering.min_cluster_size=30`; "
        "repeat for more. `segments config` lists them all.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]


def print_closing(result: StageResult) -> None:
    """Print the closing table, and where everything is, on standard output."""
    console = Console()
    if result.table:
        table = Table(title="What was found", title_justify="left")
        for name in result.table[0]:
            is_text = name in {"labels", "outcome", "recipe", "space", "verdict"}
            table.add_column(name, justify="left" if is_text else "right")
        for row in result.table:
            table.add_row(*row.values())
        console.print(table)
    for line in result.lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
