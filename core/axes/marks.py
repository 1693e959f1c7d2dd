"""What tells one run from another: its rows, and the options that decide the result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.artifacts import ArtifactSet
from core.config import Config
from core.errors import ConfigError
from core.manifest import library_versions

if TYPE_CHECKING:
    from core.data.purchases import Purchases

_DECIDING = ("max_segments", "min_segments", "fit_customers")


@dataclass(frozen=True)
class Marks:
    """SHA-256 of what a run is made from.

    Attributes
    ----------
    rows : str
        Orders and items, and how they were read.
    options : str
        Options that decide what is learnt from them, the file of names and the version
        of this package among them.
    """

    rows: str
    options: str

    @classmethod
    def of(cls, config: Config, purchases: Purchases) -> Marks:
        """Return the marks of a run that is about to start.

        Raises
        ------
        ConfigError
            If the file of names cannot be read.
        """
        options: dict[str, Any] = {
            name: getattr(config.axes, name) for name in _DECIDING
        }
        options["seed"] = config.seed
        options["names"] = _content(config.axes.names)
        options["package"] = library_versions()["stable-segments"]
        return cls(purchases.fingerprint, _digest(options))

    def are_known(self, base: ArtifactSet, *, refit: bool) -> bool:
        """Whether the run of a published set was made from the same.

        With `refit`, its model must have been learnt from these rows, too.
        """
        facts = base.manifest.facts("axes")
        is_same = bool(facts["rows"] == self.rows)
        return is_same and (not refit or facts["learnt_from"] == self.as_dict())

    def as_dict(self) -> dict[str, str]:
        """Return plain values, ready for JSON."""
        return {"rows": self.rows, "options": self.options}


def _content(path: str | None) -> str | None:
    """Return the SHA-256 of a file's content; None for no file."""
    if path is None:
        return None
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"`axes.names` is `{path}`, which cannot be read "
            f"({error.strerror or error}). Expected a YAML file of naming rules."
        ) from None


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
