"""Stable Segments: retail segments that mean something and keep their identity.

The names below are imported when they are first used, so that ``import core`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.artifacts.folder import StageResult
    from core.config import Config
    from core.errors import SegmentsError
    from core.resolve import resolve_config
    from core.retailers.judge import measure_stability
    from core.retailers.model import Model
    from core.retailers.pipelines import (
        prepare_features,
        run_all,
        run_inference,
        train_autoencoder,
        train_clustering,
    )
    from core.tabular.estimator import StableSegmenter

_HOMES = {
    "Config": "core.config",
    "resolve_config": "core.resolve",
    "SegmentsError": "core.errors",
    "Model": "core.retailers.model",
    "StableSegmenter": "core.tabular.estimator",
    "StageResult": "core.artifacts.folder",
    "measure_stability": "core.retailers.judge",
    "prepare_features": "core.retailers.pipelines",
    "run_all": "core.retailers.pipelines",
    "run_inference": "core.retailers.pipelines",
    "train_autoencoder": "core.retailers.pipelines",
    "train_clustering": "core.retailers.pipelines",
}

__all__ = [
    "Config",
    "Model",
    "SegmentsError",
    "StableSegmenter",
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
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(import_module(_HOMES[name]), name)
