"""Micro-models that came as pickles, converted without running what is in them.

A pickle names functions and calls them while it is read, so reading one runs whatever
its author wanted. Here the names that scikit-learn's KMeans and StandardScaler need are
given to records that do nothing but keep what they are called with; every other name
ends the reading before anything is called. Neither scikit-learn nor NumPy take part,
and the arrays are made afterwards from bytes, shape and type.

A pickle can still be made to fill the memory or to take for ever, so that it is read in
a process of its own, without this one's environment, with a limit of time and, where
the system knows such a thing (not on Windows), of memory.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from core.artifacts.arrays import State, save_arrays
from core.errors import ModelError, SourceError, listed
from core.scratch import temporary_folder

if TYPE_CHECKING:
    from core.channels.micro import MicroModel

FloatArray = npt.NDArray[np.float64]

SECONDS: Final = 60
MEMORY: Final = 2 << 30
"""Bytes of address space that the reading process may have."""
LARGEST_FILE: Final = 256 << 20
KEYS: Final = ("kmeans", "scaler", "features")
_KINDS: Final = "fiub"
"""Kinds of NumPy's types that are numbers: floats, integers, truth values."""
# What the new process needs to start at all; credentials are not among it.
_KEPT: Final = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "TMPDIR", "TEMP", "TMP")


class Refused(pickle.UnpicklingError):
    """A pickle asks for what a model does not need; the message says for what."""


class Record:
    """What a pickle calls a class or a function with; it does nothing."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> Record:
        """Keep the arguments."""
        made = super().__new__(cls)
        made.args, made.state = args, None
        return made

    def __setstate__(self, state: Any) -> None:
        """Keep the state."""
        self.state = state


class KMeansRecord(Record):
    """A KMeans as it was saved."""


class ScalerRecord(Record):
    """A StandardScaler as it was saved."""


class DtypeRecord(Record):
    """A NumPy type, such as ``("f8", False, True)``."""


class ArrayRecord(Record):
    """An array whose state is version, shape, type, order and bytes."""


class BufferRecord(Record):
    """An array called with bytes, type, shape and order (protocol 5)."""


class ScalarRecord(Record):
    """A single number called with its type and bytes."""


def _made(kind: Any, *_: Any) -> Record:
    """Stand for `copyreg._reconstructor`, by which old protocols make an object."""
    if not (isinstance(kind, type) and issubclass(kind, Record)):
        raise Refused("it makes an object of a kind that is not allowed")
    return kind()


def _bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    """Stand for `codecs.encode`, by which old protocols write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("it holds bytes in a form that is not allowed")
    return text.encode("latin1")


_NUMPY: Final[dict[str, Any]] = {
    "multiarray._reconstruct": ArrayRecord,
    "multiarray.scalar": ScalarRecord,
    "numeric._frombuffer": BufferRecord,
}
ALLOWED: Final[dict[str, Any]] = {
    "sklearn.cluster._kmeans.KMeans": KMeansRecord,
    "sklearn.cluster.k_means_.KMeans": KMeansRecord,
    "sklearn.preprocessing._data.StandardScaler": ScalerRecord,
    "sklearn.preprocessing.data.StandardScaler": ScalerRecord,
    **{f"numpy.core.{name}": record for name, record in _NUMPY.items()},
    **{f"numpy._core.{name}": record for name, record in _NUMPY.items()},
    "numpy.dtype": DtypeRecord,
    "numpy.ndarray": Record,
    "numpy.random._pickle.__randomstate_ctor": Record,
    "numpy.random._pickle.__bit_generator_ctor": Record,
    "numpy.random._mt19937.MT19937": Record,
    "_codecs.encode": _bytes,
    "copyreg._reconstructor": _made,
    "copy_reg._reconstructor": _made,
    "builtins.object": Record,
    "__builtin__.object": Record,
    "builtins.bytes": _bytes,
    "__builtin__.bytes": _bytes,
}
"""Names that a pickle may hold, and what they are here."""
_CURES: Final = {
    "pandas": " (save `features` as a plain list of names)",
    "joblib": " (save it by `pickle.dump`, not by joblib)",
}


class RecordUnpickler(pickle.Unpickler):
    """Reads a pickle into records; any name beyond `ALLOWED` ends it."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the record for a name.

        Raises
        ------
        Refused
            Naming what was met.
        """
        known = ALLOWED.get(f"{module}.{name}")
        if known is None:
            cure = _CURES.get(module.partition(".")[0], "")
            raise Refused(
                f"it asks for `{module}.{name}`, which a KMeans with its scaler does "
                f"not need{cure}"
            )
        return known


def read_records(content: bytes) -> Any:
    """Return what a pickle holds, as records and plain values.

    Raises
    ------
    ModelError
        For a name beyond `ALLOWED`, or what is no pickle.
    """
    try:
        return RecordUnpickler(io.BytesIO(content)).load()
    except Refused as error:
        raise ModelError(str(error)) from None
    except MemoryError:
        raise ModelError(f"it takes more than {MEMORY >> 30} GB of memory") from None
    except RecursionError:
        raise ModelError("it is nested too deeply") from None
    except Exception as error:
        # Opcodes fail with whatever the value at hand raises (TypeError, KeyError, ..).
        raise ModelError(f"it is no whole pickle ({type(error).__name__})") from None


def _array(found: Any, what: str) -> npt.NDArray[Any]:
    """Return an array from its record."""
    if found is None:
        raise ModelError(f"it has no `{what}`, as if it had not been fitted")
    with contextlib.suppress(TypeError, ValueError, AttributeError, IndexError):
        if isinstance(found, ArrayRecord):
            _, shape, dtype, is_fortran, content = found.state
            return _of_bytes(content, dtype, shape, "F" if is_fortran else "C")
        if isinstance(found, BufferRecord):
            content, dtype, shape, order = found.args
            return _of_bytes(content, dtype, shape, order)
        if isinstance(found, ScalarRecord):
            dtype, content = found.args
            return _of_bytes(content, dtype, (), "C")
    raise ModelError(f"`{what}` is no array of numbers or texts")


def _of_bytes(
    content: Any, dtype: DtypeRecord, shape: tuple[int, ...], order: Any
) -> npt.NDArray[Any]:
    """Return an array of numbers, or of texts given one by one."""
    code = str(dtype.args[0])
    if code[0] == "O" and isinstance(content, list):
        if not all(isinstance(text, str) for text in content):
            raise ValueError
        return np.array(content, dtype=object).reshape(shape)
    if code[0] not in _KINDS or not isinstance(content, bytes | bytearray):
        raise ValueError
    is_foreign = bool(dtype.state) and dtype.state[1] == ">"
    made = np.dtype(code).newbyteorder(">" if is_foreign else "<")
    return np.frombuffer(content, made).reshape(shape, order=order)


def _numbers(found: Any, what: str) -> FloatArray:
    """Return an array of finite numbers."""
    array = _array(found, what)
    if array.dtype.kind not in _KINDS or not np.isfinite(array).all():
        raise ModelError(f"`{what}` holds other values than finite numbers")
    return np.asarray(array, dtype=np.float64)


def _texts(found: Any, what: str) -> list[str]:
    """Return a list of texts, as a list, a tuple or an array."""
    if isinstance(found, Record):
        found = _array(found, what).ravel().tolist()
    if not isinstance(found, list | tuple) or not all(
        isinstance(text, str) for text in found
    ):
        raise ModelError(f"`{what}` is no list of column names")
    return list(found)


def convert(payload: Any) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Return the state of a micro-model, and the version of scikit-learn it came from.

    Parameters
    ----------
    payload : dict
        ``kmeans``, ``scaler`` and ``features`` as records.

    Raises
    ------
    ModelError
        Naming what is not as it must be.
    """
    if not isinstance(payload, dict):
        raise ModelError(f"it holds a {type(payload).__name__}; expected {_expected()}")
    missing = [key for key in KEYS if key not in payload]
    if missing:
        raise ModelError(f"it lacks {listed(missing)}; expected {_expected()}")
    kmeans, scaler = payload["kmeans"], payload["scaler"]
    for found, kind, name in (
        (kmeans, KMeansRecord, "kmeans"),
        (scaler, ScalerRecord, "scaler"),
    ):
        if not isinstance(found, kind) or not isinstance(found.state, Mapping):
            raise ModelError(f"`{name}` is something else; expected {_expected()}")
    names = _texts(payload["features"], "features")
    if len(set(names)) < len(names) or not names:
        raise ModelError("`features` is empty or names a column twice")
    centres = _numbers(kmeans.state.get("cluster_centers_"), "kmeans.cluster_centers_")
    if centres.ndim != 2 or centres.shape[1] != len(names) or not len(centres):
        raise ModelError(
            f"`kmeans` has centres of the shape {centres.shape}, for "
            f"{len(names)} features"
        )
    mean, scale = _mean_and_scale(scaler.state, len(names))
    _check_order(scaler.state, names)
    limit = np.full(len(names), np.finfo(np.float64).max)
    arrays = {
        "centres": centres,
        "is_log": np.zeros(len(names), dtype=np.bool_),
        "lower": -limit,
        "upper": limit,
        "centre": mean,
        "scale": scale,
        "fill": mean,
    }
    version = kmeans.state.get("_sklearn_version")
    return arrays, {"features": names, "sklearn": version}


def _expected() -> str:
    return (
        "a dict of `kmeans` (a KMeans of scikit-learn), `scaler` (its StandardScaler) "
        "and `features` (a list of names)"
    )


def _mean_and_scale(state: Mapping[str, Any], n: int) -> tuple[FloatArray, FloatArray]:
    """Return what a StandardScaler subtracts and divides by."""
    mean, scale = np.zeros(n), np.ones(n)
    if state.get("with_mean", True):
        mean = _numbers(state.get("mean_"), "scaler.mean_")
    if state.get("with_std", True):
        scale = _numbers(state.get("scale_"), "scaler.scale_")
    if mean.shape != (n,) or scale.shape != (n,) or (scale <= 0).any():
        raise ModelError(f"`scaler` does not fit {n} features")
    return mean, scale


def _check_order(state: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse names that the scaler was not fitted on, in this order."""
    fitted = state.get("feature_names_in_")
    if fitted is None:
        return
    known = _texts(fitted, "scaler.feature_names_in_")
    if known != list(names):
        other = [name for name in names if name not in known]
        said = f"does not know {listed(other)}" if other else "has another order"
        raise ModelError(f"`features` and the scaler differ: the scaler {said}")


def read_in_child(source: Path, target: Path) -> dict[str, Any]:
    """Convert a pickle in this process, within its limits; say what became of it.

    Parameters
    ----------
    source : Path
        The pickle.
    target : Path
        Where the arrays go to.

    Returns
    -------
    dict
        ``features`` and ``sklearn``, or ``refused`` with the reason.
    """
    _limit_memory()
    try:
        arrays, meta = convert(read_records(source.read_bytes()))
        with target.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except ModelError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": f"it takes more than {MEMORY >> 30} GB of memory"}
    return meta


def _limit_memory() -> None:
    """Limit what this process may take; Windows knows no such limit."""
    try:
        import resource
    except ImportError:
        return
    set_limit: Callable[[int, tuple[int, int]], None] = resource.setrlimit
    with contextlib.suppress(ValueError, OSError):
        set_limit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        set_limit(resource.RLIMIT_CORE, (0, 0))


def import_model(
    source: Path, work: Path, name: str, seconds: float = SECONDS
) -> tuple[MicroModel, list[str]]:
    """Convert the pickle of a micro-model, in a process of its own.

    Parameters
    ----------
    source : Path
        The pickle.
    work : Path
        An existing folder for temporary files.
    name : str
        What the model is called, also in messages.
    seconds : float
        How long it may take.

    Returns
    -------
    (MicroModel, list of str)
        The model, without the rule segments it is for, and what should be known of it.

    Raises
    ------
    SourceError
        If the file cannot be read, or is too large.
    ModelError
        If it is refused; says why, and what was met.
    """
    from core.channels.micro import MicroModel
    from core.models.centroids import CentroidModel, Scaling

    meta, arrays = _in_child(source, work / "model.npz", name, seconds)
    scaling = Scaling(
        **{key: arrays[key] for key in ("is_log", "lower", "upper", "centre", "scale")}
    )
    model = CentroidModel(arrays["centres"], scaling, fill=arrays["fill"])
    texts = tuple(str(number) for number in range(model.n_segments))
    why = ("taken over from a pickle",) * model.n_segments
    made = MicroModel(
        name, (), tuple(meta["features"]), model, {}, texts, why, {"kind": "cut"}
    )
    return made, _notes(meta["sklearn"])


def _in_child(
    source: Path, target: Path, name: str, seconds: float
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return what another process has read."""
    try:
        size = source.stat().st_size
    except OSError as error:
        raise SourceError(
            f"`{name}` cannot be read ({error.strerror or error})."
        ) from None
    if size > LARGEST_FILE:
        raise SourceError(
            f"`{name}` has {size / 1e6:,.0f} MB; a KMeans with its scaler has at most "
            f"{LARGEST_FILE / 1e6:,.0f} MB."
        )
    home = Path(__file__).resolve().parents[2]
    kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(source.resolve()), str(target)],
            cwd=home,
            env={**kept, "PYTHONPATH": str(home), "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        meta = json.loads(done.stdout)
        refused = meta.get("refused")
    except subprocess.TimeoutExpired:
        refused = f"reading it takes more than {seconds:g} seconds"
    except ValueError:
        refused = "the process that read it ended without an answer"
    if refused:
        raise ModelError(
            f"`{name}` was not converted, and nothing in it was run: {refused}. To "
            "train the item here, leave out its `model`."
        )
    with np.load(target, allow_pickle=False) as arrays:
        return meta, dict(arrays)


def import_models(addresses: Sequence[str], folder: Path) -> list[str]:
    """Convert pickles into files that an item of the plan names as its `model`.

    Parameters
    ----------
    addresses : sequence of str
        Paths, globs or ``s3://`` addresses of pickles.
    folder : Path
        Where to; made if it is not there. Each file has the name of its pickle, with
        the ending ``.safetensors``. Nothing is written unless all are converted.

    Returns
    -------
    list of str
        What was made, and what should be known of it.

    Raises
    ------
    SourceError
        If a file is not there, or two have one name.
    ModelError
        If one is refused.
    """
    from core.tables.files import find_files

    made: dict[str, State] = {}
    lines = []
    with temporary_folder() as work:
        for address in addresses:
            for file in find_files(address, work)[0]:
                target = f"{PurePosixPath(file.name).stem}.safetensors"
                if target in made:
                    raise SourceError(
                        f"two pickles would become `{target}`. Rename one of them."
                    )
                model, notes = import_model(file.path, work, file.name)
                made[target] = model.get_state()
                assert model.centroids is not None
                lines.append(
                    f"{folder / target}: {model.centroids.n_segments} micro-segments "
                    f"by {len(model.features)} features"
                    f"{''.join(f'; {note}' for note in notes)}."
                )
    folder.mkdir(parents=True, exist_ok=True)
    for target, state in made.items():
        save_arrays(folder / target, *state)
    return lines


def _notes(version: Any) -> list[str]:
    """Say what should be known of a converted model."""
    import sklearn

    if version == sklearn.__version__:
        return []
    return [
        f"saved by scikit-learn {version or '(version unknown)'}, here is "
        f"{sklearn.__version__}: centres, means and spreads were taken, which mean the "
        "same in both"
    ]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    said = read_in_child(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(json.dumps(said))
