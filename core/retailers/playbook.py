"""The playbook of shops: the shipped one, or a user's own."""

from __future__ import annotations

from core.config import Config
from core.reporting.playbook import Play, Playbook, read_playbook

ShopPlaybook = Playbook[Play]


def shop_playbook(config: Config) -> ShopPlaybook:
    """Return what to do with segments, states and changes of shops.

    Raises
    ------
    ConfigError
        If the file that ``report.playbook`` names cannot be read, or is no playbook.
    """
    path = config.report.playbook
    return read_playbook(ShopPlaybook, path, "core.retailers", "report.playbook")
