"""The playbook of a run of baskets: the shipped one, or a user's own."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from pathlib import Path

from core.errors import ConfigError
from core.reporting.playbook import Playbook, parse_playbook

BUILT_IN = "playbook.yaml"


def read_playbook(
    path: str | Path | None, metrics: Collection[str] | None = None
) -> Playbook:
    """Read a playbook.

    Parameters
    ----------
    path : path or None
        A YAML file, UTF-8; None: the shipped one. Words for metrics that it does not
        name are those of the shipped one.
    metrics : collection of str, optional
        Features and outcomes that the run computes; None: they are not known yet.

    Raises
    ------
    ConfigError
        If the file cannot be read, or is no playbook; the message names the key.
    """
    shipped = parse_playbook(playbook_text(None), "the built-in playbook", None)
    if path is None:
        return shipped
    text = playbook_text(path)
    own = parse_playbook(text, f"`baskets.playbook`, `{path}`", metrics)
    return own.model_copy(update={"metrics": shipped.metrics | own.metrics})


def playbook_text(path: str | Path | None) -> str:
    """Return what a playbook says, as it is written.

    Raises
    ------
    ConfigError
        If the file cannot be read.
    """
    if path is None:
        return resources.files("core.baskets").joinpath(BUILT_IN).read_text("utf-8")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"`baskets.playbook`: the file `{path}` does not exist. Copy "
            f"`core/baskets/{BUILT_IN}` and edit it, or leave the option out."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"`baskets.playbook`: `{path}`: {error}.") from None
