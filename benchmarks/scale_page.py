"""The page that `scale.py` renders from its results: tables, and advice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quality_page import table, versions
from results import Row

from core.config import ClusteringConfig
from core.tables.parts import ROWS_AT_ONCE

FIT_SHOPS = ClusteringConfig().fit_shops
Found = dict[str, list[Row]]

STEPS = {
    "prepare": "prepare",
    "train": "autoencoder",
    "cluster": "clusters",
    "infer": "inference",
}

INTRODUCTION = """# Scale

How much is too big, and which setting when: measured by `python benchmarks/scale.py`
and rendered from its results with `--render`. Sales are of the built-in generator, in
Parquet files of about 1.3 million rows: *three years* of a shop are some 134 rows, a
*short* history is 15 months and some 25 rows. Every command runs as a user runs it, in
a process of its own: starting Python is part of the time. *GB* is the peak of resident
memory, summed over all processes of a command; *CPU s* are processor seconds of all
cores together, which feel other work on the machine less than seconds do.
"""
SETTINGS = (
    (
        f"up to {FIT_SHOPS:,} shops",
        "nothing to set: everything is learnt from all of them",
    ),
    (
        "more shops",
        f"nothing to set: `clustering.fit_shops` ({FIT_SHOPS:,}) are learnt from and "
        "all are labelled; the last table says what that costs",
    ),
    (
        f"more than {ROWS_AT_ONCE // 10**6} million rows",
        "nothing to set: they pass through in parts of whole shops; temporary files "
        "(in `TMPDIR`, on Windows `TEMP`) take a few times the space of Parquet files",
    ),
    (
        "CSV files that are read more than once",
        "Parquet: it is smaller, and its columns have types",
    ),
    (
        "a model, and rows of other shops or of the next month",
        "`./run.sh infer --input ROWS --output FILE`: nothing is learnt",
    ),
    (
        "little memory",
        "a smaller `clustering.fit_shops`, then a smaller `clustering.batch_size`",
    ),
    (
        "rows on a cluster, or too many for one machine",
        "`--engine spark`: features and labels are computed where the rows are, and "
        "only the shops to learn from are collected",
    ),
)
PIPELINES = """## Four pipelines on one machine

From rows to the published report, with the default options. *Growth* is by how much
the seconds grow from the size above, divided by how much the shops do: 1 is linear,
below 1 is better.
"""
SCORE = """## Scoring with a saved model

`clustering-inference-pipeline.py --input FOLDER --output FILE`: every row is checked
and every shop gets a label, or a reason why it has none.
"""
SPARK = """## Spark beside one machine

The same rows prepared and scored with `--engine spark` on this machine (`local[2]`, a
driver of 3 GB), and by Polars. On one machine Spark is the slower of the two: its use
is on rows that are too many for one machine, or that are on a cluster already. *Same*
compares the labels, strengths and reasons of all shops with those of Polars.
"""
CUSTOMERS = """## Customers

`./run.sh axes`, `channels` and `baskets` with `--no-store` on their built-in samples,
from rows to the page. Rows are those of orders and items together.
"""
SAMPLE = """## Learning from a part of the shops

Above `clustering.fit_shops`, scaler, autoencoder and clusters are learnt from the shops
with the smallest hash of their id, and the model assigns the others. What that costs:
the same sales, learnt from all shops and from ever fewer; adjusted Rand indices over
*all* shops, unassigned ones as a group of their own. *Planted*: clusters against the
archetypes of the generator. *Clusters* and *segments*: against those learnt from all.
Seconds and memory are of the autoencoder and the clusters.
"""


def render(results: Sequence[Row]) -> str:
    """Return the page.

    Parameters
    ----------
    results : sequence of dict
        Lines of the cache file: judge, arguments, version, result.
    """
    rows: Found = {judge: [] for judge in SECTIONS}
    for result in results:
        rows[result["judge"]].append(result["arguments"] | result["result"])
    settings = table(("you have", "then"), SETTINGS, "ll")
    page = [INTRODUCTION, "## Which setting when\n", settings]
    for judge, (introduction, lines_of) in SECTIONS.items():
        page += [introduction, lines_of(rows) if rows[judge] else "Not measured.\n"]
    return "\n".join([*page, _load(results), versions(results)])


def _load(results: Sequence[Row]) -> str:
    """Say what else ran on the machine while it was measured."""
    loads = [row["result"]["load"] for row in results if "load" in row["result"]]
    known = f"{min(loads):.1f} to {max(loads):.1f}" if loads else "not known"
    return (
        f"Load of the machine before a measurement: {known}. With two cores, seconds "
        "count other work on the machine from 1 on; CPU s hardly do.\n"
    )


def _pipelines(results: Found) -> str:
    """Return seconds and memory of each step, and how the whole grows."""
    lines: list[list[str]] = []
    before: dict[str, tuple[int, float]] = {}
    for row in sorted(_by_size(results["pipelines"]), key=_is_short):
        steps = [row["steps"][name] for name in STEPS]
        seconds = sum(step["seconds"] for step in steps)
        cpu_s = sum(step["cpu_s"] for step in steps)
        growth = "-"
        if row["kind"] in before:
            n_before, seconds_before = before[row["kind"]]
            growth = f"{seconds / seconds_before / (row['n_shops'] / n_before):.2f}"
        before[row["kind"]] = row["n_shops"], seconds
        lines.append(
            [
                _history(row),
                f"{row['n_shops']:,}",
                _millions(row["rows"]),
                *(f"{step['seconds']:.0f}" for step in steps),
                f"{seconds:.0f}",
                growth,
                *(_gb(step["peak_mb"]) for step in steps),
                f"{cpu_s:.0f}",
                f"{1000 * cpu_s / row['n_shops']:.2f}",
            ]
        )
    head = [
        "history",
        "shops",
        "rows",
        *(f"{name} s" for name in STEPS.values()),
        "all s",
    ]
    head += ["growth", *(f"{name} GB" for name in STEPS.values()), "CPU s"]
    head += ["CPU s per 1,000 shops"]
    return table(head, lines, "l" + "r" * (len(head) - 1))


def _score(results: Found) -> str:
    """Return what scoring takes."""
    lines = [
        [_history(row), *_costs(row, row["n_shops"], row["steps"]["score"])]
        for row in sorted(_by_size(results["score"]), key=_is_short)
    ]
    head = ("history", "shops", *COSTS, "shops per second")
    return table(head, lines, "l" + "r" * (len(head) - 1))


def _spark(results: Found) -> str:
    """Return what Spark and Polars take for the same rows."""
    polars: dict[int, Row] = {}
    for row in (*results["pipelines"], *results["score"]):
        if not _is_short(row):
            known = polars.setdefault(row["n_shops"], {"steps": {}})
            polars[row["n_shops"]] = (
                known | row | {"steps": known["steps"] | row["steps"]}
            )
    lines = []
    for row in _by_size(results["spark"]):
        beside = polars.get(row["n_shops"], {"steps": {}})
        told = "-"
        if "labels" in beside:
            told = "yes" if beside["labels"] == row["labels"] else "**no**"
        for engine, one in (("Spark", row), ("Polars", beside)):
            costs = [_cost_cells(one["steps"].get(step)) for step in ENGINE_STEPS]
            shops = [f"{row['n_shops']:,}", _millions(row["rows"])]
            lines.append([*shops, engine, *costs[0], *costs[1], told])
    head = ["shops", "rows", "engine"]
    head += [f"{step} {unit}" for step in ENGINE_STEPS for unit in ("s", "GB", "CPU s")]
    return table([*head, "same"], lines, "rrl" + 6 * "r" + "l")


ENGINE_STEPS = ("prepare", "score")


def _cost_cells(cost: dict[str, float] | None) -> list[str]:
    if cost is None:
        return ["-"] * 3
    return [f"{cost['seconds']:.0f}", _gb(cost["peak_mb"]), f"{cost['cpu_s']:.0f}"]


def _customers(results: Found) -> str:
    """Return what the systems of customers take."""
    lines = [
        [f"`{row['system']}`", *_costs(row, row["n_customers"], row["steps"]["run"])]
        for row in results["customers"]
    ]
    head = ("system", "customers", *COSTS, "customers per second")
    return table(head, lines, "l" + "r" * (len(head) - 1))


COSTS = ("rows", "GB on disk", "s", "GB", "CPU s", "CPU s per 1,000")


def _costs(row: Row, n: int, cost: dict[str, float]) -> list[str]:
    """Return the cells of one command's line, from the number of entities on."""
    return [
        f"{n:,}",
        _millions(row["rows"]),
        f"{row['disk_mb'] / 1000:.2f}",
        f"{cost['seconds']:.0f}",
        _gb(cost["peak_mb"]),
        f"{cost['cpu_s']:.0f}",
        f"{1000 * cost['cpu_s'] / n:.2f}",
        f"{n / cost['seconds']:,.0f}",
    ]


def _sample(results: Found) -> str:
    """Return the loss of learning from fewer shops."""
    lines = [
        [
            f"{row['n_shops']:,}",
            f"{int(fit_shops):,}",
            f"{found['planted_ari']:.3f}",
            f"{found['clusters_ari']:.3f}",
            f"{found['segments_ari']:.3f}",
            f"{found['n_clusters']}",
            f"{found['noise']:.1%}",
            f"{found['seconds']:.0f}",
            _gb(found["peak_mb"]),
        ]
        for row in results["sample"]
        for fit_shops, found in row["learnt_from"].items()
    ]
    head = ("shops", "learnt from", "planted ARI", "clusters ARI", "segments ARI")
    head += ("clusters", "in no cluster", "s", "GB")
    return table(head, lines, "r" * len(head))


SECTIONS: dict[str, tuple[str, Callable[[Found], str]]] = {
    "pipelines": (PIPELINES, _pipelines),
    "score": (SCORE, _score),
    "spark": (SPARK, _spark),
    "customers": (CUSTOMERS, _customers),
    "sample": (SAMPLE, _sample),
}


def _by_size(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: int(row["n_shops"]))


def _is_short(row: Row) -> bool:
    return bool(row["kind"] == "short")


def _history(row: Row) -> str:
    return str(row["kind"]).replace("-", " ")


def _millions(n: int) -> str:
    return f"{n / 1e6:,.1f}M"


def _gb(megabytes: float) -> str:
    return f"{megabytes / 1000:.2f}"
