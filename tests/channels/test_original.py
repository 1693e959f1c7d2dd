"""The original's two JSON files: read as they are, and what is wrong in them named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.channels.features.customers import customer_features
from core.channels.features.orders import order_features
from core.channels.intake import read_channels
from core.channels.original import read_original
from core.channels.sample import write_sample
from core.errors import ConfigError, SourceError
from core.resolve import resolve_config

SEGMENTATION: dict[str, Any] = {
    "input_path": "features/users.parquet",
    "output_segments_path": "out/segments.parquet",
    "output_microsegments_path": "out/micro.parquet",
    "segment_1_5_1_2_model": "s3://models/kmeans_1_5_1_2.pkl",
    "segment_1_5_6_model": "models/kmeans_1_5_6.pkl",
    "cols_to_keep": [
        "algonomy_id",
        "ownapp_order_count",
        "channels_ordered_from",
        "unique_category_base_products_count",
        "omnichannel_discount_share",
        "categ_base_product_bfast_muffin_count",
    ],
    "convert_to_flag": [
        "omnichannel_Breakfast_order_count",
        "omnichannel_Lunch_order_count",
    ],
    "rename_dict": {
        "unique_category_base_products_count": "unique_cat_base_count",
        "Lunch_order_count_flag": "Lunch_flag",
    },
    "rename_dict_microsegments": {
        "categ_base_product_bfast_muffin_count": "base_bfast_muffin_count"
    },
    "micro_plan": [
        {
            "name": "Seg1_5_1_and_2",
            "source_segments": ["Seg1_5_1", "Seg1_5_2"],
            "model_key": "segment_1_5_1_2_model",
            "enabled": True,
        },
        {
            "name": "Seg1_5_6",
            "source_segments": ["Seg1_5_6"],
            "model_key": "segment_1_5_6_model",
        },
    ],
}


def feature_config(rows: str) -> dict[str, Any]:
    """Return a feature configuration for a folder of raw rows."""
    channels: dict[str, dict[str, Any]] = {
        name: {
            "orders_data_path": f"{rows}/{name}_orders.csv",
            "items_data_path": f"{rows}/{name}_items.csv",
            "customer_mapping_path": f"{rows}/{name}_customers.csv",
            "output_path": f"out/{name}_orders.parquet",
        }
        for name in ("ownapp", "aggregator", "instore")
    }
    channels["aggregator"]["timezone"] = channels["ownapp"]["timezone"] = "UTC"
    shop = channels["instore"]
    shop["orders_file_pattern"] = f"{rows}/instore_ord*.csv"
    del shop["orders_data_path"]
    return {
        **channels,
        "customer": {"cutoff_date": "2024-07-01", "output_path": "out/users.parquet"},
        "common": {
            "current_run_date": "2025-07-01",
            "months_offset": 27,
            "timezone": "Europe/Berlin",
            "price_bins": [0, 150, 300, 500, None],
            "bucket_labels": ["Value", "Regular", "Plus", "Premium"],
            "item_mapping_path": f"{rows}/catalog.csv",
            "store_mapping_path": f"{rows}/stores.csv",
            "dri_category_columns": ["categ_dri_burgers"],
        },
    }


def written(path: Path, content: object) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_feature_configuration_gives_the_features_of_our_own(tmp_path: Path):
    rows = tmp_path / "rows"
    write_sample(rows, 60, 3)
    theirs = written(tmp_path / "features.json", feature_config(rows.as_posix()))
    config, _ = read_original(theirs, None, tmp_path)
    ours = resolve_config(rows / "channels.yaml")
    tables = []
    for number, one in enumerate((config, ours)):
        data = read_channels(one, tmp_path / str(number))
        features = customer_features(order_features(data), data.terms).collect()
        tables.append(features.sort("customer_id"))
    assert tables[0].height > 30
    assert (
        tables[0]
        .select(sorted(tables[0].columns))
        .equals(tables[1].select(sorted(tables[1].columns)).drop())
    )


def test_every_key_becomes_an_option(tmp_path: Path):
    features = written(tmp_path / "f.json", feature_config("rows"))
    segmentation = written(tmp_path / "s.json", SEGMENTATION)
    config, notes = read_original(features, segmentation, tmp_path)
    channels = config.channels
    assert channels.home == "ownapp"
    assert channels.sources["instore"].orders == "rows/instore_ord*.csv"
    assert channels.sources["ownapp"].timezone == "UTC"
    assert channels.sources["instore"].timezone is None
    assert channels.timezone == "Europe/Berlin"
    assert (channels.run_date, channels.cutoff_date) == ("2025-07-01", "2024-07-01")
    assert channels.price_labels == ["Value", "Regular", "Plus", "Premium"]
    assert channels.catalog == "rows/catalog.csv"
    assert channels.stores == "rows/stores.csv"
    assert channels.features is None
    assert channels.id_column == "algonomy_id"
    assert channels.outputs == {
        "order_features_aggregator": "out/aggregator_orders.parquet",
        "order_features_ownapp": "out/ownapp_orders.parquet",
        "order_features_instore": "out/instore_orders.parquet",
        "customer_features": "out/users.parquet",
        "segments": "out/segments.parquet",
        "micro_segments": "out/micro.parquet",
    }
    assert channels.flags == SEGMENTATION["convert_to_flag"]
    assert channels.rename == {
        "unique_category_base_products_count": "unique_cat_base_count"
    }
    assert channels.micro_rename == SEGMENTATION["rename_dict_microsegments"]
    two, six = channels.micro
    assert (two.source_segments, two.cap) == (["Seg1_5_1", "Seg1_5_2"], False)
    assert six.cap
    assert two.features == [
        "unique_cat_base_count",
        "discount_share",
        "base_bfast_muffin_count",
        "Breakfast_flag",
        "Lunch_flag",
    ]
    text = " ".join(notes)
    assert "`input_path` is not read" in text
    assert "`segment_1_5_6_model` is a pickle" in text


def test_segmentation_configuration_alone_reads_its_features(tmp_path: Path):
    path = written(tmp_path / "s.json", SEGMENTATION)
    channels = read_original(None, path, tmp_path)[0].channels
    assert channels.features == "features/users.parquet"
    assert not channels.sources


def test_converted_model_is_taken(tmp_path: Path):
    converted = tmp_path / "kmeans_1_5_6.safetensors"
    converted.touch()
    direct = "s3://models/kmeans_1_5_1_2.safetensors"
    content = SEGMENTATION | {"segment_1_5_1_2_model": direct}
    path = written(tmp_path / "s.json", content)
    config, notes = read_original(None, path, tmp_path)
    assert [i.model for i in config.channels.micro] == [direct, converted.as_posix()]
    assert config.channels.micro[1].features == []
    assert notes == []


def test_orders_beyond_the_last_bin_are_in_no_bucket_of_the_original(tmp_path: Path):
    content = feature_config("rows")
    content["common"]["price_bins"] = [0, 100, 200, 400, 9000]
    path = written(tmp_path / "f.json", content)
    channels = read_original(path, None, tmp_path)[0].channels
    assert channels.price_bins[-2:] == [400.0, 9000.0]
    assert channels.price_labels[-2:] == ["Premium", "above_9000"]


def test_missing_zone_is_that_of_the_original_and_told(tmp_path: Path):
    content = feature_config("rows")
    del content["common"]["timezone"]
    config, notes = read_original(written(tmp_path / "f.json", content), None, tmp_path)
    assert config.channels.timezone == "Asia/Kolkata"
    assert any("Asia/Kolkata" in note for note in notes)


def test_columns_may_be_mapped_either_way(tmp_path: Path):
    content = feature_config("rows")
    content["ownapp"]["orders_columns"] = {"bill_no": "order_id"}
    content["ownapp"]["items_columns"] = {"order_id": "bill_no"}
    content["instore"]["orders_columns"] = ["bill_no", "amount"]
    path = written(tmp_path / "f.json", content)
    sources = read_original(path, None, tmp_path)[0].channels.sources
    assert sources["ownapp"].order_columns == {"order_id": "bill_no"}
    assert sources["ownapp"].item_columns == {"order_id": "bill_no"}
    assert sources["instore"].order_columns == {}


def test_keys_have_known_spellings(tmp_path: Path):
    usual = feature_config("rows")
    other = feature_config("rows")
    for section in (other[name] for name in ("ownapp", "aggregator")):
        section["orders_path"] = section.pop("orders_data_path")
        section["order_items_file_pattern"] = section.pop("items_data_path")
        section["customer_map"] = section.pop("customer_mapping_path")
        section["columns"] = {"bill_no": "order_id", "qty": "quantity"}
    common = other["common"]
    common["mappings"] = {
        "item": common.pop("item_mapping_path"),
        "store": common.pop("store_mapping_path"),
    }
    common["category_columns"] = {"dri": ["burgers"], "base_product": ["fries"]}
    del common["dri_category_columns"]
    other["customer"]["ownapp_output_path"] = "out/ownapp_orders.parquet"
    first, second = (
        read_original(written(tmp_path / "f.json", content), None, tmp_path)[0].channels
        for content in (usual, other)
    )
    for name in ("ownapp", "aggregator"):
        source = second.sources[name]
        assert source.order_columns == {"order_id": "bill_no"}
        assert source.item_columns == {"order_id": "bill_no", "quantity": "qty"}
        second.sources[name] = source.model_copy(
            update={"order_columns": {}, "item_columns": {}}
        )
    assert second == first


def test_maps_of_items_that_differ_by_channel_are_refused(tmp_path: Path):
    content = feature_config("rows")
    content["ownapp"]["item_mapping_path"] = content["common"]["item_mapping_path"]
    path = written(tmp_path / "f.json", content)
    assert read_original(path, None, tmp_path)[0].channels.catalog == "rows/catalog.csv"
    content["ownapp"]["item_mapping_path"] = "other.csv"
    path = written(tmp_path / "f.json", content)
    with pytest.raises(ConfigError, match="All channels share one"):
        read_original(path, None, tmp_path)


Edit = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda c: c["common"].update(month_offset=27),
            "`common`: unknown key `month_offset`. Did you mean `months_offset`?",
        ),
        (
            lambda c: c["ownapp"].update(salt="red"),
            "`ownapp`: unknown key `salt`. Known: `orders_data_path`",
        ),
        (
            lambda c: c["common"].update(months_offset="27 months"),
            '`months_offset` is "27 months"; expected a whole number of months',
        ),
        (
            lambda c: c["common"].update(months_offset=0),
            "`months_offset` is 0; expected a whole number",
        ),
        (
            lambda c: c["common"].update(current_run_date="01-07-2025"),
            '`current_run_date` is "01-07-2025"; expected a date such as "2025-07-01"',
        ),
        (
            lambda c: c["customer"].update(cutoff_date=20240701),
            "`cutoff_date` is 20240701; expected a date",
        ),
        (
            lambda c: c["common"].update(price_bins=[0, 300, 150]),
            "`price_bins` is [0, 300, 150]; expected ascending numbers",
        ),
        (
            lambda c: c["common"].update(bucket_labels=["Low"]),
            "`bucket_labels` has 1 label for 5 `price_bins`; expected a label",
        ),
        (
            lambda c: c["common"].update(price_bins=[0, 150, 300, None]),
            "`bucket_labels` has 4 labels for 4 `price_bins`",
        ),
        (
            lambda c: c.update({"own-app": c.pop("ownapp")}),
            "the section `own-app` names columns of features; expected letters",
        ),
        (
            lambda c: c["common"].update(months_offset=10_000),
            "`months_offset` (here `channels.months_offset`) is 10000: input should be",
        ),
        (
            lambda c: c["common"].pop("bucket_labels"),
            "`price_bins` is given without `bucket_labels`",
        ),
        (
            lambda c: c["ownapp"].pop("items_data_path"),
            "`ownapp` names no items. Add `items_data_path`",
        ),
        (
            lambda c: c["instore"].update(orders_data_path="a.csv"),
            "`orders_file_pattern`, `orders_data_path` say the same. Keep one",
        ),
        (
            lambda c: c["ownapp"].update(orders_data_path=None),
            "`orders_data_path` is null; expected a path or address",
        ),
        (
            lambda c: c["ownapp"].update(orders_columns={"bill": "ordr_id"}),
            "maps `ordr_id`, which is no column of ours. Did you mean `order_id`?",
        ),
        (
            lambda c: c.update(ownapp="orders.csv"),
            '`ownapp` is "orders.csv"; expected a section of keys',
        ),
        (
            lambda c: [c.pop(name) for name in ("ownapp", "aggregator", "instore")],
            "has no channel: no section beside `customer` and `common`",
        ),
    ],
)
def test_what_is_wrong_with_features_is_named(edit: Edit, message: str, tmp_path: Path):
    content = feature_config("rows")
    edit(content)
    path = written(tmp_path / "features.json", content)
    with pytest.raises(ConfigError) as caught:
        read_original(path, None, tmp_path)
    assert message in str(caught.value)
    assert "features.json`" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("input_path"), "has no `input_path`. Name the table"),
        (
            lambda c: c.update(output_segment_path="x"),
            "unknown key `output_segment_path`. Did you mean `output_segments_path`?",
        ),
        (
            lambda c: c.update(cols_to_keep="ownapp_order_count"),
            '`cols_to_keep` is "ownapp_order_count"; expected a list of texts',
        ),
        (
            lambda c: c["convert_to_flag"].append(c["convert_to_flag"][0]),
            "names `omnichannel_Breakfast_order_count` more than once",
        ),
        (
            lambda c: c.update(rename_dict=["a"]),
            '`rename_dict` is ["a"]; expected names by name',
        ),
        (
            lambda c: c.update(rename_dict={"a": "x", "b": "x"}),
            "`rename_dict` gives the name `x` to several columns",
        ),
        (
            lambda c: c.update(rename_dict={"algonomy_id": "id"}),
            "renames `algonomy_id`, which has to stay",
        ),
        (
            lambda c: c.update(micro_plan={"name": "x"}),
            '`micro_plan` is {"name": "x"}; expected a list of items',
        ),
        (
            lambda c: c["micro_plan"][1].pop("model_key"),
            "`micro_plan` item 2 has no `model_key`",
        ),
        (
            lambda c: c["micro_plan"][0].update(model_key="segment_1_5_12_model"),
            "the file has no such key. Did you mean `segment_1_5_1_2_model`?",
        ),
        (
            lambda c: c["micro_plan"][0].update(source_segment="Seg1_5_1"),
            "unknown key `source_segment`. Did you mean `source_segments`?",
        ),
        (
            lambda c: c["micro_plan"][0].update(source_segments=[]),
            "`source_segments` is []; expected rule segments",
        ),
        (
            lambda c: c["micro_plan"][0].update(enabled="yes"),
            '`enabled` is "yes"; expected true or false',
        ),
        (
            lambda c: c.update(segment_1_5_6_model=7),
            "`segment_1_5_6_model` is 7; expected a path or address",
        ),
    ],
)
def test_what_is_wrong_with_segmentation_is_named(
    edit: Edit, message: str, tmp_path: Path
):
    content = json.loads(json.dumps(SEGMENTATION))
    edit(content)
    path = written(tmp_path / "segmentation.json", content)
    with pytest.raises(ConfigError) as caught:
        read_original(None, path, tmp_path)
    assert message in str(caught.value)
    assert "`segmentation.json`" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"common": {"months_offset": 27,}}',
            "after the key `months_offset`: take out the comma before `}`",
        ),
        ('{"ownapp": { ... }}', "`...` stands for more keys in the documentation"),
        ('{"input_path": "a"\n // here\n}', "line 2"),
        ("{'input_path': 'a'}", "write texts in double quotes"),
        ('{"input_path": "a", "cols_to_keep": [', "the file is cut off"),
        ('{"input_path": "a" "cols_to_keep": []}', "after the key `input_path`"),
        ('{"input_path": "a", "input_path": "b"}', "`input_path` appears twice"),
        ('["input_path"]', "holds a list; expected an object in braces"),
        ("", "it is empty"),
    ],
)
def test_text_that_is_no_json_says_where_and_what_mends_it(
    text: str, message: str, tmp_path: Path
):
    path = written(tmp_path / "config.json", text)
    with pytest.raises((ConfigError, SourceError)) as caught:
        read_original(None, path, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named_with_a_near_one(tmp_path: Path):
    written(tmp_path / "segmentation_config.json", SEGMENTATION)
    with pytest.raises(SourceError, match="Did you mean `segmentation_config"):
        read_original(None, str(tmp_path / "segmentation_confg.json"), tmp_path)
