"""The state of models: named arrays and JSON-able values, in files that cannot run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from core.errors import ArtifactError, listed

Arrays = Mapping[str, npt.NDArray[Any]]


Meta = Mapping[str, Any]


State = tuple[dict[str, np.ndarray], dict[str, Any]]
"""Named arrays and JSON-able values: what a part of a model is saved as."""


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


def checked_arrays(
    arrays: Mapping[str, npt.NDArray[Any]],
    spec: Mapping[str, tuple[str, ...]],
    refused: Callable[[str], ArtifactError],
) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a saved state, each as it must be.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    spec : mapping of str to tuple of str
        Names of the dimensions of each array, such as ``("segments", "features")``;
        those of one name have one length, of 1 at least. Arrays called ``is_...`` are
        boolean, others finite floats.
    refused : callable
        Makes the error of a finding.

    Raises
    ------
    ArtifactError
        Naming the array that is missing or not as it must be.
    """
    missing = [name for name in spec if name not in arrays]
    if missing:
        raise refused(f"missing {listed(missing)}")
    given = {name: np.asarray(arrays[name]) for name in spec}
    lengths: dict[str, int] = {}
    for name, dimensions in spec.items():
        array, shape = given[name], given[name].shape
        if len(shape) != len(dimensions) or 0 in shape:
            known = ", ".join(dimensions)
            raise refused(f"`{name}` has the shape {shape}; expected {known}")
        pairs = zip(dimensions, shape, strict=True)
        expected = tuple(lengths.setdefault(d, n) for d, n in pairs)
        if shape != expected:
            raise refused(f"`{name}` has the shape {shape}, not {expected}")
        dtype = "bool" if name.startswith("is_") else "float64"
        if str(array.dtype) != dtype or not np.isfinite(array).all():
            raise refused(f"`{name}` holds other values than finite {dtype}")
    return given
