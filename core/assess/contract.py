"""The contract of the segments that are published: drafted, and held against them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl

from core.artifacts import Artifacts, ArtifactSet
from core.assess.stability import TABLE
from core.errors import ArtifactError, ConfigError
from core.inference import SEGMENTS
from core.segments.contract import (
    Breach,
    SegmentFacts,
    check_contract,
    facts_of,
    read_contract,
)
from core.segments.contract_draft import draft_contract
from core.segments.contract_file import contract_text
from core.segments.published import PublishedSegments


def draft_for(artifacts: str | Path, owner: str, expires: date) -> str:
    """Return the text of a contract with bands around the published segments.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run. Stability floors are drafted where `segments
        stability` (or `certify`) has been run.
    owner : str
        Who answers for it.
    expires : date
        Its last day.

    Raises
    ------
    ArtifactError
        If there is no complete run.
    """
    facts, unassigned = _facts(_complete(artifacts))
    return contract_text(draft_contract(facts, unassigned, owner, expires))


def breaches_of(
    artifacts: str | Path, contract: str | Path | None, today: date
) -> list[Breach]:
    """Hold a contract against the published segments.

    Parameters
    ----------
    artifacts : path
        Folder of a complete run.
    contract : path or None
        See `core.segments.contract.read_contract`; None: what ``refresh.contract`` of
        the published model names.
    today : date
        What `expires` is compared with.

    Raises
    ------
    ConfigError
        If the contract cannot be read, or none is named.
    ArtifactError
        If there is no complete run.
    """
    published = _complete(artifacts)
    path = contract or published.manifest.config.refresh.contract
    if path is None:
        raise ConfigError(
            "no contract is named, neither here nor as `refresh.contract` of the "
            "published model. Pass its file; `segments contract draft` writes one."
        )
    facts, unassigned = _facts(published)
    return check_contract(read_contract(path), facts, unassigned, today)


def _complete(artifacts: str | Path) -> ArtifactSet:
    """Return the complete published set."""
    published = Artifacts(artifacts).serving()
    if published is None or not published.manifest.is_complete:
        raise ArtifactError(
            f"`{artifacts}` holds no complete run. Run the four pipelines first."
        )
    return published


def _facts(published: ArtifactSet) -> tuple[list[SegmentFacts], float]:
    """Return the published segments, and the share in none of them."""
    table = PublishedSegments.read(published.path(SEGMENTS))
    stability = _stability(published, table.kind)
    return facts_of(table, stability), table.unassigned_share


def _stability(published: ArtifactSet, kind: str) -> dict[int, float]:
    """Return the clusterwise Jaccard by segment id, as far as it was measured."""
    if TABLE not in published.manifest.files or not published.path(TABLE).is_file():
        return {}
    table = pl.read_csv(published.path(TABLE)).filter(kind=kind)
    return dict(table.select("segment", "jaccard").iter_rows())
