"""The state of fitted models: named arrays and JSON-able values, apart and joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import ArtifactError

Arrays = Mapping[str, npt.NDArray[Any]]
Meta = Mapping[str, Any]


State = tuple[dict[str, np.ndarray], dict[str, Any]]
"""Named arrays and JSON-able values: what a part of a model is saved as."""


def join_states(**parts: State) -> State:
    """Put several states into one, each under its name."""
    arrays = {
        f"{part}/{name}": array
        for part, (state, _) in parts.items()
        for name, array in state.items()
    }
    return arrays, {part: meta for part, (_, meta) in parts.items()}


def state_part(arrays: Arrays, meta: Meta, part: str) -> State:
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
