"""The four stages of a run, each a function from a configuration to saved artifacts.

The scripts at the root and the verbs of ``python -m core`` are wiring over these.
"""

from __future__ import annotations

from typing import Any

from core.config import Config
from core.pipelines.autoencoder import train_autoencoder
from core.pipelines.clustering import train_clustering
from core.pipelines.common import StageResult, stage_config, training_table
from core.pipelines.inference import run_inference
from core.pipelines.prepare import prepare_features

__all__ = [
    "StageResult",
    "prepare_features",
    "run_all",
    "run_inference",
    "stage_config",
    "train_autoencoder",
    "train_clustering",
    "training_table",
]


def run_all(config: Config, frame: Any = None) -> list[StageResult]:
    """Run the four stages one after the other."""
    return [
        prepare_features(config, frame),
        train_autoencoder(config),
        train_clustering(config),
        run_inference(config),
    ]
