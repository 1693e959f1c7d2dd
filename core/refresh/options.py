"""The configuration of a refresh: the model's own, but for what a month may change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.artifacts import Artifacts
from core.config import Config
from core.errors import ArtifactError, ConfigError
from core.resolve import resolve_config

# What a refresh may be told; everything else is the model's.
FREE_SECTIONS = ("artifacts", "data", "refresh", "axes", "store")


def refresh_config(
    artifacts: str | None,
    file: str | Path | None = None,
    source: str | None = None,
    assignments: Sequence[str] = (),
) -> Config:
    """Resolve the configuration of a refresh on top of the model's own.

    Parameters
    ----------
    artifacts : str, optional
        Folder of the model; default as everywhere.
    file, assignments
        As for `core.resolve.resolve_config`.
    source : str, optional
        The new rows; the training data is never read again.

    Raises
    ------
    ConfigError
        As `core.resolve.resolve_config`; also if an option differs that a model cannot
        change from one month to the next.
    ArtifactError
        If the folder holds no complete run.
    """
    folder = resolve_config(file, {"artifacts": artifacts}).artifacts
    published = Artifacts(folder).published()
    if published is None or not published.manifest.is_complete:
        raise ArtifactError(
            f"`{folder}` holds no complete run. Train one first with `segments run`."
        )
    saved = published.manifest.config
    nothing = saved.data.model_copy(update={"input": None, "source": "sample"})
    base = saved.model_copy(update={"data": nothing, "artifacts": folder})
    config = resolve_config(file, {"data.input": source}, assignments, base=base)
    for section in Config.model_fields:
        is_free = section in FREE_SECTIONS
        if not is_free and getattr(config, section) != getattr(saved, section):
            raise ConfigError(
                f"`{section}` differs from what the model in `{folder}` was trained "
                "with, which a refresh goes on with. Leave it out, or train anew with "
                "`segments run`."
            )
    return config
