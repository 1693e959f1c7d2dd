"""The application that the verbs join: shared options, tables printed, exit codes.

Errors of the user end in one message and the exit code of their kind, never in a
traceback.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from core.errors import PROGRAM, SegmentsError, SourceError
from core.redaction import redacted
from core.resolve import resolve_config
from core.scratch import full_disk_message

if TYPE_CHECKING:
    import polars as pl

    from core.artifacts.folder import StageResult
    from core.artifacts.manifest import System
    from core.lifecycle.segmentation import StoreLoader

# All but the tabulator and line breaks.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
HELP_NAMES = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="segments",
    epilog=f"Examples: `{PROGRAM} run --input sales.csv`, `{PROGRAM} explain S000123`, "
    f"`{PROGRAM} axes --lines order-lines.csv`. More about a verb, with an example: "
    f"`{PROGRAM} VERB --help`. Exit codes: README.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings=HELP_NAMES,
)


def systems() -> tuple[System, ...]:
    """Return every system that writes artifacts; by its stages a folder says whose."""
    from core.axes.files import CUSTOMER_AXES
    from core.baskets.files import BASKET_SEGMENTS
    from core.channels.files import CHANNEL_SEGMENTS
    from core.retailers.files import RETAILERS
    from core.tabular.files import TABLE_SEGMENTS

    customers = CUSTOMER_AXES, CHANNEL_SEGMENTS, BASKET_SEGMENTS, TABLE_SEGMENTS
    return RETAILERS, *customers


# Every verb once: in what group `--help` shows it, and an example of its options.
GROUPS: dict[str, dict[str, str]] = {
    "From rows to segments": {
        "run": "--input sales.csv --column shop_id=CustomerID",
        "prepare": "--input sales.csv",
        "train-autoencoder": "",
        "train-clusters": "--seed 7",
        "infer": "--input new.csv",
    },
    "Check the segments": {
        "certify": "--budget-minutes 30",
        "stability": "--refits 5",
        "scorecard": "",
        "profile": "",
        "explain": "S000123",
        "compare": "--spaces raw,latent",
        "sweep": "--seed 1..10 --set clustering.min_cluster_size=25,50,100",
    },
    "Every month": {
        "refresh": "--input 2024-05.parquet",
        "versions": "",
        "rollback": "",
        "rename": '3 "Seaside shops"',
        "contract": "check contract.yaml",
        "verify": "",
        "dashboard": "--export segments.html",
    },
    "Customers": {
        "fit": "--table customers.csv --id customer_id",
        "rfm": "--orders orders.csv",
        "axes": "--lines order-lines.csv",
        "channels": "--config channels.yaml",
        "baskets": "--orders orders.csv --items items.csv",
        "rules": "check order-bands",
        "export": "segments.parquet",
        "publish": "--store shops",
        "serve": "--port 8080",
        "store": "status",
        "keys": "create --store default",
    },
    "Actions on segments": {
        "validate": "--table users.csv --used total_spend",
        "experiment": "plan experiment.yaml --table users.csv",
    },
    "Reference": {"config": "--set seed=7", "features": ""},
}


def put_in_groups() -> None:
    """Give every verb its group and its example."""
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)  # it has verbs
    registered = [*app.registered_commands, *app.registered_groups]
    known: dict[str, Any] = dict(zip(command.commands, registered, strict=True))
    for title, verbs in GROUPS.items():
        for verb, options in verbs.items():
            known[verb].rich_help_panel = title
            known[verb].epilog = f"Example: `{PROGRAM} {verb} {options}".rstrip() + "`"
    titles = list(GROUPS)
    app.registered_commands.sort(key=lambda c: titles.index(str(c.rich_help_panel)))


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"stable-segments {version('stable-segments')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Turn sales rows into retailer segments, and say so when there are none."""


def guarded(command: typer.Typer, name: str | None) -> None:
    """Run a command; exit with the code of a user's error, after its message.

    An operating system's error, such as a full disk, is the user's to mend as well.
    """
    # More threads of TensorFlow wait for one another, and train the same bytes.
    for threads in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(threads, "1")
    try:
        command(prog_name=name)
    except SystemExit as end:
        # Typer turns Ctrl-C into an exit without a word.
        stop = getattr(end.__context__, "__cause__", None)
        if isinstance(stop, KeyboardInterrupt):
            raise stop from None
        raise
    except Exception as error:
        said = full_disk_message(error)
        if said is None and not isinstance(error, SegmentsError | OSError):
            raise
        told = f"{type(error).__name__}: {error}" if said is None else f"Error: {said}"
        _console(stderr=True).print(_shown(told), style="bold red", soft_wrap=True)
        code = SegmentsError.exit_code
        sys.exit(code if said else getattr(error, "exit_code", code))


def _console(*, stderr: bool = False) -> Console:
    """Return a console that prints what users wrote as they wrote it."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def _shown(text: str) -> str:
    """Return a text without passwords, and without codes that command a terminal."""
    return _CONTROLS.sub("?", redacted(text))


def option(help: str, unset: str | None = None, flag: str = "", **more: Any) -> Any:
    """Declare an option of a verb.

    Parameters
    ----------
    help : str
        What it does.
    unset : str, optional
        What holds without it, where the parameter's default does not say so.
    flag : str
        Default: ``--`` and the parameter's name.
    **more
        As `typer.Option` takes them.
    """
    names = (flag,) if flag else ()
    return typer.Option(*names, help=help, show_default=unset or True, **more)


def _published_folder(artifacts: str) -> str:
    return resolve_config(flags={"artifacts": artifacts or None}).artifacts


Engine = Annotated[
    Literal["polars", "spark"] | None,
    option(
        "`spark`: rows are read and everyone is assigned by Spark; see docs/spark.md.",
        "polars",
    ),
]
ConfigFile = Annotated[Path | None, option("YAML file with any of the options.")]
ArtifactsFolder = Annotated[str | None, option("Folder of the artifacts.", "artifacts")]
# For verbs that have no other option of the configuration.
Folder = Annotated[
    str,
    option(
        "Folder of the artifacts.",
        "artifacts",
        flag="--artifacts",
        callback=_published_folder,
    ),
]
Seed = Annotated[int | None, option("Seed of everything random.", "42")]
CustomerTable = Annotated[
    str,
    option("One row per customer: CSV, Parquet or Excel; file or s3:// address."),
]
IdColumn = Annotated[str, option("Column with the customer's id.", flag="--id")]
SegmentColumn = Annotated[
    str, option("Column with the customer's segment.", flag="--segment")
]
Database = Annotated[
    str | None,
    option("Address of a PostgreSQL.", "DATABASE_URL, else an embedded server"),
]
NoStore = Annotated[
    bool, option("Write the files only, load nothing.", flag="--no-store")
]
WHOSE = "Whose customers these are: the `store_id` of profiles and keys."


def loader(*, no_store: bool) -> StoreLoader | None:
    """Return what loads a published set into the store, if that is wanted."""
    if no_store:
        return None
    from core.store.publish import publish_profiles

    return publish_profiles


Assignment = Annotated[
    list[str] | None,
    option(
        "Any option as `key=value`, such as `clustering.min_cluster_size=30`; "
        f"repeat for more. `{PROGRAM} config` lists them all.",
        flag="--set",
    ),
]
TrustedDigest = Annotated[
    str | None,
    option(
        "SHA-256 that manifest.json must have, as `verify` prints it; see "
        "docs/security.md.",
        "any",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]


def assignments_of(
    set_: list[str] | None, columns: Mapping[str, list[str] | None]
) -> list[str]:
    """Return mapped columns, and what ``--set`` says, as assignments of options.

    Parameters
    ----------
    set_ : list of str, optional
        As given.
    columns : mapping of str to list of str
        By the option that takes them, such as ``data.columns``.
    """
    mapped = [
        f"{name}.{text}" for name, given in columns.items() for text in given or ()
    ]
    return [*mapped, *(set_ or ())]


def print_lines(lines: Iterable[str]) -> None:
    """Print text on standard output as it is, wrapped by the terminal only."""
    for line in lines:
        _console().print(_shown(line), soft_wrap=True)


def print_table(
    names: Iterable[str],
    rows: Iterable[Iterable[str]],
    title: str | None = None,
    *,
    to_the_right: Collection[str] = (),
    unbroken: Collection[str] = (),
) -> None:
    """Print a table on standard output.

    Parameters
    ----------
    names : iterable of str
        Of the columns.
    rows : iterable
        Of cells, a row each.
    title : str, optional
    to_the_right, unbroken : collection of str
        Columns that are aligned to the right, and whose cells are never broken.
    """
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(
            name,
            justify="right" if name in to_the_right else "left",
            no_wrap=name in unbroken,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(_shown, row))
    _console().print(table)


def print_rows(table: Sequence[Mapping[str, str]], title: str) -> None:
    """Print rows of a closing table, numbers to the right."""
    names = table[0].keys()
    words = {"how sure", "labels", "outcome", "preset", "recipe", "segment", "space"}
    rows = [row.values() for row in table]
    to_the_right, unbroken = names - words, {"preset", "segment", "space"}
    print_table(names, rows, title, to_the_right=to_the_right, unbroken=unbroken)


def print_summary(result: StageResult) -> None:
    """Print the summary table of a stage, and where everything is."""
    if result.table:
        print_rows(result.table, "What was found")
    print_lines(result.lines)


def report_and_exit(lines: list[str], exit_code: int, *, quiet: bool = False) -> None:
    """Say what was done, if `quiet` only where it went wrong, and exit."""
    if not quiet or exit_code:
        print_lines(lines)
    if exit_code:
        raise typer.Exit(exit_code)


def write_table(table: pl.DataFrame, output: Path | None) -> None:
    """Write a table as Parquet or, by any other name, as CSV, and say how many rows.

    Raises
    ------
    SourceError
        If it cannot be written.
    """
    if output is None:
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.suffix == ".parquet":
            table.write_parquet(output)
        else:
            from core.artifacts.spreadsheet import safe_table

            safe_table(table, resolve_config().csv_safety).write_csv(output)
    except OSError as error:
        raise SourceError(f"`{output}` cannot be written ({error}).") from None
    print_lines([f"{output}: {table.height:,} rows"])
