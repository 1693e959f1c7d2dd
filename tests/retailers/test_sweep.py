"""Sweeps over seeds, presets and options."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from core.errors import ConfigError
from core.retailers.presets import preset_assignments, presets, settings_of
from core.retailers.sweep import (
    FITS,
    PICTURE,
    TABLE,
    closing_rows,
    grid_of,
    plan_sweep,
    seeds_of,
    sweep,
)

SMALL = (
    "sample.n_shops=150",
    "sample.n_months=18",
    "autoencoder.epochs=1",
    "clustering.min_samples=5",
)


def test_seeds_are_ranges_and_lists_each_once() -> None:
    assert seeds_of("1..4") == [1, 2, 3, 4]
    assert seeds_of("7, 2,1..2") == [7, 2, 1]


@pytest.mark.parametrize("text", ["", "a", "3..1", "-1", "1..", "1.5"])
def test_other_texts_are_no_seeds(text: str) -> None:
    with pytest.raises(ConfigError, match="expected seeds"):
        seeds_of(text)


def test_a_value_in_brackets_is_one_value() -> None:
    grid = grid_of(["a.b=1, 2,1", "data.exclude_ids=[x, y]"])
    assert grid == {"a.b": ["1", "2"], "data.exclude_ids": ["[x, y]"]}


def test_runs_are_presets_by_values_by_seeds() -> None:
    sizes = "clustering.min_cluster_size=20,40"
    runs = plan_sweep([1, 2], ["default", "reference"], [sizes])
    told = [(r.preset, r.config.clustering.min_cluster_size, r.seed) for r in runs]
    assert told[:3] == [("default", 20, 1), ("default", 20, 2), ("default", 40, 1)]
    assert len(runs) == 8
    assert runs[-1].config.features.name == "baseline"
    # The rows are the same in all of them.
    assert {run.config.seed for run in runs} == {42}


def test_every_preset_is_made_of_known_options() -> None:
    for name in presets():
        run = plan_sweep([1], [name], [])[0]
        told = settings_of(run.config)
        assert presets()[name].items() <= told.items()


@pytest.mark.parametrize(
    ("presets_", "given", "message"),
    [
        (["referense"], [], "Did you mean `reference`"),
        (["default"], ["clustering.min_cluster_sise=3"], "Did you mean"),
        (["default"], ["clustering.min_cluster_size=25,none at all"], "min_cluster"),
    ],
)
def test_what_is_unknown_is_refused_before_anything_is_learnt(
    presets_: list[str], given: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_sweep([1], presets_, given)


def test_a_preset_is_assignments_of_options() -> None:
    assert "features.name=baseline" in preset_assignments("reference")
    assert preset_assignments("default") == []


def test_a_sweep_that_goes_on_writes_what_one_at_once_does(tmp_path: Path) -> None:
    given = [*SMALL, "clustering.min_cluster_size=10,20"]
    first, both = (plan_sweep(seeds, ["default"], given) for seeds in ([1], [1, 2]))
    sweep(first, tmp_path / "two", 0)
    made = {path: path.stat().st_mtime_ns for path in _fits(tmp_path / "two")}
    assert len(made) == 2
    table = sweep(both, tmp_path / "two", 0)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert sweep(both, tmp_path / "one", 0).equals(table)
    one, two = (tmp_path / name / TABLE for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert (tmp_path / "one" / PICTURE).stat().st_size > 10_000

    assert table.select("seed", "space", "clustering.min_cluster_size").rows() == [
        (seed, space, size)
        for size in (10, 20)
        for seed in (1, 2)
        for space in ("raw", "latent")
    ]
    raw = table.filter(space="raw")
    # Nothing random is in the raw space, and all of it is in the seed's null.
    assert raw["seed_ari"].to_list() == [1.0] * 4
    for figure in ("noise_ratio", "null_noise_ratio", "truth_ari"):
        assert table[figure].is_between(-1, 1).all()
    by_hand = raw.group_by("clustering.min_cluster_size", maintain_order=True).agg(
        pl.col("noise_ratio").mean()
    )
    told = [row for row in closing_rows(table, both) if row["space"] == "raw"]
    assert [row["min_cluster_size"] for row in told] == ["10", "20"]
    assert [row["noise"].split()[0] for row in told] == [
        f"{value:.2f}" for value in by_hand["noise_ratio"]
    ]


def _fits(folder: Path) -> list[Path]:
    return list((folder / FITS).glob("*.safetensors"))
