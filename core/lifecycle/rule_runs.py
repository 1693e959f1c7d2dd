"""What runs of rule segments share: contract, proof, moves, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts.runs import REJECTED, RunFiles
from core.errors import PROGRAM, SchemaError
from core.lifecycle.page import rules_badge, who_could
from core.lifecycle.told import placed
from core.models.centroids import NOWHERE
from core.reporting.board import Board, BoardAxis, BoardVerdict
from core.reporting.changes import change_lines
from core.reporting.page import Templates
from core.reporting.text import count, plural
from core.rules.assign import outside_domains
from core.rules.check import Proof
from core.rules.grammar import FIRST, RuleSet
from core.segments.contract import (
    SegmentFacts,
    check_contract,
    read_contract,
    require_kept,
)
from core.segments.rule_axis import SEGMENT

LEFT_OUT = "customers_left_out.parquet"
WORDS = "run.txt.j2"
"""The template of each system's own sentences."""
Facts = Mapping[str, Any]
MOVES = 10
"""Moves between two segments that a page shows."""


def keep_contract(path: str | None, sizes: pl.DataFrame) -> None:
    """Refuse rule segments that break a contract.

    Parameters
    ----------
    path : str, optional
        YAML file of terms; None: none are agreed.
    sizes : DataFrame
        Of `core.segments.memberships.sizes_table`.

    Raises
    ------
    ContractError
        If a term is broken.
    """
    if path is None:
        return
    own, is_placed = sizes.filter(axis=SEGMENT), pl.col("segment_id") != NOWHERE
    columns = ("segment_id", "segment", "n_customers", "share")
    rows = own.filter(is_placed).select(columns).rows()
    nowhere = float(own.filter(~is_placed)["share"].sum())
    facts = [SegmentFacts(*row) for row in rows]
    today = datetime.now(UTC).date()
    breaches = check_contract(read_contract(path), facts, nowhere, today)
    require_kept(breaches, "the rule segments of this run")


def require_possible(features: pl.DataFrame, rules: RuleSet, mend: str = "") -> None:
    """Refuse features by which nobody can be placed.

    Parameters
    ----------
    features : DataFrame
        With those that the rules ask for, a row per customer.
    rules : RuleSet
    mend : str
        What the system knows of missing values, as the beginning of a sentence.

    Raises
    ------
    SchemaError
    """
    for name, n in outside_domains(rules, features).items():
        if 0 < features.height == n:
            is_missing = features[name].null_count() == n
            raise SchemaError(
                f"`{name}` is {'missing' if is_missing else 'out of its range'} for "
                f"all {n:,} customers, so the rules `{rules.name}` place nobody. "
                f"Expected values that they allow: {mend}a rule file says what a "
                "missing value means (`missing:`)."
            )


def proof_line(proof: Proof, n_unplaced: int) -> str:
    """Return in a sentence whether the rules are proven, and who is outside of them."""
    if not proof.is_proven:
        first = proof.findings[0].text()
        return f"Not proven: {first}. `{PROGRAM} rules check` tells what to mend."
    if proof.rules.match == FIRST:
        said = "Proven: every customer falls in a segment, the first that fits"
    else:
        said = "Proven: every customer falls in exactly one segment"
    if not n_unplaced:
        return f"{said}."
    return (
        f"{said}, if its values are as the rules assume; those of "
        f"{plural(n_unplaced, 'customer')} are missing or out of range."
    )


def most_moves(block: Path) -> list[dict[str, Any]]:
    """Return the moves between rule segments that most customers made.

    Parameters
    ----------
    block : path
        A block of the ledger, see `core.segments.moves.MOVES_SCHEMA`.
    """
    keys = ("old", "new", "old_name", "new_name", "cause")
    moves = pl.read_parquet(block, glob=False).filter(axis=SEGMENT)
    counts = moves.group_by(keys).agg(n=pl.len())
    return counts.sort("n", *keys, descending=[True] + [False] * 5)[:MOVES].to_dicts()


def headline(words: Templates, facts: Facts) -> str:
    """Return who was segmented, by what."""
    return " ".join(words.sentences(WORDS, "headline", **facts))


def row_notes(words: Templates, facts: Facts) -> list[str]:
    """Return how many rows were set aside, and who is not segmented."""
    n = facts["n_rejected"]
    told = [f"{n:,} rows were set aside; by reason on the page and in {REJECTED}."]
    left = words.sentences(WORDS, "left_out", **facts)
    where = [f"Who is not segmented: {LEFT_OUT}."] if left else []
    return [*(told if n else []), *left, *where]


def rule_board(
    files: RunFiles,
    words: Templates,
    axes: list[BoardAxis],
    rules: list[tuple[str, str]],
    facts: Facts,
) -> Board:
    """Return what the dashboard is told of a run of rule segments.

    Parameters
    ----------
    files : RunFiles
    words : Templates
        Of the system, with `WORDS`.
    axes : list of BoardAxis
    rules : list of (str, str)
        Segments, and their rules in words.
    facts : mapping
    """
    return Board(
        system=files.stage,
        title=files.system.name.capitalize(),
        entity="customer",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        as_of=facts["reference_date"][:10],
        headline=who_could(facts),
        axes=axes,
        verdict=BoardVerdict(
            "care" if facts["proof"].startswith("Not") else "good",
            rules_badge(facts),
            facts["proof"],
        ),
        tiles=[("Segments", count(len(placed(axes[0]))))],
        rules=rules,
        notes=[*facts["notes"], *row_notes(words, facts)],
    )


def run_lines(
    words: Templates, facts: Facts, page: Path, topics: Sequence[str]
) -> list[str]:
    """Return what a run did: the customers, the segments, changes, and where it is.

    Parameters
    ----------
    words : Templates
        Of the system, with `WORDS`.
    facts : mapping
        Of `core.lifecycle.run.run_segmentation`.
    page : path
        Of the published set.
    topics : sequence of str
        Blocks of `WORDS` that tell what the system found.
    """
    if not facts["is_changed"]:
        return words.sentences(WORDS, "unchanged", **facts)
    lines = [headline(words, facts), *facts["notes"], *row_notes(words, facts)]
    for topic in topics:
        lines += words.sentences(WORDS, topic, **facts)
    return [*lines, *change_lines(facts), f"Page: {page}"]
