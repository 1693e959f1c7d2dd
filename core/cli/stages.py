"""One verb per pipeline, all of them with the same options, and the root's scripts.

What a flag does not name, ``--set key=value`` does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from core.artifacts.manifest import Stage
from core.cli.app import app, guarded
from core.cli.closing import print_closing
from core.cli.options import (
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
)
from core.config import Config
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
