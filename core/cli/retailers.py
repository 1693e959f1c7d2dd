"""The verbs of retailers: the pipeline, what judges and describes a model, refreshes.

What a flag does not name, ``--set key=value`` does.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from core.artifacts.manifest import Stage
from core.cli.app import (
    ArtifactsFolder,
    AsOf,
    Assignment,
    Column,
    ConfigFile,
    Features,
    Input,
    Quiet,
    Seed,
    Source,
    app,
    guarded,
    print_closing,
)
from core.config import Config, resolve_config
from core.errors import ConfigError, ContractError
from core.logging import configure, get_logger

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
    from core.retailers import pipelines
    from core.retailers.training import StageResult, stage_config

    functions: dict[Stage, Callable[[Config], StageResult]] = {
        "prepare": pipelines.prepare_features,
        "autoencoder": pipelines.train_autoencoder,
        "clustering": pipelines.train_clustering,
        "inference": pipelines.run_inference,
    }
    started = time.perf_counter()
    config = stage_config(stage, file, flags, assignments)
    result = functions[stage](config)
    if stage != "inference":
        for line in result.lines:
            get_logger().info("%s", line)
    get_logger().info("Done in %.1f s", time.perf_counter() - started)
    if stage == "inference" and not quiet:
        print_closing(result)


_COMMANDS: dict[str, tuple[tuple[Stage, ...], str]] = {
    "prepare": (("prepare",), PREPARE),
    "train-autoencoder": (("autoencoder",), AUTOENCODER),
    "train-clusters": (("clustering",), CLUSTERING),
    "infer": (("inference",), INFERENCE),
    "run": (("prepare", "autoencoder", "clustering", "inference"), EVERYTHING),
}
for _name, (_stages, _summary) in _COMMANDS.items():
    app.command(_name)(_stage_command(_stages, _summary))


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
    guarded(alone)


Resampling = Literal["subsample", "bootstrap", "seed"]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Processes side by side; 0 for this one alone. The result is the same.",
        show_default="one per core",
    ),
]


@app.command("stability")
def stability(
    artifacts: ArtifactsFolder = None,
    refits: Annotated[
        int, typer.Option("--refits", help="How often; each takes as long as training.")
    ] = 5,
    how: Annotated[
        Resampling, typer.Option("--how", help="What differs from one to the next.")
    ] = "subsample",
    workers: Workers = None,
) -> None:
    """Learn the segments anew, scaler and encoder included, and see which come back."""
    from core.retailers.judge import measure_stability

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    print_closing(measure_stability(folder, refits, how, workers))


@app.command("certify")
def certify(
    artifacts: ArtifactsFolder = None,
    nulls: Annotated[
        int, typer.Option("--nulls", help="Data sets without structure, at least 19.")
    ] = 19,
    refits: Annotated[
        int, typer.Option("--refits", help="How often all is learnt on 80% of shops.")
    ] = 5,
    seed_refits: Annotated[
        int, typer.Option("--seed-refits", help="How often with another seed.")
    ] = 3,
    budget_minutes: Annotated[
        float | None,
        typer.Option(
            "--budget-minutes",
            min=0.0,
            help="Time for it all: as many nulls as fit, at least 19.",
            show_default="none, `--nulls` decides",
        ),
    ] = None,
    workers: Workers = None,
) -> None:
    """Tell whether the segments are real: learn everything anew, also on nothing.

    Refits the whole pipeline on data without structure and on other shops, derives the
    verdict (natural, reproducible, constructive), and publishes the segments under it.
    Writes certificate.json, stability.csv and null-distribution.png.
    """
    from core.retailers.judge import Effort
    from core.retailers.judge import certify as certify_model

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    effort = Effort(nulls, refits, seed_refits, budget_minutes, workers)
    try:
        result = certify_model(folder, effort)
    except KeyboardInterrupt:
        typer.echo(
            "Interrupted. What is done is kept: run the same command again, and it "
            "goes on where it was. The published segments are unchanged.",
            err=True,
        )
        raise typer.Exit(130) from None
    print_closing(result)


@app.command("compare")
def compare(
    artifacts: ArtifactsFolder = None,
    spaces: Annotated[
        str | None,
        typer.Option(
            "--spaces",
            help="Some of raw, pca, umap, reference, latent, comma separated.",
            show_default="all that are installed",
        ),
    ] = None,
    shops: Annotated[
        int, typer.Option("--shops", help="Look at so many, drawn at random.")
    ] = 2000,
    refits: Annotated[
        int, typer.Option("--refits", help="How often each is learnt anew.")
    ] = 3,
    nulls: Annotated[
        int, typer.Option("--nulls", help="Data sets without structure, at least 19.")
    ] = 19,
    budget_minutes: Annotated[
        float,
        typer.Option("--budget-minutes", help="After these, no further nulls."),
    ] = 30.0,
    parts: Annotated[
        int | None,
        typer.Option(
            "--parts",
            help="How many KMeans and mixtures make.",
            show_default="as many as the run's own partition has",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Processes for the nulls; 0 for this one alone.",
            show_default="one per core",
        ),
    ] = None,
) -> None:
    """Judge raw, PCA, UMAP, reference and our space x HDBSCAN, KMeans, mixture.

    On both feature sets, by what holds across spaces: counts, stability, p against data
    without structure, out-of-time score. Writes comparison-spaces.csv and .png.
    """
    from core.evaluation.comparison import Effort
    from core.retailers.research import compare as compare_spaces

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    wanted = None if spaces is None else [name.strip() for name in spaces.split(",")]
    result = compare_spaces(
        folder,
        spaces=wanted,
        effort=Effort(refits, nulls, 60.0 * budget_minutes),
        max_shops=shops,
        k=parts,
        n_workers=workers,
    )
    print_closing(result)


@app.command("profile")
def profile(artifacts: ArtifactsFolder = None) -> None:
    """Say what sets the segments apart, test it on later months, and give rules."""
    from core.retailers.profile import profile_segments

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    print_closing(profile_segments(folder))


@app.command("explain")
def explain(
    shop: Annotated[str, typer.Argument(help="The shop's id, as in the data.")],
    artifacts: ArtifactsFolder = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print figures for a machine instead.")
    ] = False,
) -> None:
    """Say why a shop is in its segment, and what would move it out of there."""
    from core.retailers.profile import explain_shop

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    found = explain_shop(folder, shop)
    if as_json:
        text = json.dumps(found.facts(), indent=2, ensure_ascii=False, allow_nan=False)
        typer.echo(text)
        return
    for line in found.lines():
        typer.echo(line)


@app.command("scorecard")
def scorecard(
    artifacts: ArtifactsFolder = None,
    permutations: Annotated[
        int,
        typer.Option(
            "--permutations",
            help="Labels dealt out by lot to compare with; 19 or more.",
        ),
    ] = 199,
) -> None:
    """Look back at what segments told of the months after, beyond size.

    Learns the model on an earlier month, freezes it, and compares its labels with what
    shops did later. Writes scorecard.csv, scorecard-decay.csv and scorecard.png.
    """
    from core.retailers.research import measure_scorecard

    configure(logging.INFO)
    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    print_closing(measure_scorecard(folder, permutations))


class Retrain(StrEnum):
    """The values of ``refresh.retrain``."""

    policy = "policy"
    always = "always"
    never = "never"


@app.command("refresh")
def refresh(
    input: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Rows of the new month, or months: as for `run`. Months known already "
            "may be among them. Without it, nothing new is read.",
        ),
    ] = None,
    artifacts: ArtifactsFolder = None,
    retrain: Annotated[
        Retrain | None,
        typer.Option(
            "--retrain",
            help="`policy` (where drift lasts), `always` or `never`.",
            show_default="policy",
        ),
    ] = None,
    restate: Annotated[
        bool,
        typer.Option(
            "--restate", help="Replace the sales of earlier months that came again."
        ),
    ] = False,
    config: ConfigFile = None,
    column: Column = None,
    set_: Assignment = None,
    quiet: Quiet = False,
) -> None:
    """Take in a new month: assign everyone, measure drift, retrain if that is due.

    Safe for a scheduler: a month that came before changes nothing, a second refresh at
    the same time is refused, and a killed one has not happened. Exits with 0, or with
    the code of what went wrong; 8 if a refit breaks the segment contract. Writes
    refresh.html, cluster_predictions.csv and segment_moves.csv.
    """
    from core.retailers.refresh.month import refresh_config
    from core.retailers.refresh.run import run_refresh
    from core.store import publish_ledger

    configure(logging.ERROR if quiet else logging.INFO)
    columns = [f"data.columns.{text}" for text in column or []]
    chosen = refresh_config(artifacts, config, input, [*columns, *(set_ or [])])
    result = run_refresh(
        chosen,
        retrain=None if retrain is None else retrain.value,
        restate=restate,
        into_store=publish_ledger,
    )
    if not quiet or result.exit_code:
        for line in result.lines:
            Console().print(line, soft_wrap=True, highlight=False, markup=False)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


@app.command("versions")
def versions(artifacts: ArtifactsFolder = None) -> None:
    """List the versions of the model: the one that serves, and those kept."""
    from core.retailers.refresh.output import version_rows

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    rows = version_rows(Path(folder))
    table = Table(title="Versions", title_justify="left")
    for name in rows[0]:
        table.add_column(name, no_wrap=name == "name", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


@app.command("rollback")
def rollback(
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="A version by the name that `segments versions` lists.",
            show_default="the version before",
        ),
    ] = None,
    artifacts: ArtifactsFolder = None,
) -> None:
    """Let the version before serve again; the ledger stays as it is."""
    from core.retailers.refresh.output import roll_back

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    for line in roll_back(Path(folder), to):
        typer.echo(line)


@app.command("rename")
def rename(
    segment: Annotated[int, typer.Argument(help="The segment's id.", min=0)],
    name: Annotated[str, typer.Argument(help="What it is called from now on.")],
    artifacts: ArtifactsFolder = None,
) -> None:
    """Give a segment a name of your own, which it keeps in all later models."""
    from core.retailers.publish import rename_segment

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    print_closing(rename_segment(folder, segment, name))


contract = typer.Typer(
    name="contract",
    help="What segments must keep: draft it once, check it ever after.",
    no_args_is_help=True,
)
app.add_typer(contract)

_DAY = ["%Y-%m-%d"]


@contract.command("draft")
def draft(
    owner: Annotated[str, typer.Option("--owner", help="Who answers for it.")],
    expires: Annotated[
        datetime, typer.Option("--expires", formats=_DAY, help="Its last day.")
    ],
    artifacts: ArtifactsFolder = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="File to write, if there is none yet.",
            show_default="standard output",
        ),
    ] = None,
) -> None:
    """Write a contract with bands around the published segments, to be edited.

    Stability floors are drafted where `segments stability` has been run before.
    """
    from core.retailers.profile import draft_for

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
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


@contract.command("check")
def check(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="The contract, a YAML file.",
            show_default="`refresh.contract` of the published model",
        ),
    ] = None,
    artifacts: ArtifactsFolder = None,
    today: Annotated[
        datetime | None,
        typer.Option(
            "--today",
            formats=_DAY,
            help="Day that `expires` is compared with.",
            show_default="this day",
        ),
    ] = None,
) -> None:
    """Hold a contract against the published segments; exit code 8 if it is broken."""
    from core.retailers.profile import breaches_of

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    day = date.today() if today is None else today.date()
    breaches = breaches_of(folder, file, day)
    if breaches:
        n = len(breaches)
        raise ContractError(
            f"the segments in `{folder}` break their contract in {n} "
            f"{'place' if n == 1 else 'places'}:\n"
            + "\n".join(f"- {breach.message}" for breach in breaches)
        )
    typer.echo(f"The segments in {folder} keep their contract.")


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
        from core.docs import configuration_page

        typer.echo(configuration_page(), nl=False)
    else:
        typer.echo(resolve_config(config, assignments=set_ or []).to_yaml(), nl=False)


@app.command("features")
def print_features() -> None:
    """Print every feature with its formula, unit and what null means."""
    from core.docs import features_page

    typer.echo(features_page(), nl=False)


@app.command("verify")
def verify_artifacts(artifacts: ArtifactsFolder = None) -> None:
    """Check every file of the published artifacts against its digest."""
    from core.artifacts.folder import Artifacts

    folder = resolve_config(flags={"artifacts": artifacts}).artifacts
    published = Artifacts(folder).published()
    if published is None:
        typer.echo(f"{folder} holds no artifacts yet.")
        return
    manifest = published.manifest
    state = "complete" if manifest.is_complete else "not complete yet"
    typer.echo(f"{folder}: {len(manifest.files)} files unchanged, {state}.")
