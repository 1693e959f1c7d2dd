"""The one place where TensorFlow and Keras are imported, and only when asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.errors import ModelError


def load_keras() -> tuple[Any, Any]:
    """Import TensorFlow and Keras quietly; return both modules.

    The first call takes about 5 s. Unless the user has set it, `TF_CPP_MIN_LOG_LEVEL`
    becomes 3 (only fatal messages of TensorFlow's C++ part; its Python errors are
    raised as ever), and a GPU that TensorFlow finds is not claimed whole.

    Raises
    ------
    ModelError
        If TensorFlow cannot be imported, or Keras runs on another backend.
    """
    is_quiet = "TF_CPP_MIN_LOG_LEVEL" not in os.environ
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        with _silenced_stderr(is_quiet):
            import keras
            import tensorflow as tf
    except ImportError as error:
        raise ModelError(
            f"the autoencoder needs TensorFlow, which cannot be imported: {error}. "
            "Install it with `pip install tensorflow`."
        ) from error
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"Keras runs on the backend `{keras.backend.backend()}`; expected "
            "`tensorflow`. Unset the environment variable `KERAS_BACKEND`, or import "
            "this package before Keras."
        )
    return tf, keras


@contextmanager
def _silenced_stderr(is_quiet: bool) -> Iterator[None]:
    """Keep what C++ writes to the standard error off the terminal.

    TensorFlow 2.21 reports oneDNN and missing CUDA drivers during its import even at
    the highest log level, straight to file descriptor 2. An import that fails raises.
    """
    if not is_quiet:
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # a process without standard error, such as a Windows service
        yield
        return
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
