"""Named arrays and JSON-able values in one file that cannot run anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from core.errors import ArtifactError


def save_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]
) -> None:
    """Write named arrays and JSON-able `meta` as one safetensors file."""
    # Not `save_file`: it makes the file unreadable for everyone but its owner.
    path.write_bytes(pack_arrays(arrays, meta))


def pack_arrays(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> bytes:
    """Return what `save_arrays` writes."""
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"meta": json.dumps(meta, sort_keys=True)}
    packed: bytes = save(plain, metadata=metadata)
    return packed


def unpack_arrays(
    packed: bytes, where: str = ""
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `pack_arrays` returned; nothing in it can run.

    Parameters
    ----------
    packed : bytes
    where : str
        What messages call them.

    Raises
    ------
    ArtifactError
        If the bytes are something else.
    """
    try:
        arrays = load(packed)
        end = 8 + int.from_bytes(packed[:8], "little")
        meta = json.loads(json.loads(packed[8:end])["__metadata__"]["meta"])
        if not isinstance(meta, dict):
            raise TypeError("`meta` is no mapping")
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        subject = f"`{where}` does" if where else f"{len(packed):,} bytes do"
        raise ArtifactError(
            f"{subject} not hold a saved model state ({error}). Train the model again."
        ) from None
    return arrays, meta


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save_arrays` wrote; nothing in the file can run.

    Raises
    ------
    ArtifactError
        If the file is not such a file.
    """
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"`{path}` cannot be read ({error}).") from None
    return unpack_arrays(packed, str(path))
