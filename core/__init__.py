"""Stable Segments: retail segments that mean something and keep their identity.

The names below are imported when they are first used, so that ``import core`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.assess import measure_stability
    from core.config import Config
    from core.errors import SegmentsError
    from core.inference import Model
    from core.pipelines import (
        StageResult,
        prepare_features,
        run_all,
        run_inference,
        train_autoencoder,
        train_clustering,
    )
    from core.resolve import resolve_config

_HOMES = {
    "Config": "core.config",
    "resolve_config": "core.resolve",
    "SegmentsError": "core.errors",
    "Model": "core.inference",
    "StageResult": "core.pipelines",
    "measure_stability": "core.assess",
    "prepare_features": "core.pipelines",
    "run_all": "core.pipelines",
    "run_inference": "core.pipelines",
    "train_autoencoder": "core.pipelines",
    "train_clustering": "core.pipelines",
}

__all__ = [
    "Config",
    "Model",
    "SegmentsError",
    "StageResult",
    "measure_stability",
    "prepare_features",
    "resolve_config",
    "run_all",
    "run_inference",
    "train_autoencoder",
    "train_clustering",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module `core` has no attribute `{name}`")
    return getattr(import_module(_HOMES[name]), name)
