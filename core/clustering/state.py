"""An assigner as arrays and JSON, and back; nothing in it is trusted.

What comes back may have been altered: every array's kind, length and range is checked,
and the hierarchy must lead upwards to its root, so that no walk through it is endless.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from core.clustering.prediction import Assigner
from core.errors import ArtifactError, listed

FORMAT = 1
POINT_ARRAYS = ("counts", "core", "parent", "leaves_at", "strength")
CLUSTER_ARRAYS = ("cluster_parent", "cluster_birth", "cluster_label")
INTEGER_ARRAYS = ("counts", "parent", "cluster_parent", "cluster_label")
ARRAYS = ("points", *POINT_ARRAYS, *CLUSTER_ARRAYS, "max_lambda")


def assigner_arrays(assigner: Assigner) -> dict[str, npt.NDArray[Any]]:
    """Return the assigner's arrays, each in the smallest dtype that holds it exactly.

    ``points`` is float32 where that loses nothing (a latent space usually is float32),
    integers are int32, the rest is float64.
    """
    arrays = {name: getattr(assigner, name) for name in ARRAYS}
    for name in INTEGER_ARRAYS:
        arrays[name] = arrays[name].astype(np.int32)
    with np.errstate(over="ignore", under="ignore"):
        short = arrays["points"].astype(np.float32)
    if np.array_equal(short, arrays["points"]):
        arrays["points"] = short
    return arrays


def restored_assigner(
    arrays: Mapping[str, npt.NDArray[Any]], min_samples: int
) -> Assigner:
    """Return the assigner that `assigner_arrays` took apart.

    Raises
    ------
    ArtifactError
        If an array is missing, not numeric, of another length than it must have, or
        holds what fitting never leaves.
    """
    given = {name: _array(arrays, name) for name in ARRAYS}
    _check_shapes(given)
    _check_points(given, min_samples)
    _check_clusters(given)
    return Assigner(min_samples=min_samples, **given)


def whole_number(meta: Mapping[str, Any], key: str, smallest: int) -> int:
    """Return a whole number of the state's JSON part, or refuse it."""
    value = meta.get(key)
    if type(value) is not int or not smallest <= value < 2**31:
        raise _refused(f"`{key}` is {value!r}; expected a whole number from {smallest}")
    return value


def _refused(finding: str) -> ArtifactError:
    """Return the error for a state that fitting cannot have left."""
    return ArtifactError(
        f"the saved clusters are unusable: {finding}. Train the clusters again."
    )


def _array(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    """Return one array as intp or float64."""
    if name not in arrays:
        missing = [key for key in ARRAYS if key not in arrays]
        raise _refused(f"missing {listed(missing)}")
    array = np.asarray(arrays[name])
    is_integer = name in INTEGER_ARRAYS
    if array.dtype.kind not in ("i" if is_integer else "f"):
        kind = "whole numbers" if is_integer else "floats"
        raise _refused(f"`{name}` is of dtype {array.dtype}; expected {kind}")
    return array.astype(np.intp if is_integer else np.float64)


def _check_shapes(given: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse arrays whose shapes do not fit together."""
    points = given["points"]
    if points.ndim != 2 or 0 in points.shape:
        raise _refused(f"`points` has the shape {points.shape}; expected rows, columns")
    n_clusters = len(given["cluster_parent"]) if given["cluster_parent"].ndim else 0
    lengths = dict.fromkeys(POINT_ARRAYS, len(points))
    lengths |= dict.fromkeys(CLUSTER_ARRAYS, n_clusters)
    for name, length in lengths.items():
        if given[name].shape != (length,) or not length:
            raise _refused(
                f"`{name}` has the shape {given[name].shape}; expected ({length},)"
            )
    if given["max_lambda"].ndim != 1:
        raise _refused(f"`max_lambda` has the shape {given['max_lambda'].shape}")


def _check_points(given: Mapping[str, npt.NDArray[Any]], min_samples: int) -> None:
    """Refuse impossible values of what belongs to the points."""
    n_clusters = len(given["cluster_parent"])
    # NaN fails every comparison.
    sound = {
        "points": np.abs(given["points"]) <= 1e30,
        "counts": (given["counts"] >= 1) & (given["counts"] < 2**31),
        "core": (given["core"] >= 0.0) & (given["core"] < np.inf),
        "parent": (given["parent"] >= 0) & (given["parent"] < n_clusters),
        "leaves_at": given["leaves_at"] > 0.0,
        "strength": (given["strength"] >= 0.0) & (given["strength"] <= 1.0),
    }
    _refuse_unsound(sound)
    if given["counts"].sum() <= min_samples:
        raise _refused(
            f"it holds {given['counts'].sum()} rows; expected more than "
            f"`min_samples` = {min_samples}"
        )


def _check_clusters(given: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse a hierarchy with loops, gaps, or parents that are born too late."""
    parent, birth = given["cluster_parent"], given["cluster_birth"]
    label, n_labels = given["cluster_label"], len(given["max_lambda"])
    ids = np.arange(len(parent))
    sound = {
        "cluster_parent": (parent >= 0) & (parent < np.maximum(ids, 1)),
        "cluster_birth": (birth > 0.0) & (birth < np.inf) | (ids == 0) & (birth == 0.0),
        "cluster_label": (label >= -1) & (label < n_labels) & ((ids > 0) | (label < 0)),
        "max_lambda": (given["max_lambda"] > 0.0) & (given["max_lambda"] < np.inf),
    }
    _refuse_unsound(sound)
    above = label[parent]
    _refuse_unsound(
        {
            "cluster_birth": birth >= birth[parent],
            "cluster_label": (above < 0) | (above == label),
            "strength": (given["strength"] == 0.0) | (label[given["parent"]] >= 0),
        }
    )
    # Each label starts at exactly one cluster.
    starts = np.sort(label[(label >= 0) & (above < 0)])
    if not np.array_equal(starts, np.arange(n_labels)):
        raise _refused(f"`cluster_label` does not hold each of {n_labels} labels once")


def _refuse_unsound(sound: Mapping[str, npt.NDArray[np.bool_]]) -> None:
    """Name the first array with an impossible value, and where it is."""
    for name, holds in sound.items():
        if not holds.all():
            where = ", ".join(str(i) for i in np.argwhere(~holds)[0])
            raise _refused(f"`{name}` holds an impossible value (at index {where})")
