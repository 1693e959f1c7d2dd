"""From a run into the store: exactly the published profiles, whatever goes wrong."""

from __future__ import annotations

import json

import polars as pl
import pytest
from axes_runs import JUNE, MAY, config, profiles, published, until

from core.axes.assign import AxesAssigner
from core.axes.files import axes_folder
from core.axes.run import CustomerAxes, run_axes
from core.errors import StoreError
from core.lifecycle.versions import rename_segment, roll_back
from core.store import Store
from core.store.publish import publish_profiles

NOWHERE = "postgresql://nobody:geheim@127.0.0.1:1/none"
AXIS = "purchase_cadence"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def store(folder):
    """Hold the embedded server of the folder open, which runs share."""
    with Store.open(None, folder / "postgres") as opened:
        yield opened


def rows(store, columns, store_id="default"):
    with store.begin("read") as connection:
        found = connection.execute(
            f"SELECT {columns} FROM customer_profiles WHERE store_id = %s "
            "ORDER BY customer_id",
            (store_id,),
        )
        return [tuple(row) for row in found]


def moves(store):
    with store.begin("read") as connection:
        found = connection.execute("SELECT count(*) FROM axis_moves")
        return found.fetchone()[0]


def test_a_run_is_loaded_corrected_and_gone_back_from(folder, store):
    """One story, since every step needs the one before."""
    first = run_axes(config(folder), *until(MAY), into_store=publish_profiles)
    assert first.exit_code == 0
    table = profiles(folder)
    assert first.facts["stored"]["new"] == table.height
    stored = rows(store, "customer_id, segment_memberships, membership_strengths")
    for row, (customer, segments, strengths) in zip(
        table.iter_rows(named=True), stored, strict=True
    ):
        assert customer == row["customer_id"]
        assert segments == row["segment_memberships"]
        assert strengths == pytest.approx(row["membership_strengths"])
    model = store.model("default")
    assigner = AxesAssigner.from_bytes(model.state)
    assert (
        assigner.get_state()[1] == AxesAssigner.load(axes_folder(folder)).get_state()[1]
    )
    assert (
        json.loads(json.dumps(model.meta["model"])) == assigner.get_state()[1]["model"]
    )

    again = run_axes(config(folder), *until(MAY), into_store=publish_profiles)
    assert again.facts["stored"] == {"is_loaded": False}
    assert again.lines[-1].endswith("holds these profiles already.")

    june = run_axes(config(folder), *until(JUNE), into_store=publish_profiles)
    assert june.facts["stored"]["is_loaded"]
    assert store.model("default").version == 2
    ledger = pl.read_parquet(published(folder).path("ledger-0002.parquet"))
    assert moves(store) == ledger.height > 0

    rename_segment(
        CustomerAxes(config(folder)),
        AXIS,
        0,
        "Our mornings",
        into_store=publish_profiles,
    )
    names = {row[0][AXIS] for row in rows(store, "segment_memberships")}
    assert "Our mornings" in names
    _, code = roll_back(CustomerAxes(config(folder)), into_store=publish_profiles)
    assert (code, store.model("default").version) == (0, 1)
    assert len(rows(store, "customer_id")) == table.height
    assert moves(store) == ledger.height, "the ledger stays"


def test_a_store_that_is_away_is_loaded_later(tmp_path, store):
    chosen = config(tmp_path, store="berlin")
    url = chosen.store.model_copy(update={"url": NOWHERE})
    away = run_axes(
        chosen.model_copy(update={"store": url}),
        *until(MAY),
        into_store=publish_profiles,
    )
    assert away.exit_code == StoreError.exit_code
    assert away.facts["is_changed"], "the files are published"
    assert "The files are published, but the store does not have them" in away.lines[-1]
    assert "geheim" not in " ".join(away.lines)
    assert axes_folder(tmp_path, "berlin").name == "axes-berlin"
    for path in axes_folder(tmp_path, "berlin").glob("*.yaml"):
        assert "geheim" not in path.read_text(encoding="utf-8")

    url = chosen.store.model_copy(update={"url": store.address})
    mended = run_axes(
        chosen.model_copy(update={"store": url}),
        *until(MAY),
        into_store=publish_profiles,
    )
    assert (mended.exit_code, mended.facts["is_changed"]) == (0, False)
    assert mended.facts["stored"]["new"] == len(rows(store, "customer_id", "berlin"))
