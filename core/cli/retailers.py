"""The verbs of retailers: the pipeline, what judges and describes a model, refreshes.

What a flag does not name, ``--set key=value`` does.
"""

from __future__ import annotations

import inspect
import json
import logging
import time
from collections.abc import Callable
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from core.cli import app
from core.config import Config
from core.errors import PROGRAM, ConfigError
from core.logging import configure, get_logger
from core.resolve import resolve_config
from core.retailers.files import Stage

Column = Annotated[
    list[str] | None,
    app.option(
        "Map a column, such as `shop_id=CustomerID`; repeat for more. Ours are "
        "shop_id, product_id, year, month (or date), sales_qty, sales_value."
    ),
]
Nulls = Annotated[int, app.option("Data sets without structure, at least 19.")]
Workers = Annotated[
    int | None,
    app.option(
        "Processes side by side; 0 for this one alone. The result is the same.",
        "one per core",
        min=0,
    ),
]

PREPARE = """Read and check sales rows, keep the eligible shops, compute their features.

Writes features.parquet, rejected_rows.parquet and exclusions.csv."""
AUTOENCODER = """Fit the scaler and the autoencoder on the prepared features.

Writes autoencoder-model.keras, encoder-state.safetensors and loss-plot.png."""
CLUSTERING = """Cluster the raw scaled features and the latent space, and compare both.

Writes cluster-state.safetensors, comparison.csv and the plots."""
INFERENCE = """Label every shop from the saved artifacts: training data or `--input`.

Of the training data it publishes report.html, segments.xlsx and a file of shops per
segment in segments/, cluster_predictions.csv and cluster_insights.csv. Other rows are
scored into scored_predictions.csv, or where `--output` says, and nothing that is
published changes."""
EVERYTHING = """Run all four pipelines, one after the other."""


Input = Annotated[
    str | None,
    app.option(
        "Your rows: CSV (.gz), Parquet or Excel; a file, folder, glob or s3:// "
        "address. The inference script scores them if they are not the "
        "training data."
    ),
]
Source = Annotated[
    str | None,
    app.option(
        "`sample` (built in, offline) or `kaggle`; `--input` goes before.",
        "sample",
    ),
]
Features = Annotated[
    str | None,
    app.option(
        "`behaviour` (how a shop sells) or `baseline` (the reference's 29).",
        "behaviour",
    ),
]
Engine = Annotated[
    Literal["polars", "duckdb", "spark"] | None,
    app.option(
        "What goes through the rows; the results are equal. `spark` reads `--input` on "
        "a cluster, where `spark.output` gets what is of everyone.",
        "polars",
    ),
]
AsOf = Annotated[
    str | None,
    app.option("Last month looked at, YYYY-MM.", "the newest complete month"),
]
Preset = Annotated[
    str | None,
    app.option(
        "Options by name: `reference` is the published recipe; `--set` goes before.",
        "default",
    ),
]
Output = Annotated[
    str | None,
    app.option(
        "Score the rows into this file, CSV or Parquet, and publish nothing.",
        "scored_predictions.csv for other rows",
    ),
]


def _stage_command(stages: tuple[Stage, ...], summary: str) -> Callable[..., None]:
    """Return a command that runs stages with the options they all share."""

    def command(
        config: app.ConfigFile = None,
        artifacts: app.ArtifactsFolder = None,
        input: Input = None,
        source: Source = None,
        features: Features = None,
        seed: app.Seed = None,
        as_of: AsOf = None,
        engine: Engine = None,
        column: Column = None,
        preset: Preset = None,
        output: Output = None,
        set_: app.Assignment = None,
        trusted_digest: app.TrustedDigest = None,
        quiet: app.Quiet = False,
    ) -> None:
        from core.artifacts.manifest import trusted
        from core.retailers.presets import preset_assignments

        configure(logging.ERROR if quiet else logging.INFO)
        flags = {
            "artifacts": artifacts,
            "data.source": source,
            "data.input": input,
            "features.name": features,
            "features.as_of": as_of,
            "features.engine": engine,
            "seed": seed,
        }
        if source is not None and input is None:
            # Another source than the input that the file or the artifacts may name.
            set_ = ["data.input=null", *(set_ or ())]
        assignments = app.assignments_of(set_, {"data.columns": column})
        if preset is not None:
            assignments = [*preset_assignments(preset), *assignments]
        with trusted(trusted_digest):
            for stage in stages:
                _run(stage, config, flags, assignments, output, quiet)

    command.__doc__ = summary
    if stages != ("inference",):
        shared = inspect.signature(command, eval_str=True)
        kept = [p for name, p in shared.parameters.items() if name != "output"]
        command.__signature__ = shared.replace(parameters=kept)  # type: ignore[attr-defined]  # functions have one
    return command


def _run(
    stage: Stage,
    file: Path | None,
    flags: dict[str, Any],
    assignments: list[str],
    output: str | None,
    quiet: bool,
) -> None:
    from core.artifacts.folder import StageResult
    from core.retailers import pipelines
    from core.retailers.pipelines import stage_config

    functions: dict[Stage, Callable[[Config], StageResult]] = {
        "prepare": pipelines.prepare_features,
        "autoencoder": pipelines.train_autoencoder,
        "clustering": pipelines.train_clustering,
        "inference": partial(pipelines.run_inference, output=output),
    }
    started = time.perf_counter()
    config = stage_config(stage, file, flags, assignments)
    result = functions[stage](config)
    if stage != "inference":
        for line in result.lines:
            get_logger().info("%s", line)
    get_logger().info("Done in %.1f s", time.perf_counter() - started)
    if stage == "inference" and not quiet:
        app.print_summary(result)


_COMMANDS: dict[str, tuple[tuple[Stage, ...], str]] = {
    "prepare": (("prepare",), PREPARE),
    "train-autoencoder": (("autoencoder",), AUTOENCODER),
    "train-clusters": (("clustering",), CLUSTERING),
    "infer": (("inference",), INFERENCE),
    "run": (("prepare", "autoencoder", "clustering", "inference"), EVERYTHING),
}
for _name, (_stages, _summary) in _COMMANDS.items():
    app.app.command(_name)(_stage_command(_stages, _summary))


def alone(verb: str) -> typer.Typer:
    """Return one verb as the only command of a script at the root."""
    stages, summary = _COMMANDS[verb]
    script = typer.Typer(
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode="markdown",
        context_settings=app.HELP_NAMES,
    )
    script.command()(_stage_command(stages, summary))
    return script


@app.app.command()
def stability(
    folder: app.Folder = "",
    refits: Annotated[
        int, app.option("How often; each takes as long as training.")
    ] = 5,
    how: Annotated[
        Literal["subsample", "bootstrap", "seed"],
        app.option("What differs from one to the next."),
    ] = "subsample",
    workers: Workers = None,
) -> None:
    """Refit the segments, scaler and encoder included, and see which come back."""
    from core.retailers.judge import measure_stability

    configure(logging.INFO)
    app.print_summary(measure_stability(folder, refits, how, workers))


@app.app.command("certify")
def certify_model(
    folder: app.Folder = "",
    nulls: Nulls = 19,
    refits: Annotated[int, app.option("Refits on 80% of the shops.")] = 5,
    seed_refits: Annotated[int, app.option("Refits with another seed.")] = 3,
    budget_minutes: Annotated[
        float | None,
        app.option(
            "Time for it all: as many nulls as fit, at least 19.",
            "none, `--nulls` decides",
            min=0.0,
        ),
    ] = None,
    workers: Workers = None,
) -> None:
    """Test whether the segments are real: refit all, also on data without groups.

    Refits the whole pipeline on data without structure and on other shops, derives the
    verdict (natural, reproducible, constructive), and publishes the segments under it.
    Writes certificate.json, stability.csv and null-distribution.png.
    """
    from core.retailers.judge import Effort, certify

    configure(logging.INFO)
    effort = Effort(nulls, refits, seed_refits, budget_minutes, workers)
    try:
        result = certify(folder, effort)
    except KeyboardInterrupt as stop:
        raise type(stop)(
            "what is done is kept: run the same command again, and it continues where "
            "it stopped. The published segments are unchanged."
        ) from None
    app.print_summary(result)


@app.app.command("compare")
def compare_published(
    folder: app.Folder = "",
    spaces: Annotated[
        str | None,
        app.option(
            "Some of raw, pca, umap, reference, latent, comma separated.",
            "all that are installed",
        ),
    ] = None,
    shops: Annotated[int, app.option("Look at so many, drawn at random.")] = 2000,
    refits: Annotated[int, app.option("How often each is refitted.")] = 3,
    nulls: Nulls = 19,
    budget_minutes: Annotated[
        float, app.option("After these, no further nulls.")
    ] = 30.0,
    parts: Annotated[
        int | None,
        app.option(
            "How many KMeans and mixtures make.",
            "as many as the run's own partition has",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        app.option("Processes for the nulls; 0 for this one alone.", "one per core"),
    ] = None,
) -> None:
    """Compare raw, PCA, UMAP, reference and our space x HDBSCAN, KMeans, mixture.

    On both feature sets, by what holds across spaces: counts, stability, p against data
    without structure, out-of-time score. Writes comparison-spaces.csv and .png.
    """
    from core.evaluation.comparison import ComparisonEffort
    from core.retailers.research import compare

    configure(logging.INFO)
    wanted = None if spaces is None else [name.strip() for name in spaces.split(",")]
    result = compare(
        folder,
        spaces=wanted,
        effort=ComparisonEffort(refits, nulls, 60.0 * budget_minutes),
        max_shops=shops,
        k=parts,
        n_workers=workers,
    )
    app.print_summary(result)


@app.app.command("sweep")
def sweep_options(
    config: app.ConfigFile = None,
    input: Input = None,
    source: Source = None,
    as_of: AsOf = None,
    column: Column = None,
    seed: Annotated[
        str, app.option("Seeds, such as `1..10` or `1,2,7`; the data stays the same.")
    ] = "1..5",
    preset: Annotated[
        str, app.option("Presets, comma separated: `default`, `reference`.")
    ] = "default,reference",
    set_: Annotated[
        list[str] | None,
        app.option(
            "Any option, with one value or several to go through: "
            "`clustering.min_cluster_size=25,50,100`; repeat for more.",
            flag="--set",
        ),
    ] = None,
    output: Annotated[Path, app.option("Folder of table, figure and fits.")] = Path(
        "sweep"
    ),
    workers: Workers = None,
) -> None:
    """Compare raw with latent noise ratios over seeds, presets and options.

    Every run is made on the shops and on data without structure. Writes sweep.csv (a
    row per run and space, with all settings), sweep.png and what was learnt, so that a
    sweep that was stopped continues where it stopped.
    """
    from core.retailers.sweep import (
        PICTURE,
        TABLE,
        closing_rows,
        plan_sweep,
        seeds_of,
        sweep,
    )

    configure(logging.INFO)
    flags = {"data.source": source, "data.input": input, "features.as_of": as_of}
    mapped = app.assignments_of(None, {"data.columns": column})
    names = [name.strip() for name in preset.split(",")]
    given = [*mapped, *(set_ or ())]
    runs = plan_sweep(seeds_of(seed), names, given, config, flags)
    try:
        table = sweep(runs, output, workers)
    except KeyboardInterrupt as stop:
        raise type(stop)(
            "what is done is kept: run the same command again, and it continues where "
            "it stopped."
        ) from None
    title = "Means over seeds; noise ratio and structure score (on no structure), ARI"
    app.print_rows(closing_rows(table, runs), title)
    app.print_lines([f"Table: {output / TABLE}", f"Figure: {output / PICTURE}"])


@app.app.command()
def profile(folder: app.Folder = "") -> None:
    """Say what sets the segments apart, test it on later months, and give rules."""
    from core.retailers.profile import profile_segments

    configure(logging.INFO)
    app.print_summary(profile_segments(folder))


@app.app.command("explain")
def explain_member(
    shop: Annotated[str, typer.Argument(help="The shop's id, as in the data.")],
    folder: app.Folder = "",
    as_json: Annotated[
        bool, app.option("Print figures for a machine instead.", flag="--json")
    ] = False,
) -> None:
    """Say why a shop is in its segment, and what would change that."""
    from core.retailers.explain import (
        explain_shop,
        explanation_facts,
        explanation_lines,
    )

    found = explain_shop(folder, shop)
    if as_json:
        text = json.dumps(
            explanation_facts(found), indent=2, ensure_ascii=False, allow_nan=False
        )
        typer.echo(text)
        return
    app.print_lines(explanation_lines(found))


@app.app.command()
def scorecard(
    folder: app.Folder = "",
    permutations: Annotated[
        int, app.option("Sets of random labels to compare with; 19 or more.")
    ] = 199,
) -> None:
    """Measure at past dates what segments told of the months after, beyond usual sales.

    Learns the model on an earlier month, freezes it, and compares its labels with what
    shops did later. Writes scorecard.csv, scorecard-decay.csv and scorecard.png.
    """
    from core.retailers.research import measure_scorecard

    configure(logging.INFO)
    app.print_summary(measure_scorecard(folder, permutations))


@app.app.command()
def refresh(
    input: Annotated[
        str | None,
        app.option(
            "Rows of the new month, or months: as for `run`. Months known already "
            "may be among them. Without it, nothing new is read."
        ),
    ] = None,
    artifacts: app.ArtifactsFolder = None,
    retrain: Annotated[
        Literal["policy", "always", "never"] | None,
        app.option("`policy` (where drift lasts), `always` or `never`.", "policy"),
    ] = None,
    restate: Annotated[
        bool,
        app.option("Replace earlier months that the file has, too.", flag="--restate"),
    ] = False,
    config: app.ConfigFile = None,
    column: Column = None,
    set_: app.Assignment = None,
    trusted_digest: app.TrustedDigest = None,
    quiet: app.Quiet = False,
) -> None:
    """Add a new month: assign all shops, say who moved, measure drift, retrain if due.

    Safe for a scheduler: a month that came before changes nothing, a second refresh at
    the same time is refused, and a killed one has no effect. Exits with 0, or with the
    code of what went wrong; 8 if a refit breaks the segment contract. Writes
    refresh.html, refresh_shops.csv, segments.xlsx and cluster_predictions.csv.
    """
    from core.artifacts.manifest import trusted
    from core.retailers.refresh.month import refresh_config
    from core.retailers.refresh.run import run_refresh
    from core.store.publish import publish_ledger

    configure(logging.ERROR if quiet else logging.INFO)
    assignments = app.assignments_of(set_, {"data.columns": column})
    with trusted(trusted_digest):
        result = run_refresh(
            refresh_config(artifacts, config, input, assignments),
            retrain=retrain,
            restate=restate,
            into_store=publish_ledger,
        )
    app.report_and_exit(result.lines, result.exit_code, quiet=quiet)


@app.app.command()
def versions(folder: app.Folder = "") -> None:
    """List the versions of the model: the one in use, and those kept."""
    from core.retailers.refresh.output import version_rows

    rows = version_rows(Path(folder))
    cells = [row.values() for row in rows]
    app.print_table(rows[0], cells, "Versions", unbroken={"name"})


@app.app.command()
def rollback(
    to: Annotated[
        str | None,
        app.option(
            f"A version by the name that `{PROGRAM} versions` lists.",
            "the version before",
        ),
    ] = None,
    folder: app.Folder = "",
) -> None:
    """Go back to the version before; the ledger stays as it is."""
    from core.retailers.refresh.output import roll_back

    app.print_lines(roll_back(Path(folder), to))


@app.app.command()
def rename(
    segment: Annotated[
        str, typer.Argument(help="The id of a segment (2), or of a sub-segment (2a).")
    ],
    name: Annotated[str, typer.Argument(help="What it is called from now on.")],
    folder: app.Folder = "",
) -> None:
    """Give a segment a name of your own, which it keeps in all later models."""
    from core.retailers.publish import rename_segment

    app.print_summary(rename_segment(folder, segment, name))


contract = typer.Typer(
    name="contract",
    help="What segments must keep: draft it once, then check it after every change.",
    no_args_is_help=True,
)
app.app.add_typer(contract)

_DAY = ["%Y-%m-%d"]


@contract.command()
def draft(
    owner: Annotated[str, app.option("Who is responsible for it.")],
    expires: Annotated[datetime, app.option("Its last day.", formats=_DAY)],
    folder: app.Folder = "",
    output: Annotated[
        Path | None,
        app.option("File to write, if there is none yet.", "standard output"),
    ] = None,
) -> None:
    """Write a contract with bands around the published segments, to be edited.

    Stability floors are drafted where `stability` has been run before.
    """
    from core.retailers.profile import draft_for

    text = draft_for(folder, owner, expires.date())
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except FileExistsError:
        raise ConfigError(
            f"`{output}` exists, and may hold terms that were agreed on. Delete it, or "
            "pass `--output` another name."
        ) from None
    typer.echo(f"Contract: {output}. Edit it, then set `refresh.contract` to it.")


@contract.command()
def check(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="The contract, a YAML file.",
            show_default="`refresh.contract` of the published model",
        ),
    ] = None,
    folder: app.Folder = "",
    today: Annotated[
        datetime | None,
        app.option("Day that `expires` is compared with.", "this day", formats=_DAY),
    ] = None,
) -> None:
    """Check the published segments against a contract; exit code 8 if it is broken."""
    from core.retailers.profile import breaches_of
    from core.segments.contract import require_kept

    day = date.today() if today is None else today.date()
    require_kept(breaches_of(folder, file, day), f"the segments in `{folder}`")
    typer.echo(f"The segments in {folder} keep their contract.")


@app.app.command("config")
def print_config(
    config: app.ConfigFile = None,
    set_: app.Assignment = None,
    markdown: Annotated[
        bool, app.option("Print the reference of all options.", flag="--markdown")
    ] = False,
) -> None:
    """Print the resolved configuration as YAML: a start for a file of your own."""
    if markdown:
        from core.docs import configuration_page

        typer.echo(configuration_page(), nl=False)
    else:
        typer.echo(resolve_config(config, assignments=set_ or []).to_yaml(), nl=False)


@app.app.command("features")
def print_features() -> None:
    """Print every feature with its formula, unit and what null means."""
    from core.docs import features_page

    typer.echo(features_page(), nl=False)


@app.app.command("verify")
def verify_artifacts(
    folder: app.Folder = "", trusted_digest: app.TrustedDigest = None
) -> None:
    """Check every file of the published artifacts against its digest.

    Prints the manifest's own digest last, which vouches for all of them.
    """
    from core.artifacts.manifest import damaged, trusted, verify
    from core.artifacts.reading import ArtifactSet, read_published

    def checked(found: ArtifactSet | None) -> ArtifactSet | None:
        changed = [] if found is None else verify(found.folder, found.manifest)
        for name in changed:
            assert found is not None  # it has files
            raise damaged(found.folder, name, found.manifest)
        return found

    with trusted(trusted_digest):
        published = read_published(Path(folder), checked, *app.systems())
    if published is None:
        typer.echo(f"{folder} holds no artifacts yet.")
        return
    manifest = published.manifest
    state = "complete" if manifest.is_complete else "not complete yet"
    typer.echo(f"{folder}: {len(manifest.files)} files unchanged, {state}.")
    typer.echo(f"SHA-256 of manifest.json: {manifest.sha256}")
