"""The verb that searches the options of the clustering for a model that stands."""

from __future__ import annotations

import polars as pl
import pytest
from typer.testing import CliRunner

from core.artifacts.manifest import read_manifest, verify
from core.cli import app
from core.config import Config, resolve_config
from core.errors import ArtifactError
from core.evaluation.search import SCHEMA
from core.retailers.pipelines import run_all
from core.retailers.search import select_options, with_options

SEARCH = ["--refits", "2", "--nulls", "2", "--latent-size", "5", "--workers", "0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a small complete run with too large clusters, searched by the verb."""
    folder = tmp_path_factory.mktemp("run") / "artifacts"
    config = Config.model_validate(
        {
            "artifacts": str(folder),
            "sample": {"n_shops": 300, "difficulty": "easy"},
            "autoencoder": {"architecture": "denoising", "epochs": 5},
            "clustering": {"min_cluster_size": 140},
        }
    )
    run_all(config)
    before = read_manifest(folder)
    chosen = folder.parent / "chosen.yaml"
    arguments = ["select", "--artifacts", str(folder), *SEARCH, "--write", str(chosen)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return folder, before, chosen, result


def test_every_option_has_a_row_and_the_model_stays(run):
    folder, before, _, result = run
    assert result.exit_code == 0
    table = pl.read_csv(folder / "selection.csv")
    assert set(SCHEMA) <= set(table.columns)
    assert table["criterion"].is_sorted(descending=True)
    assert table.select(pl.col("is_chosen", "is_standing").sum()).row(0) == (1, 1)
    assert table.filter("is_standing")["min_cluster_size"].item() == 140
    after = read_manifest(folder)
    verify(folder, after)
    assert after.model_id == before.model_id
    assert set(after.files) == {*before.files, "selection.csv"}
    facts = after.facts("inference")
    assert facts["labelled"] == before.facts("inference")["labelled"]
    assert facts["selection"]["chosen"]["is_chosen"] is True


def test_the_printed_command_and_the_written_file_say_the_same(run):
    folder, before, written, result = run
    row = pl.read_csv(folder / "selection.csv").filter("is_chosen").row(0, named=True)
    assert not row["is_standing"], "clusters of 140 among 300 shops are no choice"
    chosen = resolve_config(written)
    assert chosen == with_options(before.config, row)
    line = next(line for line in result.stdout.splitlines() if "core run" in line)
    words = line.split()
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert resolve_config(folder / "config.yaml", assignments=sets) == chosen


def test_a_folder_without_a_complete_run_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="holds no complete run"):
        select_options(tmp_path)
