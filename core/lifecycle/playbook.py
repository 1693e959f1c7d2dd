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
"""The copy of a user's own in the artifacts, by which later verbs tell what to do."""


def system_playbook(
    path: str | Path | None, system: str, option: str | None = None
) -> Playbook[Play]:
    """Return what to do with a system's segments: its playbook, or a user's own.

    Parameters
    ----------
    path : path, optional
        None: the one that ``core.SYSTEM`` ships.
    system : str
        Such as ``axes``.
    option : str, optional
        That names the file; None: ``SYSTEM.playbook``.

    Raises
    ------
    ConfigError
        If the file cannot be read, or is no playbook.
    """
    return read_playbook(Playbook[Play], path, *_where(system, option))


def save_playbook(
    out: StageWriter, path: str | None, system: str, option: str | None = None
) -> None:
    """Keep a user's playbook with the run; the copy before, once the file is gone.

    So no verb that takes minutes fails at its end for want of it.
    """
    if path is None:
        return
    before = None if out.base is None else out.base.output(SAVED)
    kept = path if before is None or Path(path).is_file() else before
    text = playbook_text(kept, *_where(system, option))
    out.path(SAVED).write_text(text, encoding="utf-8", newline="\n")


def run_playbook(
    out: StageWriter, path: str | None, system: str, option: str | None = None
) -> Playbook[Play]:
    """Return the playbook of a run, or of the run that a later verb tells of."""
    kept: str | Path | None = path
    if path is not None:
        new = out.path(SAVED)
        before = None if out.base is None else out.base.output(SAVED)
        kept = new if new.exists() else before or path
    return system_playbook(kept, system, option)


def _where(system: str, option: str | None) -> tuple[str, str]:
    return f"core.{system}", option or f"{system}.playbook"
