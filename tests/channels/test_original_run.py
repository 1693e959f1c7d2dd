"""The original's two JSON files run: same tables, same places, also on S3."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler
from test_original import SEGMENTATION, feature_config, written

from core.channels.intake import read_channels
from core.channels.original import in_their_words, read_original
from core.channels.outputs import check_outputs
from core.channels.pickles import import_models
from core.channels.run import run_channels
from core.channels.sample import write_sample
from core.config import Config
from core.errors import ConfigError, SourceError
from core.resolve import build_config, resolve_config

PLAN = [
    {
        "name": "Seg1_5_5_and_6",
        "source_segments": ["Seg1_5_5", "Seg1_5_6"],
        "model_key": "segment_1_5_6_model",
    },
    {
        "name": "Off",
        "source_segments": ["Seg1_5_3"],
        "model_key": "segment_1_5_1_2_model",
        "enabled": False,
    },
]


def placed_in(content: object, out: str) -> Any:
    """Return a configuration whose outputs go to a folder or bucket."""
    return json.loads(json.dumps(content).replace('"out/', f'"{out}/'))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of the sample, and what the original's files make of them."""
    folder = tmp_path_factory.mktemp("original")
    write_sample(folder / "rows", 300, 5)
    out = (folder / "out").as_posix()
    features = feature_config((folder / "rows").as_posix())
    written(folder / "features.json", placed_in(features, out))
    segmentation = SEGMENTATION | {"micro_plan": PLAN}
    segmentation |= {"input_path": f"{out}/users.parquet"}
    written(folder / "segmentation.json", placed_in(segmentation, out))
    run(folder, features="features.json", artifacts="both")
    return folder


def run(folder: Path, features: str | None, artifacts: str) -> list[str]:
    config, notes = read_original(
        None if features is None else str(folder / features),
        str(folder / "segmentation.json"),
        folder / "models",
    )
    config = config.model_copy(update={"artifacts": str(folder / artifacts)})
    return notes + run_channels(config).lines


def test_tables_have_the_columns_and_places_of_the_original(folder: Path):
    out = folder / "out"
    segments = pl.read_parquet(out / "segments.parquet")
    assert segments.columns == ["algonomy_id", "Segment"]
    assert segments["algonomy_id"].is_unique().all()
    assert segments["Segment"].str.starts_with("Seg").all()
    micro = pl.read_parquet(out / "micro.parquet")
    assert micro.columns[:3] == ["algonomy_id", "microcluster", "Segment"]
    assert micro.schema["microcluster"] == pl.String
    assert set(micro["Segment"]) == {"Seg1_5_5_and_6"}
    assert "base_bfast_muffin_count" in micro.columns
    users = pl.read_parquet(out / "users.parquet")
    assert users["ownapp_order_count"].max() > 100
    assert users.height > segments.height
    assert {"algonomy_id", "ownapp_order_count", "channel_count"} <= set(users.columns)
    for channel in ("ownapp", "aggregator", "instore"):
        orders = pl.read_parquet(out / f"{channel}_orders.parquet")
        assert "algonomy_id" in orders.columns


def test_segments_are_those_of_our_own_configuration(folder: Path):
    ours = resolve_config(
        folder / "rows" / "channels.yaml", {"artifacts": str(folder / "ours")}
    )
    channels = ours.channels.model_copy(update={"micro": []})
    run_channels(ours.model_copy(update={"channels": channels}))
    mine = pl.read_parquet(folder / "ours" / "channels" / "segments.parquet")
    theirs = pl.read_parquet(folder / "out" / "segments.parquet")
    assert_frame_equal(mine.rename({"customer_id": "algonomy_id"}), theirs)


def test_segmentation_alone_places_everyone_as_both_files_do(folder: Path):
    both = pl.read_parquet(folder / "out" / "segments.parquet")
    lines = run(folder, features=None, artifacts="alone")
    alone = pl.read_parquet(folder / "out" / "segments.parquet")
    assert_frame_equal(alone.sort("algonomy_id"), both.sort("algonomy_id"))
    assert any("is a pickle, which is not opened" in line for line in lines)


def test_converted_models_place_customers_as_the_pickles_did(
    folder: Path, s3_client: Any, tmp_path: Path
):
    users = pl.read_parquet(folder / "out" / "users.parquet")
    segments = pl.read_parquet(folder / "out" / "segments.parquet")
    users = users.join(segments, on="algonomy_id").filter(Segment="Seg1_5_6")
    columns = ["channel_count", "categ_base_product_bfast_muffin_count"]
    scaler = StandardScaler().fit(users.select(columns).to_numpy())
    rows = scaler.transform(users.select(columns).to_numpy())
    kmeans = KMeans(3, n_init=1, random_state=0).fit(rows)
    named = ["channel_count", "base_bfast_muffin_count"]
    payload = {"kmeans": kmeans, "scaler": scaler, "features": named}
    (tmp_path / "kmeans_1_5_6.pkl").write_bytes(pickle.dumps(payload))
    import_models([str(tmp_path / "kmeans_1_5_6.pkl")], tmp_path)
    s3_client.create_bucket(Bucket="models")
    converted = "kmeans_1_5_6.safetensors"
    s3_client.upload_file(str(tmp_path / converted), "models", converted)
    content = json.loads((folder / "segmentation.json").read_text("utf-8"))
    content["micro_plan"][0]["source_segments"] = ["Seg1_5_6"]
    content["segment_1_5_6_model"] = f"s3://models/{converted}"
    content["output_microsegments_path"] = str(tmp_path / "micro.parquet")
    path = written(tmp_path / "segmentation.json", content)
    config, _ = read_original(None, path, tmp_path)
    run_channels(config.model_copy(update={"artifacts": str(tmp_path / "artifacts")}))
    micro = pl.read_parquet(tmp_path / "micro.parquet")
    expected = users.select("algonomy_id", theirs=pl.Series(kmeans.labels_))
    pairs = micro.join(expected, on="algonomy_id").unique(["microcluster", "theirs"])
    assert micro.height == users.height
    # One to one: permanent ids are by size, the pickle's numbers are not.
    assert pairs["microcluster"].n_unique() == pairs["theirs"].n_unique() == 3
    assert pairs.height == 3


def test_everything_may_lie_at_s3(folder: Path, s3_client: Any, tmp_path: Path):
    s3_client.create_bucket(Bucket="chain")
    for path in (folder / "out" / "users.parquet", folder / "segmentation.json"):
        s3_client.upload_file(str(path), "chain", f"in/{path.name}")
    content = json.loads((folder / "segmentation.json").read_text("utf-8"))
    content["input_path"] = "s3://chain/in/users.parquet"
    content["output_segments_path"] = "s3://chain/out/segments.parquet"
    body = json.dumps(content).encode()
    s3_client.put_object(Bucket="chain", Key="in/segmentation.json", Body=body)
    config, _ = read_original(None, "s3://chain/in/segmentation.json", tmp_path)
    config = config.model_copy(update={"artifacts": str(tmp_path / "artifacts")})
    lines = run_channels(config).lines
    assert "segments: s3://chain/out/segments.parquet" in lines
    s3_client.download_file("chain", "out/segments.parquet", str(tmp_path / "found"))
    expected = pl.read_parquet(folder / "out" / "segments.parquet")
    assert_frame_equal(pl.read_parquet(tmp_path / "found"), expected)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("gone", "nothing is there"),
        ("half", "begins like Parquet, but cannot be read .* damaged or cut off"),
    ],
)
def test_rows_at_s3_that_cannot_be_read_name_the_option(
    key: str, message: str, folder: Path, s3_client: Any, tmp_path: Path
):
    s3_client.create_bucket(Bucket="rows")
    whole = (folder / "out" / "ownapp_orders.parquet").read_bytes()
    s3_client.put_object(Bucket="rows", Key="half/orders.parquet", Body=whole[:-9])
    content = feature_config((folder / "rows").as_posix())
    content["aggregator"]["orders_data_path"] = f"s3://rows/{key}/orders.parquet"
    config, _ = read_original(written(tmp_path / "f.json", content), None, tmp_path)
    with pytest.raises(SourceError, match=message) as caught:
        read_channels(config, tmp_path)
    assert str(caught.value).startswith("`channels.sources.aggregator.orders`: ")
    assert "\n" not in str(caught.value)


def test_output_that_cannot_be_written_leaves_the_segments_published(
    folder: Path, s3_client: Any, tmp_path: Path
):
    config = resolve_config(
        None,
        {
            "artifacts": str(tmp_path / "artifacts"),
            "channels.features": str(folder / "out" / "users.parquet"),
            "channels.id_column": "algonomy_id",
            "channels.outputs": {"segments": "s3://no-such-bucket/segments.parquet"},
        },
    )
    with pytest.raises(SourceError) as caught:
        run_channels(config)
    published, said = str(caught.value).splitlines()
    assert "The segments are published in" in published
    assert "nothing was written: `s3://no-such-bucket/segments.parquet`" in said
    assert (tmp_path / "artifacts" / "channels" / "segments.parquet").is_file()


def test_outputs_that_no_run_makes_are_refused():
    config: Config = build_config({"channels": {"outputs": {"segment": "x.parquet"}}})
    with pytest.raises(ConfigError, match="Did you mean `segments`"):
        check_outputs(config.channels)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            {"convert_to_flag": ["omnichannel_Lunh_order_count"]},
            "`convert_to_flag` (here `channels.flags`) names "
            "`omnichannel_Lunh_order_count`",
        ),
        (
            {"micro_plan": [PLAN[0] | {"source_segments": ["Seg1_5_66"]}]},
            "`micro_plan` (here `channels.micro`): `Seg1_5_5_and_6`: the rules have no "
            "segment `Seg1_5_66`. Did you mean `Seg1_5_6`?",
        ),
    ],
)
def test_what_shows_in_the_run_is_named_as_in_the_file(
    edit: dict[str, Any], message: str, folder: Path, tmp_path: Path
):
    content = json.loads((folder / "segmentation.json").read_text("utf-8"))
    path = written(tmp_path / "segmentation.json", content | edit)
    config, _ = read_original(None, path, tmp_path)
    config = config.model_copy(update={"artifacts": str(tmp_path / "artifacts")})
    with pytest.raises(ConfigError) as caught, in_their_words():
        run_channels(config)
    assert message in str(caught.value)
