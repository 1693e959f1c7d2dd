"""A run of the channels: ids that live on, moves by cause, names, going back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from guest_runs import (
    ITEM,
    OTHER_RULES,
    RULES,
    config,
    guests,
    profiles,
    published,
    run,
)
from typer.testing import CliRunner

from core.channels.files import channels_folder
from core.channels.model import ChannelsAssigner
from core.channels.run import Channels
from core.cli import app
from core.errors import ArtifactError, ConfigError, ContractError, SchemaError
from core.lifecycle.versions import rename_segment, roll_back
from core.resolve import resolve_config
from core.segments.rule_axis import SEGMENT


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("channels") / "artifacts"
    run(folder, guests())
    return folder


@pytest.fixture
def folder(learnt, tmp_path):
    return Path(shutil.copytree(learnt, tmp_path / "artifacts"))


def assigner(folder):
    return ChannelsAssigner.load(channels_folder(folder))


def names(folder, axis=SEGMENT):
    return assigner(folder).model.names[axis]


def ids_of(table: pl.DataFrame, axis: str) -> dict[str, int | None]:
    ids = table["segment_ids"].struct.field(axis)
    return dict(zip(table["customer_id"], ids, strict=True))


def test_everyone_has_a_rule_segment_and_only_its_source_a_micro_segment(learnt):
    table = profiles(learnt).join(guests(), on="customer_id")
    segment = pl.col("segment_memberships").struct.field(SEGMENT)
    micro = pl.col("segment_memberships").struct.field(ITEM)
    few = pl.col("ownapp_order_count") < 4
    assert table.filter(few).select((segment == "few").all()).item()
    assert table.select((micro.is_null() == few).all()).item()
    for column in ("membership_strengths", "segment_ids"):
        value = pl.col(column).struct.field(ITEM)
        assert table.select((value.is_null() == few).all()).item()
    assert table.filter(few)["confidence"].eq(1.0).all(), "a rule is certain"
    assert table["lifetime_value"].eq(20.0 * table["total_orders"]).all()


def test_the_published_rules_tell_of_a_customer_why(learnt):
    folder = channels_folder(learnt)
    own = pl.read_parquet(folder / "segments.parquet").row(5, named=True)
    arguments = ["rules", "explain", str(folder / "rules.yaml")]
    arguments += ["--table", str(folder / "rule_features.parquet")]
    done = CliRunner().invoke(app, [*arguments, "--customer", own["customer_id"]])
    assert done.exit_code == 0
    assert f"Segment: {own['Segment']}, because" in done.output
    assert "Smallest change" in done.output


def test_one_customer_alone_is_placed_as_among_all(learnt):
    model = assigner(learnt).model
    view = model.naming.view(guests(), model.rules)
    together = model.assign(view)
    for place in range(0, view.height, 60):
        alone = model.assign(view[place])
        for axis, own in alone.items():
            assert own.labels[0] == together[axis].labels[place]
            assert own.strength[0] == together[axis].strength[place]


def test_the_same_rows_change_nothing(folder):
    again = run(folder, guests())
    assert not again.facts["is_changed"]
    assert again.lines[0].startswith("Nothing changed")


def test_the_moves_of_a_run_lead_from_the_old_profiles_to_the_new(folder):
    before = profiles(folder)
    done = run(folder, guests(later=True))
    assert (done.facts["n_entered"], done.facts["n_left"]) == (2, 2)
    after = profiles(folder)
    block = pl.read_parquet(published(folder).path("ledger-0002.parquet"))
    assert set(block.filter(axis=SEGMENT)["cause"]) == {"behaviour"}
    assert block.filter(axis=ITEM).height > 0
    for axis in (SEGMENT, ITEM):
        then, now = ids_of(before, axis), ids_of(after, axis)
        for cause in ("behaviour", "model"):
            own = block.filter(axis=axis, cause=cause)
            for customer, old, new in own.select("customer_id", "old", "new").rows():
                assert then[customer] == old
                then[customer] = new
        # Who came into the item or left it, or came at all, has not moved within it.
        both = {c for c in now if then.get(c) is not None and now[c] is not None}
        assert {c: now[c] for c in both} == {c: then[c] for c in both}


def test_a_rule_segment_keeps_its_id_as_long_as_its_name(folder):
    before = {name: i for i, name in names(folder).items()}
    (folder / "rules.yaml").write_text(OTHER_RULES, encoding="utf-8")
    sources = {"micro": []}
    done = run(folder, guests(), **sources)
    after = {name: i for i, name in names(folder).items()}
    assert after["few"] == before["few"]
    assert after["workday"] == before["workday"]
    assert after["brunch"] == 3, "the first id that was never given out"
    assert "weekend" not in after
    kinds = {event["kind"]: event for event in done.facts["events"][SEGMENT]}
    assert set(kinds) == {"survived", "born", "died"}
    assert kinds["died"]["old"] == [before["weekend"]]
    block = pl.read_parquet(published(folder).path("ledger-0002.parquet"))
    assert set(block["cause"]) == {"model"}, "the orders are the same"
    assert any("weekend has ended" in line for line in done.lines)


def test_ids_are_not_given_out_again_after_going_back(folder):
    rules = folder / "rules.yaml"
    rules.write_text(OTHER_RULES, encoding="utf-8")
    run(folder, guests(), micro=[])
    roll_back(Channels(config(folder)))
    rules.write_text(RULES.replace("name: weekend", "name: late"), encoding="utf-8")
    third = run(folder, guests(), micro=[])
    assert third.facts["version"] == 3
    assert {name: i for i, name in names(folder).items()}["late"] == 4


def test_an_item_that_comes_back_gets_ids_of_its_own(folder):
    before = set(names(folder, ITEM)) - {-1}
    run(folder, guests(), micro=[])
    assert ITEM not in profiles(folder)["segment_ids"].struct.fields
    run(folder, guests(later=True))
    assert before.isdisjoint(set(names(folder, ITEM)) - {-1})


def test_a_given_name_is_everywhere_and_outlives_a_run(folder):
    micro = next(i for i in names(folder, ITEM) if i >= 0)
    said, code = rename_segment(Channels(config(folder)), SEGMENT, 0, "Newcomers")
    assert (said, code) == (["segment: `few` is called `Newcomers` now."], 0)
    rename_segment(Channels(config(folder)), ITEM, micro, "Early birds")
    kept = {p.name for p in channels_folder(folder).iterdir()}
    assert {"micro_segments.parquet", "customer_features.parquet"} <= kept
    segments = pl.read_parquet(published(folder).path("segments.parquet"))
    assert "Newcomers" in segments["Segment"].to_list()
    page = published(folder).path("channels.html").read_text("utf-8")
    assert "Newcomers" in page
    assert "Early birds" in page
    run(folder, guests(later=True))
    assert names(folder)[0] == "Newcomers"
    assert names(folder, ITEM)[micro] == "Early birds"
    with pytest.raises(ConfigError, match="Did you mean `segment`"):
        rename_segment(Channels(config(folder)), "segments", 0, "x")


def test_placing_alone_leaves_the_model_as_it_is(folder):
    before = json.loads(published(folder).read("channels.json"))
    placed = run(folder, guests(later=True), refit=False)
    after = json.loads(published(folder).read("channels.json"))
    assert not placed.facts["is_learnt"]
    assert after["model"] == before["model"]
    block = pl.read_parquet(published(folder).path("ledger-0002.parquet"))
    assert set(block["cause"]) == {"behaviour"}


def test_drift_of_guests_is_told(folder):
    more = guests().with_columns(omnichannel_Breakfast_order_count=pl.lit(30))
    done = run(folder, more, refit=False)
    assert any("Breakfast_order_count" in alert for alert in done.facts["drift"])


def test_rules_that_leave_somebody_out_are_refused_before_anything_is_read(tmp_path):
    settings = config(tmp_path)
    holed = RULES.replace("ownapp_order_count < 4", "ownapp_order_count < 3")
    (tmp_path / "rules.yaml").write_text(holed, encoding="utf-8")
    with pytest.raises(ContractError, match="For example: ownapp_order_count 3"):
        run(tmp_path, guests(), **settings.channels.model_dump(exclude={"micro"}))
    assert published(tmp_path) is None


def test_an_item_that_names_an_unknown_segment_or_the_axis_of_rules_is_refused(
    tmp_path,
):
    with pytest.raises(ConfigError, match="Did you mean `weekend`"):
        run(tmp_path, guests(), micro=[{"name": "a", "source_segments": ["weekends"]}])
    with pytest.raises(ConfigError, match="an item is called `segment`"):
        run(tmp_path, guests(), micro=[{"name": SEGMENT, "source_segments": ["few"]}])


def test_guests_who_are_not_segmented_are_counted_and_listed(tmp_path):
    table = guests().with_columns(
        ownapp_order_count=pl.when(pl.col("customer_id") == "G001")
        .then(101)
        .otherwise("ownapp_order_count"),
        unique_dri_category_count=(pl.col("customer_id") != "G002").cast(pl.Int64),
    )
    done = run(tmp_path, table)
    left = pl.read_parquet(done.folder / "customers_left_out.parquet")
    assert left.select("customer_id", "reason").rows() == [
        ("G001", "more than 100 orders in ownapp"),
        ("G002", "no item with a driver category"),
    ]
    assert done.facts["n_customers"] + left.height == table.height


def test_a_value_that_the_rules_cannot_place_is_told_and_for_everyone_refused(tmp_path):
    orders = pl.col("ownapp_order_count")
    some = guests().with_columns(pl.when(orders != 3).then(orders))
    done = run(tmp_path / "some", some)
    n = guests().filter(orders == 3).height
    assert f"In no rule segment: {n} customers; a value" in "\n".join(done.lines)
    nobody = guests().with_columns(pl.lit(None, pl.Int64).alias("ownapp_order_count"))
    with pytest.raises(SchemaError, match="is missing for all 300 customers"):
        run(tmp_path / "nobody", nobody)


def test_features_made_before_need_an_id_of_each_customer_once(tmp_path):
    twice = pl.concat([guests(5), guests(1)])
    with pytest.raises(SchemaError, match="1 customer in several rows"):
        run(tmp_path, twice)


def test_rows_without_an_id_are_counted_and_kept_aside(tmp_path):
    is_first = pl.col("customer_id") == "G000"
    gap = pl.when(~is_first).then("customer_id").alias("customer_id")
    done = run(tmp_path, guests().with_columns(gap))
    aside = pl.read_parquet(done.folder / "rejected_rows.parquet")
    assert aside.select("source_row", "reason").rows() == [(1, "no customer_id")]
    assert done.facts["n_rejected"] == 1
    assert done.facts["n_customers"] == guests().height - 1


def test_outputs_go_where_they_are_asked_for_under_the_name_of_the_id(tmp_path):
    table = guests().rename({"customer_id": "guest"})
    target = tmp_path / "elsewhere" / "segments.parquet"
    outputs = {"segments": str(target)}
    run(tmp_path / "a", table, id_column="guest", outputs=outputs)
    written = pl.read_parquet(target)
    assert written.columns == ["guest", "Segment"]
    assert written.height == table.height
    with pytest.raises(ConfigError, match="Did you mean `segments`"):
        run(tmp_path / "a", table, id_column="guest", outputs={"segment": "x.parquet"})


def test_the_commands_write_a_sample_run_it_rename_and_roll_back(tmp_path):
    def command(*words: str):
        done = CliRunner().invoke(app, ["channels", *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    where = ["--artifacts", str(tmp_path / "artifacts"), "--no-store"]
    command("sample", str(tmp_path / "rows"), "--customers", "120")
    file = ["--config", str(tmp_path / "rows" / "channels.yaml"), *where]
    may = ["--set", "channels.run_date=2025-06-01"]
    may += ["--set", "channels.cutoff_date=2024-06-01"]
    first = command(*file, *may)
    assert "instore from 2024-06-01 on and before 2025-06-01" in first
    written = {p.name for p in channels_folder(tmp_path / "artifacts").iterdir()}
    assert written >= {
        "order_features_ownapp.parquet",
        "order_features_instore.parquet",
        "customer_features.parquet",
        "segments.parquet",
        "micro_segments.parquet",
        "rejected_rows.parquet",
        "rules.yaml",
        "channels.html",
    }
    assert "have gone" in command(*file)
    assert "is called `Dawn` now" in command("rename", SEGMENT, "0", "Dawn", *where)
    assert "Version 1 is in use again" in command("rollback", *where)


def test_other_names_of_features_move_nobody(folder):
    rules = RULES.replace("ownapp_order_count", "orders")
    (folder / "rules.yaml").write_text(rules, encoding="utf-8")
    before = ids_of(profiles(folder), ITEM)
    item = {
        "name": ITEM,
        "source_segments": ["weekend", "workday"],
        "features": ["Breakfast", "Dinner"],
        "k": 2,
    }
    words = {"ownapp_order_count": "orders"}
    words |= {f"{part}_order_count": part for part in ("Breakfast", "Dinner")}
    done = run(folder, guests(), rename=words, micro=[item])
    assert done.facts["n_moved"] == {}
    assert ids_of(profiles(folder), ITEM) == before


def test_a_broken_contract_publishes_nothing(folder):
    contract = folder / "contract.yaml"
    text = "owner: Ana\nexpires: 2999-01-01\nsegments: [{id: 1}]\n"
    contract.write_text(text, encoding="utf-8")
    kept = run(folder, guests(later=True), contract=str(contract))
    assert kept.facts["is_changed"]
    (folder / "rules.yaml").write_text(OTHER_RULES, encoding="utf-8")
    with pytest.raises(ContractError, match="segments of this run break their"):
        run(folder, guests(), contract=str(contract), micro=[])
    assert names(folder)[1] == "weekend", "the version before stands"


def test_a_saved_configuration_goes_on_in_the_folder_that_it_lies_in(folder):
    saved = resolve_config(channels_folder(folder) / "config.yaml")
    assert Path(saved.artifacts) == folder
    assert saved.channels.micro[0].name == ITEM


def test_there_must_be_something_to_go_back_to(tmp_path):
    with pytest.raises(ArtifactError, match="holds no channel segments"):
        roll_back(Channels(config(tmp_path)))
