"""The command line: one verb per pipeline, and the scripts at the root.

Every verb takes the same options; what a flag does not name, ``--set key=value`` does.
Errors of the user end in one message and the exit code of their kind, never in a
traceback.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from core.config import Config
from core.errors import SegmentsError
from core.logging import configure, get_logger
from core.manifest import Stage
from core.resolve import resolve_config

if TYPE_CHECKING:
    from core.pipelines import StageResult

app = typer.Typer(
    name="segments",
    help="Turn sales rows into retailer segments, and say so when there are none.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
Resampling = Literal["subsample", "bootstrap", "seed"]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]


def _stage_command(stages: tuple[Stage, ...], summary: str) -> Callable[..., None]:
    """Return a command that runs stages with the options they all share."""

    def command(
        config: ConfigFile = None,
        artifacts: ArtifactsFolder = None,
        input: Input = None,
        source: Source = None,
        features: Features = None,
        seed: Seed = None,
        as_of: AsOf = None,
        column: Column = None,
        set_: Assignment = None,
        quiet: Quiet = False,
    ) -> None:
        configure(logging.ERROR if quiet else logging.INFO)
        flags = {
            "artifacts": artifacts,
            "data.source": source,
            "data.input": input,
            "features.name": features,
            "features.as_of": as_of,
            "seed": seed,
        }
        assignments = [f"data.columns.{text}" for text in column or []]
        if source is not None and input is None:
            # Another source than the input that the file or the artifacts may name.
            assignments.append("data.input=null")
        for stage in stages:
            _run(stage, config, flags, [*assignments, *(set_ or [])], quiet)

    command.__doc__ = summary
    return command


def _run(
    stage: Stage,
    file: Path | None,
    flags: dict[str, Any],
    assignments: list[str],
    quiet: bool,
) -> None:
    """Run one stage and print what it did."""
    from core import pipelines

    functions: dict[Stage, Callable[[Config], pipelines.StageResult]] = {
        "prepare": pipelines.prepare_features,
        "autoencoder": pipelines.train_autoencoder,
        "clustering": pipelines.train_clustering,
        "inference": pipelines.run_inference,
    }
    started = time.perf_counter()
    config = pipelines.stage_config(stage, file, flags, assignments)
    result = functions[stage](config)
    if stage != "inference":
        for line in result.lines:
            get_logger().info("%s", line)
    get_logger().info("Done in %.1f s", time.perf_counter() - started)
    if stage == "inference" and not quiet:
        _print_closing(result)


def _print_closing(result: StageResult) -> None:
    """Print the closing table, and where everything is, on standard output."""
    console = Console()
    if result.table:
        table = Table(title="What was found", title_justify="left")
        for name in result.table[0]:
            is_text = name in {"space", "verdict"}
            table.add_column(name, justify="left" if is_text else "right")
        for row in result.table:
            table.add_row(*row.values())
        console.print(table)
    for line in result.lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


PREPARE = """Read and check sales rows, keep the eligible shops, compute their features.

Writes features.parquet, rejected_rows.parquet and exclusions.csv."""
AUTOENCODER = """Fit the scaler and the autoencoder on the prepared features.

Writes autoencoder-model.keras, encoder-state.safetensors and loss-plot.png."""
CLUSTERING = """Cluster the raw scaled features and the latent space, and compare both.

Writes cluster-state.safetensors, comparison.csv and the plots."""
INFERENCE = """Label every shop from the saved artifacts: training data or `--input`.

Writes cluster_predictions.csv and cluster_insights.csv, and report.html for the
training data."""
EVERYTHING = """Run all four pipelines, one after the other."""

_COMMANDS: dict[str, tuple[tuple[Stage, ...], str]] = {
    "prepare": (("prepare",), PREPARE),
    "train-autoencoder": (("autoencoder",), AUTOENCODER),
    "train-clusters": (("clustering",), CLUSTERING),
    "infer": (("inference",), INFERENCE),
    "run": (("prepare", "autoencoder", "clustering", "inference"), EVERYTHING),
}
for _name, (_stages, _summary) in _COMMANDS.items():
    app.command(_name)(_stage_command(_stages, _summary))


@app.command("stability")
def stability(
    artifacts: ArtifactsFolder = None,
    refits: Annotated[
        int, typer.Option("--refits", help="How often; each takes as long as training.")
    ] = 5,
    how: Annotated[
        Resampling, typer.Option("--how", help="What differs from one to the next.")
    ] = "subsample",
) -> None:
    """Learn scaler, encoder and clusters anew, and see which clusters come back."""
    from core.assess import measure_stability

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    _print_closing(measure_stability(folder, refits, how))


@app.command("config")
def print_config(
    config: ConfigFile = None,
    set_: Assignment = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference of all options.")
    ] = False,
) -> None:
    """Print the resolved configuration as YAML: a start for a file of your own."""
    if markdown:
        from core.reference import configuration_page

        typer.echo(configuration_page(), nl=False)
    else:
        typer.echo(resolve_config(config, assignments=set_ or []).to_yaml(), nl=False)


@app.command("features")
def print_features() -> None:
    """Print every feature with its formula, unit and what null means."""
    from core.reference import features_page

    typer.echo(features_page(), nl=False)


@app.command("verify")
def verify_artifacts(artifacts: ArtifactsFolder = None) -> None:
    """Check every file of the published artifacts against its digest."""
    from core.artifacts import Artifacts

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    published = Artifacts(folder).published()
    if published is None:
        typer.echo(f"{folder} holds no artifacts yet.")
        return
    manifest = published.manifest
    state = "complete" if manifest.is_complete else "not complete yet"
    typer.echo(f"{folder}: {len(manifest.files)} files unchanged, {state}.")


def main() -> None:
    """Run ``segments``, or ``python -m core``."""
    _guarded(app)


def run_script(verb: str) -> None:
    """Run one verb as the only command of a script at the root."""
    stages, summary = _COMMANDS[verb]
    alone = typer.Typer(
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    alone.command()(_stage_command(stages, summary))
    _guarded(alone)


def _guarded(command: typer.Typer) -> None:
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
