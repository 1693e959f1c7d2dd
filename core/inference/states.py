"""From saved arrays to the parts of a model, and the other way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from core.arrays import load_arrays
from core.artifacts import ArtifactSet
from core.clustering.extension import Extension
from core.errors import ArtifactError
from core.features.scaling import FeatureScaler
from core.representation.autoencoder import Autoencoder

ENCODER_STATE = "encoder-state.safetensors"
CLUSTER_STATE = "cluster-state.safetensors"
State = tuple[dict[str, np.ndarray], dict[str, Any]]


def load_encoder(artifact_set: ArtifactSet) -> tuple[FeatureScaler, Autoencoder]:
    """Return the scaler and the encoder of a verified set."""
    artifact_set.manifest.facts("autoencoder")
    arrays, meta = load_arrays(artifact_set.path(ENCODER_STATE))
    return (
        FeatureScaler.from_state(*state_part(arrays, meta, "scaler")),
        Autoencoder.from_state(*state_part(arrays, meta, "encoder")),
    )


def feature_matrix(features: pl.DataFrame, names: list[str]) -> np.ndarray:
    """Return named columns as float64, shape (n_shops, n_features); null is NaN."""
    return features.select(pl.col(names).cast(pl.Float64)).to_numpy()


def join_states(**parts: State) -> State:
    """Put several states into one, each under its name."""
    arrays = {
        f"{part}/{name}": array
        for part, (state, _) in parts.items()
        for name, array in state.items()
    }
    return arrays, {part: meta for part, (_, meta) in parts.items()}


def state_part(arrays: dict[str, np.ndarray], meta: dict[str, Any], part: str) -> State:
    """Take one state out of what `join_states` put together.

    Raises
    ------
    ArtifactError
        If it is not in there.
    """
    if part not in meta:
        raise ArtifactError(f"the saved model state has no part `{part}`.")
    prefix = f"{part}/"
    return (
        {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)},
        meta[part],
    )


def extension_states(extensions: Sequence[Extension]) -> dict[str, State]:
    """Return the states of a model's extensions, by the names of their parts."""
    return {f"extension_{i}": e.get_state() for i, e in enumerate(extensions, start=1)}


def restored_extensions(
    arrays: dict[str, np.ndarray], meta: dict[str, Any]
) -> tuple[Extension, ...]:
    """Return the extensions in what `join_states` put together; there may be none."""
    found: list[Extension] = []
    while (part := f"extension_{len(found) + 1}") in meta:
        found.append(Extension.from_state(*state_part(arrays, meta, part)))
    return tuple(found)
