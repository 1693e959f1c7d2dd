"""The verbs of the channel segments, for a person and for a scheduler."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from core.cli import app
from core.cli.versions import add_version_verbs
from core.config import Config
from core.errors import PROGRAM
from core.logging import configure
from core.resolve import resolve_config

if TYPE_CHECKING:
    from core.channels.run import Channels

channels_app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="markdown",
    context_settings=app.HELP_NAMES,
)
app.app.add_typer(channels_app, name="channels")

StoreName = Annotated[str | None, app.option(app.WHOSE, "channels")]


@channels_app.callback()
def channels(
    context: typer.Context,
    rules: Annotated[
        str | None,
        app.option("Rule set: a built-in name, or a YAML file.", "order-bands"),
    ] = None,
    feature_config: Annotated[
        str | None,
        app.option("The original's feature_pipeline_config.json, read as it is."),
    ] = None,
    segmentation_config: Annotated[
        str | None,
        app.option("The original's segmentation_config.json, likewise."),
    ] = None,
    models: Annotated[
        Path,
        app.option("Folder of converted models, for the original's `micro_plan`."),
    ] = Path("models"),
    retrain: Annotated[
        Literal["always", "never"],
        app.option(
            "`always` refits rules and micro-segments; segments keep ids and names; "
            "`never` assigns by the published model."
        ),
    ] = "always",
    engine: app.Engine = None,
    store: StoreName = None,
    database: app.Database = None,
    no_store: app.NoStore = False,
    artifacts: app.ArtifactsFolder = None,
    config: app.ConfigFile = None,
    seed: app.Seed = None,
    set_: app.Assignment = None,
    quiet: app.Quiet = False,
) -> None:
    """Segment the customers of several channels by rules, and further by KMeans.

    The channels are named in the configuration (`channels.sources`), or in the JSON
    files of the original; without them the built-in sample is segmented. Safe for a
    scheduler: the same rows change nothing, a second run at the same time is refused,
    and a killed one has no effect. Exits with 0, or with the code of what went
    wrong; 9 if the files are published and only the store could not be loaded. Writes
    channels.html and a Parquet file per stage into `channels` in the artifacts folder.
    """
    if context.invoked_subcommand is not None:
        return
    from core.channels.original import in_their_words, read_original
    from core.channels.run import run_channels

    configure(logging.ERROR if quiet else logging.INFO)
    flags = {
        "artifacts": artifacts,
        "seed": seed,
        "channels.rules": rules,
        "channels.store": store,
        "features.engine": engine,
        "store.url": database,
    }
    base: Config | None = None
    notes: list[str] = []
    if feature_config or segmentation_config:
        base, notes = read_original(feature_config, segmentation_config, models)
    chosen = resolve_config(config, flags, set_ or [], base=base)
    into_store = app.loader(no_store=no_store)
    with nullcontext() if base is None else in_their_words():
        run = run_channels(chosen, refit=retrain == "always", into_store=into_store)
    app.report_and_exit([*notes, *run.lines], run.exit_code, quiet=quiet)


@channels_app.command("sample")
def write_channels_sample(
    folder: Annotated[Path, typer.Argument(help="Where to; made if it is not there.")],
    customers: Annotated[int, app.option("How many guests.")] = 5000,
    parquet: Annotated[
        bool, app.option("Write Parquet instead of CSV.", flag="--parquet")
    ] = False,
    seed: app.Seed = None,
) -> None:
    """Write the built-in sample, with a channels.yaml to run it with.

    A restaurant chain with three channels, as CSV: its orders, items and customers, the
    catalogue and the stores. Any number of guests: they are written as they are made.
    """
    from core.channels.sample import write_sample

    chosen = resolve_config(flags={"seed": seed}).seed
    rows = write_sample(folder, customers, chosen, "parquet" if parquet else "csv")
    app.print_lines(f"{folder / name}: {n:,} rows" for name, n in rows.items())
    app.print_lines(
        [f"Segment them: {PROGRAM} channels --config {folder / 'channels.yaml'}"]
    )


@channels_app.command("import-models")
def import_channel_models(
    pickles: Annotated[
        list[str],
        typer.Argument(help="Pickles: paths, globs or s3:// addresses."),
    ],
    to: Annotated[Path, app.option("Folder that the converted models go to.")] = Path(
        "models"
    ),
) -> None:
    """Convert pickles of a KMeans with its scaler into models of micro-segments.

    For who has `{kmeans, scaler, features}` from elsewhere; an item of the plan then
    names the file as its `model`. Nothing in a pickle is run: it is read in a process
    of its own, and refused if it asks for anything that such a model does not need.
    """
    from core.channels.pickles import import_models

    app.print_lines(import_models(pickles, to))


def _segmentation(config: Config) -> Channels:
    from core.channels.run import Channels

    return Channels(config)


add_version_verbs(
    channels_app,
    "channels",
    "`segment`, or the name of an item of the plan.",
    _segmentation,
)
