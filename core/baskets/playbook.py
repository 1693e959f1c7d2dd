"""The playbook of a run of baskets: the shipped one, or a user's own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from core.reporting import playbook as shared
from core.reporting.playbook import MeasuredPlay, Playbook

BasketPlaybook = Playbook[MeasuredPlay]
_WHERE = ("core.baskets", "baskets.playbook")


def read_playbook(
    path: str | Path | None, metrics: Collection[str] | None = None
) -> BasketPlaybook:
    """Read the playbook; see `core.reporting.playbook.read_playbook`."""
    return shared.read_playbook(BasketPlaybook, path, *_WHERE, metrics)


def playbook_text(path: str | Path | None) -> str:
    """Return what a playbook says, as it is written."""
    return shared.playbook_text(path, *_WHERE)
