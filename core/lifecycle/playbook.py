"""The playbook of a run: what to do with segments, kept for later verbs."""

from __future__ import annotations

from pathlib import Path

from core.artifacts.folder import StageWriter
from core.reporting.playbook import (
    BUILT_IN,
    Play,
    Playbook,
    playbook_text,
    read_playbook,
)

SAVED = BUILT_IN
"""The copy in the artifacts, by which segments that are given names are told."""


def system_playbook(path: str | Path | None, system: str) -> Playbook[Play]:
    """Return what to do with a system's segments: its playbook, or a user's own.

    Parameters
    ----------
    path : path, optional
        None: the one that ``core.SYSTEM`` ships.
    system : str
        Such as ``axes``, whose option is ``axes.playbook``.

    Raises
    ------
    ConfigError
        If the file cannot be read, or is no playbook.
    """
    return read_playbook(Playbook[Play], path, f"core.{system}", f"{system}.playbook")


def save_playbook(out: StageWriter, path: str | None, system: str) -> None:
    """Keep a user's playbook with the run."""
    if path is not None:
        text = playbook_text(path, f"core.{system}", f"{system}.playbook")
        out.path(SAVED).write_text(text, encoding="utf-8", newline="\n")


def run_playbook(out: StageWriter, path: str | None, system: str) -> Playbook[Play]:
    """Return the playbook of a run, or of the run whose segments are given names."""
    kept = None if path is None else out.path(SAVED)
    if kept is not None and not kept.exists() and out.base is not None:
        kept = out.base.path(SAVED)
    return system_playbook(kept, system)
