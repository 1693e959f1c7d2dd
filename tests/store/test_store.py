"""Profiles are loaded whole or not at all, and only what changed is written."""

from __future__ import annotations

import itertools

import polars as pl
import pytest
from psycopg.rows import dict_row

from core.errors import StoreError
from core.rules.compile import to_sql
from core.rules.grammar import read_rules
from core.store import Store, StoredModel

AXES = ("purchase_value", "price_sensitivity")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    # The space is on purpose: people keep their work in "My Documents".
    with Store.open(None, tmp_path_factory.mktemp("a store") / "postgres") as opened:
        yield opened


def profiles(segments: dict[str, tuple[str, str]], value: float = 100.0):
    """Return one profile per customer, from its segments on the two axes."""
    return pl.DataFrame(
        {
            "customer_id": list(segments),
            "segment_memberships": [
                dict(zip(AXES, names, strict=True)) for names in segments.values()
            ],
            "membership_strengths": [dict.fromkeys(AXES, 0.5) for _ in segments],
            "runner_up_segments": [
                {"purchase_value": "mid_tier", "price_sensitivity": None}
                for _ in segments
            ],
            "confidence": [0.5] * len(segments),
            "lifetime_value": [value] * len(segments),
            "total_orders": [3] * len(segments),
        },
        schema_overrides={"customer_id": pl.String},
    )


FOUR = {
    "ann": ("whale", "deal_hunter"),
    "bob": ("whale", "full_price"),
    "cem": ("mid_tier", "deal_hunter"),
    "dia": ("mid_tier", "full_price"),
}


def publish(store, store_id, table, version=1, **options):
    return store.publish(store_id, version, "line", b"state", {}, table, **options)


def rows(store, store_id):
    with store.begin("read") as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute(
            "SELECT * FROM customer_profiles WHERE store_id = %s ORDER BY customer_id",
            (store_id,),
        ).fetchall()


def test_a_profile_is_stored_as_it_was_handed_in(store):
    publish(store, "as-is", profiles({"ann": FOUR["ann"]}))
    (row,) = rows(store, "as-is")
    assert row["customer_id"] == "ann"
    assert row["segment_memberships"] == {
        "purchase_value": "whale",
        "price_sensitivity": "deal_hunter",
    }
    assert row["dominant_segments"] == row["segment_memberships"]
    assert row["membership_strengths"] == dict.fromkeys(AXES, 0.5)
    # A runner-up that there is not has no entry.
    assert row["runner_up_segments"] == {"purchase_value": "mid_tier"}
    assert (row["confidence"], row["lifetime_value"]) == (0.5, 100.0)
    assert (row["total_orders"], row["churn_risk_score"]) == (3, None)
    assert row["model_version"] == 1


def test_loading_again_changes_nothing(store):
    publish(store, "again", profiles(FOUR))
    before = rows(store, "again")
    facts = publish(store, "again", profiles(FOUR))
    assert facts[:4] == (0, 0, 4, 0)
    assert rows(store, "again") == before


def test_a_load_inserts_updates_and_deletes_what_differs(store):
    publish(store, "changes", profiles(FOUR))
    changed = {**FOUR, "bob": ("mid_tier", "full_price"), "eve": FOUR["ann"]}
    del changed["dia"]
    facts = publish(store, "changes", profiles(changed))
    assert facts[:4] == (1, 1, 2, 1)
    found = {
        row["customer_id"]: tuple(row["segment_memberships"][name] for name in AXES)
        for row in rows(store, "changes")
    }
    assert found == changed


def test_stores_do_not_touch_each_other(store):
    publish(store, "here", profiles(FOUR))
    publish(store, "there", profiles({"ann": FOUR["dia"]}))
    assert len(rows(store, "here")) == 4
    assert len(rows(store, "there")) == 1


def test_the_model_published_last_serves(store):
    assert store.model("models") is None
    store.publish("models", 1, "line", b"one", {"k": 1}, profiles(FOUR))
    store.publish("models", 2, "line", b"two", {"k": 2}, profiles(FOUR))
    found = store.model("models")
    assert isinstance(found, StoredModel)
    assert found[:4] == (2, b"two", {"k": 2}, "line")
    _, published = store.query(
        "SELECT version, is_current FROM axis_models WHERE store_id = 'models' "
        "ORDER BY version DESC"
    )
    assert published == [(2, True), (1, False)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (profiles(FOUR).drop("segment_memberships"), "no `segment_memberships`"),
        (pl.concat([profiles(FOUR)] * 2), "8 of 8 profiles have a `customer_id` that"),
        (profiles({"a\0b": FOUR["ann"]}), "NUL character"),
        (profiles({"é" * 501: FOUR["ann"]}), "more than 1,000 bytes"),
        (
            profiles(FOUR).with_columns(customer_id=pl.lit(None, pl.String)),
            "4 of 4 profiles have no `customer_id`",
        ),
        (profiles(FOUR).with_columns(customer_id=pl.lit(1)), "is Int32, expected text"),
        (
            profiles(FOUR).with_columns(membership_strengths=pl.lit(0.5)),
            "Expected a struct with a field per axis",
        ),
    ],
)
def test_profiles_that_cannot_be_stored_are_refused(store, table, message):
    with pytest.raises(StoreError, match=message):
        publish(store, "refused", table)
    assert rows(store, "refused") == []


@pytest.mark.parametrize(
    "name", ["Ünïcode 🛒", "tab\tnew\nline\r", "back\\slash \\N", "'; DROP TABLE x; --"]
)
def test_any_text_may_be_an_id_or_a_segment(store, name):
    publish(store, "text", profiles({name: (name, '"quoted"')}))
    (row,) = rows(store, "text")
    assert row["customer_id"] == name
    assert row["segment_memberships"] == {
        "purchase_value": name,
        "price_sensitivity": '"quoted"',
    }


def test_rules_as_sql_agree_with_the_rules(store):
    """Here, because the server runs anyway."""
    rules = read_rules(
        "features:\n  x: {type: number, missing: unknown}\n  w: {type: flag}\n"
        "  k: {type: text, missing: unknown}\n"
        "segments:\n"
        "  - name: a\n    when: 0.1 < x <= 2.5 and not w\n"
        '  - name: b\n    when: not (x > 0.1) or k in {web, "it\'s"}\n'
        "  - name: c\n    when: w and k != app\n"
        "  - name: d\n    when: w in {yes, no} and x is not missing\n"
    )
    customers = [
        {"customer_id": i, "x": x, "w": w, "k": k}
        for i, (x, w, k) in enumerate(
            itertools.product(
                [None, float("nan"), 0.1, 2.5, 3.0], [True, False, None],
                [None, "web", "app", "it's"],
            )
        )
    ]  # fmt: skip
    query = to_sql(rules, "postgres", "guests")
    with store.begin("admin") as connection:
        for flag in ("boolean", "integer", "double precision"):
            connection.execute(
                "CREATE TEMP TABLE guests (customer_id int, x float8, "
                f"w {flag}, k text) ON COMMIT DROP"
            )
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO guests VALUES (%(customer_id)s, %(x)s, "
                    f"CAST(CAST(%(w)s AS int) AS {flag}), %(k)s)",
                    customers,
                )
            found = dict(connection.execute(query).fetchall())
            connection.execute("DROP TABLE guests")
            assert found == {c["customer_id"]: rules.assign(c) for c in customers}
