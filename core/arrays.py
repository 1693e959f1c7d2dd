"""Named arrays and JSON-able values in one file that cannot run anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from core.errors import ArtifactError


def save_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]
) -> None:
    """Write named arrays and JSON-able `meta` as one safetensors file."""
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"meta": json.dumps(meta, sort_keys=True)}
    # Not `save_file`: it makes the file unreadable for everyone but its owner.
    path.write_bytes(save(plain, metadata=metadata))


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save_arrays` wrote; nothing in the file can run.

    Raises
    ------
    ArtifactError
        If the file is not such a file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            meta = json.loads((file.metadata() or {})["meta"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ArtifactError(
            f"`{path}` does not hold a saved model state ({error}). Run the training "
            "pipelines again."
        ) from None
    return arrays, meta
