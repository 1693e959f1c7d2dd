"""Artifacts of earlier formats still load, and say what they said then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from core.axes import AxesAssigner
from core.errors import ArtifactError
from core.retailers.model import Model

FORMATS = Path(__file__).parent / "formats"


@pytest.mark.parametrize("name", ["segments-1", "before-states"])
def test_shops_are_assigned_as_when_the_artifacts_were_made(name):
    folder = FORMATS / name
    found = Model.load(folder).assign(pl.read_parquet(folder / "features.parquet"))
    then = pl.read_csv(
        folder / "cluster_predictions.csv",
        schema_overrides=found.schema,
        infer_schema=False,
    ).drop_nulls("latent_cluster")
    same = [column for column in then.columns if column in found.columns]
    same = [column for column in same if column != "reason"]
    assert {"segment", "segment_name", "latent_cluster_strength"} <= set(same)
    assert_frame_equal(found.select(same), then.select(same))


def test_the_axes_of_customers_are_those_of_then():
    folder = FORMATS / "axes-1"
    assigner = AxesAssigner.load(folder)
    then = pl.read_parquet(folder / "customer_profiles.parquet")["segment_memberships"]
    assert assigner.axes == tuple(then.struct.fields)
    for axis, names in assigner.model.names.items():
        assert set(then.struct.field(axis).drop_nulls()) <= set(names.values())


def test_clusters_without_segments_say_how_to_make_them(tmp_path):
    """As artifacts were before segments were published."""
    folder = shutil.copytree(FORMATS / "segments-1", tmp_path / "old")
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for name in ("segments.json", "segment-state.safetensors"):
        del manifest["files"][name]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"train-clusters` and then .*infer`"):
        Model.load(folder)
