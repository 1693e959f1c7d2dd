"""Runs over a feature table: rows counted, ids that stay, names, going back, RFM."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from core.config import Config
from core.errors import ConfigError, SchemaError
from core.lifecycle.versions import rename_segment, roll_back
from core.tabular.assign import TableAssigner
from core.tabular.estimator import StableSegmenter
from core.tabular.explain import explain_id
from core.tabular.rows import _checked
from core.tabular.run import TableSegments, run_fit, run_rfm


def config(folder: Path, **fit: object) -> Config:
    chosen = {"id": "member", "max_segments": 4, **fit}
    return Config.model_validate({"artifacts": str(folder), "fit": chosen})


def numbered(table: pl.DataFrame) -> pl.DataFrame:
    ids = [f"M{i:04d}" for i in range(table.height)]
    return table.insert_column(0, pl.Series("member", ids))


@pytest.fixture(scope="module")
def done(tmp_path_factory, members):
    """A first run over January, with rows that cannot be used; a second over February.

    The first is read from a CSV file.
    """
    folder = tmp_path_factory.mktemp("fit")
    january = numbered(members(400)[0])
    faulty = [
        january[:2],  # again
        january[5:6].with_columns(income=pl.lit(1.0)),  # another row of M0005
        january[7:8].with_columns(member=pl.lit(None, pl.String)),
    ]
    file = folder / "january.csv"
    pl.concat([january, *faulty]).write_csv(file)
    with file.open("a", encoding="utf-8") as lines:
        lines.write("M0400,60,000,41,free,true\n")  # a thousands separator
    first = run_fit(config(folder, table=str(file)))
    february = numbered(members(450, seed=1)[0])
    second = run_fit(config(folder), february)
    return folder, first, second, february


def test_rows_in_are_rows_kept_and_rows_counted(done):
    folder, first, second, february = done
    assert first.facts["n_rows"] == 405
    assert first.facts["n_customers"] + first.facts["n_rejected"] == 405
    assert first.facts["n_rejected"] == 6
    told = first.facts["account"][0]
    assert "2 the same row again" in told
    assert "1 more cells than the header" in told
    assert (second.facts["n_customers"], second.facts["n_rejected"]) == (450, 0)
    table = pl.read_csv(folder / "fit" / "table_segments.csv")
    assert table["member"].to_list() == february["member"].to_list()


def test_segments_keep_ids_and_names_and_the_page_tells_the_verdict(done):
    folder, first, second, _ = done
    by_id = [
        {row["segment_id"]: row["segment"] for row in run.facts["segments"]}
        for run in (first, second)
    ]
    assert by_id[0] == by_id[1]
    assert len(by_id[0]) == 3
    assert second.facts["version"] == 2
    page = (folder / "fit" / "fit.html").read_text(encoding="utf-8")
    assert "450 customers: 3 segments" in page
    assert "natural" in page
    assert "plan: free" not in page
    assert any("Verdict: natural" in line for line in second.lines)


def test_the_estimator_loads_what_a_run_has_published(done):
    folder, _, second, february = done
    loaded = StableSegmenter.from_dir(folder / "fit")
    table = pl.read_csv(folder / "fit" / "table_segments.csv")
    found = loaded.predict(february.drop("member"))
    assert found.tolist() == table["segment_id"].to_list()
    assert loaded.verdict_.model_dump() == second.facts["verdict"]
    assigner = TableAssigner.load(folder / "fit")
    again = TableAssigner.from_bytes(assigner.to_bytes())
    assert again.assign(february).labels.tolist() == found.tolist()


def test_the_same_table_changes_nothing_and_a_model_can_only_place(done):
    folder, _, _, february = done
    assert not run_fit(config(folder), february).facts["is_changed"]
    placed = run_fit(config(folder), february[:300], refit=False)
    assert placed.facts["version"] == 2
    assert placed.facts["n_left"] == 150
    run_fit(config(folder), february)


def test_a_customer_is_explained_by_id(done):
    folder = done[0] / "fit"
    found, lines = explain_id(folder, "M0003")
    table = pl.read_csv(folder / "table_segments.csv")
    own = table.row(by_predicate=pl.col("member") == "M0003", named=True)
    assert (found.segment, found.segment_name) == (own["segment_id"], own["segment"])
    assert lines[0].startswith(f"Customer M0003 is in `{own['segment']}`")
    with pytest.raises(ConfigError, match="Did you mean `M0003`"):
        explain_id(folder, "M0003x")


def test_a_name_stays_and_a_version_comes_back(done):
    folder, first, _, february = done
    own = TableSegments(config(folder))
    rename_segment(own, "segment", 0, "Top")
    later = run_fit(config(folder), february[:440])
    assert "Top" in {row["segment"] for row in later.facts["segments"]}
    lines, code = roll_back(own)
    assert code == 0
    assert "in use again" in lines[0]
    assert " fit --table FILE --id member --retrain never`" in lines[1]
    names = TableAssigner.load(folder / "fit").model.names["segment"]
    assert names[0] == "Top"
    assert first.facts["n_customers"] == 399


def test_columns_named_as_ours_and_ids_that_were_floats_are_no_obstacle(members):
    table = numbered(members(60)[0]).with_columns(
        pl.Series("member", [float(i) for i in range(100, 160)]),
        reason=pl.lit("price"),
        source_row=pl.col("income"),
    )
    is_ragged = pl.repeat(False, 61, eager=True)
    kept, aside = _checked(pl.concat([table, table[:1]]), "member", is_ragged)
    assert kept["customer_id"].to_list() == [str(i) for i in range(100, 160)]
    assert aside.select("source_row", "reason", "reason (received)").row(0) == (
        61,
        "the same row again",
        "price",
    )


@pytest.mark.parametrize(
    ("fit", "kind", "message"),
    [
        ({"id": None}, ConfigError, "`--id member`"),
        ({"id": "membre"}, SchemaError, "Did you mean `member`"),
        ({"id": "plan"}, SchemaError, "`plan` is no id: 60 rows have 3"),
    ],
)
def test_what_is_no_table_of_customers_is_refused(
    fit, kind, message, members, tmp_path
):
    table = numbered(members(60)[0]).rename({"member": "member"})
    if fit["id"] is None:
        table = table.rename({"member": "memberid"})
        message = "`--id memberid`"
    with pytest.raises(kind, match=message):
        run_fit(config(tmp_path, **fit), table)


def test_recency_frequency_and_value_are_those_of_the_orders(tmp_path):
    day = dt.datetime(2024, 3, 1)
    orders = pl.DataFrame(
        {
            "customer_id": [f"C{i % 40}" for i in range(200)],
            "order_id": [str(i) for i in range(200)],
            "order_date": [day + dt.timedelta(days=i / 2) for i in range(200)],
            "total_price": [10.0 + (i % 40) for i in range(200)],
        }
    )
    chosen = Config.model_validate(
        {"artifacts": str(tmp_path), "fit": {"max_segments": 2}}
    )
    done = run_rfm(chosen, orders)
    assert done.folder == tmp_path / "fit-rfm"
    rows = pl.read_parquet(done.folder / "table_rows.parquet")
    own = rows.row(by_predicate=pl.col("customer_id") == "C3", named=True)
    # The last of its 5 orders is number 163, the newest of all number 199.
    assert (own["recency_days"], own["monetary"]) == (18.0, 65.0)
    names = pl.read_csv(done.folder / "table_segments.csv")["segment"].unique()
    assert set(names) == {"high spend, recent", "long away, low spend"}
    assert done.facts["skipped"] == {"frequency": "it has one value"}
