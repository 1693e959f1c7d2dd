"""The playbook of shops: the shipped one, or a user's own."""

from __future__ import annotations

from core.config import Config
from core.lifecycle.playbook import system_playbook
from core.reporting.playbook import Play, Playbook

ShopPlaybook = Playbook[Play]
WHERE = ("retailers", "report.playbook")


def shop_playbook(config: Config) -> ShopPlaybook:
    """Return what to do with segments, states and changes of shops.

    Raises
    ------
    ConfigError
        If the file that ``report.playbook`` names cannot be read, or is no playbook.
    """
    return system_playbook(config.report.playbook, *WHERE)
