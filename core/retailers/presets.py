"""Options by name, and as columns of tables that compare runs."""

from __future__ import annotations

from functools import cache

from core.config import Config
from core.errors import ConfigError, did_you_mean, listed
from core.yaml_text import shipped_yaml

SETTINGS = ("eligibility", "features", "scaling", "autoencoder", "clustering")
"""Sections of the configuration that a space and its clusters depend on."""


def settings_of(config: Config) -> dict[str, object]:
    """Return the options of `SETTINGS` by dotted key."""
    return {
        f"{section}.{key}": value
        for section in SETTINGS
        for key, value in getattr(config, section).model_dump().items()
    }


@cache
def presets() -> dict[str, dict[str, object]]:
    """Return the options of every preset, by dotted key."""
    found: dict[str, dict[str, object]] = shipped_yaml("core.retailers", "presets.yaml")
    return found


def preset_assignments(name: str) -> list[str]:
    """Return a preset as assignments of options, as ``--set`` takes them.

    Raises
    ------
    ConfigError
        For an unknown name.
    """
    known = presets()
    if name not in known:
        raise ConfigError(
            f"there is no preset `{name}`; expected {listed(list(known))}."
            f"{did_you_mean(name, known)}"
        )
    return [f"{key}={value}" for key, value in known[name].items()]
