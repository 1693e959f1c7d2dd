"""The playbook of shops: the shipped one, or a user's own."""

from __future__ import annotations

from pathlib import Path

from core.config import Config
from core.reporting.playbook import (
    BUILT_IN,
    Play,
    Playbook,
    playbook_text,
    read_playbook,
)

ShopPlaybook = Playbook[Play]
SAVED = BUILT_IN
"""The copy in the artifacts, by which verbs that come later write the report."""
_WHERE = ("core.retailers", "report.playbook")


def shop_playbook(config: Config, saved: Path | None = None) -> ShopPlaybook:
    """Return what to do with segments, states and changes of shops.

    Parameters
    ----------
    config : Config
    saved : Path, optional
        A copy that is read instead.

    Raises
    ------
    ConfigError
        If the file that ``report.playbook`` names cannot be read, or is no playbook.
    """
    return read_playbook(ShopPlaybook, saved or config.report.playbook, *_WHERE)


def save_playbook(config: Config, path: Path, before: Path | None) -> None:
    """Write a copy of the playbook; of that of `before`, once the user's own is gone.

    So no verb that takes minutes fails at its end.
    """
    own = config.report.playbook
    is_gone = own is not None and before is not None and not Path(own).is_file()
    text = playbook_text(before if is_gone else own, *_WHERE)
    path.write_text(text, encoding="utf-8", newline="\n")
