"""The playbook of a run of baskets: the shipped one, or a user's own."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from pathlib import Path

from core.errors import ConfigError
from core.reporting.playbook import Playbook, parse_playbook

BUILT_IN = "playbook.yaml"


def read_playbook(path: str | Path | None, metrics: Collection[str]) -> Playbook:
    """Read a playbook.

    Parameters
    ----------
    path : path or None
        A YAML file, UTF-8; None: the shipped one. Words for metrics that it does not
        name are those of the shipped one.
    metrics : collection of str
        Features and outcomes that the run computes.

    Raises
    ------
    ConfigError
        If the file cannot be read, or is no playbook; the message names the key.
    """
    text = resources.files("core.baskets").joinpath(BUILT_IN).read_text("utf-8")
    shipped = parse_playbook(text, "the built-in playbook", None)
    if path is None:
        return shipped
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"`baskets.playbook`: the file `{path}` does not exist. Copy "
            f"`core/baskets/{BUILT_IN}` and edit it, or leave the option out."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"`baskets.playbook`: `{path}`: {error}.") from None
    own = parse_playbook(text, f"`baskets.playbook`, `{path}`", metrics)
    return own.model_copy(update={"metrics": shipped.metrics | own.metrics})
