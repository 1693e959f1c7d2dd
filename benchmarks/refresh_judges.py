"""What `refresh.py` measures: one function per kind of result.

Data, seeds and sizes are fixed here, before anything comes out; every option is the
default but those that the data's span asks for (`WINDOW`, `LONG_WINDOW`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rolling import (
    PlantedEvent,
    RollingOptions,
    RollingSales,
    generate_rolling,
)
from sklearn.metrics import adjusted_rand_score

from core.artifacts.folder import Artifacts
from core.config import Config, SampleConfig
from core.retailers.files import RETAILERS
from core.retailers.model import Model
from core.retailers.pipelines import (
    prepare_features,
    run_all,
    run_inference,
    train_autoencoder,
    train_clustering,
)
from core.retailers.refresh.month import ledger_blocks
from core.retailers.refresh.run import run_refresh
from core.retailers.sample import generate_sales
from core.segments.published import UNASSIGNED

Result = dict[str, Any]

REPOSITORY = Path(__file__).resolve().parents[1]
WORK = REPOSITORY / "build" / "benchmarks" / "refresh"
IOWA = REPOSITORY.parent / "shared" / "data" / "iowa_dev" / "monthly.parquet"
# A shop is gone after half a year here, so that all shops of an archetype go in one
# month that is known; by their own rhythm each would lapse in a month of its own.
GONE = {
    "eligibility": {"max_inactive_months": 6},
    "states": {"thresholds": {"lapsed_below": 0}},
}
# The window that the month of every planted event is defined for.
WINDOW = GONE | {"features": {"history_months": 12}}
LONG_WINDOW = GONE | {"features": {"history_months": 36}}
SCENARIO_SHOPS = 2500
DRIFT_SHOPS = 1500
DRIFT_WARM_MONTHS = 48
SHIFT_REFRESH = 4
REPEAT_SHOPS = 2000
IN_BETWEEN = pl.col("archetype").str.contains(" + ", literal=True)
FOUND_AS = {"split": "split", "merge": "merged", "birth": "born", "death": "died"}


def label() -> pl.Expr:
    """Return the month of a row as ``YYYY-MM``."""
    month = pl.col("month").cast(pl.String).str.zfill(2)
    return pl.format("{}-{}", "year", month)


def roll(
    config: Config, rows: pl.DataFrame, months: Sequence[str], retrain: str
) -> list[Result]:
    """Train on all rows before the first of some months, then refresh with each.

    What was done stays in the folder beside the artifacts, and an interrupted call goes
    on where it was.

    Parameters
    ----------
    config : Config
        Its artifacts folder is written to.
    rows : DataFrame
        Sales of all months.
    months : sequence of str
        ``YYYY-MM``, ascending, without a gap.
    retrain : str
        As ``refresh.retrain``.

    Returns
    -------
    list of dict
        The facts of each refresh, with ``clusters``: the number within the model of
        each published segment, by its id as text.
    """
    root = Path(config.artifacts)
    log = root.parent / "months.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    done = [json.loads(line) for line in lines]
    published = Artifacts(root, RETAILERS).published() if root.is_dir() else None
    if published is None or not done:
        shutil.rmtree(root.parent, ignore_errors=True)
        root.mkdir(parents=True)
        done = []
        run_all(config, rows.filter(label() < months[0]))
    for month in months[len(done) :]:
        found = run_refresh(config, rows.filter(label() == month), retrain=retrain)
        if found.facts["decision"] == "unchanged":  # killed before it was noted
            shutil.rmtree(root.parent)
            return roll(config, rows, months, retrain)
        facts = dict(found.facts) | {"clusters": _clusters(root)}
        done.append(facts)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")
        print(f"  {month}: {facts['decision']}. {facts['reason']}", flush=True)
    return done


def _clusters(root: Path) -> dict[str, int]:
    """Return the number within its model of every published segment, by id."""
    segments = Model.load(root).segments.published.segments
    return {str(segment.id): segment.cluster for segment in segments}


def _blocks(root: Path) -> list[pl.DataFrame]:
    """Return the ledger of a folder."""
    published = Artifacts(root, RETAILERS).published()
    assert published is not None  # refreshes have run in it
    return ledger_blocks(published)


def _config(settings: dict[str, Any], folder: Path) -> Config:
    """Return the configuration of a run in a folder."""
    return Config.model_validate(settings | {"artifacts": str(folder / "artifacts")})


def judge_scenario(seed: int, difficulty: str) -> Result:
    """Refresh and refit through twelve months with four planted events."""
    options = RollingOptions(n_shops=SCENARIO_SHOPS, difficulty=difficulty)
    made = generate_rolling(options, seed)
    config = _config(WINDOW, WORK / f"scenario-{difficulty}-{seed}")
    months = roll(config, made.rows, options.refreshes, "always")
    blocks = _blocks(Path(config.artifacts))
    return {
        "planted": [asdict(event) for event in made.events],
        **found_events(made, blocks, months),
        "kept": kept_shares(blocks, made.truth),
        "ari": [_truth_ari(block, made.truth) for block in _last_of_month(blocks)],
        "months": [
            {key: facts[key] for key in ("month", "decision", "reason", "state")}
            | {"n_alerts": len(facts["alerts"])}
            for facts in months
        ],
    }


def found_events(
    made: RollingSales, blocks: list[pl.DataFrame], months: list[Result]
) -> Result:
    """Match what the refreshes reported with what was planted.

    Returns
    -------
    dict
        ``found``: for each planted event the month of its report, or None; ``others``:
        ``month: kind`` of every report that belongs to none.
    """
    reports = [
        (facts["month"], event)
        for facts in months
        for event in facts["events"]
        if event["kind"] != "survived"
    ]
    found: list[str | None] = []
    for planted in made.events:
        fitting = [
            report
            for report in reports
            if _is_report_of(*report, planted, made, blocks)
        ]
        found.append(fitting[0][0] if fitting else None)
        if fitting:
            reports.remove(fitting[0])
    return {
        "found": found,
        "others": [f"{month}: {event['kind']}" for month, event in reports],
    }


def _is_report_of(
    month: str,
    event: Result,
    planted: PlantedEvent,
    made: RollingSales,
    blocks: list[pl.DataFrame],
) -> bool:
    """Whether a reported event is a planted one, of the same archetypes."""
    months = made.truth["month"].unique().sort().to_list()
    soon = months[months.index(planted.month) :][:2]
    if event["kind"] != FOUND_AS[planted.kind] or month not in soon:
        return False
    mostly = {
        name: _archetypes([b for b in blocks if is_meant(b["month"][0])], made.truth)
        for name, is_meant in (
            ("old", lambda at: at < planted.month),
            ("new", lambda at: at == month),
        )
    }
    sides = {"split": ("old", "new"), "merge": ("old", "new")}
    sides |= {"birth": ("new",), "death": ("old",)}
    return all(
        {mostly[side].get(i) for i in event[side]} == set(getattr(planted, side))
        for side in sides[planted.kind]
    )


def _archetypes(blocks: list[pl.DataFrame], truth: pl.DataFrame) -> dict[int, str]:
    """Return every segment's commonest archetype over all blocks.

    Not by its last block: of a segment that dies, shops in between are left last.
    """
    rows = pl.concat([_with_truth(block, truth) for block in blocks])
    counts = rows.group_by("segment", "archetype").len().sort("len", "archetype")
    return dict(counts.select("segment", "archetype").iter_rows())


def _with_truth(block: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Return the open shops of a block with what they are."""
    return block.join(truth, left_on=["month", "entity"], right_on=["month", "shop_id"])


def _truth_ari(block: pl.DataFrame, truth: pl.DataFrame) -> float:
    """Return the agreement of a block with the archetypes, over archetype shops."""
    known = _with_truth(block, truth).filter(~IN_BETWEEN)
    return float(adjusted_rand_score(known["archetype"], known["segment"]))


def _last_of_month(blocks: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """Return the block that every month ended with."""
    return list({block["month"][0]: block for block in blocks}.values())


def kept_shares(blocks: list[pl.DataFrame], truth: pl.DataFrame) -> dict[str, float]:
    """Return the share of unchanged shops that never had another segment.

    A shop counts if no event ever concerns it, in the months in which it is open.
    Unassigned months are no change; a shop that never has a segment keeps it.

    Returns
    -------
    dict
        ``settled``: by confirmed segments; ``raw``: by what the models said each month;
        ``archetype``: settled, of shops that are not in between two archetypes;
        ``n``: shops.
    """
    concerned = truth.group_by("shop_id").agg(pl.col("is_changed").any())
    calm = concerned.filter(~pl.col("is_changed"))["shop_id"]
    rows = pl.concat(_with_truth(block, truth) for block in blocks)
    rows = rows.filter(
        pl.col("entity").is_in(calm.implode()), pl.col("archetype") != "harvest"
    )

    def share(column: str, chosen: pl.DataFrame) -> float:
        held = pl.col(column).filter(pl.col(column) != UNASSIGNED)
        kept = chosen.group_by("entity").agg(kept=held.n_unique() <= 1)["kept"]
        return float(kept.mean())  # type: ignore[arg-type]  # a Boolean has a number

    return {
        "settled": share("settled", rows),
        "raw": share("segment", rows),
        "archetype": share("settled", rows.filter(~IN_BETWEEN)),
        "n": rows["entity"].n_unique(),
    }


def judge_repeat(data: str, way: str, number: int) -> Result:
    """Train again on the same rows, shuffled, with another seed, in the same folder.

    ``anew``: as a training run does it; ``refit``: from the weights and near the
    clusters of the model before, as a refresh does it.
    """
    rows, settings = _repeat_data(data)
    first = WORK / f"repeat-{data}"
    config = _config(settings, first)
    if Artifacts(config.artifacts, RETAILERS).published() is None:
        run_all(config, rows)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        shutil.copytree(first, folder, dirs_exist_ok=True)
        old = Model.load(first / "artifacts")
        again = _config(settings | {"seed": 1000 + number}, Path(folder))
        champion = old if way == "refit" else None
        prepare_features(again, rows.sample(fraction=1.0, shuffle=True, seed=number))
        train_autoencoder(again, champion)
        train_clustering(again, champion)
        run_inference(again)
        new = Model.load(again.artifacts)
        features = pl.read_parquet(
            Path(again.artifacts) / "features.parquet", memory_map=False
        )
    before, after = (model.segments.published for model in (old, new))
    labels = [model.assign(features)["segment"].to_numpy() for model in (old, new)]
    is_renamed = [
        after.names[i] != name for i, name in before.names.items() if i in after.names
    ]
    both = np.logical_and(*(label != UNASSIGNED for label in labels))
    return {
        "verdict": after.verdict["kind"],
        "version": after.version,
        "is_same_kind": before.kind == after.kind,
        "n_segments": [before.n_segments, after.n_segments],
        "n_renamed": sum(is_renamed),
        "events": [event.kind for event in after.events if event.kind != "survived"],
        "ari": float(adjusted_rand_score(*labels)),
        "ari_both": float(adjusted_rand_score(*(label[both] for label in labels))),
        "unassigned": [float((label == UNASSIGNED).mean()) for label in labels],
        "same_id": float((labels[0] == labels[1]).mean()),
    }


def _repeat_data(data: str) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return rows and settings by name: ``rolling`` or a difficulty of the sample."""
    if data == "rolling":
        options = RollingOptions(n_shops=REPEAT_SHOPS, has_events=False)
        made = generate_rolling(options, seed=601)
        return made.rows.filter(label() < options.refreshes[0]), WINDOW
    sample = SampleConfig.model_validate({"n_shops": REPEAT_SHOPS, "difficulty": data})
    return generate_sales(sample, seed=601).rows, {}


def judge_real(n_months: int) -> Result:
    """Roll the Iowa stores over their last months, and refit them without matching."""
    rows = pl.read_parquet(IOWA)
    months = rows.select(label().alias("m"))["m"].unique().sort().to_list()[-n_months:]
    config = _config(GONE, WORK / f"iowa-{n_months}")
    facts = roll(config, rows, months, "always")
    blocks = _last_of_month(_blocks(Path(config.artifacts)))
    ids = [dict(block.select("entity", "segment").iter_rows()) for block in blocks]
    anew = [_refitted(rows, month) for month in [before(months[0]), *months]]
    return {
        "n_shops": [len(block) for block in ids],
        "published": sum(f["decision"] == "published" for f in facts),
        "refused": sum(f["decision"] == "refused" for f in facts),
        "events": [
            f"{f['month']}: {event['kind']}"
            for f in facts
            for event in f["events"]
            if event["kind"] != "survived"
        ],
        "kept_throughout": _kept_throughout(ids),
        "kept_throughout_refits": _kept_throughout(anew),
        "churn": _churn(ids),
        "churn_refits": _churn(anew),
    }


def _refitted(rows: pl.DataFrame, month: str) -> dict[str, int]:
    """Return the segments of a training run that knows of no model before it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        config = _config(GONE, Path(folder))
        run_all(config, rows.filter(label() <= month))
        model = Model.load(config.artifacts)
        path = Path(config.artifacts) / "features.parquet"
        labels = model.assign(pl.read_parquet(path, memory_map=False))
    return dict(labels.select("shop_id", "segment").iter_rows())


def before(month: str) -> str:
    """Return the month before."""
    year, number = divmod(int(month[:4]) * 12 + int(month[5:]) - 2, 12)
    return f"{year:04}-{number + 1:02}"


def _churn(labels: list[dict[str, int]]) -> float:
    """Return the mean share of shops with another segment than the month before."""
    shares = []
    for old, new in pairwise(labels):
        both = [shop for shop in old if shop in new]
        shares.append(np.mean([old[shop] != new[shop] for shop in both]))
    return float(np.mean(shares))


def _kept_throughout(labels: list[dict[str, int]]) -> float:
    """Return the share of the shops of all months with one segment in all of them."""
    everyone = set.intersection(*(set(month) for month in labels))
    kept = [len({month[shop] for month in labels}) == 1 for shop in everyone]
    return float(np.mean(kept))


def judge_drift(seed: int, shift: str | None) -> Result:
    """Refresh without refits, with or without a planted shift; count the alerts."""
    options = RollingOptions(
        n_shops=DRIFT_SHOPS,
        n_warm_months=DRIFT_WARM_MONTHS,
        has_events=False,
        shift=shift,  # type: ignore[arg-type]  # checked by the options themselves
        shift_refresh=SHIFT_REFRESH,
        n_refreshes=12 if shift is None else SHIFT_REFRESH + 1,
    )
    made = generate_rolling(options, seed)
    config = _config(LONG_WINDOW, WORK / f"drift-{shift}-{seed}")
    months = roll(config, made.rows, options.refreshes, "never")
    return {
        "n_alerts": [len(facts["alerts"]) for facts in months],
        "alerts": [facts["alerts"][:3] for facts in months],
        "states": [facts["state"] for facts in months],
    }


JUDGES: dict[str, Callable[..., Result]] = {
    "scenario": judge_scenario,
    "repeat": judge_repeat,
    "real": judge_real,
    "drift": judge_drift,
}
